"""What a reader must know before relying on a composed value; each one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from receiver.reading import delays_of, is_defined, segment_name
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import Composition, LossStatistics, Metric, headline
from schemas.result import ComposedMetric, Flag


def caveats_of_segments(metrics: Sequence[Metric], records: Sequence[SegmentRecord]) -> Iterator[str]:
    """What is missing, segment by segment."""
    for record in records:
        if record.state is SegmentState.PENDING:
            yield f"{segment_name(record)} is not measured yet; ask again in a moment"
            continue
        for metric in metrics:
            if metric.name in record.unsupported:
                yield f"{segment_name(record)} cannot give {metric.name}"
            elif not is_defined(metric, record):
                yield f"{segment_name(record)} has no sample of {metric.name}"


def caveats_of_path(
    metrics: Sequence[Metric], composed: Mapping[str, ComposedMetric], records: Sequence[SegmentRecord]
) -> Iterator[str]:
    """What limits the values of the path."""
    if not records:
        yield "no segment was reported"
        return
    for metric in metrics:
        path = composed[metric.name]
        if path.value is not None and path.low is None:
            yield f"{metric.name}: too few samples ({path.count}) of a segment, so no interval can be given"
        if path.value is None:
            yield from _known_bound(metric, records)
    yield from _different_thresholds(records)
    yield from _clocks(composed, records)


def _known_bound(metric: Metric, records: Sequence[SegmentRecord]) -> Iterator[str]:
    known = [headline(record.metrics[metric.name]) for record in records if is_defined(metric, record)]
    if not known:
        return
    if metric.composition is Composition.MINIMUM:
        yield f"{metric.name}: at most {_readable(metric, min(known))} over the known segments"
    if metric.composition is Composition.MAXIMUM:
        yield f"{metric.name}: at least {_readable(metric, max(known))} over the known segments"


def _readable(metric: Metric, value: float) -> str:
    return f"{100 * value:g} %" if metric.unit == "ratio" else f"{value:g} {metric.unit}"


def _different_thresholds(records: Sequence[SegmentRecord]) -> Iterator[str]:
    losses = [statistics for record in records for statistics in record.metrics.values()]
    thresholds_ms = sorted({loss.threshold_ms for loss in losses if isinstance(loss, LossStatistics)})
    if len(thresholds_ms) > 1:
        waits = ", ".join(f"{threshold_ms} ms" for threshold_ms in thresholds_ms)
        yield f"loss: segments wait differently long before a packet counts as lost ({waits})"


def _clocks(composed: Mapping[str, ComposedMetric], records: Sequence[SegmentRecord]) -> Iterator[str]:
    flagged = [name for name, metric in composed.items() if Flag.UNSYNCHRONIZED in metric.flags]
    if flagged:
        doubtful = [
            segment_name(record)
            for record in records
            if any(not delay.synchronized for delay in delays_of([record]))
        ]
        yield (
            f"{', '.join(flagged)}: clocks are not synchronized on {', '.join(doubtful)}; one-way values may be "
            "off by more than their intervals, rtt is not affected"
        )
    if "distribution" in composed and not delays_of(records):
        yield "distribution: only delay says whether the clocks are synchronized; ask for both"
