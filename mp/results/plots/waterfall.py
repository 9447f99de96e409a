"""The picture of one answer: each segment's part as a bar from where the one before it ends, and their sum."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mp.result_view import interval_text, number_text, quantiles_text, range_text, shown_unit
from mp.results.plots.segment_bars import SegmentBar, Waterfall
from mp.results.plots.style import BLUE, GRAY, INK, SKY, VERMILION, add_title, annotate_below, styled
from mp.results.time_span import utc_text
from mp.results.view import SHOWN_DIGITS
from schemas.rfc3339 import us_from_rfc3339

_WIDTH_IN = 7.5
_ROW_IN = 0.36
_BAR = 0.62
"""Of the height of a row."""
_MISSING_WIDTH = 0.1
"""Of the axis, where a bar without a value begins: to see it, it must have some width."""
_WHISKER_ROOM = 0.4
"""Of the bars' length: whiskers that reach farther, as where clocks are not synchronized, leave the picture."""
_NAME_LENGTH = 26
_COLUMNS_PT = (62.0, 112.0, 232.0, 290.0)
"""Right ends of the columns of text, from the right edge of the axes."""
_WARNINGS = 3
_WARNING_WIDTH = 150
_LOSS = "loss"
_MEANING = {"delay": "one-way delay", "rtt": "round-trip time"}


def draw_waterfall(waterfall: Waterfall, names: Mapping[str, str]) -> Figure:
    """The picture.

    Args:
        waterfall: of one answer.
        names: what people call the addresses, by address.
    """
    rows = len(waterfall.bars) + 1
    with styled():
        figure = Figure(figsize=(_WIDTH_IN, _ROW_IN * (rows + 1)))
        axes = figure.add_axes((0, 0, 1, 1))
        left, right = _limits(waterfall)
        axes.set_xlim(left, right)
        axes.set_ylim(rows - 0.35, -0.65)
        for row, bar in enumerate(waterfall.bars):
            _draw_segment(axes, row, bar, waterfall, width=right - left)
        _draw_whole(axes, waterfall)
        _connect(axes, waterfall)
        _name_rows(axes, waterfall, names)
        _add_columns(axes, waterfall)
        _add_notes(axes, waterfall)
        unit = shown_unit(waterfall.whole.unit)
        axes.set_xlabel(f"{_MEANING.get(waterfall.metric, waterfall.metric)} along the path, {unit}")
        axes.grid(axis="x")
        add_title(axes, _title(waterfall, names), _subtitle(waterfall), above_pt=26.0)
        return figure


def _limits(waterfall: Waterfall) -> tuple[float, float]:
    """Of the axis: all bars, and whiskers as far as `_WHISKER_ROOM` goes."""
    ends = [0.0, waterfall.whole.value or 0.0]
    whiskers = [waterfall.whole.low, waterfall.whole.high]
    for bar in waterfall.bars:
        ends += [bar.start, bar.start + (bar.value or 0.0)]
        if bar.low is not None and bar.high is not None:
            whiskers += [bar.start + bar.low, bar.start + bar.high]
    least, most = min(ends), max(ends)
    length = (most - least) or 1.0
    reached = [one for one in whiskers if one is not None]
    left = max(min([least, *reached]), least - _WHISKER_ROOM * length)
    right = min(max([most, *reached]), most + _WHISKER_ROOM * length)
    is_missing_last = any(bar.missing and bar.start > most - _MISSING_WIDTH * length for bar in waterfall.bars)
    return left, max(right + 0.02 * length, most + (1.6 * _MISSING_WIDTH * length if is_missing_last else 0.0))


def _draw_segment(axes: Axes, row: int, bar: SegmentBar, waterfall: Waterfall, *, width: float) -> None:
    if bar.value is None:
        box = axes.barh(
            row, _MISSING_WIDTH * width, left=bar.start, height=_BAR, facecolor="white", edgecolor=GRAY
        )
        box[0].set_hatch("////")
        box[0].set_linestyle("--")
        return
    is_binding = (bar.upstream, bar.current) == waterfall.whole.binding_segment
    axes.barh(row, bar.value, left=bar.start, height=_BAR, color=BLUE if is_binding else SKY)
    _draw_whisker(axes, row, bar.start, bar.low, bar.high)


def _draw_whole(axes: Axes, waterfall: Waterfall) -> None:
    row = len(waterfall.bars)
    whole = waterfall.whole
    axes.axhline(row - 0.5, color=GRAY, linewidth=0.8)
    if whole.value is None:
        box = axes.barh(row, waterfall.known, height=_BAR, facecolor="white", edgecolor=GRAY, linestyle="--")
        box[0].set_hatch("////")
        return
    axes.barh(row, whole.value, height=_BAR, color=INK)
    _draw_whisker(axes, row, 0.0, whole.low, whole.high)


