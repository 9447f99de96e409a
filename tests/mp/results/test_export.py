from __future__ import annotations

import csv
import json
import stat
import sys
import tracemalloc
from collections.abc import Iterator
from io import StringIO
from itertools import count
from pathlib import Path

import pytest
from pyarrow import parquet  # type: ignore[import-untyped,unused-ignore]  # comes without types

from mp.results.export import COLUMNS, Format, Row, export_rows, format_of, rows_of, write_csv, write_jsonl
from mp.results.whole_file import whole_file
from schemas.errors import HostError, StoreError, UsageError
from schemas.rfc3339 import us_from_rfc3339
from tests.mp.results.stored_paths import NOW_US, answer, failed
from tests.receiver.paths import result, usual

ANSWERS = [answer(1, NOW_US, lost=3), failed(2, NOW_US - 1), result((usual(0), usual(1)))]


def rows() -> list[Row]:
    return list(rows_of(ANSWERS))


def test_there_is_a_row_for_each_metric_and_an_empty_one_where_there_is_no_answer() -> None:
    assert [(row["id"], row["metric"]) for row in rows()] == [
        (one.id, metric) for one in ANSWERS for metric in one.metrics
    ]
    assert all(set(row) <= set(COLUMNS) for row in rows())
    first, *_, delay_of_failed, _ = list(rows_of(ANSWERS[:2]))
    whole = ANSWERS[0].composed["delay"]
    assert first["value"] == whole.value and first["low"] == whole.low and first["p95"] is not None
    assert first["points"] == "10.0.0.1 10.0.0.2 10.0.0.3"
    assert (first["binding_upstream"], first["binding_current"]) == ("10.0.0.2", "10.0.0.3")
    assert delay_of_failed["status"] == "failed" and "value" not in delay_of_failed


def test_one_metric_can_be_had_alone() -> None:
    assert [row["metric"] for row in rows_of(ANSWERS, "loss")] == ["loss"] * 3


def test_csv_holds_all_columns_in_their_order() -> None:
    target = StringIO()
    assert write_csv(rows(), target) == len(rows())
    target.seek(0)
    read = csv.DictReader(target)
    assert read.fieldnames == list(COLUMNS)
    for written, row in zip(rows(), read, strict=True):
        assert row == {name: "" if written.get(name) is None else str(written[name]) for name in COLUMNS}


def test_json_lines_hold_all_columns() -> None:
    target = StringIO()
    assert write_jsonl(rows(), target) == len(rows())
    documents = [json.loads(line) for line in target.getvalue().splitlines()]
    assert documents == [{name: row.get(name) for name in COLUMNS} for row in rows()]


def test_parquet_holds_the_same_with_times_as_times(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    assert export_rows(rows(), Format.PARQUET, path) == len(rows())
    table = parquet.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert str(table.schema.field("requested_at").type) == "timestamp[us, tz=UTC]"
    assert str(table.schema.field("count").type) == "int64"
    times = table.column("requested_at").cast("int64").to_pylist()
    assert times == [us_from_rfc3339(str(row["requested_at"])) for row in rows()]
    for name in set(COLUMNS) - {"requested_at"}:
        assert table.column(name).to_pylist() == [row.get(name) for row in rows()]


@pytest.mark.parametrize("chosen", list(Format))
def test_a_long_export_needs_no_more_memory_than_a_short_one(tmp_path: Path, chosen: Format) -> None:
    row = rows()[0]
    length = 8_000
    drawn = count()

    def many() -> Iterator[Row]:
        while next(drawn) < length:
            yield dict(row)

    tracemalloc.start()
    assert export_rows(many(), chosen, tmp_path / "long") == length
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # all rows at once take 20 MB


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("before")

    def broken() -> Iterator[Row]:
        yield rows()[0]
        raise StoreError("the database went away")

    with pytest.raises(StoreError):
        export_rows(broken(), Format.CSV, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    export_rows(rows(), Format.CSV, path)
    assert path.read_text().startswith("id,requested_at,")
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_and_not_replaced() -> None:
    assert export_rows(rows(), Format.JSONL, Path("/dev/null")) == len(rows())
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="none/results.csv cannot be written: No such file"),
        whole_file(tmp_path / "none" / "results.csv"),
    ):
        raise AssertionError("never entered")


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        (None, None, Format.CSV),
        ("jsonl", None, Format.JSONL),
        (None, Path("a.parquet"), Format.PARQUET),
        (None, Path("a.JSONL"), Format.JSONL),
        (None, Path("a.txt"), Format.CSV),
        ("csv", Path("a.parquet"), Format.CSV),
    ],
)
def test_the_format_is_named_or_seen_from_the_file(name: str | None, path: Path | None, expected: Format) -> None:
    assert format_of(name, path) is expected


def test_parquet_needs_a_file() -> None:
    with pytest.raises(UsageError, match="for parquet name a file"):
        format_of("parquet", None)


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HostError, match=r"pyarrow is not installed, expected: pip install 'inpath\[parquet\]'"):
        export_rows(rows(), Format.PARQUET, tmp_path / "results.parquet")
    assert list(tmp_path.iterdir()) == []
