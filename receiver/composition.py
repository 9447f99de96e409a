"""The records of a report become the metrics of the segments and of the whole path (RFC 5835, RFC 6049).

An undefined segment makes the path undefined; "all lost" is defined (RFC 6049 sections 2 and 5.1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, assert_never, get_args

from receiver.caveats import caveats_of_path, caveats_of_segments
from receiver.delay_quantiles import (
    estimate_delay_variation,
    estimate_p99,
    quantiles_by_convolution,
    quantiles_by_cumulants,
)
from receiver.estimate import Estimate, estimate_maximum, estimate_minimum, estimate_sum, estimate_sum_of_means
from receiver.reading import age_ms, check_reading, delays_of, is_defined, samples_of
from receiver.survival import estimate_complement_product, estimate_loss
from schemas.authentication import Standing
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import (
    METRICS,
    DelayStatistics,
    DistributionStatistics,
    JitterStatistics,
    LossStatistics,
    Metric,
    Registry,
    RoundTripStatistics,
    ScalarStatistics,
    Statistics,
    headline,
    statistic_fields,
)
from schemas.metrics import Composition as Rule
from schemas.result import ComposedMetric, Flag, Method, Quantiles, ResultStatus, SegmentResult
from schemas.rfc3339 import rfc3339_from_us

UNSUPPORTED = "unsupported"
"""The `state` of a metric that a point cannot give."""

LEAST_STALE_S = 5.0
"""A younger value is not stale, whatever was asked for: a window of 60 s does not move so fast."""

# What a segment's metric already shows as `value` or `count`.
_SHOWN_OTHERWISE = frozenset({"count", "sent", "mean_ms", "pdv_ms", "p99_ms", "value"})

_OTHERS = {
    kind: tuple(name for name, *_ in statistic_fields(kind) if name not in _SHOWN_OTHERWISE)
    for kind in get_args(Statistics)
}
"""What a segment's metric shows besides."""

