"""Values of any metric counted in bins that never change, so that the counts of many periods add up.

Each power of two is cut into `BINS_PER_OCTAVE`; the center of a bin is off by at most `RELATIVE_ERROR` of the
value. Unlike the delays of `schemas.histogram`, values have any unit, any size and either sign (a one-way delay
between clocks that disagree is negative). Bins grow with the value: those of negative values are negative, zero is
bin 0.

As text a histogram is `bin:count` in the order of the bins, `160:3 161:12`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BINS_PER_OCTAVE = 32
RELATIVE_ERROR = 1 / (2 * BINS_PER_OCTAVE)
_LEAST_EXPONENT = -1074
"""Of the smallest number above zero that a double holds."""


def bin_of(value: float) -> int:
    """The bin of a finite value."""
    if value == 0:
        return 0
    mantissa, exponent = math.frexp(abs(value))  # the mantissa is in [0.5, 1)
    within = int((2 * mantissa - 1) * BINS_PER_OCTAVE)
    number = (exponent - _LEAST_EXPONENT) * BINS_PER_OCTAVE + within + 1
    return number if value > 0 else -number


def center_of(number: int) -> float:
    """The middle of a bin."""
    if number == 0:
        return 0.0
    octave, within = divmod(abs(number) - 1, BINS_PER_OCTAVE)
    middle = math.ldexp(0.5 + (within + 0.5) / (2 * BINS_PER_OCTAVE), octave + _LEAST_EXPONENT)
    return math.copysign(middle, number)


@dataclass(frozen=True, slots=True)
class ValueHistogram:
    """How many values each bin holds; empty bins are left out."""

    counts: Mapping[int, int]

    @classmethod
    def of(cls, values: Iterable[float]) -> ValueHistogram:
        """Of these values."""
        return cls(Counter(map(bin_of, values)))

    @classmethod
    def sum_of(cls, histograms: Iterable[ValueHistogram]) -> ValueHistogram:
        """All of them together, as if their values had been counted in one."""
        total: Counter[int] = Counter()
        for histogram in histograms:
            total.update(histogram.counts)
        return cls(total)

    @classmethod
    def from_text(cls, text: str) -> ValueHistogram:
        """What `to_text` wrote."""
        pairs = (token.split(":") for token in text.split())
        return cls({int(number): int(count) for number, count in pairs})

    def to_text(self) -> str:
        """`bin:count`, separated by spaces; `from_text` reverses it."""
        return " ".join(f"{number}:{self.counts[number]}" for number in sorted(self.counts))

    def quantiles(self, permilles: Iterable[int]) -> list[float]:
        """For each the center of the lowest bin that so many of 1000 values do not exceed (RFC 2330 section 11.3).

        The histogram must not be empty.
        """
        total = sum(self.counts.values())
        ordered = sorted(self.counts)
        return [self._quantile(ordered, max(1, -(-permille * total // 1000))) for permille in permilles]

    def _quantile(self, ordered: list[int], wanted: int) -> float:
        seen = 0
        for number in ordered:
            seen += self.counts[number]
            if seen >= wanted:
                break
        return center_of(number)
