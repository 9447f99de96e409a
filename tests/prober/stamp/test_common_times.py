from __future__ import annotations

import random
from math import exp
from statistics import fmean, pstdev

import pytest

from prober.stamp.common_times import LARGEST_SHARE, USUAL_BATCH, CommonSchedule, CommonTimes
from prober.stamp.poisson_schedule import LONGEST_GAP_NS

MS, S = 1_000_000, 1_000_000_000


def times_of(sessions: int, *, rate_per_s: float, seconds: int) -> list[list[int]]:
    """When each session sends, all driven by one clock that stops where somebody sends."""
    times = CommonTimes(random.Random(7), rate_per_s=rate_per_s)
    times.share_among(sessions)
    schedules = [CommonSchedule(times, now_ns=0) for _ in range(sessions)]
    taken: list[list[int]] = [[] for _ in schedules]
    while (now_ns := min(one.next_at_ns for one in schedules)) < seconds * S:
        for schedule, of_one in zip(schedules, taken, strict=True):
            if schedule.next_at_ns <= now_ns:
                of_one.append(schedule.next_at_ns)
                schedule.advance(now_ns)
    return taken


def gaps_of(times: list[int]) -> list[float]:
    return [(later - earlier) / S for earlier, later in zip(times, times[1:], strict=False)]


@pytest.mark.parametrize("sessions", [1, 3, 20, 60])
def test_the_gaps_of_each_session_are_exponential_and_truncated(sessions: int) -> None:
    for times in times_of(sessions, rate_per_s=10, seconds=400 if sessions < 20 else 150)[:5]:
        gaps = gaps_of(times)
        assert fmean(gaps) == pytest.approx(0.1, rel=0.08)
        assert pstdev(gaps) == pytest.approx(0.1, rel=0.12)
        for limit_s in (0.02, 0.05, 0.1, 0.2):
            share = sum(gap <= limit_s for gap in gaps) / len(gaps)
            assert share == pytest.approx(1 - exp(-limit_s / 0.1), abs=0.04)
        assert 0 < min(gaps) <= max(gaps) <= LONGEST_GAP_NS / S


def test_what_one_session_takes_tells_nothing_of_what_another_takes() -> None:
    one, other = times_of(2, rate_per_s=10, seconds=600)
    common = len(set(one) & set(other)) / len(one)
    assert common == pytest.approx(LARGEST_SHARE, abs=0.03)


def test_of_many_sessions_no_more_leave_together_than_of_few() -> None:
    taken = times_of(100, rate_per_s=10, seconds=30)
    moments = {at_ns for times in taken for at_ns in times}
    assert sum(map(len, taken)) / len(moments) == pytest.approx(USUAL_BATCH, rel=0.1)


def test_a_session_of_a_low_rate_waits_no_longer_than_any() -> None:
    (times,) = times_of(1, rate_per_s=0.2, seconds=300)
    gaps = gaps_of(times)
    assert max(gaps) <= LONGEST_GAP_NS / S
    assert fmean(gaps) == pytest.approx((1 - exp(-0.2)) / 0.2, rel=0.05)


def test_times_that_were_missed_become_one_and_a_clock_may_step() -> None:
    schedule = CommonSchedule(CommonTimes(random.Random(3), rate_per_s=10), now_ns=0)
    for now_ns in (10 * S, 10**6 * S, 11 * S, 10**6 * S, 0):
        schedule.advance(now_ns)
        assert now_ns < schedule.next_at_ns <= now_ns + LONGEST_GAP_NS
        schedule.restart(now_ns + 50 * MS)
        assert now_ns + 50 * MS < schedule.next_at_ns <= now_ns + 50 * MS + LONGEST_GAP_NS
