"""The picture of one metric of a path over time, with its loss below and the changes of its route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mp.result_view import shown_unit
from mp.results.plots.path_history import Grain, PathHistory, Sample, detour_of, value_limits
from mp.results.plots.style import BLUE, FAINT, GRAY, PURPLE, SKY, VERMILION, add_title, annotate_below, styled
from mp.results.time_span import utc_text
from receiver.store.history import RouteEvent
from receiver.store.retention import US_PER_DAY

_SIZE_IN = (11.0, 5.6)
_RATIO = "ratio"
_LEAST_LOSS_AXIS = 1.0
"""Per cent: a single lost packet must not look like an outage."""
_DOTTED = 60
"""So few answers are drawn as dots too."""
_PT_PER_IN = 72
_LEGEND_PT = 24.0
"""Above the axes; the numbers of route changes are in between."""
_LISTED_ROUTES = 6
_LABEL_DISTANCE = 0.025
"""Of the axis: nearer changes of the route share a label."""
_MAX_NAMED_POINTS = 4

_MEANING = {"delay": "one-way delay", "rtt": "round-trip time"}
_LINE = {Grain.ANSWER: "mean", Grain.MINUTE: "mean of a minute's answers", Grain.HOUR: "mean of an hour's answers"}
_BAND = {
    Grain.ANSWER: "p50 to p95 of the packets",
    Grain.MINUTE: "p50 to p95 of the answers",
    Grain.HOUR: "p50 to p95 of the answers",
}
_RANGE = {
    Grain.ANSWER: "95 % interval",
    Grain.MINUTE: "lowest to highest answer",
    Grain.HOUR: "lowest to highest answer",
}
_SOURCE = {Grain.ANSWER: "each answer", Grain.MINUTE: "by minute", Grain.HOUR: "by hour"}

_Value = Callable[[Sample], float | None]


def draw_history(history: PathHistory, names: Mapping[str, str]) -> Figure:
    """The picture.

    Args:
        history: at least one sample with a value.
        names: what people call the addresses, by address.
    """
    with styled():
        figure = Figure(figsize=_SIZE_IN)
        has_losses = any(sample.value is not None for sample in history.losses)
        grid = figure.add_gridspec(
            2 if has_losses else 1, 1, height_ratios=(3.4, 1)[: 1 + has_losses], hspace=0.12
        )
        upper = figure.add_subplot(grid[0])
        _draw_values(upper, history)
        lowest = upper
        if has_losses:
            lowest = figure.add_subplot(grid[1], sharex=upper)
            _draw_losses(lowest, history)
            upper.tick_params(labelbottom=False)
        for axes in (upper, lowest)[: 1 + has_losses]:
            _shade_gaps(axes, history)
            _mark_routes(axes, history)
        _finish_time_axis(lowest, history)
        _number_routes(upper, history)
        _list_routes(lowest, history, names)
        _add_legend(figure, upper)
        add_title(upper, _title(history, names), _subtitle(history), above_pt=_LEGEND_PT + 22)
        return figure


def _date(time_us: float) -> float:
    """As matplotlib counts time: in days since 1970-01-01."""
    return time_us / US_PER_DAY


def _scale(unit: str) -> float:
    return 100.0 if unit == _RATIO else 1.0


def _draw_values(axes: Axes, history: PathHistory) -> None:
    scale = _scale(history.unit)
    is_answer = history.grain is Grain.ANSWER
    for run in history.runs:
        # The interval of a mean is narrow and belongs on the band; the extremes of a period are behind it.
        _fill(
            axes, run, scale, lambda s: s.p50, lambda s: s.p95, color=SKY, alpha=0.35, label=_BAND[history.grain]
        )
        _fill(
            axes,
            run,
            scale,
            lambda s: s.low,
            lambda s: s.high,
            color=BLUE if is_answer else SKY,
            alpha=0.4 if is_answer else 0.18,
            label=_RANGE[history.grain],
        )
        times, values = _stairs([(sample, scale * (sample.value or 0.0)) for sample in run])
        marker = "o" if is_answer and (len(run) == 1 or len(history.samples) <= _DOTTED) else None
        axes.plot(
            times,
            values,
            color=BLUE,
            linewidth=1.6,
            drawstyle="default" if is_answer else "steps-post",
            marker=marker,
            markersize=3.5,
            label=_LINE[history.grain],
        )
    axes.set_ylabel(f"{_MEANING.get(history.metric, history.metric)}, {shown_unit(history.unit)}".rstrip(", "))
    axes.grid(axis="y")
    axes.set_ylim(*(scale * end for end in value_limits(history)))


def _fill(axes: Axes, run: Sequence[Sample], scale: float, low: _Value, high: _Value, **look: str | float) -> None:
    """The area between two values, where there are both; an answer alone gets a bar."""
    ends = [(sample, low(sample), high(sample)) for sample in run]
    known = [(sample, scale * a, scale * b) for sample, a, b in ends if a is not None and b is not None]
    if not known:
        return
    times, lows = _stairs([(sample, bottom) for sample, bottom, _ in known])
    _, highs = _stairs([(sample, top) for sample, _, top in known])
    if len(times) == 1:
        axes.vlines(times, lows, highs, linewidth=5, **look)  # type: ignore[arg-type]  # color, alpha and label
    else:
        step: Literal["post"] | None = "post" if known[0][0].duration_us else None
        axes.fill_between(times, lows, highs, step=step, linewidth=0, **look)  # type: ignore[arg-type]  # the same


def _stairs(values: Sequence[tuple[Sample, float]]) -> tuple[list[float], list[float]]:
    """Where to draw them: answers at their time, periods from their beginning to the end of the last one."""
    times = [_date(sample.start_us) for sample, _ in values]
    numbers = [number for _, number in values]
    last, number = values[-1]
    return (times, numbers) if not last.duration_us else ([*times, _date(last.end_us)], [*numbers, number])


def _draw_losses(axes: Axes, history: PathHistory) -> None:
    known = [sample for sample in history.losses if sample.value is not None]
    widths_us = _bar_widths_us(known, history)
    percents = [100 * (sample.value or 0.0) for sample in known]
    axes.bar(
        [_date(sample.start_us) for sample in known],
        percents,
        width=[_date(width) for width in widths_us],
        align="edge",
        color=VERMILION,
        linewidth=0,
        label="loss",
    )
    axes.set_ylim(0, max(_LEAST_LOSS_AXIS, 1.15 * max(percents)))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylabel("loss, %")
    axes.grid(axis="y")
    if max(percents) == 0:
        axes.annotate("no packet lost", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GRAY)


def _bar_widths_us(samples: Sequence[Sample], history: PathHistory) -> list[float]:
    """Up to the next sample, but not across a gap; of periods their length."""
    span_us = history.end_us - history.start_us
    longest_us = min(history.gap_us, span_us / 50)
    ends = [*(sample.start_us for sample in samples[1:]), history.end_us]
    return [
        sample.duration_us or min(longest_us, end_us - sample.start_us)
        for sample, end_us in zip(samples, ends, strict=True)
    ]


def _shade_gaps(axes: Axes, history: PathHistory) -> None:
    for start_us, end_us in history.gaps:
        axes.axvspan(_date(start_us), _date(end_us), facecolor=FAINT, edgecolor="none", zorder=0, label="no data")


def _mark_routes(axes: Axes, history: PathHistory) -> None:
    for event in history.routes:
        axes.axvline(
            _date(event.at_us), color=PURPLE, linestyle=(0, (4, 3)), linewidth=1.2, label="change of route"
        )


def _number_routes(axes: Axes, history: PathHistory) -> None:
    """The numbers of the list above the axes; those of changes close together in one label."""
    span_us = history.end_us - history.start_us
    groups: list[list[int]] = []
    for index, event in enumerate(history.routes):
        is_near = groups and event.at_us - history.routes[groups[-1][-1]].at_us < _LABEL_DISTANCE * span_us
        if is_near:
            groups[-1].append(index)
        else:
            groups.append([index])
    for group in groups:
        text = f"{group[0] + 1}" if len(group) == 1 else f"{group[0] + 1}-{group[-1] + 1}"
        middle_us = (history.routes[group[0]].at_us + history.routes[group[-1]].at_us) / 2
        axes.annotate(
            text,
            (_date(middle_us), 1),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            fontweight="bold",
            color=PURPLE,
        )


def _list_routes(axes: Axes, history: PathHistory, names: Mapping[str, str]) -> None:
    shown = history.routes[:_LISTED_ROUTES]
    lines = [_route_text(number, event, names) for number, event in enumerate(shown, 1)]
    hidden = len(history.routes) - len(shown)
    if hidden:
        lines.append(f"and {hidden} more changes of the route")
    if lines:
        annotate_below(axes, lines, offset_pt=46, color=PURPLE)


def _route_text(number: int, event: RouteEvent, names: Mapping[str, str]) -> str:
    old, new = (_points_text(points, names) for points in detour_of(event))
    if old and new:
        what = f"via {new} instead of {old}"
    else:
        what = f"now also via {new}" if new else f"no longer via {old}"
    return f"{number}   {utc_text(event.at_us)}   {what}"


def _points_text(points: Sequence[str], names: Mapping[str, str]) -> str:
    named = [names.get(point, point) for point in points]
    if len(named) > _MAX_NAMED_POINTS:
        named = [*named[: _MAX_NAMED_POINTS - 1], f"{len(named) - _MAX_NAMED_POINTS + 1} more"]
    return ", ".join(named)


def _finish_time_axis(axes: Axes, history: PathHistory) -> None:
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)  # type: ignore[no-untyped-call,unused-ignore]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call,unused-ignore]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlim(_date(history.start_us), _date(history.end_us))
    axes.set_xlabel("time (UTC)")


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Each kind of thing once, in a line between the subtitle and the axes."""
    handles, labels = axes.get_legend_handles_labels()
    unique = {label: handle for handle, label in reversed(list(zip(handles, labels, strict=True)))}
    height_pt = axes.get_position().height * figure.get_figheight() * _PT_PER_IN
    axes.legend(
        list(unique.values())[::-1],
        list(unique)[::-1],
        loc="lower left",
        bbox_to_anchor=(0.0, 1 + _LEGEND_PT / height_pt),
        ncols=len(unique),
        frameon=False,
        fontsize=9,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.8,
    )


def _title(history: PathHistory, names: Mapping[str, str]) -> str:
    ends = " → ".join(names.get(end, end) for end in (history.source, history.destination))
    return f"{_MEANING.get(history.metric, history.metric).capitalize()}  {ends}"


def _subtitle(history: PathHistory) -> str:
    text = f"{utc_text(history.start_us)} to {utc_text(history.end_us)} UTC, {_SOURCE[history.grain]}"
    if history.is_cut:
        text += f"; the newest {len(history.samples)} only"
    least, most = value_limits(history)
    outer = [end for sample in history.samples for end in (sample.low, sample.high) if end is not None]
    if outer and (min(outer) < least or max(outer) > most):
        text += f"; {_RANGE[history.grain]} leaves the picture"
    return text
