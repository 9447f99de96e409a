from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from prober.bandwidth.fleet import Fleet, FleetVerdict
from prober.bandwidth.search import Bound, End, Interval, RateSearch, shape_for
from prober.bandwidth.settings import BandwidthSettings
from prober.bandwidth.trend import Verdict

SETTINGS = BandwidthSettings()
UP, FLAT, MUTE = Verdict.INCREASING, Verdict.NO_TREND, Verdict.UNCLEAR
LATE, HEAP = Verdict.SPOILED, Verdict.CLUSTERED


def sail(size: int, verdicts: Sequence[Verdict]) -> tuple[FleetVerdict | None, int]:
    """The verdict of a fleet, and after how many streams it was known."""
    fleet = Fleet(size)
    for number, verdict in enumerate(verdicts, start=1):
        fleet.note(verdict)
        if fleet.verdict():
            return fleet.verdict(), number
    return None, len(verdicts)


@pytest.mark.parametrize(
    ("verdicts", "expected", "after"),
    [
        ([UP] * 10, FleetVerdict.ABOVE, 8),
        ([FLAT] * 10, FleetVerdict.BELOW, 8),
        ([UP, UP, UP, FLAT, FLAT, FLAT], FleetVerdict.GREY, 6),
        ([UP, FLAT] * 5, FleetVerdict.GREY, 6),
        # Streams that say nothing do not count, so fewer must agree.
        ([MUTE, MUTE, MUTE, MUTE, UP, UP, UP, UP, UP], FleetVerdict.ABOVE, 9),
        ([MUTE] * 6, FleetVerdict.UNCLEAR, 6),
        ([LATE, LATE, LATE, LATE, MUTE, HEAP], FleetVerdict.SPOILED, 6),
        ([HEAP, HEAP, HEAP, LATE, MUTE, HEAP], FleetVerdict.CLUSTERED, 6),
        ([FLAT, FLAT, Verdict.LOSSY], FleetVerdict.LOSSY, 3),
        ([UP] * 7, None, 7),
    ],
)
def test_a_fleet_says_what_most_of_its_streams_say_as_soon_as_that_is_certain(
    verdicts: list[Verdict], expected: FleetVerdict | None, after: int
) -> None:
    assert sail(10, verdicts) == (expected, after)


def test_some_loss_in_half_of_the_streams_is_too_much() -> None:
    fleet = Fleet(4)
    fleet.note(FLAT, 0.03)
    fleet.note(FLAT, 0.02)
    assert fleet.verdict() is None
    fleet.note(FLAT, 0.14)
    assert fleet.verdict() is FleetVerdict.LOSSY


@pytest.mark.parametrize("rate", [1, 3, 8, 12.5, 24, 50, 77, 100])
@pytest.mark.parametrize("stretch", [1, 2])
def test_streams_of_every_rate_keep_the_limits(rate: float, stretch: int) -> None:
    shape = shape_for(rate, SETTINGS, stretch=stretch)
    assert shape.rate_mbit_s == pytest.approx(rate, rel=0.003)
    assert 200 <= shape.packet_bytes <= 1500
    assert shape.interval_ns >= 100_000
    assert 100 <= shape.packets <= 400
    assert 40_000_000 <= shape.duration_ns <= 200_000_000


def test_an_interval_that_the_sender_cannot_keep_makes_the_stream_slower() -> None:
    shape = shape_for(100, BandwidthSettings(min_interval_us=200))
    assert (shape.packet_bytes, shape.interval_ns) == (1500, 200_000)


def search(
    verdict_of: Callable[[float], Verdict], *, first: float, settings: BandwidthSettings = SETTINGS
) -> tuple[RateSearch, list[float]]:
    """Run a search on a network that gives the verdicts; and the rates of its fleets."""
    made = RateSearch(settings, first)
    rates: list[float] = []
    while made.ended is None:
        rate = made.shape.rate_mbit_s
        if not rates or abs(rates[-1] - rate) > 0.02:
            rates.append(rate)
        made.note(verdict_of(rate))
        assert len(rates) < 40
    return made, rates


def blurred(low: float | None, high: float | None) -> Interval:
    """The interval when these rates are the last ones that were tested below and above."""
    ends: list[Any] = []
    for rate, sign in ((low, -1), (high, 1)):
        blur = 0 if rate is None else 1500 * 8_000 / shape_for(rate, SETTINGS).duration_ns
        ends.append(None if rate is None else pytest.approx(rate + sign * blur, rel=0.001))
    return Interval(*ends)


def above(available: float) -> Callable[[float], Verdict]:
    return lambda rate: UP if rate > available else FLAT


@pytest.mark.parametrize("available", [1.3, 7, 12, 30, 49, 88])
@pytest.mark.parametrize("first", [1, 20, 100])
def test_a_steady_network_is_found_from_anywhere(available: float, first: float) -> None:
    made, _ = search(above(available), first=first)
    low, high = made.interval.low_mbit_s, made.interval.high_mbit_s
    assert made.ended is End.CONVERGED
    assert low is not None and high is not None
    assert low <= available <= high
    assert high - low <= 0.15 * high + 0.5


