"""Delays counted in narrow bins, for quantiles in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

FINEST_WIDTH_BITS = 10
"""Bins of 2**10 ns: a delay is known to half of that, 0.512 us."""
MAX_BINS = 256
"""Beyond it the bins become twice as wide, so half a bin is at most 1/256 of the range of one second's delays."""


class FineBins:
    """Counts of delays by bin; all bins begin at a multiple of their width, so those of any two can be merged.

    Only bins that hold something take memory. When they become too many, pairs of bins are united (the uniform
    collapse of UDDSketch, Epicoco et al. 2020): each quantile keeps the same error bound, half a bin.
    """

    __slots__ = ("_counts", "_width_bits")

    def __init__(self, width_bits: int = FINEST_WIDTH_BITS) -> None:
        self._width_bits = width_bits
        self._counts: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def error_ns(self) -> int:
        """How far a delay may be from the center of its bin."""
        return 1 << self._width_bits >> 1

    def add(self, delay_ns: int) -> None:
        """Count a delay; it may be negative."""
        counts = self._counts
        index = delay_ns >> self._width_bits
        counts[index] = counts.get(index, 0) + 1
        while len(self._counts) > MAX_BINS:
            self._width_bits += 1
            self._counts = _united(self._counts, 1)

    @classmethod
    def merged(cls, parts: Iterable[FineBins]) -> FineBins:
        """All parts in one, as wide as the widest part."""
        parts = tuple(parts)
        whole = cls(max((part._width_bits for part in parts), default=FINEST_WIDTH_BITS))
        counts = whole._counts
        known = counts.get
        for part in parts:
            by = whole._width_bits - part._width_bits
            for index, count in (_united(part._counts, by) if by else part._counts).items():
                counts[index] = known(index, 0) + count
        return whole

    def ranked(self) -> RankedDelays:
        """What it holds, in rising order."""
        half = self.error_ns
        indices = sorted(self._counts)
        centers_ns = [(index << self._width_bits) + half for index in indices]
        return RankedDelays(centers_ns, list(accumulate(map(self._counts.__getitem__, indices))))


@dataclass(frozen=True, slots=True)
class RankedDelays:
    """Delays in rising order.

    Args:
        centers_ns: of the bins that hold something; not empty.
        ranks: how many delays are in each bin and all below.
    """

    centers_ns: list[int]
    ranks: list[int]

    def quantile_ns(self, permille: int) -> int:
        """The smallest center that so many of 1000 delays do not exceed (RFC 2330 section 11.3).

        No interpolation, and whole numbers only: 99.9 % of 1000 is 999, which floating point makes 1000.
        """
        return self.centers_ns[bisect_left(self.ranks, (permille * self.ranks[-1] + 999) // 1000)]

    def count_below(self, limit_ns: int) -> int:
        """How many are in bins with a center below the limit."""
        position = bisect_left(self.centers_ns, limit_ns)
        return self.ranks[position - 1] if position else 0


def _united(counts: dict[int, int], bits: int) -> dict[int, int]:
    united: dict[int, int] = {}
    for index, count in counts.items():
        united[index >> bits] = united.get(index >> bits, 0) + count
    return united
