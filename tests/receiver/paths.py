"""Records and results of small paths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from receiver.composition import Composition, compose
from schemas.histogram import Histogram, bin_of
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
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
    registry_with,
)
from schemas.metrics import Composition as Rule
from schemas.result import PathResult, ResultStatus
from tests.messages import PLUGIN_METRICS

NOW_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
ALL = tuple(METRICS)
BASIC = ("delay", "loss", "jitter", "rtt")
MAX_AGE_MS = 60_000
REGISTRY = registry_with(
    Metric(name=name, unit="things", statistics=ScalarStatistics, composition=Rule.SUM, source="a plug-in")
    for name in PLUGIN_METRICS
)
"""With the plug-ins that `tests.messages` asks for."""
REQUEST_ID = "0123456789abcdef" * 2


def point(index: int) -> str:
    return f"10.0.0.{index + 1}"


def delay(
    mean_ms: float, *, variance: float = 0.25, count: int = 600, synchronized: bool = True
) -> DelayStatistics:
    return DelayStatistics(
        count=count,
        mean_ms=mean_ms,
        minimum_ms=mean_ms / 2,
        variance_ms2=variance,
        third_moment_ms3=0.1,
        upstream_clock_error_ms=0.01,
        current_clock_error_ms=0.02,
        synchronized=synchronized,
    )


def loss(lost: int, sent: int = 600, *, threshold_ms: int = 1000) -> LossStatistics:
    return LossStatistics(sent=sent, lost=lost, threshold_ms=threshold_ms, runs=lost, longest_run=min(1, lost))


def jitter(
    variance: float, *, pdv_ms: float | None = None, skew: float = 2.0, count: int = 600
) -> JitterStatistics:
    deviation = variance**0.5
    return JitterStatistics(
        count=count,
        pdv_ms=round(6.9 * deviation, 4) if pdv_ms is None else pdv_ms,
        ipdv_ms=round(deviation, 4),
        signed_ipdv_ms=0.0,
        least_ipdv_ms=-round(3 * deviation, 4),
        greatest_ipdv_ms=round(3 * deviation, 4),
        interarrival_ms=round(deviation, 4),
        mean_pdv_ms=round(deviation, 4),
        variance_ms2=variance,
        third_moment_ms3=round(skew * deviation**3, 6),
    )


def rtt(mean_ms: float, *, count: int = 600, third_moment: float = 0.0) -> RoundTripStatistics:
    return RoundTripStatistics(
        count=count,
        mean_ms=mean_ms,
        minimum_ms=mean_ms / 2,
        variance_ms2=0.5,
        third_moment_ms3=third_moment,
    )


def distribution(above_minimum_ms: Sequence[float], *, minimum_ms: float = 0.0) -> DistributionStatistics:
    """Of these samples, each above the minimum."""
    ordered_us = sorted(int(1000 * one) for one in above_minimum_ms)

    def quantile_ms(permille: int) -> float:
        return round(minimum_ms + ordered_us[-(-permille * len(ordered_us) // 1000) - 1] / 1000, 4)

    return DistributionStatistics(
        count=len(ordered_us),
        minimum_ms=minimum_ms,
        p50_ms=quantile_ms(500),
        p95_ms=quantile_ms(950),
        p99_ms=quantile_ms(990),
        bins=Histogram(Counter(map(bin_of, ordered_us))).to_text(),
    )


def queue(scale_ms: float, *, count: int = 600, minimum_ms: float = 0.0) -> DistributionStatistics:
    """Exponential delays, each quantile of them once."""
    levels = ((index + 0.5) / count for index in range(count))
    return distribution([-scale_ms * math.log1p(-level) for level in levels], minimum_ms=minimum_ms)


def scalar(
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    count: int = 10,
    measured_at_ms: int = NOW_MS,
) -> ScalarStatistics:
    """A number, exactly known unless its interval is given."""
    return ScalarStatistics(
        count=count,
        value=value,
        low=value if low is None else low,
        high=value if high is None else high,
        measured_at_ms=measured_at_ms,
    )


def measured(index: int, *, age_ms: int = 0, **metrics: Statistics) -> SegmentRecord:
    """Segment number `index` with these metrics."""
    return SegmentRecord(
        upstream=point(index),
        current=point(index + 1),
        state=SegmentState.MEASURED,
        recorded_at_ms=NOW_MS,
        age_ms=age_ms,
        metrics=metrics,
    )


def usual(index: int) -> SegmentRecord:
    """Every metric of an ordinary segment."""
    return SegmentRecord(
        upstream=point(index),
        current=point(index + 1),
        state=SegmentState.MEASURED,
        recorded_at_ms=NOW_MS,
        metrics={
            "delay": delay(5.0 + index),
            "loss": loss(index),
            "jitter": jitter(0.5 + index),
            "rtt": rtt(10.0 + index),
            "distribution": queue(0.5, minimum_ms=4.5 + index),
            "reordering": scalar(0.01, 0.0, 0.02, count=600),
            "duplication": scalar(0.0, 0.0, 0.005, count=600),
            "hops": scalar(1 + index),
            "mtu": scalar(1500.0),
            "capacity": scalar(1000.0 - 100 * (index % 9)),
            "utilization": scalar(0.25 + index / 1000, 0.2, 0.5 + index / 1000),
            "available-bandwidth": scalar(700.0 - index, 500.0 - index, 750.0),
        },
    )


def pending(index: int) -> SegmentRecord:
    return SegmentRecord(
        upstream=point(index), current=point(index + 1), state=SegmentState.PENDING, recorded_at_ms=NOW_MS
    )


def lacking(index: int, *unsupported: str) -> SegmentRecord:
    record = usual(index)
    metrics = {name: value for name, value in record.metrics.items() if name not in unsupported}
    return replace(record, metrics=metrics, unsupported=unsupported)


def composed(
    metrics: Sequence[str],
    records: Sequence[SegmentRecord],
    *,
    waited_ms: float = 0.0,
    max_age_ms: float = MAX_AGE_MS,
    registry: Registry = REGISTRY,
) -> Composition:
    """Composed as for an ordinary request."""
    return compose(metrics, records, waited_ms=waited_ms, max_age_ms=max_age_ms, registry=registry)


def request(*, identifier: str = REQUEST_ID, part: int = 0, last_point: str | None = None) -> MeasureRequest:
    return MeasureRequest(
        source=point(0),
        destination="10.9.9.9",
        id=identifier,
        metrics=ALL,
        created_at_ms=NOW_MS,
        lifetime_ms=5000,
        max_age_ms=60_000,
        part=part,
        last_point=last_point,
    )


def message(records: Sequence[SegmentRecord], *, identifier: str = REQUEST_ID, part: int = 0) -> Message:
    last_point = records[0].upstream if part and records else point(0) if part else None
    return Message(
        request=request(identifier=identifier, part=part, last_point=last_point), records=tuple(records)
    )


def result(
    records: Sequence[SegmentRecord],
    *,
    identifier: str = REQUEST_ID,
    requested_at: str = "2026-01-01T12:00:00.000001Z",
) -> PathResult:
    composition = composed(ALL, records, waited_ms=12.5)
    return PathResult(
        id=identifier,
        status=composition.status,
        source=point(0),
        destination="10.9.9.9",
        metrics=ALL,
        requested_at=requested_at,
        elapsed_ms=31.25,
        segments=composition.segments,
        composed=composition.composed,
        warnings=composition.warnings,
    )


def unanswered(identifier: str = REQUEST_ID, status: ResultStatus = ResultStatus.PENDING) -> PathResult:
    return PathResult(
        id=identifier,
        status=status,
        source=point(0),
        destination="10.9.9.9",
        metrics=ALL,
        requested_at="2026-01-01T12:00:00.000001Z",
        elapsed_ms=None,
        segments=(),
        composed={},
        warnings=(),
    )
