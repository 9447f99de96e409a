"""One metric of one pair over time: what is drawn, and where nothing is known. Frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median

from receiver.store.history import HistoryPoint, Resolution, RouteEvent
from schemas.result import PathResult
from schemas.rfc3339 import us_from_rfc3339

GAP_FACTOR = 2.5
"""A step longer than so many usual ones is a gap: one answer that failed to come is none yet."""

OUTER_ROOM = 0.75
"""How far an axis follows intervals and extremes, in units of what the values and quantiles take."""
_MARGIN = 0.08


class Grain(StrEnum):
    """What a sample is made of."""

    ANSWER = "answer"
    MINUTE = "minute"
    HOUR = "hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer, or the answers of one period, in the metric's unit."""

    start_us: int
    """Microseconds since the Unix epoch."""
    duration_us: int
    """0 of an answer."""
    value: float | None
    """The mean; None of an answer without one."""
    low: float | None = None
    high: float | None = None
    """Of an answer its 95 % interval; of a period the lowest and the highest answer."""
    p50: float | None = None
    p95: float | None = None
    """Of an answer over its packets, of a period over its answers."""

    @property
    def end_us(self) -> int:
        """Where its period ends."""
        return self.start_us + self.duration_us


@dataclass(frozen=True, slots=True, kw_only=True)
class PathHistory:
    """What is known of a pair in a stretch of time."""

    source: str
    destination: str
    metric: str
    unit: str
    grain: Grain
    start_us: int
    end_us: int
    samples: tuple[Sample, ...]
    """In the order of time."""
    losses: tuple[Sample, ...]
    """The same for loss; empty when that is the metric itself."""
    routes: tuple[RouteEvent, ...]
    """In the order of time."""
    is_cut: bool = False
    """There are older answers, too many to draw, and no roll-ups of them."""

    @property
    def gap_us(self) -> float:
        """Longer steps are gaps."""
        return gap_us_of([sample for sample in self.samples if sample.value is not None])

    @property
    def runs(self) -> list[list[Sample]]:
        """Samples that follow each other without a gap."""
        return runs_of(self.samples, self.gap_us)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """From when to when nothing is known; the ends of the whole time too."""
        runs = self.runs
        if not runs:
            return [(self.start_us, self.end_us)]
        inner = [(before[-1].end_us, after[0].start_us) for before, after in pairwise(runs)]
        outer = [(self.start_us, runs[0][0].start_us), (runs[-1][-1].end_us, self.end_us)]
        longest_us = self.gap_us
        return [*inner, *((start, end) for start, end in outer if end - start > longest_us)]


def value_limits(history: PathHistory) -> tuple[float, float]:
    """From where to where an axis goes: all values and quantiles, and of what is around them not too much.

    Intervals of clocks that are not synchronized, or the worst answer of a day, would flatten all the others.
    """
    valued = [sample for sample in history.samples if sample.value is not None]
    inner = [end for one in valued for end in (one.value, one.p50, one.p95) if end is not None]
    outer = [end for one in valued for end in (one.low, one.high) if end is not None]
    least, most = min(inner), max(inner)
    room = OUTER_ROOM * ((most - least) or abs(most) or 1.0)
    least, most = max(min([least, *outer]), least - room), min(max([most, *outer]), most + room)
    margin = _MARGIN * ((most - least) or abs(most) or 1.0)
    return (max(0.0, least - margin) if least >= 0 else least - margin), most + margin


def sample_from_answer(result: PathResult, metric: str) -> Sample:
    """Of one answer."""
    composed = result.composed.get(metric)
    at_us = us_from_rfc3339(result.requested_at)
    if composed is None:
        return Sample(start_us=at_us, duration_us=0, value=None)
    quantiles = composed.quantiles
    return Sample(
        start_us=at_us,
        duration_us=0,
        value=composed.value,
        low=composed.low,
        high=composed.high,
        p50=None if quantiles is None else quantiles.p50,
        p95=None if quantiles is None else quantiles.p95,
    )


def sample_from_point(point: HistoryPoint, resolution: Resolution) -> Sample:
    """Of the roll-up of a period."""
    return Sample(
        start_us=point.start_us,
        duration_us=resolution.duration_us,
        value=point.mean,
        low=point.minimum,
        high=point.maximum,
        p50=point.p50,
        p95=point.p95,
    )


def gap_us_of(samples: Sequence[Sample]) -> float:
    """The longest step from one sample to the next that is no gap; endless with fewer than three samples."""
    steps = [after.start_us - before.start_us for before, after in pairwise(samples)]
    return GAP_FACTOR * median(steps) if len(steps) > 1 else float("inf")


def runs_of(samples: Sequence[Sample], longest_us: float) -> list[list[Sample]]:
    """Cut where a sample has no value, and where a step is longer."""
    runs: list[list[Sample]] = []
    before: Sample | None = None
    for sample in samples:
        if sample.value is not None:
            if before is None or sample.start_us - before.start_us > longest_us:
                runs.append([])
            runs[-1].append(sample)
        before = sample if sample.value is not None else None
    return runs


def detour_of(event: RouteEvent) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The points that left the path and those that came, without what is the same at both ends."""
    old, new = list(event.old_points), list(event.new_points)
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return tuple(old), tuple(new)
