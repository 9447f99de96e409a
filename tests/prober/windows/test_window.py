from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.packet import SEQUENCE_MODULUS
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS, LossWindow, Ring

MS, S = 1_000_000, 1_000_000_000
NOW_NS = 1_700_000_000 * S


@dataclass
class Count:
    second: int
    count: int = 0


def counts(ring: Ring[Count], now_ns: int, window_s: int = 60) -> list[int]:
    return [bucket.count for bucket in ring.within(now_ns, window_s) if bucket.count]


def test_a_bucket_of_another_second_is_never_mixed_with_this_one() -> None:
    ring = Ring(Count)
    ring.at(NOW_NS).count += 1
    ring.at(NOW_NS + 64 * S).count += 2
    assert counts(ring, NOW_NS + 64 * S) == [2]
    ring.at(NOW_NS - 3600 * S).count += 4
    assert counts(ring, NOW_NS - 3600 * S) == [4]


@pytest.mark.parametrize("step_s", [3600, -3600, 1, -1, 64, -100_000])
def test_buckets_that_move_with_the_clock_stay_in_the_window_in_their_order(step_s: int) -> None:
    ring = Ring(Count)
    for second in range(100):
        ring.at(NOW_NS + second * S).count = second
    ring.move(step_s)
    assert counts(ring, NOW_NS + (99 + step_s) * S) == list(range(40, 100))


def test_loss_is_lost_by_sent_and_states_its_threshold() -> None:
    window = LossWindow()
    for number in range(90):
        window.received(NOW_NS + number * 100 * MS)
    for number in range(10):
        window.lost(5 * number, NOW_NS + number * S, NOW_NS + number * S + 1100 * MS)
    window.received(NOW_NS + 12 * S)
    told = window.statistics(NOW_NS + 12 * S, 60)
    assert told and (told.sent, told.lost, told.threshold_ms) == (100, 10, DEFAULT_LOSS_THRESHOLD_MS)
    assert (told.runs, told.longest_run) == (10, 1)


@pytest.mark.parametrize("threshold_ms", [100, 1000, 3000])
def test_arrivals_of_the_last_threshold_wait_for_the_losses_among_them(threshold_ms: int) -> None:
    window = LossWindow(threshold_ms)
    last_ns = NOW_NS + 5_900 * MS
    for number in range(60):
        window.received(NOW_NS + number * 100 * MS)
    told = window.statistics(last_ns, 60)
    assert told and told.sent == 60 - threshold_ms // 100
    assert told.threshold_ms == threshold_ms
    window.received(NOW_NS + 10 * S)
    told = window.statistics(NOW_NS + 10 * S, 60)
    assert told and told.sent == 60


def test_unanswered_packets_count_as_lost_when_asked_so_and_make_runs() -> None:
    numbers = [3, 4, 5, 9, SEQUENCE_MODULUS - 1, 0, 1, 2, 3, 4, 20, 22]
    told = LossWindow().statistics(NOW_NS, 60, unanswered=numbers)
    assert told and (told.sent, told.lost, told.runs, told.longest_run) == (12, 12, 5, 6)


def test_a_loss_older_than_the_window_does_not_disturb_it() -> None:
    window = LossWindow()
    for number in range(20):
        window.received(NOW_NS + number * MS)
    window.lost(7, NOW_NS - 64 * S, NOW_NS)
    window.settled(NOW_NS - 64 * S, NOW_NS)
    window.received(NOW_NS + 2 * S)
    told = window.statistics(NOW_NS + 2 * S, 60)
    assert told and (told.sent, told.lost, told.runs) == (20, 0, 0)


def test_a_loss_that_was_due_by_the_clock_before_it_was_set_back_is_not_counted() -> None:
    window = LossWindow()
    for number in range(20):
        window.received(NOW_NS - 3600 * S + number * 200 * MS)
    window.lost(7, NOW_NS, NOW_NS - 3600 * S + 4 * S)
    told = window.statistics(NOW_NS - 3600 * S + 4 * S, 60)
    assert told and told.lost == 0


def runs_of(numbers: list[int]) -> list[int]:
    """Lengths of the rows of consecutive numbers."""
    lengths = [1] if numbers else []
    for before, number in pairwise(numbers):
        if number == before + 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


@given(
    st.lists(st.booleans(), min_size=20, max_size=120),
    st.sampled_from([100, 400, 1500]),
    st.sampled_from([10, 60]),
)
def test_runs_are_rows_of_lost_numbers_inside_the_window(fates: list[bool], gap_ms: int, window_s: int) -> None:
    """RFC 3357: a run over many seconds counts once; the window's edge cuts it."""
    window = LossWindow()
    due = [NOW_NS + number * gap_ms * MS for number in range(len(fates))]
    now_ns = due[-1]
    for number, arrived in enumerate(fates):
        if arrived:
            window.received(due[number])
        else:
            window.lost(number, due[number], now_ns=due[number])
    first_s = now_ns // S - window_s + 1
    expected = runs_of([n for n, arrived in enumerate(fates) if not arrived and due[n] // S >= first_s])
    told = window.statistics(now_ns, window_s)
    if told:
        assert told.lost == sum(expected)
        assert (told.runs, told.longest_run) == (len(expected), max(expected, default=0))


def test_a_flood_does_not_fill_the_memory_of_a_loss_window() -> None:
    window = LossWindow()
    for number in range(100_000):
        window.received(NOW_NS + number * 10_000)
    assert len(window._unsettled) <= 33
    window.received(NOW_NS + 5 * S)
    told = window.statistics(NOW_NS + 5 * S, 60)
    assert told and told.sent == 100_000
