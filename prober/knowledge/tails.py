"""What is known of the segments from a point on to a destination, so that nobody has to walk there (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prober.knowledge.database import DatedSegment
from prober.knowledge.routes import TableOf, route
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import ScalarStatistics, Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class FarSegment:
    """A segment that ends at another point; all times are on the clock of the point that tells it."""

    upstream: str
    current: str
    newest_sample_at_ms: int
    """Milliseconds since the Unix epoch."""
    metrics: Mapping[str, Statistics]
    """Each with all that its origin told; what was measured only now and then says when."""

    def record(self, asked: tuple[str, ...], *, told_by: str, now_ms: int) -> SegmentRecord:
        """As one point tells it in the place of another."""
        return SegmentRecord(
            upstream=self.upstream,
            current=self.current,
            state=SegmentState.MEASURED,
            recorded_at_ms=now_ms,
            age_ms=max(0, now_ms - self.newest_sample_at_ms),
            told_by=told_by,
            metrics={name: self.metrics[name] for name in asked},
        )


FarPath = tuple[FarSegment, ...]
"""Segments that follow each other."""


def far_path(table_of: TableOf, point: str, destination: str, *, now_ms: int, wall_ms: int) -> FarPath | None:
    """All that is known of the segments from `point` on to `destination`; None when one of them is not known.

    Args:
        table_of: what each point says of itself.
        point, destination: addresses.
        now_ms: on the clock of the tables.
        wall_ms: the same moment, in milliseconds since the Unix epoch on this host's clock.
    """
    points = route(table_of, point, destination)
    if not points:
        return None  # unknown, or the path ends here
    found = []
    upstream = point
    for table in points:
        dated = table.segments.get(upstream)
        if dated is None:
            return None
        found.append(_far_segment(dated, now_ms, wall_ms))
        upstream = table.origin
    return tuple(found)


def tail(
    path: FarPath | None, *, metrics: tuple[str, ...], max_age_ms: int, told_by: str, now_ms: int
) -> tuple[SegmentRecord, ...] | None:
    """The records to append in the place of the points of a path.

    None unless every segment is young enough and has every metric: what its own point may be able to measure when
    it is asked, nobody else can call unsupported.

    Args:
        path: see `far_path`.
        metrics: what was asked for.
        max_age_ms: greatest age that whoever asked accepts.
        told_by: this point.
        now_ms: milliseconds since the Unix epoch on this host's clock.
    """
    if path is None:
        return None
    oldest_at_ms = now_ms - max_age_ms
    for segment in path:
        if segment.newest_sample_at_ms < oldest_at_ms or not segment.metrics.keys() >= set(metrics):
            return None
    return tuple(segment.record(metrics, told_by=told_by, now_ms=now_ms) for segment in path)


def _far_segment(dated: DatedSegment, now_ms: int, wall_ms: int) -> FarSegment:
    record = dated.record
    newest_at_ms = wall_ms - dated.age_ms(now_ms)
    shift_ms = newest_at_ms - (record.recorded_at_ms - record.age_ms)
    return FarSegment(
        upstream=record.upstream,
        current=record.current,
        newest_sample_at_ms=newest_at_ms,
        metrics={name: _shifted(statistics, shift_ms) for name, statistics in record.metrics.items()},
    )


def _shifted(statistics: Statistics, shift_ms: int) -> Statistics:
    """With the time of a single measurement on this host's clock, as the rest of a told record is."""
    if not isinstance(statistics, ScalarStatistics):
        return statistics
    return replace(statistics, measured_at_ms=max(0, statistics.measured_at_ms + shift_ms))
