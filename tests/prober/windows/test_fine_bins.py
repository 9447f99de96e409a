from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.windows.fine_bins import FINEST_WIDTH_BITS, MAX_BINS, FineBins

PERMILLES = (1, 250, 500, 950, 990, 999, 1000)


def filled(delays_ns: list[int]) -> FineBins:
    bins = FineBins()
    for delay_ns in delays_ns:
        bins.add(delay_ns)
    return bins


def true_quantile(delays: list[int], permille: int) -> int:
    """Counted out: the smallest x with F(x) >= p."""
    return next(x for x in sorted(delays) if 1000 * sum(delay <= x for delay in delays) >= permille * len(delays))


@given(st.lists(st.lists(st.integers(-(10**11), 10**11), max_size=80), min_size=1, max_size=5))
def test_quantiles_of_merged_bins_are_those_of_the_samples_within_half_a_bin(parts: list[list[int]]) -> None:
    delays = sum(parts, [])
    if not delays:
        return
    merged = FineBins.merged(filled(part) for part in parts)
    for permille in PERMILLES:
        told_ns = merged.ranked().quantile_ns(permille)
        assert abs(told_ns - true_quantile(delays, permille)) <= merged.error_ns


def test_the_rank_of_a_quantile_is_counted_in_whole_numbers() -> None:
    assert math.ceil(99.9 / 100 * 1000) == 1000, "what floating point says"
    ranked = filled([number << FINEST_WIDTH_BITS for number in range(1, 257)] * 1).ranked()
    assert ranked.quantile_ns(1000) >> FINEST_WIDTH_BITS == 256
    thousand = filled([(number // 4) << FINEST_WIDTH_BITS for number in range(999)] + [1 << 40]).ranked()
    assert thousand.quantile_ns(999) < 1 << 30
    assert thousand.quantile_ns(1000) > 1 << 39


@pytest.mark.parametrize(("permille", "expected"), [(250, -2), (500, 4), (750, 7), (1000, 18)])
def test_the_example_of_rfc_2330_section_11_3(permille: int, expected: int) -> None:
    bins = filled([value << FINEST_WIDTH_BITS for value in (-2, 7, 7, 4, 18, -5)])
    assert bins.ranked().quantile_ns(permille) >> FINEST_WIDTH_BITS == expected


def test_bins_at_a_usual_rate_keep_their_finest_width() -> None:
    rng = random.Random(3)
    assert filled([round(rng.expovariate(1e-7)) for _ in range(100)]).error_ns == 512


@pytest.mark.parametrize("spread_ns", [10_000, 10**7, 10**9, 10**13])
def test_a_flood_of_samples_widens_the_bins_and_takes_no_more_memory(spread_ns: int) -> None:
    rng = random.Random(4)
    delays = [rng.randrange(-spread_ns, spread_ns) for _ in range(100_000)]
    bins = filled(delays)
    assert len(bins) <= MAX_BINS
    assert bins.error_ns <= max(512, 2 * spread_ns / MAX_BINS)
    middle_ns = sorted(delays)[49_999]
    assert bins.ranked().quantile_ns(500) == pytest.approx(middle_ns, abs=bins.error_ns)


def test_samples_are_counted_below_a_limit_by_their_centers() -> None:
    ranked = filled([0, 5_000, 5_100, 90_000]).ranked()
    assert [ranked.count_below(limit_ns) for limit_ns in (-1, 1_024, 50_000, 10**6)] == [0, 1, 3, 4]
