"""The records of a report become the metrics of the segments and of the whole path (RFC 5835, RFC 6049).

An undefined segment makes the path undefined; "all lost" is defined (RFC 6049 sections 2 and 5.1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import assert_never

from receiver.estimate import Estimate, estimate_delay_variation, estimate_loss, estimate_sum
from schemas.errors import MessageError
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import (
    METRICS,
    DelayStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    Statistics,
    headline,
    sample_count,
)
from schemas.metrics import Composition as Rule
from schemas.result import ComposedMetric, ResultStatus, SegmentResult
from schemas.rfc3339 import rfc3339_from_us

UNSUPPORTED = "unsupported"
"""The `state` of a metric that a point cannot give."""

_NEVER_NEGATIVE = ("variance_ms2", "upstream_clock_error_ms", "current_clock_error_ms")

# What a segment's metric already shows as `value` or `count`.
_SHOWN_OTHERWISE = frozenset({"count", "sent", "mean_ms", "pdv_ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What a set of records says of each segment and of the path."""

    segments: tuple[SegmentResult, ...]
    composed: dict[str, ComposedMetric]
    status: ResultStatus
    """COMPLETE when each metric that was asked for has a value, else PARTIAL."""
    warnings: tuple[str, ...]


def compose(metrics: Sequence[str], records: Sequence[SegmentRecord], *, waited_ms: float) -> Composition:
    """Compose the metrics that were asked for over all records of one path.

    Args:
        metrics: names from the registry, as in the request.
        records: in the order of the path, checked by `schemas.message.check_consistency`.
        waited_ms: how long the records were under way and waiting; it is added to their age.

    Raises:
        MessageError: a record with numbers that cannot be (more lost than sent, a negative variance).
    """
    for record in records:
        _check_numbers(record)
    composed = {name: _compose_metric(name, records, waited_ms) for name in metrics}
    defined = bool(records) and all(metric.value is not None for metric in composed.values())
    return Composition(
        segments=tuple(_segment_result(record, metrics) for record in records),
        composed=composed,
        status=ResultStatus.COMPLETE if defined else ResultStatus.PARTIAL,
        warnings=(*_warnings_of_segments(metrics, records), *_warnings_of_path(composed, records)),
    )


def _check_numbers(record: SegmentRecord) -> None:
    for name, statistics in record.metrics.items():
        if isinstance(statistics, LossStatistics) and statistics.lost > statistics.sent:
            got = f"{statistics.lost} lost of {statistics.sent}"
            raise MessageError(f"{name} of {record.current}: got {got}, expected at most all")
        for field in _NEVER_NEGATIVE:
            value = getattr(statistics, field, 0)
            if value < 0:
                raise MessageError(f"{name} of {record.current}: got {field} {value}, expected 0 or more")


def _compose_metric(name: str, records: Sequence[SegmentRecord], waited_ms: float) -> ComposedMetric:
    ages_ms = [record.age_ms for record in records if record.state is SegmentState.MEASURED]
    undefined = [record for record in records if not _is_defined(name, record)]
    estimate = None if undefined or not records else _estimate(name, records)
    binding = undefined[0] if undefined else max(records, key=lambda record: _share(name, record), default=None)
    if binding is not None and not undefined and _share(name, binding) == 0:
        binding = None  # no segment has any part in it
    return ComposedMetric(
        value=None if estimate is None else estimate.value,
        unit=METRICS[name].unit,
        low=None if estimate is None else estimate.low,
        high=None if estimate is None else estimate.high,
        oldest_age_s=(max(ages_ms) + waited_ms) / 1000 if ages_ms else None,
        count=min((_count(name, record) for record in records), default=0),
        binding_segment=None if binding is None else (binding.upstream, binding.current),
    )


def _count(name: str, record: SegmentRecord) -> int:
    statistics = record.metrics.get(name)
    return 0 if statistics is None else sample_count(statistics)


