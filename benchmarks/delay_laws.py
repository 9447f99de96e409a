"""Laws that queueing delays follow, each with what is true of it: draws, distribution function, mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Law:
    """How long packets wait in the queues of one segment, in milliseconds above its constant delay."""

    draw: Callable[[Random], float]
    share_below: Callable[[float], float]
    """The distribution function, above 0."""
    mean_ms: float
    least_ms: float = 0.0

    def quantile_ms(self, level: float) -> float:
        """By bisection."""
        high = 1.0
        while self.share_below(high) < level:
            high *= 2
        low = 0.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.share_below(middle) < level else (low, middle)
        return high


def lognormal(dice: Random, scale_ms: float) -> Law:
    """Shape 0.5 to 1.2."""
    mu, sigma = math.log(scale_ms), dice.uniform(0.5, 1.2)
    return Law(
        draw=lambda random: random.lognormvariate(mu, sigma),
        share_below=lambda x: NORMAL.cdf((math.log(x) - mu) / sigma),
        mean_ms=math.exp(mu + sigma * sigma / 2),
    )


def gamma(dice: Random, scale_ms: float) -> Law:
    """Shape 1/2: the one below 1 whose distribution function Python has."""
    return Law(
        draw=lambda random: scale_ms * random.gauss(0, 1) ** 2 / 2,
        share_below=lambda x: math.erf(math.sqrt(x / scale_ms)),
        mean_ms=scale_ms / 2,
    )


def exponential(dice: Random, scale_ms: float) -> Law:
    """The queue of Poisson traffic."""
    return Law(
        draw=lambda random: random.expovariate(1 / scale_ms),
        share_below=lambda x: -math.expm1(-x / scale_ms),
        mean_ms=scale_ms,
    )


def weibull(dice: Random, scale_ms: float) -> Law:
    """Shape 0.5 to 0.9, as of self-similar traffic."""
    shape = dice.uniform(0.5, 0.9)
    return Law(
        draw=lambda random: random.weibullvariate(scale_ms, shape),
        share_below=lambda x: -math.expm1(-((x / scale_ms) ** shape)),
        mean_ms=scale_ms * math.gamma(1 + 1 / shape),
    )


def truncated_pareto(dice: Random, scale_ms: float) -> Law:
    """Exponent 1.5 to 3, cut off at 50 to 500 times the least."""
    least_ms, exponent = scale_ms / 3, dice.uniform(1.5, 3)
    kept = -math.expm1(-exponent * math.log(dice.uniform(50, 500)))
    longest = (1 - kept) ** (1 - 1 / exponent)  # of the mean, what the cut takes away
    return Law(
        draw=lambda random: least_ms * (1 - kept * random.random()) ** (-1 / exponent),
        share_below=lambda x: min(1.0, max(0.0, (1 - (x / least_ms) ** -exponent) / kept)),
        mean_ms=least_ms * exponent / (exponent - 1) * (1 - longest) / kept,
        least_ms=least_ms,
    )


def bimodal(dice: Random, scale_ms: float) -> Law:
    """Two ways of the same segment: 3 to 30 % of the packets take one that is longer."""
    weight, gap_ms = dice.uniform(0.03, 0.3), scale_ms * dice.uniform(3, 10)

    def share_below(x: float) -> float:
        direct = -math.expm1(-x / scale_ms)
        return (1 - weight) * direct + (weight * -math.expm1(-(x - gap_ms) / scale_ms) if x > gap_ms else 0.0)

    return Law(
        draw=lambda random: random.expovariate(1 / scale_ms) + (gap_ms if random.random() < weight else 0.0),
        share_below=share_below,
        mean_ms=scale_ms + weight * gap_ms,
    )


LAWS = (lognormal, gamma, exponential, weibull, truncated_pareto, bimodal)
