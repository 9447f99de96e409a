"""Hold a composed path against the same path measured directly (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from receiver.composition import compose
from schemas.closure import ClosureMetric, ClosureVerdict, Interval
from schemas.message import SegmentRecord
from schemas.metrics import DelayStatistics, Statistics
from schemas.result import ComposedMetric

METRICS_COMPARED = ("delay", "loss", "jitter", "rtt")
"""What one STAMP session over the whole path can tell too."""

_WIDER = 2.5758293035489004 / 1.959963984540054
"""From a 95 % to a 99 % interval: four metrics at 95 % would differ by chance in one check of five."""

STAMP_ERROR_MS = 0.05
"""What one kernel time stamp may be off. Each segment has two, the direct path two more."""


def compare(direct: SegmentRecord, records: Sequence[SegmentRecord]) -> dict[str, ClosureMetric]:
    """Compare what was measured end to end with what the segments compose to.

    The clocks of the two ends are the same for both, so their errors do not count in the difference.

    Args:
        direct: one record over the whole path, from its first to its last point.
        records: of the segments, in the order of the path.

    Raises:
        MessageError: numbers that cannot be.
    """
    one = _composed([direct])
    sum_of_segments = _composed(records)
    tolerance_ms = STAMP_ERROR_MS * 2 * (len(records) + 1)
    return {
        name: _comparison(one[name], sum_of_segments[name], tolerance_ms if one[name].unit == "ms" else 0.0)
        for name in METRICS_COMPARED
    }


def verdict_of(metrics: Mapping[str, ClosureMetric]) -> ClosureVerdict:
    """What the comparisons say together."""
    judged = [metric.agrees for metric in metrics.values() if metric.agrees is not None]
    if not judged:
        return ClosureVerdict.UNKNOWN
    return ClosureVerdict.AGREES if all(judged) else ClosureVerdict.DIFFERS


def _composed(records: Sequence[SegmentRecord]) -> Mapping[str, ComposedMetric]:
    timeless = [replace(record, metrics=_without_clocks(record.metrics)) for record in records]
    return compose(METRICS_COMPARED, timeless, waited_ms=0.0, max_age_ms=0).composed


def _without_clocks(metrics: Mapping[str, Statistics]) -> dict[str, Statistics]:
    return {
        name: replace(statistics, upstream_clock_error_ms=0.0, current_clock_error_ms=0.0)
        if isinstance(statistics, DelayStatistics)
        else statistics
        for name, statistics in metrics.items()
    }


def _comparison(direct: ComposedMetric, composed: ComposedMetric, tolerance: float) -> ClosureMetric:
    difference = _difference(composed, direct)
    agrees = None
    if difference.low is not None and difference.high is not None:
        agrees = difference.low - tolerance <= 0 <= difference.high + tolerance
    return ClosureMetric(
        unit=direct.unit,
        direct=_interval(direct),
        composed=_interval(composed),
        difference=difference,
        agrees=agrees,
    )


def _interval(metric: ComposedMetric) -> Interval:
    return Interval(value=metric.value, low=metric.low, high=metric.high)


def _difference(one: ComposedMetric, other: ComposedMetric) -> Interval:
    """One less the other; half-widths add as squares (MOVER, Zou and Donner 2008)."""
    if one.value is None or other.value is None:
        return Interval(value=None, low=None, high=None)
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Interval(value=value, low=None, high=None)
    return Interval(
        value=value,
        low=value - _WIDER * math.hypot(one.value - one.low, other.high - other.value),
        high=value + _WIDER * math.hypot(one.high - one.value, other.value - other.low),
    )
