"""1 - product of (1 - ratio): what a path loses, and any ratio that composes like that (RFC 6049 section 5.1.5).

-log(1 - ratio) adds along the path, so everything is done on that scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from receiver.estimate import NORMAL, Estimate
from schemas.intervals import LEVEL_OF_SIDE, ratio_interval
from schemas.metrics import LossStatistics, ScalarStatistics

_SHARE_ERROR = 1e-13
"""How exactly a limit of the interval cuts off its share."""
_MOST_STEPS = 100
"""Less than twenty are usual."""


def estimate_loss(segments: Sequence[LossStatistics]) -> Estimate:
    """The loss of the path.

    Interval: a sum of rare counts with weights. The gamma interval of Fay and Feuer (1997) holds its level for
    each such sum even when most counts are zero, where adding Wilson intervals (MOVER) misses one path in eight;
    but with few losses it holds 99 %. Its mid-p form (Fay and Kim 2017) holds 95 % on the average over paths, and
    for some ratios 92 %.
    """
    if any(segment.lost == segment.sent for segment in segments):
        return _all_lost(segments)
    log_survival = math.fsum(-math.log1p(-segment.lost / segment.sent) for segment in segments)
    variance = math.fsum(
        segment.lost / (segment.sent * (segment.sent - segment.lost)) for segment in segments
    )  # of each term by the delta method: p / (n (1 - p))
    weight = max(1 / (segment.sent - segment.lost) for segment in segments)  # what one more loss would add at most
    low = _mid_p_quantile(LEVEL_OF_SIDE, log_survival, variance, weight)
    high = _mid_p_quantile(1 - LEVEL_OF_SIDE, log_survival, variance, weight)
    return Estimate(value=-math.expm1(-log_survival), low=-math.expm1(-low), high=-math.expm1(-high))


def estimate_complement_product(segments: Sequence[ScalarStatistics]) -> Estimate:
    """The composed ratio of segments that give theirs with an interval (MOVER, Zou and Donner 2008)."""
    value = math.fsum(_log_survival(segment.value) for segment in segments)
    if math.isinf(value):
        low = max(segment.low for segment in segments)  # no path is better than its worst segment
        return Estimate(value=1.0, low=low, high=1.0)
    below = math.hypot(*(_log_survival(segment.value) - _log_survival(segment.low) for segment in segments))
    above = math.hypot(*(_log_survival(segment.high) - _log_survival(segment.value) for segment in segments))
    return Estimate(
        value=-math.expm1(-value), low=-math.expm1(min(0.0, below - value)), high=-math.expm1(-value - above)
    )


def _log_survival(ratio: float) -> float:
    return -math.log1p(-ratio) if ratio < 1 else math.inf


def _all_lost(segments: Sequence[LossStatistics]) -> Estimate:
    # A path loses at least what its worst segment loses, so the best of their lower limits holds for the path.
    low = max(ratio_interval(segment.lost, segment.sent)[0] for segment in segments)
    return Estimate(value=1.0, low=low, high=1.0)


def _mid_p_quantile(level: float, mean: float, variance: float, weight: float) -> float:
    """Where two gamma distributions together reach `level`: one of what was seen, one with one more loss."""

    def share_below(limit: float) -> float:
        as_observed = _gamma_share(limit, mean, variance)
        one_more = _gamma_share(limit, mean + weight, variance + weight * weight)
        return (as_observed + one_more) / 2

    highest = mean + weight + 20 * math.sqrt(variance + weight * weight)
    return _root(lambda limit: share_below(limit) - level, highest)


def _root(excess: Callable[[float], float], high: float) -> float:
    """Where a function that rises between 0 and `high` passes 0, by the Illinois method (Dowell and Jarratt 1971);
    0 where it begins above."""
    low, at_low, at_high = 0.0, excess(0.0), excess(high)
    if at_low >= 0:
        return low
    middle = high
    for _ in range(_MOST_STEPS):
        middle = high - at_high * (high - low) / (at_high - at_low)
        at_middle = excess(middle)
        if abs(at_middle) < _SHARE_ERROR:
            break
        if at_middle * at_high < 0:
            low, at_low = high, at_high
        else:
            at_low /= 2  # so that this end, too, comes nearer
        high, at_high = middle, at_middle
    return middle


def _gamma_share(limit: float, mean: float, variance: float) -> float:
    """The share of a gamma distribution up to `limit` (Wilson and Hilferty 1931)."""
    if mean <= 0:
        return 1.0
    spread = variance / (9 * mean * mean)  # 2 / (9 nu), with nu = 2 mean^2 / variance of the chi-squared form
    return NORMAL.cdf((math.cbrt(limit / mean) - 1 + spread) / math.sqrt(spread))
