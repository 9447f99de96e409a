from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.impairment import Impairment
from lab.link_direction import (
    FULL_FRAME_BYTES,
    MAX_IN_FLIGHT_BYTES,
    MAX_IN_FLIGHT_PACKETS,
    MAX_LEAD_NS,
    MAX_QUEUE_NS,
    MAX_SPIN_CREDIT_NS,
    MIN_QUEUE_PACKETS,
    SPIN_DIVISOR,
    DepartureSchedule,
    LinkDirection,
    WakeLead,
)

FRAME = bytes(1000)
MS = 1_000_000


def direction(impairment: Impairment, seed: int = 1) -> LinkDirection:
    return LinkDirection(impairment, Random(seed))


def test_a_perfect_link_is_due_at_once() -> None:
    assert direction(Impairment()).arrive(FRAME, 7) == 7


@given(st.floats(0, 1000), st.integers(0, 10**18))
def test_a_delay_is_added_to_the_time_of_arrival(delay_ms: float, now_ns: int) -> None:
    assert direction(Impairment(delay_ms=delay_ms)).arrive(FRAME, now_ns) == now_ns + round(delay_ms * 1e6)


def test_jitter_is_uniform_around_the_delay() -> None:
    link = direction(Impairment(delay_ms=5, jitter_ms=2))
    due_ns = [link.arrive(FRAME, 0) for _ in range(10_000)]
    delays_ms = [due / MS for due in due_ns if due is not None]
    assert len(delays_ms) == 10_000
    assert 3 <= min(delays_ms) < 3.01
    assert 6.99 < max(delays_ms) <= 7
    # The standard error of the mean is 2 ms / sqrt(3 * 10000) = 0.012 ms.
    assert sum(delays_ms) / 10_000 == pytest.approx(5, abs=0.05)
    assert sum(delay < 4 for delay in delays_ms) == pytest.approx(2_500, abs=200)


@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.1, 0.5])
def test_loss_is_exact_within_the_bounds_of_chance(ratio: float) -> None:
    link = direction(Impairment(loss_ratio=ratio))
    for now_ns in range(20_000):
        if link.arrive(FRAME, now_ns) is not None:
            link.depart(FRAME)
    standard_deviation = (20_000 * ratio * (1 - ratio)) ** 0.5
    assert abs(link.counters.lost - 20_000 * ratio) < 4 * standard_deviation
    assert link.counters.packets == 20_000


@pytest.mark.parametrize(("ratio", "lost"), [(0.0, 0), (1.0, 100)])
def test_no_loss_and_all_lost_are_certain(ratio: float, lost: int) -> None:
    link = direction(Impairment(loss_ratio=ratio))
    assert sum(link.arrive(FRAME, 0) is None for _ in range(100)) == lost


def ethernet(ethertype: str, first_octet: int) -> bytes:
    return bytes(12) + bytes.fromhex(ethertype) + bytes((first_octet,)) + bytes(80)


@pytest.mark.parametrize(
    ("frame", "is_lost"),
    [
        (ethernet("0800", 0x45), False),
        (ethernet("0800", 0x46), True),
        (ethernet("0800", 0x4F), True),
        (ethernet("0806", 0x46), False),
        (ethernet("86dd", 0x60), False),
    ],
    ids=["plain IPv4", "IPv4 with an option", "IPv4 full of options", "ARP", "IPv6"],
)
def test_a_link_that_drops_options_loses_just_those_packets(frame: bytes, is_lost: bool) -> None:
    link = direction(Impairment(drops_options=True))
    assert (link.arrive(frame, 7) is None) is is_lost
    assert link.counters.lost == is_lost
    assert direction(Impairment()).arrive(frame, 7) == 7


def test_the_same_seed_loses_the_same_frames() -> None:
    one, other = (direction(Impairment(loss_ratio=0.5), seed=9) for _ in range(2))
    fates = [(one.arrive(FRAME, 0), other.arrive(FRAME, 0)) for _ in range(100)]
    assert all(mine == theirs for mine, theirs in fates)


def test_a_rate_spaces_frames_by_their_time_on_the_wire() -> None:
    link = direction(Impairment(rate_mbit=8, delay_ms=1))
    assert [link.arrive(FRAME, 0) for _ in range(3)] == [2 * MS, 3 * MS, 4 * MS]
    assert link.arrive(FRAME, 10 * MS) == 12 * MS


