"""The segments of one answer as bars that follow each other and end where the path's value is. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from receiver.estimate import Estimate, estimate_sum, estimate_sum_of_means
from schemas.errors import UsageError
from schemas.message import SegmentState
from schemas.metrics import DelayStatistics, RoundTripStatistics, ScalarStatistics
from schemas.result import ComposedMetric, Method, PathResult, SegmentResult

_Values = Mapping[str, Any]
_S = TypeVar("_S", DelayStatistics, RoundTripStatistics, ScalarStatistics)

PENDING: Final = "pending"
UNSUPPORTED: Final = "unsupported"
NO_SAMPLES: Final = "no samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentBar:
    """One segment, in the metric's unit."""

    upstream: str
    current: str
    start: float
    """Where the segments before it end."""
    value: float | None
    low: float | None
    high: float | None
    """95 % interval of the value."""
    share: float | None
    """Of the sum of all segments, 0 to 1; None where the sum says nothing."""
    loss_ratio: float | None
    missing: str
    """Why there is no value; empty when there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """One metric of one answer."""

    result: PathResult
    metric: str
    bars: tuple[SegmentBar, ...]
    known: float
    """Sum over the segments that have a value."""

    @property
    def whole(self) -> ComposedMetric:
        """What the path was composed to."""
        return self.result.composed[self.metric]


def waterfall_of(result: PathResult, metric: str) -> Waterfall:
    """The bars of one answer.

    Raises:
        UsageError: the answer has no segments, or the metric is not one whose segments add up.
    """
    summed = [name for name, composed in result.composed.items() if composed.method is Method.SUM]
    if not result.segments:
        raise UsageError("id", result.id, f"an answer with segments; this one is {result.status}")
    if metric not in summed:
        expected = f"one of the answer that segments add up to: {', '.join(summed) or 'it has none'}"
        raise UsageError("metric", metric, expected)
    values = [_value(segment, metric) for segment in result.segments]
    known = sum(value for value in values if value is not None)
    bars: list[SegmentBar] = []
    start = 0.0
    for segment, value in zip(result.segments, values, strict=True):
        bars.append(_bar(segment, metric, start, _share(value, values)))
        start += value or 0.0
    return Waterfall(result=result, metric=metric, bars=tuple(bars), known=known)


def _value(segment: SegmentResult, metric: str) -> float | None:
    value = segment.metrics.get(metric, {}).get("value")
    return None if value is None else float(value)


def _share(value: float | None, values: Sequence[float | None]) -> float | None:
    """Clocks that disagree make negative delays, and then shares mean nothing."""
    given = [one for one in values if one is not None]
    total = sum(given)
    if value is None or total <= 0 or min(given) < 0 or len(given) < len(values):
        return None
    return value / total


def _bar(segment: SegmentResult, metric: str, start: float, share: float | None) -> SegmentBar:
    value = _value(segment, metric)
    estimate = None if value is None else _estimate(segment.metrics[metric])
    return SegmentBar(
        upstream=segment.upstream,
        current=segment.current,
        start=start,
        value=value,
        low=None if estimate is None else estimate.low,
        high=None if estimate is None else estimate.high,
        share=share,
        loss_ratio=_value(segment, "loss"),
        missing="" if value is not None else _missing(segment, metric),
    )


def _missing(segment: SegmentResult, metric: str) -> str:
    if segment.state is SegmentState.PENDING:
        return PENDING
    return UNSUPPORTED if "state" in segment.metrics.get(metric, {}) else NO_SAMPLES


def _estimate(values: _Values) -> Estimate | None:
    """A path of this segment alone: its interval, with the clock errors of its ends.

    None where a statistic is missing, as in answers of another version.
    """
    scalar = _statistics(ScalarStatistics, values, "value")
    if scalar is not None:
        return estimate_sum([scalar])
    delay = _statistics(DelayStatistics, values, "mean_ms")
    if delay is not None:
        return estimate_sum_of_means([delay]).widened(delay.upstream_clock_error_ms + delay.current_clock_error_ms)
    round_trip = _statistics(RoundTripStatistics, values, "mean_ms")
    return None if round_trip is None else estimate_sum_of_means([round_trip])


def _statistics(kind: type[_S], values: _Values, headline: str) -> _S | None:
    """The statistics that the values were made of; `headline` is the field that they call `value`."""
    given = {**values, headline: values["value"]}
    names = [field.name for field in fields(kind)]
    return kind(**{name: given[name] for name in names}) if all(name in given for name in names) else None