def _is_defined(name: str, record: SegmentRecord) -> bool:
    # An empty sample has neither a mean nor a loss ratio (RFC 7680 section 4.1).
    return _count(name, record) > 0


def _estimate(name: str, records: Sequence[SegmentRecord]) -> Estimate:
    """The path's value; each record has samples of the metric."""
    parts = [record.metrics[name] for record in records]
    match METRICS[name].composition:
        case Rule.SUM:
            means = [part for part in parts if isinstance(part, DelayStatistics | RoundTripStatistics)]
            return estimate_sum(means, clock_error_ms=_clock_error_ms(means[0], means[-1]))
        case Rule.COMPLEMENT_PRODUCT:
            return estimate_loss([part for part in parts if isinstance(part, LossStatistics)])
        case Rule.DISTRIBUTION:
            return estimate_delay_variation([part for part in parts if isinstance(part, JitterStatistics)])
        case rule:
            assert_never(rule)


def _clock_error_ms(first: Statistics, last: Statistics) -> float:
    """Each inner clock is the end of one segment and the start of the next: its error cancels in the sum."""
    if isinstance(first, DelayStatistics) and isinstance(last, DelayStatistics):
        return first.upstream_clock_error_ms + last.current_clock_error_ms
    return 0.0


def _share(name: str, record: SegmentRecord) -> float:
    """What orders the segments by their part in the path's value; variances add where quantiles do not."""
    statistics = record.metrics[name]
    return statistics.variance_ms2 if isinstance(statistics, JitterStatistics) else headline(statistics)


def _segment_result(record: SegmentRecord, metrics: Sequence[str]) -> SegmentResult:
    measured = record.state is SegmentState.MEASURED
    return SegmentResult(
        upstream=record.upstream,
        current=record.current,
        state=record.state,
        measured_at=_measured_at(record) if measured else None,
        metrics={name: _values(name, record.metrics.get(name)) for name in metrics} if measured else {},
    )


def _measured_at(record: SegmentRecord) -> str:
    return rfc3339_from_us((record.recorded_at_ms - record.age_ms) * 1000, decimals=3)


def _values(name: str, statistics: Statistics | None) -> dict[str, float | int | bool | str | None]:
    unit = METRICS[name].unit
    if statistics is None:
        return {"value": None, "unit": unit, "count": 0, "state": UNSUPPORTED}
    count = sample_count(statistics)
    others = [field.name for field in fields(statistics) if field.name not in _SHOWN_OTHERWISE]
    return {
        "value": headline(statistics) if count else None,
        "unit": unit,
        "count": count,
        **{other: getattr(statistics, other) for other in others},
    }


def _warnings_of_segments(metrics: Sequence[str], records: Sequence[SegmentRecord]) -> list[str]:
    warnings = []
    for record in records:
        if record.state is SegmentState.PENDING:
            warnings.append(f"{_name(record)} is not measured yet; ask again in a moment")
            continue
        for name in metrics:
            if name in record.unsupported:
                warnings.append(f"{_name(record)} cannot give {name}")
            elif not _is_defined(name, record):
                warnings.append(f"{_name(record)} has no sample of {name}")
    return warnings


def _warnings_of_path(composed: dict[str, ComposedMetric], records: Sequence[SegmentRecord]) -> list[str]:
    if not records:
        return ["no segment was reported"]
    warnings = [
        f"{name}: one segment has a single sample, so no interval can be given"
        for name, metric in composed.items()
        if metric.value is not None and metric.low is None
    ]
    unsynchronized = [
        _name(record)
        for record in records
        if isinstance(delay := record.metrics.get("delay"), DelayStatistics) and not delay.synchronized
    ]
    if unsynchronized:
        warnings.append(
            f"delay: clocks are not synchronized on {', '.join(unsynchronized)}; the one-way value may be off by "
            "more than its interval, rtt is not affected"
        )
    return warnings


def _name(record: SegmentRecord) -> str:
    return f"segment {record.upstream} -> {record.current}"
