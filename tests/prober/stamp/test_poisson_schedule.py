from __future__ import annotations

import random
from statistics import fmean

import pytest

from prober.stamp.poisson_schedule import LONGEST_GAP_NS, PoissonSchedule

MS, S = 1_000_000, 1_000_000_000


def test_gaps_are_exponential_and_truncated() -> None:
    schedule = PoissonSchedule(random.Random(3), now_ns=0, rate_per_s=10)
    gaps = []
    for _ in range(4000):
        before_ns = schedule.next_at_ns
        schedule.advance(before_ns)
        gaps.append(schedule.next_at_ns - before_ns)
    mean = fmean(gaps)
    assert mean == pytest.approx(100 * MS, rel=0.05)
    # The standard deviation of an exponential distribution is its mean.
    assert fmean((gap - mean) ** 2 for gap in gaps) ** 0.5 == pytest.approx(mean, rel=0.08)
    assert max(gaps) <= LONGEST_GAP_NS


def test_times_that_were_missed_become_one_probe_and_not_a_burst() -> None:
    schedule = PoissonSchedule(random.Random(3), now_ns=0, rate_per_s=10)
    for now_ns in (10 * S, 10**6 * S):
        schedule.advance(now_ns)
        assert now_ns < schedule.next_at_ns <= now_ns + LONGEST_GAP_NS
