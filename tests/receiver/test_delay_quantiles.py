from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.delay_quantiles import (
    Cumulants,
    estimate_delay_variation,
    estimate_p99,
    quantiles_by_convolution,
    quantiles_by_cumulants,
)
from schemas.metrics import DelayStatistics, JitterStatistics
from schemas.result import Method
from tests.receiver.paths import delay, distribution, jitter, queue

SAMPLES = 600
GAMMA_4 = {0.5: 3.672, 0.95: 7.754, 0.99: 10.045, 0.999: 13.06}
"""Quantiles of the sum of four exponential delays of 1 ms: the gamma distribution of shape 4."""


@pytest.mark.parametrize(("level", "exact_ms"), GAMMA_4.items())
def test_cumulants_of_queues_give_the_quantiles_of_their_sum(level: float, exact_ms: float) -> None:
    assert Cumulants(4.0, 4.0, 8.0).quantile_ms(level) == pytest.approx(exact_ms, rel=0.01)


def test_delays_without_skew_are_normal_and_little_skew_changes_little() -> None:
    assert Cumulants(10.0, 4.0, 0.0).quantile_ms(0.99) == pytest.approx(10 + 2 * 2.3263, rel=1e-4)
    assert Cumulants(10.0, 4.0, 8e-5).quantile_ms(0.99) == pytest.approx(10 + 2 * 2.3263, rel=1e-4)


def test_the_slopes_of_a_quantile_are_its_derivatives() -> None:
    for third_moment in (-3.0, 1e-8, 0.5, 20.0):
        with_variance, with_third_moment = Cumulants(1.0, 4.0, third_moment).quantile_slopes(0.999)
        step = 1e-5

        def quantile_ms(variance: float, third_moment: float) -> float:
            return Cumulants(1.0, variance, third_moment).quantile_ms(0.999)

        assert with_variance == pytest.approx(
            (quantile_ms(4 + step, third_moment) - quantile_ms(4 - step, third_moment)) / (2 * step), rel=1e-3
        )
        assert with_third_moment == pytest.approx(
            (quantile_ms(4, third_moment + step) - quantile_ms(4, third_moment - step)) / (2 * step), rel=1e-3
        )


def test_quantiles_are_never_below_the_sum_of_the_minima_nor_out_of_order() -> None:
    spiky = replace(delay(5.01, variance=1.0), minimum_ms=5.0, third_moment_ms3=24.0)
    quantiles = quantiles_by_cumulants([spiky, spiky])
    assert quantiles is not None
    assert 10.0 <= quantiles.p50 <= quantiles.p95 <= quantiles.p99


def test_a_single_sample_has_no_quantiles_by_cumulants() -> None:
    assert quantiles_by_cumulants([delay(1.0), delay(1.0, count=1)]) is None


def test_distributions_of_queues_give_the_quantiles_of_their_sum() -> None:
    quantiles = quantiles_by_convolution([queue(1.0, count=5000, minimum_ms=3.0)] * 4)
    assert quantiles.p50 == pytest.approx(12 + GAMMA_4[0.5], rel=0.005)
    assert quantiles.p95 == pytest.approx(12 + GAMMA_4[0.95], rel=0.005)
    assert quantiles.p99 == pytest.approx(12 + GAMMA_4[0.99], rel=0.005)


def test_one_segment_has_the_quantiles_that_it_measured() -> None:
    one = queue(1.0, minimum_ms=3.0)
    quantiles = quantiles_by_convolution([one])
    assert (quantiles.p50, quantiles.p95, quantiles.p99) == (one.p50_ms, one.p95_ms, one.p99_ms)
    assert estimate_p99([one]).value == one.p99_ms


def test_the_interval_of_p99_covers_the_truth_of_19_in_20_paths() -> None:
    dice = random.Random(8)
    covered = 0
    for _ in range(60):
        segments = [distribution([dice.expovariate(1) for _ in range(SAMPLES)]) for _ in range(4)]
        estimate = estimate_p99(segments)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= GAMMA_4[0.99] <= estimate.high
    assert covered >= 53


def test_segments_that_share_the_variation_know_their_p99_better() -> None:
    def relative_width(count: int) -> float:
        estimate = estimate_p99([queue(1.0)] * count)
        assert estimate.low is not None and estimate.high is not None
        return (estimate.high - estimate.low) / estimate.value

    assert relative_width(12) < relative_width(3) < relative_width(1)


@pytest.mark.parametrize(("count", "is_known"), [(380, False), (381, True)])
def test_too_few_samples_give_p99_without_an_interval(count: int, is_known: bool) -> None:
    estimate = estimate_p99([queue(1.0), queue(1.0, count=count)])
    assert (estimate.low is not None, estimate.high is not None) == (is_known, is_known)


