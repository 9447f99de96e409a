"""Values of a whole path with 95 % intervals, from the statistics of its segments: sums, the least, the greatest.

All rest on segments that are independent of each other (RFC 6049 section 3.1.10) and on probes whose results are
independent within a segment; probes that come in one congestion epoch are not, so real intervals are wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from schemas.intervals import LEVEL_OF_SIDE, Z_95, t_quantile
from schemas.metrics import DelayStatistics, JitterStatistics, RoundTripStatistics, ScalarStatistics

NORMAL = NormalDist()

LEAST_VARIANCE_MS2 = 1e-12
"""A standard deviation of 1 ns, the resolution of the clocks: below it a delay is constant."""
_LEAST_SKEW = 1e-6
"""Below it Hall's transformation is the identity to 6 digits, and would divide by next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value and its 95 % interval; no interval where too few samples tell nothing of the spread."""

    value: float
    low: float | None
    high: float | None

    def widened(self, bound: float) -> Estimate:
        """With an error that has a bound and no spread; that is added as it is."""
        if self.low is None or self.high is None:
            return self
        return Estimate(value=self.value, low=self.low - bound, high=self.high + bound)


def estimate_sum_of_means(segments: Sequence[DelayStatistics | RoundTripStatistics]) -> Estimate:
    """The sum of the means, in milliseconds (RFC 6049 section 4.2).

    Interval: Hall's (1992) monotone transformation of the studentized sum, which takes the skew of delays into
    account: long queues are rare, so a sample mean is more often too small than too large. The sum has the
    variance sum(s2 / n) and the third central moment sum(m3 / n^2). For small samples each variance is widened as
    Student's t is wider than the normal distribution.
    """
    value = math.fsum(segment.mean_ms for segment in segments)
    if any(segment.count < 2 for segment in segments):
        return Estimate(value=value, low=None, high=None)
    # The variances of segments are those of their samples, so n - 1 makes them those of the population.
    variances = [segment.variance_ms2 / (segment.count - 1) for segment in segments]
    third_moment = math.fsum(bounded_third_moment(segment) / segment.count**2 for segment in segments)
    variance = math.fsum(variances)
    skew = third_moment / variance**1.5 if variance > LEAST_VARIANCE_MS2 else 0.0
    deviation_ms = math.sqrt(
        math.fsum(
            (t_quantile(segment.count - 1) / Z_95) ** 2 * variance
            for segment, variance in zip(segments, variances, strict=True)
        )
    )
    return Estimate(
        value=value,
        low=value - deviation_ms * _hall_quantile(Z_95, skew),
        high=value - deviation_ms * _hall_quantile(-Z_95, skew),
    )


def _hall_quantile(z: float, skew: float) -> float:
    """What the studentized sum of skewed samples has where the normal distribution has `z` (Hall 1992).

    Args:
        skew: of the sum; that of n equal samples is theirs divided by sqrt(n), so it is at most 1.
    """
    if abs(skew) < _LEAST_SKEW:
        return z
    return 3 / skew * (math.cbrt(1 + skew * (z - skew / 6)) - 1)


def bounded_third_moment(segment: DelayStatistics | RoundTripStatistics | JitterStatistics) -> float:
    """The third central moment, within what a sample can have.

    The skew of a sample of n is at most sqrt(n); more comes from rounding, or from somebody who invents numbers.
    """
    limit = math.sqrt(segment.count * segment.variance_ms2) * segment.variance_ms2
    return max(-limit, min(limit, segment.third_moment_ms3))


def estimate_sum(segments: Sequence[ScalarStatistics]) -> Estimate:
    """The sum of the values, with the interval that MOVER (Zou and Donner 2008) makes of those of the segments.

    The squares of the distances to the lower limits add, and so do those to the upper limits.
    """
    value = math.fsum(segment.value for segment in segments)
    return Estimate(
        value=value,
        low=value - math.hypot(*(segment.value - segment.low for segment in segments)),
        high=value + math.hypot(*(segment.high - segment.value for segment in segments)),
    )


def estimate_minimum(segments: Sequence[ScalarStatistics]) -> Estimate:
    """The least value.

    Interval: the path is below the least lower limit only if the least segment is below its own, which is so
    in 2.5 % of the cases. It is above the least upper limit if any one of the segments that may be the least is
    above its own; so that all of these m together have 2.5 %, their upper parts are widened to 2.5 % / m each
    (Bonferroni, in units of the normal distribution). A limit that is the value itself stays where it is.
    """
    least_high = min(segment.high for segment in segments)
    candidates = sum(segment.low <= least_high for segment in segments)
    factor = -NORMAL.inv_cdf(LEVEL_OF_SIDE / candidates) / Z_95
    return Estimate(
        value=min(segment.value for segment in segments),
        low=min(segment.low for segment in segments),
        high=min(segment.value + factor * (segment.high - segment.value) for segment in segments),
    )


def estimate_maximum(segments: Sequence[ScalarStatistics]) -> Estimate:
    """The greatest value, with the interval of `estimate_minimum` upside down."""
    greatest_low = max(segment.low for segment in segments)
    candidates = sum(segment.high >= greatest_low for segment in segments)
    factor = -NORMAL.inv_cdf(LEVEL_OF_SIDE / candidates) / Z_95
    return Estimate(
        value=max(segment.value for segment in segments),
        low=max(segment.value - factor * (segment.value - segment.low) for segment in segments),
        high=max(segment.high for segment in segments),
    )
