"""What waits in the spool, as JSON documents and back.

A result waits as the row that it will be: all that can be wrong with it shows before it is acknowledged, and to
bring it to the database costs a fifth of what it costs to take the result apart again then. Results that an
earlier version left are whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.store.result_rows import Row, row_from_result
from schemas.closure import ClosureCheck
from schemas.errors import MessageError
from schemas.result import PathResult, ResultStatus

CLOSURE_CHECK = "closure_check"
"""The key of a document that holds a closure check."""
RESULT_ROW = "result_row"
"""The key of one that holds a row of results; a document with neither is a result."""

_COLUMNS = frozenset(
    (
        *("requested_at_us", "id", "status", "source", "destination", "metrics", "elapsed_ms", "points"),
        *("segments", "composed", "warnings", "carrier", "authenticity"),
    )
)
_ADDED = frozenset(("carrier", "authenticity"))
"""What rows of an earlier version lack."""

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The content of some documents."""

    rows: Sequence[Row]
    checks: Sequence[ClosureCheck]


def document_from_result(result: PathResult) -> Document:
    """The document of a result.

    Raises:
        MessageError: what no database would take.
    """
    return {RESULT_ROW: row_from_result(result)}


def document_from_check(check: ClosureCheck) -> Document:
    """The document of a closure check."""
    return {CLOSURE_CHECK: check.to_json()}


def is_unfinished(document: Document) -> bool:
    """Whether another document with the same key is to follow: the request waits for its answer."""
    row: Row = document.get(RESULT_ROW, {})
    return str(row.get("status")) == ResultStatus.PENDING


def interrupted(document: Document, reason: str, *, now_us: int) -> Document:
    """What becomes of an unfinished document when nobody waits for the answer any more.

    Args:
        document: for which `is_unfinished` holds.
        reason: the result's warning.
        now_us: microseconds since the Unix epoch.
    """
    row: Row = document[RESULT_ROW]
    elapsed_us = max(0, now_us - row["requested_at_us"])
    changes = {"status": ResultStatus.FAILED, "elapsed_ms": elapsed_us / 1000, "warnings": json.dumps([reason])}
    return {RESULT_ROW: {**row, **changes}}


def waiting_from_documents(documents: Sequence[Document]) -> Waiting:
    """What documents hold, each kind in their order.

    Raises:
        MessageError: a document is none of ours.
    """
    return Waiting(
        [_row(document) for document in documents if CLOSURE_CHECK not in document],
        [ClosureCheck.from_json(document[CLOSURE_CHECK]) for document in documents if CLOSURE_CHECK in document],
    )


def _row(document: Document) -> Row:
    if RESULT_ROW not in document:
        return row_from_result(PathResult.from_json(document))
    row: Row = document[RESULT_ROW]
    if row.keys() == _COLUMNS - _ADDED:
        return {**row, **dict.fromkeys(_ADDED)}
    if row.keys() != _COLUMNS:
        raise MessageError(f"spool: a row of {sorted(row)}, expected {sorted(_COLUMNS)}")
    return row
