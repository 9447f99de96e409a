from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.suite.ratio import Spread, quantile

readings = st.lists(st.floats(0.001, 1e6), min_size=1)


@given(readings)
def test_a_spread_encloses_its_median(values: list[float]) -> None:
    spread = Spread.of(values)
    assert min(values) == spread.low <= spread.median <= spread.high == max(values)


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_round_cancels() -> None:
    assert Spread.of_ratio([30, 60, 300], [10, 20, 100]) == Spread(median=3, low=3, high=3)


def test_rounds_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Spread.of_ratio([1, 2], [1])


@pytest.mark.parametrize(("permille", "expected"), [(500, 50), (990, 99), (999, 100), (1, 1)])
def test_a_quantile_is_a_reading_that_was_really_taken(permille: int, expected: int) -> None:
    assert quantile(range(1, 101), permille) == expected


def test_json_holds_what_a_reading_can_tell() -> None:
    assert Spread(median=2.34567, low=1, high=1234567).to_json() == {"median": 2.346, "low": 1, "high": 1235000}
