from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.estimate import (
    estimate_maximum,
    estimate_minimum,
    estimate_sum,
    estimate_sum_of_means,
)
from schemas.metrics import DelayStatistics, ScalarStatistics
from tests.receiver.paths import delay, rtt, scalar


def probed(sample: list[float]) -> DelayStatistics:
    """What a window tells of these delays."""
    count, mean = len(sample), sum(sample) / len(sample)
    return replace(
        delay(mean, variance=sum((one - mean) ** 2 for one in sample) / count, count=count),
        third_moment_ms3=sum((one - mean) ** 3 for one in sample) / count,
    )


def test_the_delay_interval_covers_the_true_mean_of_19_in_20_paths() -> None:
    dice = random.Random(2)
    covered = 0
    for _ in range(300):
        segments = [probed([mean_ms + dice.expovariate(1) for _ in range(60)]) for mean_ms in (0.0, 3.0, 8.0)]
        estimate = estimate_sum_of_means(segments)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= 14 <= estimate.high
    assert 0.92 <= covered / 300 <= 0.98


def test_the_delay_interval_of_a_heavy_tail_misses_as_often_above_as_below() -> None:
    dice = random.Random(7)
    truth = math.exp(1.2**2 / 2)
    below = above = 0
    for _ in range(400):
        estimate = estimate_sum_of_means([probed([dice.lognormvariate(0, 1.2) for _ in range(120)])])
        assert estimate.low is not None and estimate.high is not None
        below += truth < estimate.low
        above += truth > estimate.high
    assert below + above < 0.11 * 400
    assert above < 6 * below  # 21 to 5; without the skew 38 to 1


def test_a_sum_of_delays_without_skew_has_the_interval_of_student() -> None:
    estimate = estimate_sum_of_means([replace(delay(5.0, variance=1.0, count=2), third_moment_ms3=0.0)])
    assert (estimate.low, estimate.high) == pytest.approx((5 - 12.7062, 5 + 12.7062))


@pytest.mark.parametrize(("count", "t"), [(3, 4.3027), (6, 2.5706), (11, 2.2281), (31, 2.0423), (10**6, 1.96)])
def test_the_delay_interval_uses_the_quantile_of_students_t(count: int, t: float) -> None:
    estimate = estimate_sum_of_means([rtt(0.0, count=count)])
    assert estimate.high == pytest.approx(t * math.sqrt(0.5 / (count - 1)), rel=2e-3)


def test_skew_moves_the_interval_of_the_round_trip_up() -> None:
    even = estimate_sum_of_means([rtt(10.0, count=60)])
    skewed = estimate_sum_of_means([rtt(10.0, count=60, third_moment=2.0)])
    assert even.low is not None and skewed.low is not None and even.high is not None and skewed.high is not None
    assert even.low < skewed.low < 10 < even.high < skewed.high


def test_more_skew_than_a_sample_can_have_changes_nothing_more() -> None:
    most = math.sqrt(60) * 0.5**1.5
    assert estimate_sum_of_means([rtt(10.0, count=60, third_moment=1e12)]) == estimate_sum_of_means(
        [rtt(10.0, count=60, third_moment=most)]
    )


def test_a_single_sample_gives_a_sum_without_an_interval() -> None:
    estimate = estimate_sum_of_means([rtt(3.0), rtt(4.0, count=1)])
    assert (estimate.value, estimate.low, estimate.high) == (7.0, None, None)
    assert estimate.widened(1.0) == estimate


delays = st.builds(
    lambda mean, variance, skew, count: replace(
        delay(mean, variance=variance, count=count), third_moment_ms3=skew * variance**1.5
    ),
    st.floats(-100, 1000),
    st.floats(0, 1e6),
    st.floats(-1e3, 1e3),
    st.integers(2, 10**9),
)


@given(st.lists(delays, min_size=1, max_size=20))
def test_a_sum_of_delays_is_within_its_interval(segments: list[DelayStatistics]) -> None:
    estimate = estimate_sum_of_means(segments)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high


def test_distances_to_the_limits_add_by_their_squares_on_each_side() -> None:
    estimate = estimate_sum([scalar(10, 7, 14), scalar(20, 16, 23), scalar(5)])
    assert (estimate.value, estimate.low, estimate.high) == (35, 30, 40)


def test_a_clearly_least_segment_gives_the_path_its_interval() -> None:
    estimate = estimate_minimum([scalar(10, 9, 11), scalar(20, 18, 22), scalar(1000)])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((10, 9, 11))


def test_exact_numbers_have_an_exact_minimum_and_maximum() -> None:
    segments = [scalar(100), scalar(100), scalar(1000)]
    least, greatest = estimate_minimum(segments), estimate_maximum(segments)
    assert (least.low, least.value, least.high) == (100, 100, 100)
    assert (greatest.low, greatest.value, greatest.high) == (1000, 1000, 1000)


def observed(dice: random.Random, truth: float) -> ScalarStatistics:
    value = dice.gauss(truth, 1)
    return scalar(value, value - 1.96, value + 1.96)


@pytest.mark.parametrize("count", [2, 10])
def test_the_interval_of_a_minimum_and_of_a_maximum_hold_where_all_segments_are_alike(count: int) -> None:
    dice = random.Random(count)
    held_by_least = held_by_greatest = 0
    for _ in range(400):
        segments = [observed(dice, 50.0) for _ in range(count)]
        least, greatest = estimate_minimum(segments), estimate_maximum(segments)
        assert least.low is not None and least.high is not None
        assert greatest.low is not None and greatest.high is not None
        held_by_least += least.low <= 50 <= least.high
        held_by_greatest += greatest.low <= 50 <= greatest.high
    # The plain minimum of 10 upper limits is too low for one path in five.
    assert held_by_least >= 0.93 * 400
    assert held_by_greatest >= 0.93 * 400


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3).map(sorted), min_size=1, max_size=20))
def test_sums_minima_and_maxima_are_within_their_intervals(numbers: list[list[float]]) -> None:
    segments = [scalar(value, low, high) for low, value, high in numbers]
    for estimate in (estimate_sum(segments), estimate_minimum(segments), estimate_maximum(segments)):
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high
