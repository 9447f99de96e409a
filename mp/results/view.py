"""Stored answers as a list for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mp.result_view import interval_text, number_text, shown_unit
from mp.results.time_span import utc_text
from schemas.result import ComposedMetric, PathResult, ResultStatus
from schemas.rfc3339 import us_from_rfc3339

SHOWN_DIGITS = 8
"""Of an id: with a million results one in four thousand shares them with another one."""
_STYLES = {
    ResultStatus.COMPLETE: "green",
    ResultStatus.PARTIAL: "yellow",
    ResultStatus.FAILED: "red",
    ResultStatus.PENDING: "cyan",
}
_USUAL = ("delay", "loss", "rtt")
_WIDE = 200
"""Characters of a line where no terminal sets them, so that a result stays one line for other programs."""


def results_table(results: Sequence[PathResult], names: Mapping[str, str], metric: str | None = None) -> Table:
    """One row for each result.

    Args:
        results: in the order in which they are shown.
        names: what people call the addresses, by address.
        metric: the one of which the value is shown with its interval; without it, the usual values.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("asked at (UTC)", "id"):
        table.add_column(column, no_wrap=True)
    for column in ("from", "to"):
        table.add_column(column, overflow="fold")
    table.add_column("status", no_wrap=True)
    shown = _USUAL if metric is None else (metric,)
    for name in shown:
        table.add_column(f"{name} {_unit(results, name)}".rstrip(), justify="right")
    if metric is not None:
        table.add_column("95 % interval", justify="right", no_wrap=True)
    for result in results:
        table.add_row(*_cells(result, names), *_values(result, shown, with_interval=metric is not None))
    return table


def print_results(
    results: Sequence[PathResult],
    names: Mapping[str, str],
    metric: str | None = None,
    console: Console | None = None,
) -> None:
    """Print the list on stdout."""
    target = console or Console(width=None if sys.stdout.isatty() else _WIDE)
    target.print(results_table(results, names, metric))


def _cells(result: PathResult, names: Mapping[str, str]) -> tuple[str | Text, ...]:
    return (
        utc_text(us_from_rfc3339(result.requested_at)),
        result.id[:SHOWN_DIGITS],
        names.get(result.source, result.source),
        names.get(result.destination, result.destination),
        Text(str(result.status), style=_STYLES[result.status]),
    )


def _values(result: PathResult, shown: Sequence[str], *, with_interval: bool) -> list[str]:
    composed = [result.composed.get(name) for name in shown]
    cells = ["-" if one is None else number_text(one.unit, one.value) for one in composed]
    return [*cells, _interval(composed[0])] if with_interval else cells


def _interval(composed: ComposedMetric | None) -> str:
    return "-" if composed is None else interval_text(composed)


def _unit(results: Sequence[PathResult], metric: str) -> str:
    units = (result.composed[metric].unit for result in results if metric in result.composed)
    return shown_unit(next(units, ""))
