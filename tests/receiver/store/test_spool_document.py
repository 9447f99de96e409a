from __future__ import annotations

import pytest

from receiver.store.result_rows import result_from_row
from receiver.store.spool_document import RESULT_ROW, document_from_result, waiting_from_documents
from schemas.errors import MessageError
from schemas.result import PathResult, ResultStatus

RESULT = PathResult(
    id="ab" * 16,
    status=ResultStatus.FAILED,
    source="10.0.0.1",
    destination="10.0.0.9",
    metrics=("delay",),
    requested_at="2026-01-01T12:00:00.000000Z",
    elapsed_ms=1.5,
    segments=(),
    composed={},
    warnings=("no answer within 5 s",),
)


def test_a_row_that_an_earlier_version_left_is_brought_in_without_what_it_did_not_know() -> None:
    row = dict(document_from_result(RESULT)[RESULT_ROW])
    del row["carrier"], row["authenticity"]
    (restored,) = waiting_from_documents([{RESULT_ROW: row}]).rows
    assert result_from_row(restored) == RESULT


def test_a_row_with_another_column_missing_is_none_of_ours() -> None:
    row = dict(document_from_result(RESULT)[RESULT_ROW])
    del row["status"]
    with pytest.raises(MessageError, match="expected"):
        waiting_from_documents([{RESULT_ROW: row}])
