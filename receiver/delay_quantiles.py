"""Quantiles of a path's delay: from the histograms of its segments, or else from their first three cumulants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from receiver.convolution import level_error, quantiles_above_minimum_ms
from receiver.estimate import LEAST_VARIANCE_MS2, NORMAL, Estimate, bounded_third_moment
from schemas.histogram import Histogram
from schemas.intervals import Z_95
from schemas.metrics import DelayStatistics, DistributionStatistics, JitterStatistics
from schemas.result import Method, Quantiles

P99 = 0.99
PDV_LEVEL = 0.999
"""RFC 5481 section 4.2 takes the 99.9 % quantile of the delay."""
PDV_COUNT = 1000
"""Fewest samples of a segment that show that quantile: 1 / (1 - PDV_LEVEL)."""
FORM_ERROR = 0.16
"""Relative standard error of that quantile by cumulants beside what sampling explains: real delays have another
form than a gamma distribution, and 600 samples seldom show the longest delays of a heavy tail. Such that 95 % of
the paths of `benchmarks/composition_coverage.py` are within the interval."""
_GREATEST_ERROR = 10.0
"""Of the logarithm of a quantile; who knows it no better knows nothing of it."""

GREATEST_SKEW = 6.4
"""Of the delay variation. Here the formula gives the greatest 99.9 % quantile, 9.5 standard deviations; from here
on it falls and at last is below the mean, while that of a gamma distribution still rises."""
_LEAST_SKEW = 1e-6
"""Below it the gamma distribution is the normal one to 6 digits, and its formula divides by next to nothing."""


@dataclass(frozen=True, slots=True)
class Cumulants:
    """Mean, variance and third central moment of a delay; each adds over independent segments.

    A quantile is that of the gamma distribution with these cumulants (Pearson type III), by the formula of Wilson
    and Hilferty (1931). To the first order in the skew it is the Cornish-Fisher expansion that ITU-T Y.1541
    clause 8 composes with; at the skew of queues, 2 and more, the expansion is off by twice as much.
    """

    mean_ms: float
    variance_ms2: float
    third_moment_ms3: float

    @classmethod
    def of_delays(cls, segments: Sequence[DelayStatistics]) -> Cumulants:
        """Of the one-way delay of a path."""
        return cls(math.fsum(segment.mean_ms for segment in segments), *_spread(segments))

    @classmethod
    def of_variations(cls, segments: Sequence[JitterStatistics]) -> Cumulants:
        """Of the delay above the sum of the minima; one sample far out makes no skew above GREATEST_SKEW."""
        variance_ms2, third_moment_ms3 = _spread(segments)
        greatest_ms3 = GREATEST_SKEW * variance_ms2 * math.sqrt(variance_ms2)
        mean_ms = math.fsum(segment.mean_pdv_ms for segment in segments)
        return cls(mean_ms, variance_ms2, min(greatest_ms3, third_moment_ms3))

    @property
    def is_constant(self) -> bool:
        """Nothing varies."""
        return self.variance_ms2 < LEAST_VARIANCE_MS2

    @property
    def skew(self) -> float:
        """Of a delay that is not constant."""
        return self.third_moment_ms3 / math.sqrt(self.variance_ms2) ** 3

    def quantile_ms(self, level: float) -> float:
        """The delay that a share `level` of the packets does not exceed."""
        if self.is_constant:
            return self.mean_ms
        return self.mean_ms + math.sqrt(self.variance_ms2) * _gamma_quantile(NORMAL.inv_cdf(level), self.skew)

    def greatest_quantile_ms(self, level: float) -> float:
        """What no distribution with this mean and variance exceeds (Cantelli's inequality)."""
        return self.mean_ms + math.sqrt(self.variance_ms2 * level / (1 - level))

    def quantile_slopes(self, level: float) -> tuple[float, float]:
        """By how much the quantile grows with the variance, and with the third central moment; not constant."""
        deviation_ms, skew, z = math.sqrt(self.variance_ms2), self.skew, NORMAL.inv_cdf(level)
        with_skew = _gamma_quantile_slope(z, skew)
        with_variance = (_gamma_quantile(z, skew) / 2 - 1.5 * skew * with_skew) / deviation_ms
        return with_variance, with_skew / self.variance_ms2


def _spread(segments: Sequence[DelayStatistics] | Sequence[JitterStatistics]) -> tuple[float, float]:
    return (
        math.fsum(segment.variance_ms2 for segment in segments),
        math.fsum(bounded_third_moment(segment) for segment in segments),
    )


def _gamma_quantile(z: float, skew: float) -> float:
    """Quantile of a gamma distribution of mean 0 and variance 1 at the normal quantile `z`."""
    if abs(skew) < _LEAST_SKEW:
        return z + (z * z - 1) * skew / 6
    return 2 / skew * (_cube_root(z, skew) ** 3 - 1)


def _gamma_quantile_slope(z: float, skew: float) -> float:
    """By how much that grows with the skew."""
    if abs(skew) < _LEAST_SKEW:
        return (z * z - 1) / 6
    root = _cube_root(z, skew)
    return (6 * root * root * (z / 6 - skew / 18) - _gamma_quantile(z, skew)) / skew


def _cube_root(z: float, skew: float) -> float:
    # At 0 the gamma distribution ends.
    return max(0.0, 1 + skew * z / 6 - skew * skew / 36)


def quantiles_by_cumulants(segments: Sequence[DelayStatistics]) -> Quantiles | None:
    """Of the one-way delay, in milliseconds; None when one segment has no spread for want of samples.

    Never below the sum of the minima.
    """
    if any(segment.count < 2 for segment in segments):
        return None
    cumulants = Cumulants.of_delays(segments)
    least_ms = math.fsum(segment.minimum_ms for segment in segments)
    p50, p95, p99 = (max(least_ms, cumulants.quantile_ms(level)) for level in (0.5, 0.95, P99))
    return Quantiles(p50=p50, p95=p95, p99=p99, method=Method.CUMULANTS)


def quantiles_by_convolution(segments: Sequence[DistributionStatistics]) -> Quantiles:
    """Of the one-way delay, in milliseconds; one segment alone has its own, measured in finer bins."""
    if len(segments) == 1:
        p50, p95, p99 = segments[0].p50_ms, segments[0].p95_ms, segments[0].p99_ms
    else:
        p50, p95, p99 = _convolved_ms(segments, (0.5, 0.95, P99))
    return Quantiles(p50=p50, p95=p95, p99=p99, method=Method.CONVOLUTION)


def estimate_p99(segments: Sequence[DistributionStatistics]) -> Estimate:
    """The 99 % quantile of the one-way delay, in milliseconds, with the interval of `_levels_around`."""
    value = quantiles_by_convolution(segments).p99
    levels = _levels_around(P99, segments)
    if levels is None:
        return Estimate(value=value, low=None, high=None)
    low, high = _convolved_ms(segments, levels)
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _levels_around(level: float, segments: Sequence[DistributionStatistics]) -> tuple[float, float] | None:
    """The levels of the composed distribution between which the true one reaches `level` in 95 % of the cases.

    None when a segment's samples do not tell how high its own quantile may be: that takes 381 for 99 % and 3838
    for 99.9 %. With fewer, the tail of the path is made of delays that no sample has shown.
    """
    count = min(segment.count for segment in segments)
    if count * (1 - level) <= Z_95 * Z_95 * level:
        return None
    margin = Z_95 * level_error(_histograms(segments), level)
    return level - margin, level + margin


def _convolved_ms(segments: Sequence[DistributionStatistics], levels: Sequence[float]) -> Sequence[float]:
    least_ms = math.fsum(segment.minimum_ms for segment in segments)
    return [least_ms + above_ms for above_ms in quantiles_above_minimum_ms(_histograms(segments), levels)]


def estimate_delay_variation(
    segments: Sequence[JitterStatistics], distributions: Sequence[DistributionStatistics] = ()
) -> tuple[Estimate, Method]:
    """The 99.9 % quantile of the path's delay less its minimum, in milliseconds (RFC 5481 section 4.2).

    By convolution of the distributions where there is one of each segment with PDV_COUNT samples, else by
    cumulants. It is never below the largest PDV of one segment, since the other segments cannot take time away.
    One segment alone is its own measured quantile.
    """
    value, method = _variation_ms(segments, distributions)
    levels = _levels_around(PDV_LEVEL, distributions) if distributions else None
    if levels is None:
        low, high = _variation_limits_ms(segments)
    else:
        low, high = quantiles_above_minimum_ms(_histograms(distributions), levels)
    if low is None or high is None:
        return Estimate(value=value, low=None, high=None), method
    return Estimate(value=value, low=min(value, low), high=max(value, high)), method


def _variation_ms(
    segments: Sequence[JitterStatistics], distributions: Sequence[DistributionStatistics]
) -> tuple[float, Method]:
    if distributions and min(one.count for one in distributions) >= PDV_COUNT:
        method = Method.CONVOLUTION
        (quantile_ms,) = quantiles_above_minimum_ms(_histograms(distributions), (PDV_LEVEL,))
    else:
        method, quantile_ms = Method.CUMULANTS, Cumulants.of_variations(segments).quantile_ms(PDV_LEVEL)
    largest_ms = max(segment.pdv_ms for segment in segments)
    return largest_ms if len(segments) == 1 else max(largest_ms, quantile_ms), method


def _variation_limits_ms(segments: Sequence[JitterStatistics]) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the quantile by cumulants, on the scale of its logarithm: it errs by a factor.

    The sampling error is that of the delta method, with sampling moments as of a gamma distribution; the error of
    form has been measured. One sample far out makes the sampling error greater than the method can bear, so that
    the interval ends at the latest where every distribution of this mean and variance does. It stands around the
    quantile by cumulants in any case, which samples move less than a measured extreme one.
    """
    if any(segment.count < 2 for segment in segments):
        return None, None
    cumulants = Cumulants.of_variations(segments)
    quantile_ms = cumulants.quantile_ms(PDV_LEVEL)
    if cumulants.is_constant or quantile_ms <= 0:
        return quantile_ms, quantile_ms
    sampling_error = math.sqrt(_quantile_variance(segments, cumulants)) / quantile_ms
    factor = math.exp(Z_95 * min(_GREATEST_ERROR, math.hypot(sampling_error, FORM_ERROR)))
    return quantile_ms / factor, min(quantile_ms * factor, cumulants.greatest_quantile_ms(PDV_LEVEL))


def _histograms(segments: Sequence[DistributionStatistics]) -> Sequence[Histogram]:
    return [Histogram.from_text(segment.bins) for segment in segments]


def _quantile_variance(segments: Sequence[JitterStatistics], cumulants: Cumulants) -> float:
    slopes = cumulants.quantile_slopes(PDV_LEVEL)
    return max(0.0, math.fsum(_sampling_variance(segment, *slopes) for segment in segments))


def _sampling_variance(segment: JitterStatistics, with_variance: float, with_third_moment: float) -> float:
    """Variance of mean + with_variance * variance + with_third_moment * third moment, over samples."""
    if segment.variance_ms2 < LEAST_VARIANCE_MS2:
        return 0.0
    deviation_ms = math.sqrt(segment.variance_ms2)
    skew = bounded_third_moment(segment) / deviation_ms**3
    a, b = with_variance * deviation_ms, with_third_moment * deviation_ms**2  # in units of the deviation
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
