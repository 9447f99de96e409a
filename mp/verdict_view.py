"""A verdict as a headline and a small table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mp.result_view import number_text, range_text, shown_unit
from requestor.e_model import CODECS
from requestor.profile import R_FACTOR
from schemas.verdict import Answer, Doubt, LimitVerdict, Sense, Verdict, VoiceEstimate

_STYLES = {Answer.YES: "green", Answer.NO: "red", Answer.UNSURE: "yellow"}
_SIGNS = {Sense.AT_MOST: "<=", Sense.AT_LEAST: ">="}
_DOUBTS = {
    Doubt.STRADDLES: "its interval holds the limit",
    Doubt.UNDEFINED: "it has no value over the whole path",
    Doubt.STALE: "its value is too old",
    Doubt.NO_INTERVAL: "its value has no interval",
    Doubt.UNSYNCHRONIZED: "clocks are not synchronized",
    Doubt.FORGED: "a part of the answer is forged",
}
_LABELS = {R_FACTOR: "R, estimated"}
_RIGHT = ("value", "95 % interval", "limit", "margin")


def verdict_view(verdict: Verdict, names: Mapping[str, str]) -> RenderableType:
    """The verdict.

    Args:
        verdict: of one path.
        names: what people call the addresses, by address.
    """
    parts: list[RenderableType] = [_headline(verdict, names), _table(verdict)]
    if verdict.voice_estimate is not None:
        parts.append(Text(_voice_text(verdict.voice_estimate)))
    return Group(*parts)


def print_verdict(verdict: Verdict, names: Mapping[str, str], console: Console | None = None) -> None:
    """Print the verdict on stdout."""
    (console or Console()).print(verdict_view(verdict, names))


def _headline(verdict: Verdict, names: Mapping[str, str]) -> Text:
    ends = (names.get(end, end) for end in (verdict.source, verdict.destination))
    return Text.assemble(
        (f"{verdict.profile}: ", "bold"),
        (str(verdict.answer), f"bold {_STYLES[verdict.answer]}"),
        f" for {' -> '.join(ends)}, {_why(verdict.binding)}",
        "" if verdict.binding.binding_segment is None else f", by {_segment(verdict.binding, names)}",
    )


def _segment(limit: LimitVerdict, names: Mapping[str, str]) -> str:
    assert limit.binding_segment is not None  # asked for only then
    return " -> ".join(names.get(point, point) for point in limit.binding_segment)


def _why(limit: LimitVerdict) -> str:
    match limit.answer:
        case Answer.YES:
            return f"closest to its limit is {limit.metric}"
        case Answer.NO:
            return f"broken by {limit.metric}"
        case Answer.UNSURE:
            assert limit.doubt is not None  # an unsure limit says why
            return f"because of {limit.metric}: {_DOUBTS[limit.doubt]}"
        case other:
            assert_never(other)


def _table(verdict: Verdict) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for column in _RIGHT:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for limit in verdict.limits:
        table.add_row(*_cells(limit))
    return table


def _cells(limit: LimitVerdict) -> tuple[str | Text, ...]:
    unit = limit.unit or ""
    interval = "-" if limit.low is None or limit.high is None else range_text(unit, limit.low, limit.high)
    margin = number_text(unit, limit.margin)
    return (
        _LABELS.get(limit.metric, f"{limit.metric} {shown_unit(unit)}".rstrip()),
        number_text(unit, limit.value),
        interval,
        f"{_SIGNS[limit.sense]} {100 * limit.limit if shown_unit(unit) == '%' else limit.limit:g}",
        margin if limit.margin is None or limit.margin < 0 else f"+{margin}",
        Text(str(limit.answer), style=_STYLES[limit.answer]),
    )


def _voice_text(voice: VoiceEstimate) -> str:
    mos = "" if voice.mos is None else f" {voice.mos:.2f},"
    return (
        f"estimated MOS{mos} {voice.mos_low:.2f} .. {voice.mos_high:.2f}"
        f" (E-model of ITU-T G.107, {CODECS[voice.codec].title}; nobody listened)"
    )
