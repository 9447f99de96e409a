from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.packet import SEQUENCE_MODULUS
from prober.windows.sequence_tracker import MAX_GAP, STRANGERS, Arrival, SequenceTracker
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS

MS = 1_000_000
LOSS_THRESHOLD_NS = DEFAULT_LOSS_THRESHOLD_MS * MS
GAP_NS = 100 * MS
COPIES = {"never": 0, "once": 1, "twice": 2}


def arrive(tracker: SequenceTracker, *numbers: int, first: int = 0) -> list[Arrival]:
    """Packets sent every 100 ms, received in the given order."""
    return [
        tracker.received(
            (first + number) % SEQUENCE_MODULUS, sent_at_ns=number * GAP_NS, at_ns=(place + 1) * GAP_NS
        )
        for place, number in enumerate(numbers)
    ]


def lost(tracker: SequenceTracker, now_ns: int = 10**18) -> list[int]:
    return [missing.sequence for missing in tracker.given_up(now_ns)]


def test_a_passed_over_number_is_lost_after_the_threshold_and_not_before() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 1, 3)
    assert lost(tracker, 3 * GAP_NS + LOSS_THRESHOLD_NS - 1) == []
    assert lost(tracker, 3 * GAP_NS + LOSS_THRESHOLD_NS) == [2]
    assert lost(tracker) == []


def test_an_overtaken_packet_within_the_threshold_is_not_lost() -> None:
    tracker = SequenceTracker()
    assert arrive(tracker, 0, 2, 3, 1) == [Arrival.NEW] * 4
    assert lost(tracker) == []


def test_a_packet_after_its_threshold_is_late_and_its_copy_a_duplicate() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 2)
    assert lost(tracker) == [1]
    assert arrive(tracker, 1, 1) == [Arrival.LATE, Arrival.DUPLICATE]


def test_copies_are_duplicates_wherever_they_come() -> None:
    tracker = SequenceTracker()
    assert arrive(tracker, 0, 0, 1, 2, 1) == [
        Arrival.NEW,
        Arrival.DUPLICATE,
        Arrival.NEW,
        Arrival.NEW,
        Arrival.DUPLICATE,
    ]


def test_a_packet_from_before_the_first_one_is_late() -> None:
    tracker = SequenceTracker()
    assert arrive(tracker, 5, 4) == [Arrival.NEW, Arrival.LATE]


def test_numbers_wrap_without_loss() -> None:
    tracker = SequenceTracker()
    assert arrive(tracker, 0, 1, 3, 2, 4, first=SEQUENCE_MODULUS - 2) == [Arrival.NEW] * 5
    assert lost(tracker) == []
    assert tracker.highest == SEQUENCE_MODULUS + 2
    assert tracker.unwrap(SEQUENCE_MODULUS - 1) == SEQUENCE_MODULUS - 1


def test_a_number_that_falls_with_a_newer_time_is_a_restart() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 1, 3)
    assert tracker.received(0, sent_at_ns=4 * GAP_NS, at_ns=5 * GAP_NS) is Arrival.RESTARTED
    assert tracker.received(1, sent_at_ns=5 * GAP_NS, at_ns=6 * GAP_NS) is Arrival.NEW
    assert lost(tracker) == []


def test_a_wild_jump_is_another_stream_and_no_loss() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 1)
    assert tracker.received(MAX_GAP + 2, sent_at_ns=10**12, at_ns=10**12) is Arrival.RESTARTED
    assert lost(tracker) == []


def test_many_gaps_do_not_fill_the_memory() -> None:
    tracker = SequenceTracker()
    arrivals = arrive(tracker, *range(0, 100 * MAX_GAP, MAX_GAP))
    assert Arrival.RESTARTED in arrivals
    assert len(lost(tracker)) <= 2 * MAX_GAP


def test_lost_packets_are_expected_between_the_arrivals_around_them() -> None:
    tracker = SequenceTracker()
    tracker.received(0, sent_at_ns=0, at_ns=1_000)
    tracker.received(4, sent_at_ns=4, at_ns=5_000)
    assert [missing.expected_at_ns for missing in tracker.given_up(10**18)] == [2_000, 3_000, 4_000]


