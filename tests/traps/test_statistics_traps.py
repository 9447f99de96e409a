from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import pytest

from prober.bandwidth.trend import Verdict, trend
from receiver.delay_quantiles import PDV_LEVEL, Cumulants
from schemas.metrics import METRICS, Composition
from tests.receiver.paths import composed, lacking, measured, scalar

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "interceptor", "processor", "prober", "requestor", "receiver", "mp", "lab", "docs")


def y_1541_quantile_ms(segments: list[Cumulants]) -> float:
    """The quantile of a path by ITU-T Y.1541 clause 8, from that of each segment."""
    x = NormalDist().inv_cdf(PDV_LEVEL)
    mean_ms = sum(segment.mean_ms for segment in segments)
    deviation_ms = math.sqrt(sum(segment.variance_ms2 for segment in segments))
    omega = 0.0
    for segment in segments:
        own_ms = math.sqrt(segment.variance_ms2)
        gamma = 6 * (x - (segment.quantile_ms(PDV_LEVEL) - segment.mean_ms) / own_ms) / (1 - x * x)
        omega += gamma * own_ms**3
    return mean_ms + deviation_ms * (x - omega / deviation_ms**3 / 6 * (1 - x * x))


# The formula for delay variation is the one of clause 8 and Appendix X; Appendix IV is about routers one by one.
@pytest.mark.parametrize("skew", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("segments", [1, 2, 5])
def test_a_quantile_of_a_path_is_that_of_y_1541_clause_8_where_skew_is_small(skew: float, segments: int) -> None:
    parts = [Cumulants(5.0 + n, (1 + n) ** 2, skew * (1 + n) ** 3) for n in range(segments)]
    whole = Cumulants(*(sum(values) for values in zip(*map(astuple, parts), strict=True)))
    assert whole.quantile_ms(PDV_LEVEL) == pytest.approx(y_1541_quantile_ms(parts), rel=0.01)


def astuple(cumulants: Cumulants) -> tuple[float, float, float]:
    return cumulants.mean_ms, cumulants.variance_ms2, cumulants.third_moment_ms3


def test_nothing_of_ours_cites_another_part_of_y_1541() -> None:
    cited = [
        (file.relative_to(ROOT), line)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".md")
        for line in file.read_text().splitlines()
        if "Y.1541" in line and "Appendix" in line
    ]
    assert all("Appendix X" in line for _, line in cited)


def of_medians(values: list[int]) -> list[int]:
    """Delays of 100 packets whose ten medians are the values."""
    return [value for value in values for _ in range(10)]


# The paper on Pathload and its code have other thresholds; those of the code have dead bands around them.
@pytest.mark.parametrize(
    ("medians", "comparison", "difference", "verdict"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 5, 4, 5], 0.7, 5 / 9, Verdict.INCREASING),
        ([0, 10, 20, 30, 40, 50, 60, 55, 50, 45], 0.6, 0.6, Verdict.INCREASING),
        ([0, 1, 2, 3, 4, 5, 4, 3, 2, 4], 0.6, 0.4, Verdict.UNCLEAR),
        ([0, 2, 4, 6, 8, 10, 8, 6, 4, 4], 0.5, 0.25, Verdict.NO_TREND),
        # By the paper both would be below their bands, and there would be no trend.
        ([0, 2, 4, 6, 8, 10, 9, 8, 7, 6], 0.5, 6 / 14, Verdict.UNCLEAR),
        ([0, 2, 4, 6, 8, 7, 6, 5, 4, 3], 0.4, 3 / 13, Verdict.NO_TREND),
    ],
)
def test_thresholds_of_a_trend_are_those_of_the_code_with_their_dead_bands(
    medians: list[int], comparison: float, difference: float, verdict: Verdict
) -> None:
    steps = [later - earlier for earlier, later in zip(medians, medians[1:], strict=False)]
    assert sum(step > 0 for step in steps) / len(medians) == pytest.approx(comparison)
    assert (medians[-1] - medians[0]) / sum(map(abs, steps)) == pytest.approx(difference)
    assert trend(of_medians(medians)) is verdict


# A plain minimum takes an unknown bandwidth, which is written as 0, for the narrowest one.
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("is_zero", [True, False], ids=["as 0", "not told"])
def test_an_unknown_capacity_is_no_minimum_wherever_on_the_path_it_is(place: int, is_zero: bool) -> None:
    records = [measured(index, capacity=scalar(100.0 * (1 + index))) for index in range(3)]
    records[place] = (
        measured(place, capacity=scalar(0.0, low=0.0, high=0.0)) if is_zero else lacking(place, "capacity")
    )
    composition = composed(("capacity",), tuple(records))
    assert composition.composed["capacity"].value is None
    least = min(100 * (1 + index) for index in range(3) if index != place)
    assert composition.warnings[-1] == f"capacity: at most {least} Mbit/s over the known segments"


# Percentiles, variations and maxima of segments do not add.
def test_the_registry_adds_nothing_that_does_not_add() -> None:
    rules = {name: metric.composition for name, metric in METRICS.items()}
    assert {name for name, rule in rules.items() if rule is Composition.SUM} == {"delay", "rtt", "hops"}
    assert rules["jitter"] is rules["distribution"] is Composition.DISTRIBUTION
    assert rules["reordering"] is rules["duplication"] is Composition.LISTED
    assert rules["utilization"] is Composition.MAXIMUM
