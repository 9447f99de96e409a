"""A closure check as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mp.result_view import number_text, range_text, shown_unit
from schemas.closure import ClosureCheck, ClosureMetric, ClosureVerdict, Interval

_STYLES = {ClosureVerdict.AGREES: "green", ClosureVerdict.DIFFERS: "red", ClosureVerdict.UNKNOWN: "yellow"}


def check_view(check: ClosureCheck, names: Mapping[str, str]) -> RenderableType:
    """Everything about one check.

    Args:
        check: what was found.
        names: what people call the addresses, by address.
    """
    ends = f"{names.get(check.source, check.source)} -> {names.get(check.destination, check.destination)}"
    headline = Text.assemble(
        (ends, "bold"), "  ", (str(check.verdict), _STYLES[check.verdict]), f"  after {check.duration_s:g} s"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("metric")
    for column in ("direct, 95 %", "composed, 95 %", "difference, 99 %", ""):
        table.add_column(column, justify="right")
    for name, metric in check.metrics.items():
        table.add_row(f"{name} {shown_unit(metric.unit)}", *_cells(metric))
    return Group(headline, table, *(Text(warning, style="yellow") for warning in check.warnings))


def print_check(check: ClosureCheck, names: Mapping[str, str], console: Console | None = None) -> None:
    """Show a check on stdout."""
    (console or Console()).print(check_view(check, names))


def _cells(metric: ClosureMetric) -> tuple[str, ...]:
    verdict = {True: "agrees", False: "differs", None: "unknown"}[metric.agrees]
    intervals = (metric.direct, metric.composed, metric.difference)
    return (*(_cell(metric.unit, one) for one in intervals), verdict)


def _cell(unit: str, interval: Interval) -> str:
    """The value, and its interval below it."""
    value = number_text(unit, interval.value)
    if interval.low is None or interval.high is None:
        return value
    return f"{value}\n{range_text(unit, interval.low, interval.high)}"