def window(sample: list[float]) -> JitterStatistics:
    count, minimum = len(sample), min(sample)
    mean = sum(sample) / count
    return JitterStatistics(
        count=count,
        pdv_ms=sorted(sample)[(999 * count + 999) // 1000 - 1] - minimum,
        ipdv_ms=0.0,
        signed_ipdv_ms=0.0,
        least_ipdv_ms=0.0,
        greatest_ipdv_ms=0.0,
        interarrival_ms=0.0,
        mean_pdv_ms=mean - minimum,
        variance_ms2=sum((one - mean) ** 2 for one in sample) / count,
        third_moment_ms3=sum((one - mean) ** 3 for one in sample) / count,
    )


def test_delay_variation_of_a_path_comes_near_the_exact_quantile_where_a_plain_sum_does_not() -> None:
    dice = random.Random(5)
    segments = [window([dice.expovariate(1) for _ in range(SAMPLES)]) for _ in range(4)]
    exact = 13.06  # 99.9 % quantile of the gamma distribution of shape 4
    estimate, _ = estimate_delay_variation(segments)
    assert estimate.value == pytest.approx(exact, rel=0.1)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low <= exact <= estimate.high
    assert sum(segment.pdv_ms for segment in segments) > 1.7 * exact


def test_the_delay_variation_interval_covers_about_19_in_20_paths_of_queues() -> None:
    dice = random.Random(6)
    exact, covered = 11.229, 0  # of the gamma distribution of shape 3
    for _ in range(60):
        segments = [window([dice.expovariate(1) for _ in range(SAMPLES)]) for _ in range(3)]
        estimate, _ = estimate_delay_variation(segments)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= exact <= estimate.high
    assert covered >= 54


@pytest.mark.parametrize("outlier_ms", [10.0, 20.0, 50.0, 100.0, 500.0, 1000.0])
@pytest.mark.parametrize("segments", [1, 3])
def test_one_sample_far_out_widens_the_variation_to_its_own_size_and_no_further(
    outlier_ms: float, segments: int
) -> None:
    dice = random.Random(3)
    usual = [[dice.expovariate(1 / 0.3) for _ in range(SAMPLES - 1)] for _ in range(segments)]
    quiet, _ = estimate_delay_variation([window(samples) for samples in usual])
    estimate, _ = estimate_delay_variation([window([*usual[0], outlier_ms]), *map(window, usual[1:])])
    assert estimate.low is not None and estimate.high is not None and quiet.low is not None
    # Whether one in 600 is one in 1000 cannot be known: the truth may be the usual or the outlier.
    assert quiet.low < estimate.low < quiet.value + outlier_ms / 4
    assert outlier_ms < estimate.high < 1.5 * outlier_ms


def test_constant_delay_has_no_variation() -> None:
    estimate, _ = estimate_delay_variation([jitter(0.0), jitter(0.0)])
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_path_variation_is_at_least_that_of_its_worst_segment() -> None:
    left_skewed = jitter(1.0, pdv_ms=2.5, skew=-40.0)
    estimate, _ = estimate_delay_variation([left_skewed, jitter(0.01, pdv_ms=0.1)])
    assert estimate.value == 2.5


variations = st.builds(
    jitter,
    st.floats(0, 1e6),
    pdv_ms=st.floats(-10, 1e4),
    skew=st.floats(-1e3, 1e3),
    count=st.integers(2, 10**6),
)


@given(st.lists(variations, min_size=1, max_size=20))
def test_a_variation_interval_contains_the_variation(segments: list[JitterStatistics]) -> None:
    estimate, _ = estimate_delay_variation(segments)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high


def test_numbers_that_contradict_each_other_give_a_wide_interval_and_no_error() -> None:
    invented = replace(jitter(1e12, pdv_ms=0.0, skew=0.0), mean_pdv_ms=-3.0902323e6)
    estimate, _ = estimate_delay_variation([invented, invented])
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high


def test_few_samples_leave_the_variation_to_cumulants_and_many_do_not() -> None:
    def method_of(count: int) -> Method:
        segments = [jitter(1.0, pdv_ms=0.0, count=count)] * 4
        return estimate_delay_variation(segments, [queue(1.0, count=count)] * 4)[1]

    assert method_of(999) is Method.CUMULANTS
    assert method_of(1000) is Method.CONVOLUTION


def test_distributions_of_many_samples_give_the_variation_and_its_interval() -> None:
    segments = [jitter(1.0, pdv_ms=0.0, count=5000)] * 4
    estimate, _ = estimate_delay_variation(segments, [queue(1.0, count=5000)] * 4)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.value == pytest.approx(GAMMA_4[0.999], rel=0.02)
    assert 0.8 * estimate.value < estimate.low < estimate.value < estimate.high < 1.2 * estimate.value


delays = st.builds(
    lambda mean, variance, skew: replace(delay(mean, variance=variance), third_moment_ms3=skew * variance**1.5),
    st.floats(0, 1000),
    st.floats(0, 1e6),
    st.floats(-1e3, 1e3),
)


@given(st.lists(delays, min_size=1, max_size=20))
def test_quantiles_by_cumulants_stand_in_order(segments: list[DelayStatistics]) -> None:
    quantiles = quantiles_by_cumulants(segments)
    assert quantiles is not None
    assert quantiles.p50 <= quantiles.p95 <= quantiles.p99
    assert math.isfinite(quantiles.p99)
