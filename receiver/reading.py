"""What the record of one segment says of one metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

from schemas.errors import MessageError
from schemas.histogram import Histogram
from schemas.message import SegmentRecord
from schemas.metrics import (
    Composition,
    DelayStatistics,
    DistributionStatistics,
    LossStatistics,
    Metric,
    ScalarStatistics,
    Statistics,
    sample_count,
    statistic_fields,
)

_NEVER_NEGATIVE = {
    kind: {"variance_ms2", "upstream_clock_error_ms", "current_clock_error_ms"}.intersection(
        name for name, *_ in statistic_fields(kind)
    )
    for kind in get_args(Statistics)
}

ZERO_IS_UNKNOWN: Final = frozenset({"capacity", "mtu"})
"""A bandwidth of 0 stands for an unknown one (RFC 2215), and no packet fits into 0 octets. An available bandwidth
of 0 is a full link (RFC 5136 section 2.5)."""


def is_defined(metric: Metric, record: SegmentRecord) -> bool:
    """Whether there is a value: an empty sample has neither a mean nor a loss ratio (RFC 7680 section 4.1)."""
    statistics = record.metrics.get(metric.name)
    if statistics is None or sample_count(statistics) <= 0:
        return False
    return not (
        metric.name in ZERO_IS_UNKNOWN and isinstance(statistics, ScalarStatistics) and statistics.value == 0
    )


def samples_of(metric: Metric, record: SegmentRecord) -> int:
    """How many packets the value rests on."""
    statistics = record.metrics.get(metric.name)
    return 0 if statistics is None else sample_count(statistics)


def age_ms(metric: Metric, record: SegmentRecord) -> int:
    """How old the value was when the record was made; both times are of the same clock, which may have stepped."""
    statistics = record.metrics.get(metric.name)
    if isinstance(statistics, ScalarStatistics):
        return max(0, record.recorded_at_ms - statistics.measured_at_ms)
    return record.age_ms


def delays_of(records: Sequence[SegmentRecord]) -> Sequence[DelayStatistics]:
    """The one-way delay of each segment that gives it; it alone says what the clocks are worth."""
    given = (record.metrics.get("delay") for record in records)
    return [delay for delay in given if isinstance(delay, DelayStatistics)]


def segment_name(record: SegmentRecord) -> str:
    """How warnings call the segment."""
    return f"segment {record.upstream} -> {record.current}"


def check_reading(metric: Metric, record: SegmentRecord) -> None:
    """Refuse numbers that cannot be.

    Raises:
        MessageError: naming the metric, the point, and what was expected.
    """
    statistics = record.metrics.get(metric.name)
    if statistics is None:
        return
    problem = _problem(metric, statistics)
    if problem is not None:
        raise MessageError(f"{metric.name} of {record.current}: got {problem}")


def _problem(metric: Metric, statistics: Statistics) -> str | None:
    if type(statistics) is not metric.statistics:
        return f"{type(statistics).__name__}, expected {metric.statistics.__name__}"
    for field in _NEVER_NEGATIVE[metric.statistics]:
        value = getattr(statistics, field)
        if value < 0:
            return f"{field} {value}, expected 0 or more"
    match statistics:
        case LossStatistics(lost=lost, sent=sent) if lost > sent:
            return f"{lost} lost of {sent}, expected at most all"
        case DistributionStatistics(bins=bins):
            Histogram.from_text(bins)
        case ScalarStatistics(value=value, low=low, high=high):
            if not low <= value <= high:
                return f"{value} between {low} and {high}, expected the value within its interval"
            if metric.composition is Composition.COMPLEMENT_PRODUCT and not 0 <= low <= high <= 1:
                return f"{low} to {high}, expected a ratio from 0 to 1"
    return None