@given(
    st.lists(st.sampled_from(sorted(COPIES)), min_size=2, max_size=80),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 17, SEQUENCE_MODULUS - 20]),
)
def test_each_packet_is_received_once_or_lost_once(fates: list[str], chance: random.Random, first: int) -> None:
    """Arrivals are disordered by less than the threshold, as the order of numbers plus up to 8 places."""
    copies = [
        number for number, fate in enumerate(fates) for _ in range({"once": 1, "twice": 2, "never": 0}[fate])
    ]
    copies.sort(key=lambda number: number + chance.uniform(0, 8))
    if not copies:
        return
    tracker = SequenceTracker()
    given_up: list[int] = []
    received: list[int] = []
    for place, number in enumerate(copies):
        at_ns = place * 10 * MS
        given_up += [missing.sequence - first for missing in tracker.given_up(at_ns)]
        arrival = tracker.received((first + number) % SEQUENCE_MODULUS, sent_at_ns=number, at_ns=at_ns)
        if arrival is Arrival.NEW:
            received.append(number)
        else:
            assert arrival is Arrival.DUPLICATE or number < copies[0]
    given_up += [number - first for number in lost(tracker)]
    expected = {number for number in copies if number >= copies[0]}
    assert sorted(received) == sorted(expected)
    assert sorted(given_up) == [number for number in range(copies[0], max(copies)) if number not in expected]


def test_a_packet_overtaken_while_the_peers_clock_was_set_back_is_no_restart() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 1)
    assert tracker.received(3, sent_at_ns=3 * GAP_NS - 3_600_000 * MS, at_ns=3 * GAP_NS) is Arrival.NEW
    assert tracker.received(2, sent_at_ns=2 * GAP_NS, at_ns=4 * GAP_NS) is Arrival.NEW
    assert tracker.received(1, sent_at_ns=1 * GAP_NS, at_ns=4 * GAP_NS) is Arrival.DUPLICATE
    assert lost(tracker) == []


def test_a_restart_of_a_peer_whose_clock_was_set_back_is_seen_within_some_packets() -> None:
    tracker = SequenceTracker()
    arrive(tracker, *range(500))
    arrivals = [
        tracker.received(n, sent_at_ns=n * GAP_NS - 3_600_000 * MS, at_ns=(501 + n) * GAP_NS) for n in range(40)
    ]
    assert arrivals.index(Arrival.RESTARTED) == STRANGERS - 1
    assert set(arrivals[STRANGERS:]) == {Arrival.NEW}


def test_one_time_from_the_far_future_hides_no_later_restart() -> None:
    tracker = SequenceTracker()
    arrive(tracker, *range(200))
    assert tracker.received(200, sent_at_ns=10**19, at_ns=201 * GAP_NS) is Arrival.NEW
    arrivals = [tracker.received(n, sent_at_ns=n * GAP_NS, at_ns=(202 + n) * GAP_NS) for n in range(20)]
    assert Arrival.RESTARTED in arrivals


def test_two_answers_of_a_stateless_reflector_to_a_doubled_probe_are_copies() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 1, 2)
    assert tracker.received(2, sent_at_ns=2 * GAP_NS + 2 * MS, at_ns=4 * GAP_NS) is Arrival.DUPLICATE
    assert tracker.received(3, sent_at_ns=3 * GAP_NS, at_ns=5 * GAP_NS) is Arrival.NEW


def test_the_threshold_is_the_one_that_is_asked_for() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 2)
    noticed_ns = 2 * GAP_NS
    assert tracker.given_up(noticed_ns + 299 * MS, threshold_ns=300 * MS) == []
    assert len(tracker.given_up(noticed_ns + 300 * MS, threshold_ns=300 * MS)) == 1


def test_a_gap_from_before_the_own_clock_was_set_back_does_not_wait_for_an_hour() -> None:
    tracker = SequenceTracker()
    arrive(tracker, 0, 1, 3)
    assert lost(tracker, 3 * GAP_NS - 50 * MS) == []
    assert lost(tracker, -3_600_000 * MS) == [2]