@pytest.mark.parametrize(("rate_mbit", "queue_ns"), [(100.0, MAX_QUEUE_NS), (0.1, None)])
def test_the_queue_before_a_rate_is_bounded_and_what_it_drops_is_counted(
    rate_mbit: float, queue_ns: int | None
) -> None:
    link = direction(Impairment(rate_mbit=rate_mbit))
    frame = bytes(FULL_FRAME_BYTES)
    due_ns = [due for _ in range(1_000) if (due := link.arrive(frame, 0)) is not None]
    expected = MIN_QUEUE_PACKETS if queue_ns is None else int(queue_ns / (len(frame) * 8e3 / rate_mbit))
    assert len(due_ns) == expected
    assert link.counters.queue_drops == 1_000 - expected
    assert due_ns[-1] == round(len(frame) * 8e3 / rate_mbit) * expected


@given(st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(60, 1514)), min_size=1, max_size=60))
def test_a_limited_rate_is_never_exceeded_and_never_reorders(arrivals: list[tuple[int, int]]) -> None:
    link = direction(Impairment(rate_mbit=10))
    now_ns = previous_ns = 0
    for gap_ns, size in arrivals:
        now_ns += gap_ns
        due_ns = link.arrive(bytes(size), now_ns)
        if due_ns is not None:
            assert due_ns - max(now_ns, previous_ns) >= round(size * 800)
            previous_ns = due_ns


def test_a_faster_rate_does_not_wait_for_the_queue_of_the_slower_one() -> None:
    link = direction(Impairment(rate_mbit=0.001))
    assert link.arrive(FRAME, 0) == 8_000 * MS
    link.set(Impairment(rate_mbit=8))
    assert link.arrive(FRAME, 0) == MS


def test_memory_is_bounded_in_packets_and_in_bytes() -> None:
    small, large = bytes(60), bytes(FULL_FRAME_BYTES)
    link = direction(Impairment(delay_ms=10_000))
    assert sum(link.arrive(small, 0) is not None for _ in range(30_000)) == MAX_IN_FLIGHT_PACKETS
    assert link.counters.queue_drops == 30_000 - MAX_IN_FLIGHT_PACKETS
    assert link.depart(small)
    assert link.arrive(small, 0) is not None
    link = direction(Impairment(delay_ms=10_000))
    assert sum(link.arrive(large, 0) is not None for _ in range(30_000)) == MAX_IN_FLIGHT_BYTES // len(large)


def test_a_cut_link_loses_what_arrives_and_what_is_in_flight() -> None:
    link = direction(Impairment(delay_ms=5))
    assert link.arrive(FRAME, 0) == 5 * MS
    link.set(Impairment(delay_ms=5, up=False))
    assert not link.depart(FRAME)
    assert link.arrive(FRAME, 0) is None
    assert (link.counters.packets, link.counters.lost, link.counters.bytes) == (2, 2, 2_000)


def test_frames_that_the_reader_missed_count_as_dropped() -> None:
    link = direction(Impairment())
    link.miss(3)
    assert (link.counters.packets, link.counters.queue_drops) == (3, 3)


@given(st.lists(st.integers(0, 20)))
def test_frames_leave_in_order_of_due_time_then_of_arrival(due_times_ns: list[int]) -> None:
    schedule: DepartureSchedule[int] = DepartureSchedule()
    for number, due_ns in enumerate(due_times_ns):
        schedule.push(due_ns, number, b"")
    left = []
    while (due := schedule.next_due_ns()) is not None:
        left.append((due, schedule.pop()[0]))
    assert left == sorted((due_ns, number) for number, due_ns in enumerate(due_times_ns))


def test_the_lead_settles_at_the_ninetieth_percentile_of_the_lateness() -> None:
    lead, random = WakeLead(), Random(3)
    for _ in range(1_000):
        lead.observe(random.randint(0, 100_000))
    assert lead.lead_ns(0) == pytest.approx(90_000, abs=25_000)


def test_when_the_spin_budget_is_spent_the_lead_falls_to_the_median_until_time_has_passed() -> None:
    lead, random = WakeLead(), Random(3)
    for _ in range(1_000):
        lead.observe(random.randint(0, 100_000))
    lead.spend(MAX_SPIN_CREDIT_NS)
    assert lead.lead_ns(0) == pytest.approx(50_000, abs=25_000)
    assert lead.lead_ns(SPIN_DIVISOR * MS) == pytest.approx(90_000, abs=25_000)


@given(st.lists(st.integers(-(10**9), 10**9), max_size=200))
def test_the_lead_stays_within_its_bounds_whatever_the_clock_does(lateness_ns: list[int]) -> None:
    lead = WakeLead()
    for late_ns in lateness_ns:
        lead.observe(late_ns)
        assert 0 <= lead.lead_ns(0) <= MAX_LEAD_NS
