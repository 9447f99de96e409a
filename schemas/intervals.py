"""The 95 % intervals that every value carries: what points and whoever composes their values agree on."""

from __future__ import annotations

import math
from typing import Final

LEVEL_OF_SIDE: Final = 0.025
"""An interval of 95 % leaves so much on each side."""
Z_95: Final = 1.959963984540054
"""The quantile of the normal distribution that leaves LEVEL_OF_SIDE above it."""

# The expansion below is good to 2e-3 only from 6 degrees of freedom on.
_FEW_DEGREES = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706}


def t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t (Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5)."""
    if degrees in _FEW_DEGREES:
        return _FEW_DEGREES[degrees]
    z = Z_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def ratio_interval(events: int, trials: int) -> tuple[float, float]:
    """Of a ratio, from 0 to 1 (Wilson 1927)."""
    square = Z_95 * Z_95
    ratio = events / trials
    center = ratio + square / (2 * trials)
    width = Z_95 * math.sqrt(ratio * (1 - ratio) / trials + square / (4 * trials * trials))
    whole = 1 + square / trials
    # At either end the limit is the ratio itself, which rounding must not pass.
    return min(ratio, max(0.0, (center - width) / whole)), max(ratio, min(1.0, (center + width) / whole))


def rate_interval(events: int, trials: int) -> tuple[float, float]:
    """Of a mean count per trial, Poisson, which is not bounded by 1 (score interval)."""
    square = Z_95 * Z_95
    center = events + square / 2
    width = Z_95 * math.sqrt(events + square / 4)
    return min(events, max(0.0, center - width)) / trials, (center + width) / trials
