"""Statistics of every metric as a point would have them, each seed another set; the wire holds them exactly."""

from __future__ import annotations

from collections import Counter
from random import Random

from schemas.histogram import Histogram, bin_of
from schemas.metrics import (
    METRICS,
    DelayStatistics,
    DistributionStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    ScalarStatistics,
    Statistics,
)

MEASURED_AT_MS = 1_767_268_800_000


def loss_of(sent: int, lost: int) -> LossStatistics:
    """Losses that came one by one."""
    return LossStatistics(sent=sent, lost=lost, threshold_ms=1000, runs=lost, longest_run=min(1, lost))


def segment_statistics(seed: int) -> dict[str, Statistics]:
    """All metrics, in the order of the registry."""
    random = Random(seed)

    def number(decimals: int, most: float) -> float:
        return round(random.uniform(0.001, most), decimals)

    def scalar(most: float) -> ScalarStatistics:
        low, value, high = sorted(number(3, most) for _ in range(3))
        return ScalarStatistics(
            count=random.randrange(1, 700), value=value, low=low, high=high, measured_at_ms=MEASURED_AT_MS
        )

    special: dict[str, Statistics] = {
        "delay": DelayStatistics(
            count=random.randrange(100, 700),
            mean_ms=number(4, 80),
            minimum_ms=number(4, 40),
            variance_ms2=number(6, 4),
            third_moment_ms3=number(6, 4),
            upstream_clock_error_ms=number(4, 0.1),
            current_clock_error_ms=number(4, 0.1),
            synchronized=True,
        ),
        "loss": loss_of(600, random.randrange(30)),
        "jitter": JitterStatistics(
            count=random.randrange(100, 700),
            pdv_ms=number(4, 20),
            ipdv_ms=number(4, 5),
            signed_ipdv_ms=number(4, 0.01),
            least_ipdv_ms=-number(4, 9),
            greatest_ipdv_ms=number(4, 9),
            interarrival_ms=number(4, 5),
            mean_pdv_ms=number(4, 5),
            variance_ms2=number(6, 4),
            third_moment_ms3=number(6, 4),
        ),
        "rtt": RoundTripStatistics(
            count=random.randrange(100, 700),
            mean_ms=number(4, 160),
            minimum_ms=number(4, 80),
            variance_ms2=number(6, 4),
            third_moment_ms3=number(6, 4),
        ),
        "distribution": _distribution(random),
    }
    return {name: special[name] if name in special else scalar(100.0) for name in METRICS}


def _distribution(random: Random) -> DistributionStatistics:
    """600 delays above 5 ms, of a queue."""
    above_us = sorted(round(random.expovariate(1 / 800)) for _ in range(600))
    return DistributionStatistics(
        count=600,
        minimum_ms=5.0,
        p50_ms=round(5 + above_us[299] / 1000, 4),
        p95_ms=round(5 + above_us[569] / 1000, 4),
        p99_ms=round(5 + above_us[593] / 1000, 4),
        bins=Histogram(Counter(map(bin_of, above_us))).to_text(),
    )
