from __future__ import annotations

import random
from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from prober.clock_state import ClockState
from prober.prober import LONGEST_REPLY_WAIT_NS, Prober
from prober.stamp.common_times import LARGEST_SHARE
from prober.stamp.session import MAX_UNTOLD_REPLIES
from prober.timestamp import NS_PER_S

START_NS = 1_700_000_000 * NS_PER_S
CLOCK = ClockState(synchronized=True, error_ms=1)
RASTER_NS = NS_PER_S // 25
PEERS = tuple(f"10.0.1.{number}" for number in range(1, 21))


def prober(rate_per_s: float = 10.0) -> Prober:
    return Prober("10.0.0.9", random_source=random.Random(3), clock=CLOCK, rate_per_s=rate_per_s)


def sent(seconds: int) -> list[tuple[int, list[str]]]:
    """When and to whom twenty sessions send, driven by their own wake-ups."""
    point = prober()
    for peer in PEERS:
        point.want(peer, START_NS, configured=True)
    batches = []
    now_ns = START_NS
    while now_ns < START_NS + seconds * NS_PER_S:
        now_ns = max(now_ns, point.next_wakeup_ns() or 0)
        batches.append((now_ns, [probe.peer for probe in point.due(now_ns)]))
    return [(at_ns, peers) for at_ns, peers in batches if peers]


def test_probes_of_the_same_moment_leave_together_and_never_two_of_one_session() -> None:
    batches = sent(60)
    assert all(len(set(peers)) == len(peers) for _, peers in batches)
    assert all(later - earlier > 0 for (earlier, _), (later, _) in pairwise(batches))
    # Of each common time every session takes a part by chance; times that nobody takes are none.
    is_taken = 1 - (1 - LARGEST_SHARE) ** len(PEERS)
    assert fmean(len(peers) for _, peers in batches) == pytest.approx(
        len(PEERS) * LARGEST_SHARE / is_taken, rel=0.05
    )
    assert len(batches) / 60 == pytest.approx(10 / LARGEST_SHARE * is_taken, rel=0.1)


def test_the_times_of_each_session_stay_those_of_chance_at_the_rate_asked_for() -> None:
    batches = sent(120)
    for peer in PEERS:
        times_ns = [at_ns for at_ns, peers in batches if peer in peers]
        gaps_s = [(later - earlier) / NS_PER_S for earlier, later in pairwise(times_ns)]
        # Of exponential gaps the mean is the deviation.
        assert fmean(gaps_s) == pytest.approx(0.1, rel=0.15)
        assert pstdev(gaps_s) == pytest.approx(0.1, rel=0.2)
        # Nor do they keep to any raster of the batches.
        phases = [at_ns % RASTER_NS / RASTER_NS for at_ns in times_ns]
        assert fmean(phases) == pytest.approx(0.5, abs=0.05)
        assert pstdev(phases) == pytest.approx(1 / 12**0.5, abs=0.03)


@pytest.mark.parametrize("rate_per_s", [1.0, 10.0, 50.0, 100.0])
def test_replies_wait_no_longer_than_all_of_them_can_be_told(rate_per_s: float) -> None:
    wait_ns = prober(rate_per_s).reply_wait_ns
    assert wait_ns <= LONGEST_REPLY_WAIT_NS
    assert 0 < wait_ns * rate_per_s / NS_PER_S <= MAX_UNTOLD_REPLIES / 2
