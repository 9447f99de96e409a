"""What the store tells of a pair over time: values by minute or hour, and changes of its route. Frozen values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from receiver.store.result_rows import Row
from receiver.store.rollup import Rollup
from schemas.result import PathResult, ResultStatus

_US_PER_MINUTE = 60_000_000
_QUANTILES = (500, 950, 990)


class Resolution(StrEnum):
    """How long one point of a history is."""

    MINUTE = "minute"
    HOUR = "hour"

    @property
    def duration_us(self) -> int:
        """Length of a period."""
        return _US_PER_MINUTE if self is Resolution.MINUTE else 60 * _US_PER_MINUTE

    def start_us(self, time_us: int) -> int:
        """Where the period of a time begins; periods begin at whole minutes or hours of UTC."""
        return time_us - time_us % self.duration_us


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """The composed values of one metric of one pair in one period, in the metric's unit."""

    start_us: int
    """Microseconds since the Unix epoch; by the time at which the requests were made."""
    count: int
    """How many results had a value."""
    mean: float
    minimum: float
    maximum: float
    p50: float
    """Quantiles of the values, each off by at most 1/64 of itself."""
    p95: float
    p99: float

    @classmethod
    def from_row(cls, row: Row) -> HistoryPoint:
        """Of a row of a roll-up."""
        rollup = Rollup.from_row(row)
        p50, p95, p99 = rollup.quantiles(_QUANTILES)
        return cls(
            start_us=row["start_us"],
            count=rollup.count,
            mean=rollup.mean,
            minimum=rollup.minimum,
            maximum=rollup.maximum,
            p50=p50,
            p95=p95,
            p99=p99,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEvent:
    """The first complete result of a pair over other points than the one before it."""

    source: str
    destination: str
    at_us: int
    old_points: tuple[str, ...]
    new_points: tuple[str, ...]
    duration_us: int | None
    """Since the event that brought the old route; None when its beginning is not known."""

    @classmethod
    def from_row(cls, row: Row) -> RouteEvent:
        """What `to_row` wrote."""
        return cls(
            source=row["source"],
            destination=row["destination"],
            at_us=row["at_us"],
            old_points=tuple(json.loads(row["old_points"])),
            new_points=tuple(json.loads(row["new_points"])),
            duration_us=row["duration_us"],
        )

    def to_row(self) -> Row:
        """The row of the table."""
        return {
            "source": self.source,
            "destination": self.destination,
            "at_us": self.at_us,
            "old_points": json.dumps(self.old_points),
            "new_points": json.dumps(self.new_points),
            "duration_us": self.duration_us,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFilter:
    """Which results are wanted; None leaves a thing open."""

    source: str | None = None
    destination: str | None = None
    metric: str | None = None
    """Asked for, with or without a value in the end."""
    status: ResultStatus | None = None
    start_us: int | None = None
    end_us: int | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last result of a page: the next page begins behind it, whatever came in meanwhile."""

    requested_at_us: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPage:
    """Some results, newest first."""

    results: tuple[PathResult, ...]
    next: Cursor | None
    """None when there are no more."""
