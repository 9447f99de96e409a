"""Repeated readings told as a median with its spread, and ratios of readings taken side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

LEAST_ROUNDS = 5
"""Fewer readings tell no spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of some readings, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, readings: Iterable[float]) -> Spread:
        """Sum up readings, of which there is at least one."""
        ordered = sorted(readings)
        return cls(median=median(ordered), low=ordered[0], high=ordered[-1])

    @classmethod
    def of_ratio(cls, numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
        """Sum up the quotients of readings from the same round, so that what slows both cancels."""
        return cls.of(above / below for above, below in zip(numerators, denominators, strict=True))

    def to_json(self) -> dict[str, float]:
        """Plain values, rounded to what a reading can tell."""
        return {name: float(f"{getattr(self, name):.4g}") for name in ("median", "low", "high")}


def quantile(ordered: Sequence[float], permille: int) -> float:
    """The smallest value that is not below so many thousandths of all (RFC 2330 section 11.3)."""
    return ordered[max(0, -(-permille * len(ordered) // 1000) - 1)]