def test_the_search_halves_and_doubles() -> None:
    _, rates = search(above(12), first=20)
    assert rates[:4] == pytest.approx([20, 10, 15, 12.5], rel=0.01)
    _, rates = search(above(50), first=8)
    assert rates[:5] == pytest.approx([8, 16, 32, 64, 48], rel=0.01)


def test_a_grey_region_is_inside_the_interval() -> None:
    turn = iter(range(1_000_000))

    def varying(rate: float) -> Verdict:
        if 10 <= rate <= 14:
            return UP if next(turn) % 2 else FLAT
        return UP if rate > 14 else FLAT

    made, _ = search(varying, first=12)
    low, high = made.interval.low_mbit_s, made.interval.high_mbit_s
    assert made.ended is End.CONVERGED
    assert low is not None and high is not None
    assert 7 < low < 10 and 14 < high < 18


def test_a_grey_region_without_an_upper_end_is_left_upwards_by_half() -> None:
    turn = iter(range(1_000_000))
    made, rates = search(lambda rate: (UP if next(turn) % 2 else FLAT) if rate < 20 else UP, first=12)
    assert rates[:3] == pytest.approx([12, 18, 27], rel=0.01)
    assert made.interval.high_mbit_s is not None


def test_a_path_that_is_faster_than_the_fastest_stream_gives_a_lower_bound() -> None:
    made, rates = search(above(1000), first=60)
    assert (made.ended, made.interval) == (End.FASTEST_RATE, blurred(100, None))
    assert made.interval.bound is Bound.LOWER
    assert rates == pytest.approx([60, 100], rel=0.01)


def test_a_grey_region_up_to_the_fastest_stream_gives_its_lower_end() -> None:
    turn = iter(range(1_000_000))
    made, rates = search(lambda rate: (UP if next(turn) % 2 else FLAT) if rate > 40 else FLAT, first=100)
    assert (made.ended, made.interval) == (End.FASTEST_RATE, blurred(25, None))
    assert rates == pytest.approx([100, 50, 25], rel=0.01)


def test_a_path_that_is_slower_than_the_slowest_stream_gives_an_upper_bound() -> None:
    made, _ = search(above(0.2), first=5)
    assert (made.ended, made.interval) == (End.SLOWEST_RATE, blurred(None, 1))
    assert made.interval.bound is Bound.UPPER


def test_a_sender_too_slow_for_the_first_rate_is_asked_for_less() -> None:
    made, _ = search(lambda rate: LATE if rate > 45 else FLAT, first=90)
    assert (made.ended, made.interval) == (End.SENDER_TOO_SLOW, blurred(45, None))


def test_a_sender_too_slow_for_the_next_rate_leaves_a_lower_bound() -> None:
    made, _ = search(lambda rate: LATE if rate > 45 else FLAT, first=30)
    assert (made.ended, made.interval) == (End.SENDER_TOO_SLOW, blurred(30, None))


def test_intervals_are_doubled_before_a_spoiled_rate_is_given_up() -> None:
    intervals: set[int] = set()

    made = RateSearch(SETTINGS, 10)
    while made.ended is None:
        intervals.add(made.shape.interval_ns)
        made.note(UP if made.shape.interval_ns > 600_000 and made.shape.rate_mbit_s > 6 else LATE)
    assert {500_000, 1_000_000} <= intervals
    assert made.interval == blurred(None, 10)


def test_the_interval_is_wider_than_the_rates_by_one_packet_per_stream() -> None:
    made, _ = search(above(12), first=12)
    low, high = made.interval.low_mbit_s, made.interval.high_mbit_s
    assert low == pytest.approx(12 - 0.24)  # 1500 octets in 50 ms
    assert high is not None and high > 12.24


@pytest.mark.parametrize(("verdict", "end"), [(HEAP, End.CLUSTERED), (MUTE, End.TOO_FEW_USABLE)])
def test_streams_that_say_nothing_end_the_search(verdict: Verdict, end: End) -> None:
    made, _ = search(lambda _: verdict, first=20)
    assert (made.ended, made.interval.bound) == (end, Bound.NONE)


def test_a_path_that_loses_packets_at_every_rate_is_left_alone() -> None:
    made, rates = search(lambda _: Verdict.LOSSY, first=80)
    assert (made.ended, made.interval.bound) == (End.TOO_MUCH_LOSS, Bound.NONE)
    assert rates == pytest.approx([80, 40, 20, 10, 5], rel=0.01)


def test_loss_at_the_slowest_rate_too_is_no_upper_bound() -> None:
    made, _ = search(lambda _: Verdict.LOSSY, first=3)
    assert (made.ended, made.interval.bound) == (End.TOO_MUCH_LOSS, Bound.NONE)


def test_loss_above_the_available_bandwidth_is_an_upper_end_like_any_other() -> None:
    made, _ = search(lambda rate: Verdict.LOSSY if rate > 12 else FLAT, first=80)
    low, high = made.interval.low_mbit_s, made.interval.high_mbit_s
    assert made.ended is End.CONVERGED
    assert low is not None and high is not None
    assert low <= 12 <= high
