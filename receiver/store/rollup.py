"""What is left of many values of one metric: enough for mean, extremes and quantiles of any longer time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.store.result_rows import Row
from receiver.store.value_histogram import ValueHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """The values of one metric of one pair in one period; at least one."""

    count: int
    total: float
    minimum: float
    maximum: float
    histogram: ValueHistogram

    @classmethod
    def of(cls, values: Sequence[float]) -> Rollup:
        """Of these values, in whatever order they come."""
        return cls(
            count=len(values),
            total=math.fsum(values),
            minimum=min(values),
            maximum=max(values),
            histogram=ValueHistogram.of(values),
        )

    @classmethod
    def sum_of(cls, parts: Sequence[Rollup]) -> Rollup:
        """Of the values of all parts."""
        return cls(
            count=sum(part.count for part in parts),
            total=math.fsum(part.total for part in parts),
            minimum=min(part.minimum for part in parts),
            maximum=max(part.maximum for part in parts),
            histogram=ValueHistogram.sum_of(part.histogram for part in parts),
        )

    @classmethod
    def from_row(cls, row: Row) -> Rollup:
        """What `to_row` wrote."""
        return cls(
            count=row["count"],
            total=row["total"],
            minimum=row["minimum"],
            maximum=row["maximum"],
            histogram=ValueHistogram.from_text(row["histogram"]),
        )

    def to_row(self) -> dict[str, Any]:
        """The columns of a roll-up, without those that say of what."""
        return {
            "count": self.count,
            "total": self.total,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "histogram": self.histogram.to_text(),
        }

    @property
    def mean(self) -> float:
        """Inside the extremes, also where rounding would lead out of them."""
        return min(self.maximum, max(self.minimum, self.total / self.count))

    def quantiles(self, permilles: Iterable[int]) -> list[float]:
        """Each off by at most `RELATIVE_ERROR`, and none outside the extremes."""
        return [min(self.maximum, max(self.minimum, value)) for value in self.histogram.quantiles(permilles)]