def _draw_whisker(axes: Axes, row: int, start: float, low: float | None, high: float | None) -> None:
    """The 95 % interval, in a light outline so that it is seen on a dark bar too."""
    if low is None or high is None:
        return
    for color, width in (("white", 3.6), (VERMILION, 1.6)):
        axes.plot([start + low, start + high], [row, row], color=color, linewidth=width, solid_capstyle="butt")
        axes.plot(
            [start + low, start + high],
            [row, row],
            color=color,
            linestyle="none",
            marker="|",
            markersize=9,
            markeredgewidth=width,
        )


def _connect(axes: Axes, waterfall: Waterfall) -> None:
    """From the end of each bar down to the beginning of the next one."""
    for row, bar in enumerate(waterfall.bars):
        end = bar.start + (bar.value or 0.0)
        axes.plot([end, end], [row + _BAR / 2, row + 1 - _BAR / 2], color=GRAY, linewidth=0.8)


def _name_rows(axes: Axes, waterfall: Waterfall, names: Mapping[str, str]) -> None:
    labels = [f"{_name(bar.upstream, names)} → {_name(bar.current, names)}" for bar in waterfall.bars]
    axes.set_yticks(range(len(labels) + 1), [*labels, "whole path"])
    axes.tick_params(axis="y", length=0)
    axes.get_yticklabels()[-1].set_fontweight("bold")


def _name(address: str, names: Mapping[str, str]) -> str:
    """Shortened in the middle: names of one network differ at their ends."""
    name = names.get(address, address)
    half = _NAME_LENGTH // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[: half - 1]}…{name[-half:]}"


def _add_columns(axes: Axes, waterfall: Waterfall) -> None:
    """The numbers, beside the axes so that no bar can be in their way."""
    unit = waterfall.whole.unit
    _add_row(axes, -0.95, (shown_unit(unit), "share", "95 % interval", "loss %"), color=GRAY)
    for row, bar in enumerate(waterfall.bars):
        _add_row(axes, row, _segment_texts(bar, unit), color=GRAY if bar.missing else INK)
    _add_row(axes, len(waterfall.bars), _whole_texts(waterfall), fontweight="bold")


def _segment_texts(bar: SegmentBar, unit: str) -> tuple[str, str, str, str]:
    loss = _percent(bar.loss_ratio)
    if bar.value is None:
        return "", "", bar.missing, loss
    interval = "-" if bar.low is None or bar.high is None else range_text(unit, bar.low, bar.high)
    share = "-" if bar.share is None else f"{bar.share * 100:.0f} %"
    return number_text(unit, bar.value), share, interval, loss


def _whole_texts(waterfall: Waterfall) -> tuple[str, str, str, str]:
    loss = waterfall.result.composed.get(_LOSS)
    loss_text = _percent(None if loss is None else loss.value)
    whole = waterfall.whole
    if whole.value is None:
        return "", "", "not known as a whole", loss_text
    return number_text(whole.unit, whole.value), "", interval_text(whole), loss_text


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else number_text("ratio", ratio)


def _add_row(axes: Axes, row: float, texts: Sequence[str], **look: Any) -> None:
    for text, right_pt in zip(texts, _COLUMNS_PT, strict=True):
        axes.annotate(
            text,
            (1, row),
            (right_pt, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            annotation_clip=False,
            fontsize=9.5,
            **look,
        )


def _add_notes(axes: Axes, waterfall: Waterfall) -> None:
    """What the bars cannot say, below the axis."""
    whole = waterfall.whole
    is_partial = any(bar.missing for bar in waterfall.bars)
    lines = [f"Whiskers: 95 % interval.  {'Hatched: no value.' if is_partial else 'Dark blue: the largest part.'}"]
    if whole.quantiles is not None:
        lines.append(f"Whole path, {quantiles_text(whole.unit, whole.quantiles)}")
    if whole.flags:
        lines.append(f"Flags: {', '.join(whole.flags)}")
    warnings = waterfall.result.warnings
    lines += [textwrap.shorten(warning, _WARNING_WIDTH, placeholder=" …") for warning in warnings[:_WARNINGS]]
    if len(warnings) > _WARNINGS:
        lines.append(f"more warnings: inpath results show {waterfall.result.id[:SHOWN_DIGITS]}")
    annotate_below(axes, lines, offset_pt=44, color=GRAY)


def _title(waterfall: Waterfall, names: Mapping[str, str]) -> str:
    result = waterfall.result
    ends = " → ".join(names.get(end, end) for end in (result.source, result.destination))
    return f"{_MEANING.get(waterfall.metric, waterfall.metric).capitalize()} by segment  {ends}"


def _subtitle(waterfall: Waterfall) -> str:
    result = waterfall.result
    return f"{result.status}, asked at {utc_text(us_from_rfc3339(result.requested_at))} UTC, request {result.id}"
