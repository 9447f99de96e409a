"""A path's answer as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.authentication import Standing
from schemas.message import Carrier, SegmentState
from schemas.result import ComposedMetric, Method, PathResult, Quantiles, ResultStatus, SegmentResult

_STYLES = {
    ResultStatus.COMPLETE: "green",
    ResultStatus.PARTIAL: "yellow",
    ResultStatus.FAILED: "red",
    ResultStatus.PENDING: "cyan",
}

_MEANING = {
    "delay": "delay, mean",
    "jitter": "jitter, p99.9",
    "rtt": "rtt, mean",
    "distribution": "delay, p99",
    "available-bandwidth": "avail. bandwidth",
}
"""Which statistic of a metric its value is, where it is not the only one; README.md says it in full."""

_SHOWN_STANDINGS = {Standing.AUTHENTIC: "green", Standing.FORGED: "red"}
"""Where nobody signs, that is no news; a warning tells of what is in between."""

_METHODS = {Method.COMPLEMENT_PRODUCT: "product"}
"""Shorter, where the name is long."""

_WIDTH_OF_SEGMENTS = 36
"""Of the names of metrics: with more, the table of segments is turned and has a row for each."""

_RATIO = "ratio"
_Justify = Literal["left", "right"]


def shown_unit(unit: str) -> str:
    """The unit in which people read a metric."""
    return "%" if unit == _RATIO else unit


def number_text(unit: str, value: float | None) -> str:
    """A value of a metric of that unit, in the unit of `shown_unit`: 3 decimals, or 6 digits of what is larger."""
    if value is None:
        return "-"
    if unit == _RATIO:
        return f"{value * 100:.2f}"
    if value == int(value) and unit != "ms":
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.6g}"


def interval_text(composed: ComposedMetric) -> str:
    """The 95 % interval in the unit of `shown_unit`."""
    if composed.low is None or composed.high is None:
        return "-"
    return range_text(composed.unit, composed.low, composed.high)


def range_text(unit: str, low: float, high: float) -> str:
    """From where to where, in the unit of `shown_unit`."""
    return f"{number_text(unit, low)} .. {number_text(unit, high)}"


def quantiles_text(unit: str, quantiles: Quantiles) -> str:
    """The quantiles of a delay in one line."""
    numbers = " / ".join(number_text(unit, value) for value in (quantiles.p50, quantiles.p95, quantiles.p99))
    return f"p50 / p95 / p99 = {numbers} {shown_unit(unit)} ({quantiles.method})"


def result_view(result: PathResult, names: Mapping[str, str]) -> RenderableType:
    """Everything about one answer.

    Args:
        result: the answer.
        names: what people call the addresses, by address.
    """
    parts: list[RenderableType] = [_headline(result, names)]
    if result.segments:
        parts.append(_segment_table(result, names))
    if result.composed:
        parts.append(_composed_table(result))
        parts.extend(_quantile_lines(result))
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
    if result.carrier not in (None, Carrier.ROUTER_ALERT):
        text.append(f" by {result.carrier}")
    if result.authenticity in _SHOWN_STANDINGS:
        text.append(f", {result.authenticity}", style=_SHOWN_STANDINGS[result.authenticity])
    text.append(f"  (request {result.id})", style="dim")
    return text


def _table(title: str, columns: Sequence[tuple[str, _Justify]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for column, justify in columns:
        table.add_column(column, justify=justify, overflow="fold")
    return table


def _segment_table(result: PathResult, names: Mapping[str, str]) -> Table:
    by_column = sum(len(_column_name(result, metric)) for metric in result.metrics) <= _WIDTH_OF_SEGMENTS
    metrics: list[tuple[str, _Justify]] = [(_column_name(result, metric), "right") for metric in result.metrics]
    table = _table(
        "Segments, as each point measured them",
        [("#", "right"), ("from", "left"), ("to", "left"), *(metrics if by_column else _METRIC_COLUMNS), _SAMPLES],
    )
    for number, segment in enumerate(result.segments, 1):
        ends = (str(number), _named(segment.upstream, names), _end_of(segment, names))
        if by_column:
            cells = (_cell(segment, metric) for metric in result.metrics)
            table.add_row(*ends, *cells, str(max(_count(segment, metric) for metric in result.metrics)))
        else:
            _add_rows(table, result, segment, ends)
    return table


def _end_of(segment: SegmentResult, names: Mapping[str, str]) -> str:
    end = _named(segment.current, names)
    return end if segment.told_by is None else f"{end} (told by {_named(segment.told_by, names)})"


def _add_rows(table: Table, result: PathResult, segment: SegmentResult, ends: tuple[str, str, str]) -> None:
    if segment.state is SegmentState.PENDING:
        table.add_row(*ends, "", "pending", "", "")
    for metric in segment.metrics:
        value, count = _cell(segment, metric), str(_count(segment, metric))
        table.add_row(*ends, _meaning(metric), value, _unit(result, metric), count)
        ends = ("", "", "")
    table.add_section()


_METRIC_COLUMNS: tuple[tuple[str, _Justify], ...] = (("metric", "left"), ("value", "right"), ("unit", "left"))
_SAMPLES: tuple[str, _Justify] = ("samples", "right")


def _meaning(metric: str) -> str:
    return _MEANING.get(metric, metric)


def _unit(result: PathResult, metric: str) -> str:
    return shown_unit(result.composed[metric].unit) if metric in result.composed else ""


def _column_name(result: PathResult, metric: str) -> str:
    return f"{metric} {_unit(result, metric)}".rstrip()


def _count(segment: SegmentResult, metric: str) -> int:
    return int(segment.metrics.get(metric, {}).get("count") or 0)


def _cell(segment: SegmentResult, metric: str) -> str:
    if segment.state is SegmentState.PENDING:
        return "pending"
    values = segment.metrics.get(metric, {})
    value = values.get("value")
    if value is None:
        return "unsupported" if "state" in values else "-"
    return number_text(str(values.get("unit")), float(value))


def _composed_table(result: PathResult) -> Table:
    table = _table("The whole path, composed", _COMPOSED_COLUMNS)
    for column in table.columns:
        column.no_wrap = True
    numbers = {(segment.upstream, segment.current): number for number, segment in enumerate(result.segments, 1)}
    for metric, composed in result.composed.items():
        binding = composed.binding_segment
        age = composed.oldest_age_s
        cells = (
            f"{_meaning(metric)} {shown_unit(composed.unit)}",
            number_text(composed.unit, composed.value),
            interval_text(composed),
            "-" if age is None else f"{age:.1f} s",
            "-" if binding is None else f"#{numbers[binding]}",
            _METHODS.get(composed.method, str(composed.method)),
        )
        table.add_row(*cells)
        if composed.flags:
            table.add_row(Text(f"  {', '.join(composed.flags)}", style="yellow"))
    return table


_COMPOSED_COLUMNS: tuple[tuple[str, _Justify], ...] = (
    ("metric", "left"),
    ("value", "right"),
    ("95 % interval", "right"),
    ("age", "right"),
    ("binds", "right"),
    ("method", "left"),
)
"""`binds`: the number of the segment with the largest part in the value, or of one that is undefined."""


def _quantile_lines(result: PathResult) -> list[Text]:
    return [
        Text(f"{metric}, {quantiles_text(composed.unit, composed.quantiles)}")
        for metric, composed in result.composed.items()
        if composed.quantiles is not None
    ]
