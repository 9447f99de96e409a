"""Stored answers as a flat file for other programs: one row for each metric of a result.

Results come one by one and leave by the page, so a file of any size takes little memory.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from mp.results.extras import extra_needed
from mp.results.whole_file import whole_file
from schemas.errors import UsageError
from schemas.result import ComposedMetric, PathResult, Quantiles
from schemas.rfc3339 import us_from_rfc3339

Cell = str | int | float | None
Row = Mapping[str, Cell]

COLUMNS: Final[Mapping[str, type[str] | type[int] | type[float]]] = {
    "id": str,
    "requested_at": str,
    "source": str,
    "destination": str,
    "status": str,
    "elapsed_ms": float,
    "points": str,
    "metric": str,
    "unit": str,
    "value": float,
    "low": float,
    "high": float,
    "count": int,
    "oldest_age_s": float,
    "binding_upstream": str,
    "binding_current": str,
    "method": str,
    "flags": str,
    "p50": float,
    "p95": float,
    "p99": float,
    "quantile_method": str,
}
"""In their order, with their type; docs/results.md says what each one is."""

_TIME = "requested_at"
_ROW_GROUP = 2_000
"""Rows that Parquet takes at a time: about 5 MB."""


class Format(StrEnum):
    """Of the file."""

    CSV = "csv"
    """RFC 4180, with a header."""
    JSONL = "jsonl"
    """One JSON object in each line."""
    PARQUET = "parquet"


def format_of(name: str | None, path: Path | None) -> Format:
    """The format that was asked for by name, or by how the file's name ends; CSV by default.

    Raises:
        UsageError: Parquet without a file.
    """
    suffix = "" if path is None else path.suffix.removeprefix(".").lower()
    chosen = Format(name if name is not None else suffix if suffix in tuple(Format) else Format.CSV)
    if chosen is Format.PARQUET and path is None:
        raise UsageError("format", name, "csv or jsonl on the standard output; for parquet name a file with -o")
    return chosen


def rows_of(results: Iterable[PathResult], metric: str | None = None) -> Iterator[Row]:
    """A row for each metric that was asked for, or for one of them; without values where there is no answer."""
    for result in results:
        whole = _of_result(result)
        for name in result.metrics:
            if metric in (None, name):
                yield {**whole, "metric": name, **_of_metric(result.composed.get(name))}


def export_rows(rows: Iterable[Row], chosen: Format, path: Path | None) -> int:
    """Write the rows to a file, or on stdout; how many.

    Raises:
        HostError: the file cannot be written, or a library is not installed.
    """
    if path is None:
        return (write_csv if chosen is Format.CSV else write_jsonl)(rows, sys.stdout)
    with whole_file(path) as target:
        if chosen is Format.PARQUET:
            return write_parquet(rows, target)
        text = TextIOWrapper(target, encoding="utf-8", newline="")
        count = (write_csv if chosen is Format.CSV else write_jsonl)(rows, text)
        text.detach()
        return count


def write_csv(rows: Iterable[Row], target: TextIO) -> int:
    """Write the rows; how many."""
    writer = csv.DictWriter(target, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    return _written(writer.writerow(row) for row in rows)


def write_jsonl(rows: Iterable[Row], target: TextIO) -> int:
    """Write the rows, each with all columns; how many."""
    return _written(target.write(f"{json.dumps({name: row.get(name) for name in COLUMNS})}\n") for row in rows)


def write_parquet(rows: Iterable[Row], target: BinaryIO) -> int:
    """Write the rows, the time as a timestamp of microseconds in UTC; how many.

    Raises:
        HostError: pyarrow is not installed.
    """
    with extra_needed("parquet", "pyarrow"):
        import pyarrow as arrow  # type: ignore[import-untyped,unused-ignore]  # comes without types
        from pyarrow import parquet

    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    columns = {name: types[kind] for name, kind in COLUMNS.items()} | {_TIME: arrow.timestamp("us", tz="UTC")}
    schema = arrow.schema(list(columns.items()))
    count = 0
    with parquet.ParquetWriter(target, schema) as writer:
        for group in _groups(rows):
            timed = [{**row, _TIME: us_from_rfc3339(str(row[_TIME]))} for row in group]
            writer.write_table(arrow.Table.from_pylist(timed, schema=schema))
            count += len(group)
    return count


def _written(writing: Iterable[object]) -> int:
    return sum(1 for _ in writing)


def _groups(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    source = iter(rows)
    while group := list(islice(source, _ROW_GROUP)):
        yield group


def _of_result(result: PathResult) -> dict[str, Cell]:
    points = (result.segments[0].upstream, *(one.current for one in result.segments)) if result.segments else ()
    return {
        "id": result.id,
        _TIME: result.requested_at,
        "source": result.source,
        "destination": result.destination,
        "status": str(result.status),
        "elapsed_ms": result.elapsed_ms,
        "points": " ".join(points),
    }


def _of_metric(composed: ComposedMetric | None) -> dict[str, Cell]:
    if composed is None:
        return {}
    upstream, current = composed.binding_segment or (None, None)
    quantiles = composed.quantiles
    return {
        "unit": composed.unit,
        "value": composed.value,
        "low": composed.low,
        "high": composed.high,
        "count": composed.count,
        "oldest_age_s": composed.oldest_age_s,
        "binding_upstream": upstream,
        "binding_current": current,
        "method": str(composed.method),
        "flags": " ".join(composed.flags),
        **({} if quantiles is None else _of_quantiles(quantiles)),
    }


def _of_quantiles(quantiles: Quantiles) -> dict[str, Cell]:
    return {
        "p50": quantiles.p50,
        "p95": quantiles.p95,
        "p99": quantiles.p99,
        "quantile_method": str(quantiles.method),
    }
