"""A path's answer as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.message import SegmentState
from schemas.metrics import METRICS
from schemas.result import ComposedMetric, PathResult, ResultStatus, SegmentResult

_STYLES = {
    ResultStatus.COMPLETE: "green",
    ResultStatus.PARTIAL: "yellow",
    ResultStatus.FAILED: "red",
    ResultStatus.PENDING: "cyan",
}

_MEANING = {
    "delay": "delay, mean",
    "loss": "loss",
    "jitter": "jitter, 99.9 %",
    "rtt": "rtt, mean",
}
"""Which statistic of a metric its value is; README.md says it in full."""


def column_name(metric: str) -> str:
    """The metric with the unit in which people read it."""
    return f"{metric} %" if METRICS[metric].unit == "ratio" else f"{metric} ms"


def number_text(metric: str, value: float | None) -> str:
    """A value in the unit of `column_name`."""
    if value is None:
        return "-"
    return f"{value * 100:.2f}" if METRICS[metric].unit == "ratio" else f"{value:.3f}"


def interval_text(metric: str, composed: ComposedMetric) -> str:
    """The 95 % interval in the unit of `column_name`."""
    if composed.low is None or composed.high is None:
        return "-"
    return f"{number_text(metric, composed.low)} .. {number_text(metric, composed.high)}"


def result_view(result: PathResult, names: Mapping[str, str]) -> RenderableType:
    """Everything about one answer.

    Args:
        names: what people call the addresses, by address.
    """
    parts: list[RenderableType] = [_headline(result, names)]
    if result.segments:
        parts.append(_segment_table(result, names))
    if result.composed:
        parts.append(_composed_table(result, names))
    if result.status is not ResultStatus.FAILED:  # then the warning is the error, and goes to stderr
        parts.extend(Text(f"! {warning}", style="yellow") for warning in result.warnings)
    return Group(*parts)


def print_result(result: PathResult, names: Mapping[str, str], console: Console | None = None) -> None:
    """Print the answer on stdout."""
    (console or Console()).print(result_view(result, names))


def _named(address: str, names: Mapping[str, str]) -> str:
    return names.get(address, address)


def _headline(result: PathResult, names: Mapping[str, str]) -> Text:
    text = Text()
    text.append(f"{_named(result.source, names)} -> {_named(result.destination, names)}  ", style="bold")
    text.append(str(result.status), style=_STYLES[result.status])
    if result.elapsed_ms is not None:
        text.append(f" after {result.elapsed_ms:.1f} ms")
    text.append(f"  (request {result.id})", style="dim")
    return text


def _segment_table(result: PathResult, names: Mapping[str, str]) -> Table:
    table = Table(title="Segments, as each point measured them", title_justify="left")
    table.add_column("from")
    table.add_column("to")
    for metric in result.metrics:
        table.add_column(column_name(metric), justify="right")
    table.add_column("samples", justify="right")
    for segment in result.segments:
        table.add_row(
            _named(segment.upstream, names),
            _named(segment.current, names),
            *(_cell(segment, metric) for metric in result.metrics),
            str(max((int(values["count"] or 0) for values in segment.metrics.values()), default=0)),
        )
    return table


def _cell(segment: SegmentResult, metric: str) -> str:
    if segment.state is SegmentState.PENDING:
        return "pending"
    values = segment.metrics.get(metric, {})
    value = values.get("value")
    return "unsupported" if value is None else number_text(metric, float(value))


def _composed_table(result: PathResult, names: Mapping[str, str]) -> Table:
    table = Table(title="The whole path, composed", title_justify="left")
    for column, justify in _COMPOSED_COLUMNS:
        table.add_column(column, justify=justify)
    for metric, composed in result.composed.items():
        binding = composed.binding_segment
        age = composed.oldest_age_s
        table.add_row(
            _MEANING[metric],
            "%" if METRICS[metric].unit == "ratio" else METRICS[metric].unit,
            number_text(metric, composed.value),
            interval_text(metric, composed),
            "-" if age is None else f"{age:.1f} s",
            "-" if binding is None else " -> ".join(_named(address, names) for address in binding),
        )
    return table


_COMPOSED_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("metric", "left"),
    ("unit", "left"),
    ("value", "right"),
    ("95 % interval", "right"),
    ("age", "right"),
    ("binding segment", "left"),
)
