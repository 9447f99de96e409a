from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.estimate import estimate_delay_variation, estimate_loss, estimate_sum
from schemas.metrics import JitterStatistics, LossStatistics
from tests.receiver.paths import delay, jitter, loss, rtt

SEGMENT_COUNTS = (2, 3, 5, 8, 13, 19)
SAMPLES = 600
PATHS = 150

LOSSES: dict[str, Callable[[int], list[float]]] = {
    "5 % on one segment and none elsewhere": lambda count: [0.05] + [0.0] * (count - 1),
    "1 % on each second segment": lambda count: [0.01 if index % 2 else 0.0 for index in range(count)],
    "0.1 % on each segment": lambda count: [0.001] * count,
    "1 in 3000 on each segment": lambda count: [1 / 3000] * count,
    "5 % on each segment": lambda count: [0.05] * count,
    "from 0 to 5 %": lambda count: [0.05 * index / (count - 1) for index in range(count)],
}


def lost_packets(dice: random.Random, ratio: float) -> int:
    """A binomial draw by the gaps between losses, which costs one step for each loss and not for each packet."""
    lost, sent = 0, 0
    while ratio:
        sent += 1 + int(math.log(1 - dice.random()) / math.log1p(-ratio))
        if sent > SAMPLES:
            break
        lost += 1
    return lost


@pytest.mark.parametrize("count", SEGMENT_COUNTS)
@pytest.mark.parametrize("case", LOSSES)
def test_the_loss_interval_covers_the_true_loss_of_19_in_20_paths(case: str, count: int) -> None:
    ratios = LOSSES[case](count)
    truth = 1 - math.prod(1 - ratio for ratio in ratios)
    dice = random.Random(f"{case} {count}")
    covered = 0
    for _ in range(PATHS):
        estimate = estimate_loss([loss(lost_packets(dice, ratio), SAMPLES) for ratio in ratios])
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= truth <= estimate.high
    assert covered >= 0.92 * PATHS  # 3 standard deviations of luck below 95 %, and above the 90 % that is promised


def test_the_loss_interval_of_a_clean_path_does_not_widen_with_its_segments() -> None:
    one, many = estimate_loss([loss(0)]), estimate_loss([loss(0)] * 19)
    assert one == many
    assert (many.value, many.low) == (0.0, 0.0)
    assert many.high == pytest.approx(3.689 / 600, rel=0.01)  # 97.5 % of Poisson paths lose fewer than that


def test_one_segment_that_loses_all_makes_the_path_lose_all() -> None:
    estimate = estimate_loss([loss(3), loss(600), loss(0)])
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(0.9936, abs=1e-4)


@given(
    st.lists(
        st.integers(1, 10**6).flatmap(lambda sent: st.builds(loss, st.integers(0, sent), st.just(sent))),
        min_size=1,
        max_size=20,
    )
)
def test_a_loss_interval_is_within_0_and_1_and_contains_the_loss(segments: list[LossStatistics]) -> None:
    estimate = estimate_loss(segments)
    assert estimate.low is not None and estimate.high is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_the_delay_interval_covers_the_true_mean_of_19_in_20_paths() -> None:
    dice = random.Random(2)
    covered = 0
    for _ in range(200):
        segments = []
        for mean_ms in (1.0, 4.0, 9.0):
            sample = [mean_ms + dice.expovariate(1) for _ in range(60)]
            mean = sum(sample) / 60
            segments.append(delay(mean, variance=sum((one - mean) ** 2 for one in sample) / 59, count=60))
        estimate = estimate_sum(segments)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= 17 <= estimate.high
    assert covered >= 180


def test_two_samples_give_a_much_wider_delay_interval_than_the_normal_distribution() -> None:
    estimate = estimate_sum([delay(5.0, variance=1.0, count=2)])
    assert estimate.high == pytest.approx(5 + 12.7062 * math.sqrt(1 / 2))


@pytest.mark.parametrize(("count", "t"), [(3, 4.3027), (6, 2.5706), (11, 2.2281), (31, 2.0423), (10**6, 1.96)])
def test_the_delay_interval_uses_the_quantile_of_students_t(count: int, t: float) -> None:
    estimate = estimate_sum([rtt(0.0, count=count)])
    assert estimate.high == pytest.approx(t * math.sqrt(0.5 / count), rel=2e-3)


def test_a_single_sample_gives_a_sum_without_an_interval() -> None:
    estimate = estimate_sum([rtt(3.0), rtt(4.0, count=1)])
    assert (estimate.value, estimate.low, estimate.high) == (7.0, None, None)


def window(sample: list[float]) -> JitterStatistics:
    count, minimum = len(sample), min(sample)
    mean = sum(sample) / count
    return JitterStatistics(
        count=count,
        pdv_ms=sorted(sample)[(999 * count + 999) // 1000 - 1] - minimum,
        ipdv_ms=0.0,
        mean_pdv_ms=mean - minimum,
        variance_ms2=sum((one - mean) ** 2 for one in sample) / (count - 1),
        third_moment_ms3=sum((one - mean) ** 3 for one in sample) / count,
    )


def test_delay_variation_of_a_path_comes_near_the_exact_quantile_where_a_plain_sum_does_not() -> None:
    dice = random.Random(5)
    segments = [window([dice.expovariate(1) for _ in range(SAMPLES)]) for _ in range(4)]
    exact = 13.06  # 99.9 % quantile of the gamma distribution of shape 4
    estimate = estimate_delay_variation(segments)
    assert estimate.value == pytest.approx(exact, rel=0.1)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low <= exact <= estimate.high
    assert sum(segment.pdv_ms for segment in segments) > 1.7 * exact


def test_the_delay_variation_interval_covers_about_19_in_20_paths_of_queues() -> None:
    dice = random.Random(6)
    exact, covered = 11.229, 0  # of the gamma distribution of shape 3
    for _ in range(60):
        segments = [window([dice.expovariate(1) for _ in range(SAMPLES)]) for _ in range(3)]
        estimate = estimate_delay_variation(segments)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= exact <= estimate.high
    assert covered >= 54


def test_constant_delay_has_no_variation() -> None:
    estimate = estimate_delay_variation([jitter(0.0), jitter(0.0)])
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_path_variation_is_at_least_that_of_its_worst_segment() -> None:
    left_skewed = jitter(1.0, pdv_ms=2.5, skew=-40.0)
    estimate = estimate_delay_variation([left_skewed, jitter(0.01, pdv_ms=0.1)])
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
    estimate = estimate_delay_variation(segments)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high
