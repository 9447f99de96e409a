"""Whether the mean of a window has shifted, since a mean over two paths is that of none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

SHIFT_DEVIATIONS = 8.0
"""Two means this many standard errors apart belong to two paths; chance alone does that to none in a million."""
SHIFT_NS = 100_000
"""A smaller change of the mean is the host's doing, or does not matter."""
SHIFT_SAMPLES = 20
"""Fewest samples on either side of a shift: two seconds at the usual rate."""


class Sums(Protocol):
    """One second of delays, as much as a comparison of means needs."""

    second: int
    count: int
    total: int
    squares: int


def second_of_shift(buckets: Sequence[Sums]) -> int | None:
    """The second that begins the clearest shift of the mean, if there is one (Welch's test at every boundary).

    Each of the seconds holds a sample or more.

    The larger variance of the two sides stands for both: a few samples of a path with rare peaks may show none.
    """
    means = [bucket.total / bucket.count for bucket in buckets]
    if not means or max(means) - min(means) <= SHIFT_NS:
        return None  # the means of two sides lie within those of their seconds
    after = sum(bucket.count for bucket in buckets)
    after_total = sum(bucket.total for bucket in buckets)
    after_squares = sum(bucket.squares for bucket in buckets)
    before = before_total = before_squares = 0
    clearest, found = SHIFT_DEVIATIONS, None
    for bucket in buckets:
        if after < SHIFT_SAMPLES:
            break
        if before >= SHIFT_SAMPLES:
            difference = abs(before_total / before - after_total / after)
            if difference > SHIFT_NS:
                variance = max(
                    _variance(before, before_total, before_squares), _variance(after, after_total, after_squares)
                )
                error = math.sqrt(variance * (1 / before + 1 / after))
                if difference > clearest * error:
                    clearest = difference / error if error > 0 else math.inf
                    found = bucket.second
        before, before_total = before + bucket.count, before_total + bucket.total
        after, after_total = after - bucket.count, after_total - bucket.total
        before_squares, after_squares = before_squares + bucket.squares, after_squares - bucket.squares
    return found


def _variance(count: int, total: int, squares: int) -> float:
    return (count * squares - total * total) / count**2
