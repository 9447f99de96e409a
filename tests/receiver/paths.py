"""Records and results of small paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from receiver.composition import compose
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.metrics import (
    METRICS,
    DelayStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    Statistics,
)
from schemas.result import PathResult, ResultStatus

NOW_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
ALL = tuple(METRICS)
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


def loss(lost: int, sent: int = 600) -> LossStatistics:
    return LossStatistics(sent=sent, lost=lost, threshold_ms=1000)


def jitter(
    variance: float, *, pdv_ms: float | None = None, skew: float = 2.0, count: int = 600
) -> JitterStatistics:
    deviation = variance**0.5
    return JitterStatistics(
        count=count,
        pdv_ms=round(6.9 * deviation, 4) if pdv_ms is None else pdv_ms,
        ipdv_ms=round(deviation, 4),
        mean_pdv_ms=round(deviation, 4),
        variance_ms2=variance,
        third_moment_ms3=round(skew * deviation**3, 6),
    )


def rtt(mean_ms: float, *, count: int = 600) -> RoundTripStatistics:
    return RoundTripStatistics(count=count, mean_ms=mean_ms, minimum_ms=mean_ms / 2, variance_ms2=0.5)


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
    return measured(
        index, delay=delay(5.0 + index), loss=loss(index), jitter=jitter(0.5 + index), rtt=rtt(10.0 + index)
    )


def pending(index: int) -> SegmentRecord:
    return SegmentRecord(
        upstream=point(index), current=point(index + 1), state=SegmentState.PENDING, recorded_at_ms=NOW_MS
    )


def lacking(index: int, *unsupported: str) -> SegmentRecord:
    record = usual(index)
    metrics = {name: value for name, value in record.metrics.items() if name not in unsupported}
    return replace(record, metrics=metrics, unsupported=unsupported)


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
    composition = compose(ALL, records, waited_ms=12.5)
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