_S = TypeVar("_S", bound=Statistics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What a set of records says of each segment and of the path."""

    segments: tuple[SegmentResult, ...]
    composed: dict[str, ComposedMetric]
    status: ResultStatus
    """COMPLETE when each metric that was asked for is known of each segment, else PARTIAL."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the statistics of all segments make of the path."""

    estimate: Estimate | None
    method: Method
    quantiles: Quantiles | None = None


def compose(
    metrics: Sequence[str],
    records: Sequence[SegmentRecord],
    *,
    waited_ms: float,
    max_age_ms: float,
    registry: Registry = METRICS,
    standings: Sequence[Standing] = (),
) -> Composition:
    """Compose the metrics that were asked for over all records of one path.

    Args:
        metrics: names from the registry, as in the request.
        records: in the order of the path, checked by `schemas.message.check_consistency`.
        waited_ms: how long the records were under way and waiting; it is added to their age.
        max_age_ms: greatest age of measured data that whoever asked accepts.
        registry: the metrics that this point knows.
        standings: what the tag of each record is worth; without, none has any.

    Raises:
        MessageError: a record with numbers that cannot be (more lost than sent, a negative variance).
    """
    asked = [registry[name] for name in metrics]
    for record in records:
        for metric in asked:
            check_reading(metric, record)
    composed = {metric.name: _compose_metric(metric, records, waited_ms, max_age_ms) for metric in asked}
    partial = not records or any(Flag.PARTIAL in metric.flags for metric in composed.values())
    return Composition(
        segments=tuple(
            _segment_result(record, asked, standing)
            for record, standing in zip(records, standings or (Standing.UNSIGNED,) * len(records), strict=True)
        ),
        composed=composed,
        status=ResultStatus.PARTIAL if partial else ResultStatus.COMPLETE,
        warnings=(*caveats_of_segments(asked, records), *caveats_of_path(asked, composed, records)),
    )


def _compose_metric(
    metric: Metric, records: Sequence[SegmentRecord], waited_ms: float, max_age_ms: float
) -> ComposedMetric:
    undefined = [record for record in records if not is_defined(metric, record)]
    is_partial = bool(undefined) or not records
    whole = _undefined(metric) if is_partial else _compose_whole(metric, records)
    value, low, high = _numbers(whole.estimate)
    ages_ms = [age_ms(metric, record) for record in records if record.state is SegmentState.MEASURED]
    oldest_age_s = (max(ages_ms) + waited_ms) / 1000 if ages_ms else None
    is_stale = oldest_age_s is not None and oldest_age_s > max(max_age_ms / 1000, LEAST_STALE_S)
    binding = undefined[0] if undefined else _binding(metric, records)
    return ComposedMetric(
        value=value,
        unit=metric.unit,
        low=low,
        high=high,
        oldest_age_s=oldest_age_s,
        count=min((samples_of(metric, record) for record in records), default=0),
        binding_segment=None if binding is None else (binding.upstream, binding.current),
        method=whole.method,
        flags=_flags(metric, records, is_partial=is_partial, is_stale=is_stale),
        quantiles=whole.quantiles,
    )


def _numbers(estimate: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)


def _undefined(metric: Metric) -> _Whole:
    # With nothing to make it of, a quantile would be made of the least that it takes.
    method = Method.CUMULANTS if metric.composition is Rule.DISTRIBUTION else Method(metric.composition)
    return _Whole(None, method)


def _compose_whole(metric: Metric, records: Sequence[SegmentRecord]) -> _Whole:
    """The path's value; each record has samples of the metric."""
    match metric.composition:
        case Rule.SUM:
            return _sum(metric, records)
        case Rule.COMPLEMENT_PRODUCT:
            return _Whole(_complement_product(metric, records), Method.COMPLEMENT_PRODUCT)
        case Rule.DISTRIBUTION:
            return _high_quantile(metric, records)
        case Rule.MINIMUM:
            return _Whole(estimate_minimum(_parts(metric, records, ScalarStatistics)), Method.MINIMUM)
        case Rule.MAXIMUM:
            return _Whole(estimate_maximum(_parts(metric, records, ScalarStatistics)), Method.MAXIMUM)
        case Rule.LISTED:
            return _Whole(None, Method.LISTED)
        case rule:
            assert_never(rule)


def _sum(metric: Metric, records: Sequence[SegmentRecord]) -> _Whole:
    delays = _parts(metric, records, DelayStatistics)
    if delays:
        estimate = estimate_sum_of_means(delays).widened(_clock_error_ms(delays))
        return _Whole(estimate, Method.SUM, _quantiles(delays, _distributions(records)))
    round_trips = _parts(metric, records, RoundTripStatistics)
    if round_trips:
        return _Whole(estimate_sum_of_means(round_trips), Method.SUM)
    return _Whole(estimate_sum(_parts(metric, records, ScalarStatistics)), Method.SUM)


def _complement_product(metric: Metric, records: Sequence[SegmentRecord]) -> Estimate:
    losses = _parts(metric, records, LossStatistics)
    return (
        estimate_loss(losses) if losses else estimate_complement_product(_parts(metric, records, ScalarStatistics))
    )


def _high_quantile(metric: Metric, records: Sequence[SegmentRecord]) -> _Whole:
    jitters = _parts(metric, records, JitterStatistics)
    if jitters:
        return _Whole(*estimate_delay_variation(jitters, _distributions(records)))
    delays = delays_of(records)
    # Clock errors travel with the delay alone; `caveats` says so where it was not asked for.
    clock_error_ms = _clock_error_ms(delays) if len(delays) == len(records) else 0.0
    estimate = estimate_p99(_parts(metric, records, DistributionStatistics))
    return _Whole(estimate.widened(clock_error_ms), Method.CONVOLUTION)


def _quantiles(
    delays: Sequence[DelayStatistics], distributions: Sequence[DistributionStatistics]
) -> Quantiles | None:
    return quantiles_by_convolution(distributions) if distributions else quantiles_by_cumulants(delays)


def _distributions(records: Sequence[SegmentRecord]) -> Sequence[DistributionStatistics]:
    """One of each segment, or none."""
    given = (record.metrics.get("distribution") for record in records)
    found = [one for one in given if isinstance(one, DistributionStatistics) and one.count > 0]
    return found if len(found) == len(records) else ()


def _parts(metric: Metric, records: Sequence[SegmentRecord], kind: type[_S]) -> list[_S]:
    """What the segments give of the metric, if it is of this kind."""
    return [part for record in records if isinstance(part := record.metrics[metric.name], kind)]


def _clock_error_ms(delays: Sequence[DelayStatistics]) -> float:
    """Each inner clock is the end of one segment and the start of the next: its error cancels in the sum."""
    return delays[0].upstream_clock_error_ms + delays[-1].current_clock_error_ms


def _flags(
    metric: Metric, records: Sequence[SegmentRecord], *, is_partial: bool, is_stale: bool
) -> tuple[Flag, ...]:
    flags = {
        Flag.PARTIAL: is_partial,
        Flag.UNSYNCHRONIZED: _is_unsynchronized(metric, records),
        Flag.STALE: is_stale,
    }
    return tuple(flag for flag, is_set in flags.items() if is_set)


def _is_unsynchronized(metric: Metric, records: Sequence[SegmentRecord]) -> bool:
    """Whether clocks may spoil the value.

    The mean delay rests on the clocks of the two ends, since those between cancel; they are in doubt when the
    first or the last segment is, of which only both clocks together are known. A distribution rests on all: a
    clock that drifts by 50 ppm moves the delays of its segments by 3 ms within a window, and makes both of them,
    the one in front of it and the one behind it, wider.
    """
    synchronized = [delay.synchronized for delay in delays_of(records)]
    if not synchronized:
        return False
    if metric.statistics is DelayStatistics:
        return not (synchronized[0] and synchronized[-1])
    return metric.statistics is DistributionStatistics and not all(synchronized)


def _binding(metric: Metric, records: Sequence[SegmentRecord]) -> SegmentRecord | None:
    """The segment with the largest part in the path's value."""
    if not records or metric.composition is Rule.LISTED:
        return None
    shares = [_share(record.metrics[metric.name]) for record in records]
    if metric.composition is Rule.MINIMUM:
        return records[shares.index(min(shares))]
    largest = max(shares)
    return None if largest == 0 else records[shares.index(largest)]  # at 0 no segment has any part in it


def _share(statistics: Statistics) -> float:
    # Variances add where quantiles do not.
    return statistics.variance_ms2 if isinstance(statistics, JitterStatistics) else headline(statistics)


def _segment_result(record: SegmentRecord, metrics: Sequence[Metric], standing: Standing) -> SegmentResult:
    measured = record.state is SegmentState.MEASURED
    return SegmentResult(
        upstream=record.upstream,
        current=record.current,
        state=record.state,
        measured_at=_measured_at(record) if measured else None,
        metrics={metric.name: _values(metric, record) for metric in metrics} if measured else {},
        told_by=record.told_by,
        authenticity=standing,
    )


def _measured_at(record: SegmentRecord) -> str:
    return rfc3339_from_us((record.recorded_at_ms - record.age_ms) * 1000, decimals=3)


def _values(metric: Metric, record: SegmentRecord) -> dict[str, float | int | bool | str | None]:
    statistics = record.metrics.get(metric.name)
    if statistics is None:
        return {"value": None, "unit": metric.unit, "count": 0, "state": UNSUPPORTED}
    return {
        "value": headline(statistics) if is_defined(metric, record) else None,
        "unit": metric.unit,
        "count": samples_of(metric, record),
        **{name: getattr(statistics, name) for name in _OTHERS[type(statistics)]},
    }
