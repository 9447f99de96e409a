from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from prober.windows.arrival_order import DEPTH
from prober.windows.arrival_window import ArrivalWindow
from prober.windows.reordering import RECORDS, Reordering
from prober.windows.sequence_tracker import Arrival, SequenceTracker
from prober.windows.window import LossWindow

MS, S = 1_000_000, 1_000_000_000
NOW_NS = 1_700_000_000 * S


def arrived(numbers: list[int]) -> ArrivalWindow:
    window, reordering = ArrivalWindow(), Reordering()
    for number in numbers:
        window.arrived(NOW_NS, extent=reordering.extent(number))
    return window


def naive(numbers: list[int]) -> tuple[int, int]:
    """Reordered packets, and the greatest extent, as RFC 4737 sections 3.3 and 4.2 define them."""
    extents = [
        place - next(j for j in range(place) if numbers[j] > number)
        for place, number in enumerate(numbers)
        if any(before > number for before in numbers[:place])
    ]
    return len(extents), max(extents, default=0)


def test_the_example_of_rfc_4737_has_three_reordered_packets_and_extents_up_to_five() -> None:
    example = [1, 2, 3, 7, 8, 9, 4, 5, 6]
    window = arrived(example + [10])
    told = window.over(NOW_NS, 60).reordering()
    assert told and (told.count, told.value) == (10, 0.3)
    assert window.greatest_extent == 5
    assert naive(example) == (3, 5)


@given(st.lists(st.integers(0, 60), min_size=10, max_size=120, unique=True), st.integers(1, 60))
def test_reordering_is_that_of_the_definition(numbers: list[int], sorted_part: int) -> None:
    order = sorted(numbers[:sorted_part]) + numbers[sorted_part:]
    reordered, extent = naive(order)
    window = arrived(order)
    told = window.over(NOW_NS, 60).reordering()
    assert told and told.value == reordered / len(order)
    assert window.greatest_extent == extent
    assert told.low <= told.value <= told.high


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), min_size=10, max_size=40, unique_by=lambda p: p[0])
)
def test_copies_are_taken_out_before_reordering_and_loss(packets: list[tuple[int, int]]) -> None:
    """Each number arrives some times in a row; the first copy alone has a place in the order."""
    tracker, window, losses = SequenceTracker(), ArrivalWindow(), LossWindow()
    firsts = []
    for number, copies in packets:
        for _ in range(copies):
            arrival = tracker.received(number, sent_at_ns=number, at_ns=NOW_NS)
            if arrival is Arrival.NEW:
                window.arrived(NOW_NS, extent=tracker.extent)
                losses.received(NOW_NS)
                firsts.append(number)
            elif arrival is Arrival.DUPLICATE and number in firsts:
                window.copied(NOW_NS)
    for missing in tracker.given_up(NOW_NS + 2 * S):
        losses.lost(missing.sequence, NOW_NS, NOW_NS)
    if len(firsts) < 10:
        return
    losses.received(NOW_NS + 2 * S)  # the first packet after the threshold settles those before
    loss = losses.statistics(NOW_NS + 2 * S, 60)
    first, last = packets[0][0], max(number for number, _ in packets)
    assert loss and (loss.sent, loss.lost) == (last - first + 1, last - first + 1 - len(firsts))
    reordering, duplication = window.over(NOW_NS, 60).reordering(), window.over(NOW_NS, 60).duplication()
    further = sum(copies - 1 for number, copies in packets if number in firsts)
    assert reordering and reordering.value == naive(firsts)[0] / len(firsts)
    assert duplication and (duplication.count, duplication.value) == (len(firsts), further / len(firsts))
    assert duplication.low <= duplication.value <= duplication.high


def test_arrivals_there_are_put_in_their_order_before_they_are_compared() -> None:
    """Replies that overtake each other do not make the probes reordered."""
    rng = random.Random(9)
    replies = sorted(range(200), key=lambda number: number + rng.uniform(0, 6))
    window = ArrivalWindow()
    for number in replies:
        window.arrived_there(number, NOW_NS, order=number)
    told = window.over(NOW_NS, 60).reordering()
    assert naive(replies)[0] > 20
    assert told and (told.count, told.value) == (200 - DEPTH, 0)


def test_a_window_that_cannot_see_copies_tells_nothing_of_them() -> None:
    window = arrived(list(range(20)))
    assert window.over(NOW_NS, 60).duplication()
    window.shows_copies = False
    assert window.over(NOW_NS, 60).duplication() is None


def test_few_packets_tell_no_ratio_and_one_tells_the_hops() -> None:
    window = arrived([1])
    assert window.over(NOW_NS, 60).reordering() is window.over(NOW_NS, 60).duplication() is None
    told = window.over(NOW_NS, 60).hops(3)
    assert told and (told.count, told.value, told.low, told.high) == (1, 3, 3, 3)
    assert told.measured_at_ms == NOW_NS // MS
    assert window.over(NOW_NS + 60 * S, 60).hops(3) is None


def test_a_new_stream_with_lower_numbers_is_not_reordered() -> None:
    window = ArrivalWindow()
    for number in range(100, 100 + DEPTH):
        window.arrived_there(number, NOW_NS, order=number)
    window.new_stream()
    for number in range(20 + DEPTH):
        window.arrived_there(number, NOW_NS, order=number)
    told = window.over(NOW_NS, 60).reordering()
    assert told and (told.count, told.value) == (20, 0)


def test_two_streams_at_once_do_not_disorder_each_other() -> None:
    window = ArrivalWindow()
    streams = (SequenceTracker(), SequenceTracker())
    for number in range(20):
        for stream, first in zip(streams, (0, 5000), strict=True):
            assert stream.received(first + number, sent_at_ns=number, at_ns=NOW_NS) is Arrival.NEW
            window.arrived(NOW_NS, extent=stream.extent)
    told = window.over(NOW_NS, 60).reordering()
    assert told and (told.count, told.value) == (40, 0)


def test_a_flood_does_not_fill_the_memory_of_the_order() -> None:
    reordering = Reordering()
    assert [reordering.extent(number) for number in range(100_000)][-1] == 0
    assert len(reordering._records) == RECORDS
    assert reordering.extent(5) == RECORDS, "as far as it is remembered"
