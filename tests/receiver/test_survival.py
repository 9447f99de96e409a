from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.survival import estimate_complement_product, estimate_loss
from schemas.metrics import LossStatistics
from tests.receiver.paths import loss, scalar

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
    assert covered >= 0.87 * PATHS  # 92 % in the worst case, less 2 standard deviations of luck


def test_the_loss_interval_of_a_clean_path_does_not_widen_with_its_segments() -> None:
    one, many = estimate_loss([loss(0)]), estimate_loss([loss(0)] * 19)
    assert one == many
    assert (many.value, many.low) == (0.0, 0.0)
    assert many.high == pytest.approx(2.996 / 600, rel=0.02)  # ln 20: mid-p halves what is left above


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


def test_the_loss_interval_is_not_wider_than_it_needs_to_be_where_few_are_lost() -> None:
    dice = random.Random(4)
    covered = paths = 0
    for _ in range(1000):
        ratios = [0.0001 * 100 ** dice.random() for _ in range(dice.randint(2, 10))]
        estimate = estimate_loss([loss(lost_packets(dice, ratio), SAMPLES) for ratio in ratios])
        assert estimate.low is not None and estimate.high is not None
        truth = 1 - math.prod(1 - ratio for ratio in ratios)
        covered += estimate.low <= truth <= estimate.high
        paths += 1
    assert 0.935 <= covered / paths <= 0.975  # the gamma interval without mid-p covers 98 %


def test_ratios_compose_as_losses_do_and_exact_ones_have_no_interval() -> None:
    estimate = estimate_complement_product([scalar(0.1), scalar(0.2), scalar(0.0)])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.28, 0.28, 0.28))


def test_the_interval_of_a_ratio_is_about_that_of_its_one_doubtful_segment() -> None:
    estimate = estimate_complement_product([scalar(0.1, 0.05, 0.2), scalar(0.5)])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.55, 0.525, 0.6))


def test_a_ratio_of_1_makes_that_of_the_path_1() -> None:
    estimate = estimate_complement_product([scalar(1.0, 0.7, 1.0), scalar(0.5, 0.4, 0.6)])
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 0.7, 1.0)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3).map(sorted), min_size=1, max_size=20))
def test_a_ratio_stays_within_its_interval_and_that_within_0_and_1(ratios: list[list[float]]) -> None:
    estimate = estimate_complement_product([scalar(value, low, high) for low, value, high in ratios])
    assert estimate.low is not None and estimate.high is not None
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1


def mid_p_share(limit: float, segments: list[LossStatistics]) -> float:
    """What lies below a limit of -log(1 - loss): the gamma distributions of what was seen and of one loss more."""
    mean = sum(-math.log1p(-one.lost / one.sent) for one in segments)
    variance = sum(one.lost / (one.sent * (one.sent - one.lost)) for one in segments)
    weight = max(1 / (one.sent - one.lost) for one in segments)

    def share(mean: float, variance: float) -> float:
        if not mean:
            return 1.0
        spread = variance / (9 * mean**2)
        return NormalDist().cdf(((limit / mean) ** (1 / 3) - 1 + spread) / spread**0.5)

    return (share(mean, variance) + share(mean + weight, variance + weight**2)) / 2


def assert_cuts_off(share: float, ratio: float, segments: list[LossStatistics]) -> None:
    """As exactly as a ratio so near 1 can tell its limit."""
    rounding = 2.0**-53
    least = -math.log(min(1.0, 1 - ratio + rounding))
    most = -math.log(1 - ratio - rounding) if 1 - ratio > rounding else math.inf
    assert mid_p_share(least, segments) - 1e-6 < share < mid_p_share(most, segments) + 1e-6


@given(st.lists(st.tuples(st.integers(1, 6000), st.floats(0, 0.99)), min_size=1, max_size=20))
@example([(6000, 0.99)] * 7)  # one packet of a hundred million millions gets through
def test_each_limit_of_the_interval_cuts_off_its_share(drawn: list[tuple[int, float]]) -> None:
    segments = [loss(int(sent * ratio), sent) for sent, ratio in drawn]
    estimate = estimate_loss(segments)
    assert estimate.low is not None
    assert estimate.high is not None
    if estimate.low:
        assert_cuts_off(0.025, estimate.low, segments)
    else:
        assert mid_p_share(0.0, segments) >= 0.025
    assert_cuts_off(0.975, estimate.high, segments)
