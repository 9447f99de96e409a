"""Values of a whole path with 95 % intervals, from the statistics of its segments.

All rest on segments that are independent of each other (RFC 6049 section 3.1.10) and on probes whose results are
independent within a segment; probes that come in one congestion epoch are not, so real intervals are wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.metrics import DelayStatistics, JitterStatistics, LossStatistics, RoundTripStatistics

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution: an interval of 95 % leaves 2.5 % on each side."""
Z_PDV = 3.090232306167813
"""99.9 % quantile of the normal distribution (RFC 5481 section 4.2 takes the 99.9 % quantile of the delay)."""
_SKEW_TERM = (Z_PDV * Z_PDV - 1) / 6
"""Weight of the skew in the Cornish-Fisher expansion at that quantile (ITU-T Y.1541 clause 8)."""

_LEAST_VARIANCE_MS2 = 1e-12
"""A standard deviation of 1 ns, the resolution of the clocks: below it a delay is constant."""

# 97.5 % quantiles of Student's t: the expansion below is good to 2e-3 only from 5 degrees of freedom on.
_T_95 = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value and its 95 % interval; no interval where too few samples tell nothing of the spread."""

    value: float
    low: float | None
    high: float | None


def estimate_sum(
    segments: Sequence[DelayStatistics | RoundTripStatistics], *, clock_error_ms: float = 0.0
) -> Estimate:
    """The sum of the means, in milliseconds (RFC 6049 section 4.2).

    Interval: Student's t for each segment, joined by MOVER (Zou and Donner 2008), in which the squares of the
    half-widths add; then `clock_error_ms`, a bound and not a spread, is added as it is.
    """
    value = math.fsum(segment.mean_ms for segment in segments)
    if any(segment.count < 2 for segment in segments):
        return Estimate(value=value, low=None, high=None)
    half_width_ms = clock_error_ms + math.sqrt(
        math.fsum(
            _t_quantile(segment.count - 1) ** 2 * segment.variance_ms2 / segment.count for segment in segments
        )
    )
    return Estimate(value=value, low=value - half_width_ms, high=value + half_width_ms)


def estimate_loss(segments: Sequence[LossStatistics]) -> Estimate:
    """1 - product of (1 - ratio) (RFC 6049 section 5.1.5).

    Interval: -log(1 - loss) of the path is the sum of that of the segments, a sum of rare counts with weights;
    for such a sum the gamma interval of Fay and Feuer (1997) holds its level even when most counts are zero,
    where adding Wilson intervals (MOVER) does not: with 19 segments of 0.1 % it misses one path in eight.
    """
    if any(segment.lost == segment.sent for segment in segments):
        return _all_lost(segments)
    log_survival = math.fsum(-math.log1p(-segment.lost / segment.sent) for segment in segments)
    variance = math.fsum(
        segment.lost / (segment.sent * (segment.sent - segment.lost)) for segment in segments
    )  # of each term by the delta method: p / (n (1 - p))
    weight = max(1 / (segment.sent - segment.lost) for segment in segments)  # what one more loss would add at most
    low = _gamma_quantile(log_survival, variance, -Z_95)
    high = _gamma_quantile(log_survival + weight, variance + weight * weight, Z_95)
    return Estimate(value=-math.expm1(-log_survival), low=-math.expm1(-low), high=-math.expm1(-high))


def _all_lost(segments: Sequence[LossStatistics]) -> Estimate:
    # A path loses at least what its worst segment loses, so the best of their lower limits holds for the path.
    low = max(_wilson_low(segment.lost / segment.sent, segment.sent) for segment in segments)
    return Estimate(value=1.0, low=low, high=1.0)


def estimate_delay_variation(segments: Sequence[JitterStatistics]) -> Estimate:
    """The 99.9 % quantile of the path's delay less its minimum, in milliseconds.

    Mean PDV, variance and third central moment add; the quantile follows by the Cornish-Fisher expansion (ITU-T
    Y.1541 clause 8, RFC 6049 section 6). It is never below the largest PDV of one segment, since the other
    segments cannot take time away. One segment alone is its own measured quantile.

    Interval: approximate, by the delta method, with sampling moments as of a gamma distribution of the segment's
    variance and skew. It covers the sampling error, not the error of the expansion (5 to 8 % of the value where
    a segment's delays are bounded or bimodal).
    """
    variance = math.fsum(segment.variance_ms2 for segment in segments)
    third_moment = math.fsum(_third_moment(segment) for segment in segments)
    mean_ms = math.fsum(segment.mean_pdv_ms for segment in segments)
    expanded_ms = mean_ms + _quantile_above_mean(variance, third_moment)
    floor_ms = max(segment.pdv_ms for segment in segments)
    value = floor_ms if len(segments) == 1 else max(floor_ms, expanded_ms)
    if any(segment.count < 2 for segment in segments):
        return Estimate(value=value, low=None, high=None)
    half_width_ms = Z_95 * math.sqrt(_quantile_variance(segments, variance, third_moment))
    # The interval stands around the expansion, which samples move less than a measured extreme quantile.
    return Estimate(
        value=value,
        low=min(value, max(0.0, expanded_ms - half_width_ms)),
        high=max(value, expanded_ms + half_width_ms),
    )


def _third_moment(segment: JitterStatistics) -> float:
    # The skew of a sample of n is at most sqrt(n); more comes from rounding, or from somebody who invents numbers.
    limit = math.sqrt(segment.count * segment.variance_ms2) * segment.variance_ms2
    return max(-limit, min(limit, segment.third_moment_ms3))


def _quantile_above_mean(variance: float, third_moment: float) -> float:
    if variance < _LEAST_VARIANCE_MS2:
        return 0.0
    return Z_PDV * math.sqrt(variance) + _SKEW_TERM * third_moment / variance


def _quantile_variance(segments: Sequence[JitterStatistics], variance: float, third_moment: float) -> float:
    if variance < _LEAST_VARIANCE_MS2:
        return 0.0
    by_variance = Z_PDV / (2 * math.sqrt(variance)) - _SKEW_TERM * third_moment / variance**2
    by_third_moment = _SKEW_TERM / variance
    return math.fsum(_sampling_variance(segment, by_variance, by_third_moment) for segment in segments)


def _sampling_variance(segment: JitterStatistics, by_variance: float, by_third_moment: float) -> float:
    """Variance of mean + by_variance * variance + by_third_moment * third moment, over samples of the segment."""
    if segment.variance_ms2 < _LEAST_VARIANCE_MS2:
        return 0.0
    deviation = math.sqrt(segment.variance_ms2)
    skew = _third_moment(segment) / deviation**3
    a, b = by_variance * deviation, by_third_moment * deviation**2  # in units of the deviation
    return (
        segment.variance_ms2
        / segment.count
        * (
            1
            + a * a * (2 + 1.5 * skew**2)
            + b * b * (6 + 22.5 * skew**2 + 7.5 * skew**4)
            + 2 * a * skew
            + 2 * b * 1.5 * skew**2
            + 2 * a * b * (6 * skew + 3 * skew**3)
        )
    )


def _t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t (Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5)."""
    if degrees in _T_95:
        return _T_95[degrees]
    z = Z_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _gamma_quantile(mean: float, variance: float, z: float) -> float:
    """Quantile of a gamma distribution at the normal quantile `z` (Wilson and Hilferty 1931)."""
    if mean <= 0:
        return 0.0
    spread = variance / (9 * mean * mean)  # 2 / (9 nu), with nu = 2 mean^2 / variance of the chi-squared form
    return mean * max(0.0, 1 - spread + z * math.sqrt(spread)) ** 3


def _wilson_low(ratio: float, count: int) -> float:
    """Lower 95 % limit of a ratio (Wilson 1927)."""
    square = Z_95 * Z_95
    center = ratio + square / (2 * count)
    width = Z_95 * math.sqrt(ratio * (1 - ratio) / count + square / (4 * count * count))
    return max(0.0, (center - width) / (1 + square / count))
