from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.http.limits import MAX_CALLERS, RateLimit


@given(
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
    rate=st.floats(0.5, 100),
    burst=st.integers(1, 20),
)
def test_nobody_passes_more_often_than_the_rate_and_the_burst_allow(
    gaps: list[float], rate: float, burst: int
) -> None:
    limit, now_s, passed = RateLimit(rate, burst), 0.0, 0
    for gap_s in gaps:
        now_s += gap_s
        passed += limit.wait_s("a", now_s) == 0
    assert passed <= burst + now_s * rate + 1e-6


def test_who_waits_as_told_passes() -> None:
    limit = RateLimit(2.0, 1)
    assert limit.wait_s("a", 0.0) == 0
    wait_s = limit.wait_s("a", 0.1)
    assert wait_s == pytest.approx(0.4)
    assert limit.wait_s("a", 0.1 + wait_s) == 0


def test_one_caller_takes_nothing_from_another() -> None:
    limit = RateLimit(1.0, 1)
    assert limit.wait_s("a", 0.0) == limit.wait_s("b", 0.0) == 0
    assert limit.wait_s("a", 0.0) > 0


def test_a_large_cost_is_paid_by_a_full_bucket_and_paid_back() -> None:
    limit = RateLimit(10.0, 5)
    assert limit.wait_s("a", 0.0, cost=20) == 0
    assert limit.wait_s("a", 1.0) == pytest.approx(0.6)


def test_so_many_callers_are_remembered_and_no_more() -> None:
    limit = RateLimit(1.0, 1)
    for number in range(2 * MAX_CALLERS):
        limit.wait_s(str(number), 0.0)
    assert len(limit._buckets) == MAX_CALLERS
