from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from receiver.store.rollup import Rollup
from receiver.store.value_histogram import RELATIVE_ERROR, ValueHistogram, bin_of, center_of

VALUES = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
USUAL = st.floats(min_value=1e-6, max_value=1e9) | st.just(0.0)


@given(VALUES)
def test_a_center_is_as_near_as_promised(value: float) -> None:
    if value == 0 or abs(value) > 1e-300:  # below, doubles themselves get coarse
        assert math.isclose(center_of(bin_of(value)), value, rel_tol=1.02 * RELATIVE_ERROR)


@given(VALUES, VALUES)
def test_bins_grow_with_the_value(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bin_of(low) <= bin_of(high)


@given(st.lists(VALUES))
def test_text_holds_the_whole_histogram(values: list[float]) -> None:
    histogram = ValueHistogram.of(values)
    assert ValueHistogram.from_text(histogram.to_text()) == histogram


@given(st.lists(st.lists(USUAL, min_size=1), min_size=1))
def test_roll_ups_of_parts_add_up_to_that_of_the_whole(parts: list[list[float]]) -> None:
    whole = Rollup.of([value for part in parts for value in part])
    total = Rollup.sum_of([Rollup.of(part) for part in parts])
    assert (total.count, total.minimum, total.maximum) == (whole.count, whole.minimum, whole.maximum)
    assert total.histogram == whole.histogram
    assert math.isclose(total.total, whole.total, abs_tol=1e-6)
    assert Rollup.from_row(total.to_row()) == total


@given(st.lists(USUAL, min_size=1))
def test_quantiles_are_those_of_the_sorted_values(values: list[float]) -> None:
    ordered = sorted(values)
    rollup = Rollup.of(values)
    assert rollup.minimum <= rollup.mean <= rollup.maximum
    permilles = (1, 500, 950, 990, 1000)
    for permille, quantile in zip(permilles, rollup.quantiles(permilles), strict=True):
        exact = ordered[max(1, -(-permille * len(values) // 1000)) - 1]
        assert math.isclose(quantile, exact, rel_tol=1.02 * RELATIVE_ERROR)
