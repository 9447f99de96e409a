from __future__ import annotations

import pytest

from schemas.intervals import rate_interval, ratio_interval, t_quantile


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (4, 2.7764), (5, 2.5706), (6, 2.4469), (9, 2.2622), (30, 2.0423), (600, 1.9639)],
)
def test_the_quantiles_of_student_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, abs=2e-3)


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"), [(0, 10, 0, 0.2775), (3, 10, 0.1078, 0.6032), (10, 10, 0.7225, 1)]
)
def test_the_wilson_interval_has_its_known_values(events: int, trials: int, low: float, high: float) -> None:
    assert ratio_interval(events, trials) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_a_rate_may_exceed_one() -> None:
    low, high = rate_interval(30, 10)
    assert low < 3 < high
    assert rate_interval(0, 10)[0] == 0
