from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.convolution import level_error, quantiles_above_minimum_ms
from schemas.histogram import LAST_BIN, Histogram, bin_edges_ms, bin_of

LEVELS = (0.5, 0.95, 0.99)


def histogram(sample_ms: Sequence[float]) -> Histogram:
    return Histogram(Counter(bin_of(int(1000 * one)) for one in sample_ms))


def exact_quantiles_ms(samples: Sequence[Sequence[float]], dice: random.Random) -> list[float]:
    """Of 40,000 packets that draw a delay of each segment."""
    draws = [dice.choices(sample, k=40_000) for sample in samples]
    sums = sorted(map(sum, zip(*draws, strict=True)))
    return [sums[math.ceil(level * len(sums)) - 1] for level in LEVELS]


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize(
    "draw",
    [
        lambda dice: dice.expovariate(1),
        lambda dice: dice.lognormvariate(-1, 1.2),
        lambda dice: 0.2 * dice.random() + 5 * (dice.random() < 0.1),
        lambda dice: 0.003 * dice.random(),
        lambda dice: 400 * dice.weibullvariate(1, 0.6),
    ],
    ids=["queue", "heavy tail", "two ways", "microseconds", "seconds"],
)
def test_quantiles_are_those_of_the_sum_of_the_samples(draw: Callable[[random.Random], float], count: int) -> None:
    dice = random.Random(count)
    samples = [[draw(dice) for _ in range(600)] for _ in range(count)]
    found = quantiles_above_minimum_ms([histogram(sample) for sample in samples], LEVELS)
    # For the bins, and for the luck of 40,000 draws; 1 us is the bin of the shortest delays.
    assert found == pytest.approx(exact_quantiles_ms(samples, dice), rel=0.07 if count < 3 else 0.05, abs=0.001)


def test_nothing_adds_up_along_a_long_path() -> None:
    dice = random.Random(3)
    samples = [[dice.uniform(0, 8) for _ in range(600)] for _ in range(255)]
    (median_ms,) = quantiles_above_minimum_ms([histogram(sample) for sample in samples], (0.5,))
    assert median_ms == pytest.approx(sum(sum(sample) / 600 for sample in samples), rel=0.002)


def test_one_outlier_hides_nothing_of_the_other_delays() -> None:
    dice = random.Random(4)
    sample = [dice.expovariate(1) for _ in range(600)]
    plain = quantiles_above_minimum_ms([histogram(sample)] * 3, (0.5, 0.95))
    with_outlier = quantiles_above_minimum_ms(
        [histogram(sample)] * 2 + [histogram([*sample, 60_000.0])], (0.5, 0.95)
    )
    assert with_outlier == pytest.approx(plain, rel=0.02)


def test_a_constant_delay_is_less_than_a_microsecond_above_its_minimum() -> None:
    assert quantiles_above_minimum_ms([Histogram({0: 600})], (0.01, 0.99)) == pytest.approx((0, 0), abs=0.001)


def test_quantiles_come_in_the_order_in_which_levels_were_asked_for() -> None:
    segments = [histogram([index / 10 for index in range(600)])] * 2
    low, high = quantiles_above_minimum_ms(segments, (0.1, 0.9))
    assert quantiles_above_minimum_ms(segments, (0.9, 0.1, 0.9)) == (high, low, high)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_error_of_a_level_is_that_of_fresh_samples(count: int) -> None:
    dice = random.Random(count)
    # Of the gamma distribution of this shape.
    truth_ms = {1: 4.605, 3: 8.406, 10: 18.783}[count]
    errors, shares = [], []
    for _ in range(60):
        samples = [sorted(dice.expovariate(1) for _ in range(100)) for _ in range(count)]
        errors.append(level_error([histogram(sample) for sample in samples], 0.99))
        sums = [sum(draw) for draw in zip(*(dice.choices(sample, k=2000) for sample in samples), strict=True)]
        shares.append(sum(one <= truth_ms for one in sums) / 2000)
    mean = sum(shares) / 60
    deviation = math.sqrt(sum((share - mean) ** 2 for share in shares) / 59)
    of_draws = math.sqrt(0.99 * 0.01 / 2000)
    assert sum(errors) / 60 == pytest.approx(math.sqrt(deviation**2 - of_draws**2), rel=0.3)


def test_the_error_of_a_level_of_one_segment_is_binomial() -> None:
    segment = histogram([-math.log1p(-(index + 0.5) / 600) for index in range(600)])
    assert level_error([segment], 0.99) == pytest.approx(math.sqrt(0.99 * 0.01 / 600), rel=0.05)


histograms = st.dictionaries(st.integers(0, LAST_BIN), st.integers(1, 10**15), min_size=1, max_size=30).map(
    Histogram
)


@given(st.lists(histograms, min_size=1, max_size=6))
@settings(max_examples=40)
def test_any_histograms_give_quantiles_in_order_within_their_bins(segments: list[Histogram]) -> None:
    quantiles_ms = quantiles_above_minimum_ms(segments, (0.1, 0.5, 0.9, 0.99))
    assert list(quantiles_ms) == sorted(quantiles_ms)
    assert quantiles_ms[0] >= 0
    assert quantiles_ms[-1] <= 1.01 * sum(bin_edges_ms(max(segment.counts))[1] for segment in segments)
    assert 0 <= level_error(segments, 0.99) <= 0.51


def test_a_path_of_20_segments_takes_well_below_the_time_of_a_request() -> None:
    dice = random.Random(5)
    segments = [histogram([dice.expovariate(1) for _ in range(600)]) for _ in range(20)]
    began = time.process_time()
    quantiles_above_minimum_ms(segments, LEVELS)
    assert time.process_time() - began < 0.2  # 0.02 s on an idle core
