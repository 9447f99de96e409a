from __future__ import annotations

from statistics import fmean

import pytest

from prober.segment import Event, Role
from prober.window import LOSS_THRESHOLD_NS
from schemas.message import SegmentState
from schemas.metrics import DelayStatistics, LossStatistics, RoundTripStatistics
from tests.prober.simulated import CLOCK, HIGHER, LOWER, MS, Direction, SimulatedLink


def exponential(base_ms: float, spread_ms: float) -> Direction:
    return Direction(lambda chance: round((base_ms + chance.expovariate(1 / spread_ms)) * MS))


def delay_ms(link: SimulatedLink, address: str, *, outbound: bool = False) -> float:
    segment = link.segment(address)
    ask = segment.outbound_statistics if outbound else segment.statistics
    value = ask(["delay"], now_ns=link.clock(address), clock=CLOCK)["delay"]
    assert isinstance(value, DelayStatistics)
    return value.mean_ms


def loss(link: SimulatedLink, address: str, *, outbound: bool = False) -> LossStatistics:
    segment = link.segment(address)
    ask = segment.outbound_statistics if outbound else segment.statistics
    value = ask(["loss"], now_ns=link.clock(address), clock=CLOCK)["loss"]
    assert isinstance(value, LossStatistics)
    return value


def round_trip_ms(link: SimulatedLink, address: str) -> float:
    value = link.segment(address).statistics(["rtt"], now_ns=link.clock(address), clock=CLOCK)["rtt"]
    assert isinstance(value, RoundTripStatistics)
    return value.mean_ms


def measured(forward: Direction, backward: Direction, *, seconds: float = 58, **options: int) -> SimulatedLink:
    link = SimulatedLink(forward, backward, **options)
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(seconds)
    return link


def test_both_ends_learn_both_delays_and_the_round_trip_from_the_true_departures() -> None:
    forward, backward = exponential(5, 2), exponential(20, 4)
    link = measured(forward, backward)
    true_forward, true_backward = fmean(forward.delays_ns) / MS, fmean(backward.delays_ns) / MS
    for address, there, back in ((LOWER, True, False), (HIGHER, False, True)):
        assert delay_ms(link, address, outbound=there) == pytest.approx(true_forward, abs=0.1)
        assert delay_ms(link, address, outbound=back) == pytest.approx(true_backward, abs=0.1)
        assert round_trip_ms(link, address) == pytest.approx(true_forward + true_backward, abs=0.1)
        assert link.segment(address).events[Event.USER_STAMP] == 0
        assert link.segment(address).state(link.clock(address)) is SegmentState.MEASURED


def test_a_constant_delay_is_told_to_the_nanosecond_although_every_packet_left_late() -> None:
    link = measured(Direction(), Direction(lambda chance: 7 * MS), seconds=10)
    assert delay_ms(link, LOWER) == pytest.approx(7, abs=1e-6)
    assert delay_ms(link, HIGHER) == pytest.approx(10, abs=1e-6)


def test_clocks_that_disagree_change_the_one_way_delays_and_not_the_round_trip() -> None:
    link = measured(Direction(), Direction(), seconds=10, b_ahead_ns=4000 * MS)
    for address in (LOWER, HIGHER):
        assert round_trip_ms(link, address) == pytest.approx(20, abs=1e-6)
    assert delay_ms(link, HIGHER) == pytest.approx(4010, abs=1e-6)
    assert delay_ms(link, LOWER) == pytest.approx(-3990, abs=1e-6)


@pytest.mark.parametrize(
    ("forward_loss", "backward_loss"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.1, 0.05), (0.5, 0.5)]
)
def test_each_end_finds_losses_in_the_direction_in_which_they_happened(
    forward_loss: float, backward_loss: float
) -> None:
    forward, backward = exponential(5, 1), exponential(5, 1)
    forward.loss, backward.loss = forward_loss, backward_loss
    link = measured(forward, backward)
    # Over less than a window only the packets of the last moment differ from the truth.
    for address, outbound, truth in (
        (LOWER, True, forward),
        (LOWER, False, backward),
        (HIGHER, False, forward),
    ):
        told = loss(link, address, outbound=outbound)
        assert told.lost == pytest.approx(truth.lost, abs=20)
        assert told.sent == pytest.approx(truth.sent, abs=35)
        assert told.lost / told.sent == pytest.approx(truth.lost / truth.sent, abs=0.012)
        assert (told.lost == 0) == (truth.lost == 0)


def test_loss_is_unbiased_over_many_links() -> None:
    told_lost = told_sent = true_lost = true_sent = 0
    for seed in range(12):
        forward, backward = exponential(5, 1), exponential(5, 1)
        forward.loss, backward.loss = 0.1, 0.1
        link = measured(forward, backward, seconds=30, seed=seed)
        told = loss(link, LOWER, outbound=True)
        told_lost, told_sent = told_lost + told.lost, told_sent + told.sent
        true_lost, true_sent = true_lost + forward.lost, true_sent + forward.sent
    assert told_lost / told_sent == pytest.approx(true_lost / true_sent, rel=0.03)


def test_duplicates_and_reordering_are_no_loss() -> None:
    wild = Direction(lambda chance: round(chance.uniform(5, 400) * MS), duplication=0.1)
    link = measured(wild, Direction(lambda chance: round(chance.uniform(5, 400) * MS), duplication=0.1))
    assert loss(link, LOWER).lost == 0
    assert loss(link, LOWER, outbound=True).lost == 0
    assert loss(link, HIGHER).lost == 0
    assert link.segment(LOWER).events[Event.DUPLICATE] > 10
    assert link.segment(HIGHER).events[Event.DUPLICATE] > 10


def test_duplicates_hide_no_loss() -> None:
    forward, backward = exponential(5, 1), exponential(5, 1)
    forward.loss = backward.loss = forward.duplication = 0.1
    link = measured(forward, backward)
    assert loss(link, LOWER, outbound=True).lost == pytest.approx(forward.lost, abs=8)
    assert loss(link, HIGHER).lost == pytest.approx(forward.lost, abs=8)


def test_two_that_start_together_end_with_the_session_of_the_lower_address() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.points[HIGHER].want(LOWER, link.now_ns)
    link.run(5)
    assert [link.segment(address).role for address in (LOWER, HIGHER)] == [Role.SENDER, Role.REFLECTOR]
    sent_by_higher = link.directions[HIGHER].sent
    probes_received = link.segment(HIGHER).events[Event.RECEIVED]
    link.run(10)
    replies = link.directions[HIGHER].sent - sent_by_higher
    assert replies == link.segment(HIGHER).events[Event.RECEIVED] - probes_received


def test_of_two_configured_neighbors_only_the_lower_one_ever_sends_probes() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.points[LOWER].want(HIGHER, link.now_ns, configured=True)
    link.points[HIGHER].want(LOWER, link.now_ns, configured=True)
    link.run(10)
    assert link.segment(LOWER).role is Role.SENDER
    assert link.segment(HIGHER).events[Event.SENT] == link.segment(HIGHER).events[Event.RECEIVED] > 50


def test_a_wanted_peer_that_stops_probing_is_probed_by_the_other_end() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.points[HIGHER].want(LOWER, link.now_ns, configured=True)
    link.run(5)
    assert link.segment(HIGHER).role is Role.REFLECTOR
    link.restart(LOWER)
    link.run(4.5)
    assert link.segment(HIGHER).role is Role.REFLECTOR
    link.run(6)
    assert link.segment(HIGHER).role is Role.SENDER
    assert link.segment(LOWER).role is Role.REFLECTOR
    assert link.segment(LOWER).state(link.now_ns) is SegmentState.MEASURED


def test_the_restart_of_either_end_invents_no_loss() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.points[HIGHER].want(LOWER, link.now_ns)
    link.run(20)
    link.restart(HIGHER)
    link.run(10)
    assert loss(link, LOWER).lost == loss(link, LOWER, outbound=True).lost == loss(link, HIGHER).lost == 0
    assert link.segment(LOWER).events[Event.RESTART] == 1
    link.restart(LOWER)
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(10)
    assert loss(link, HIGHER).lost == 0
    assert link.segment(HIGHER).events[Event.RESTART] == 1


def test_a_silent_peer_is_all_lost_for_the_sender_and_stale_for_the_reflector() -> None:
    link = measured(Direction(), Direction(), seconds=20)
    link.cut = True
    link.run(30)
    sender, reflector = link.segment(LOWER), link.segment(HIGHER)
    told = loss(link, LOWER)
    assert told.lost == pytest.approx(270, abs=40)
    assert told.lost / told.sent == pytest.approx(27 / 47, abs=0.1)
    assert loss(link, HIGHER).lost == 0
    assert reflector.newest_sample_at_ns is not None
    assert link.now_ns - reflector.newest_sample_at_ns > 29_000 * MS
    link.cut = False
    link.run(2 + LOSS_THRESHOLD_NS / 1e9)
    # The reflector's counter tells now: nothing arrived there, so nothing was lost on the way back.
    assert loss(link, LOWER).lost == 0
    assert loss(link, LOWER, outbound=True).lost == pytest.approx(300, abs=40)
    assert loss(link, HIGHER).lost == loss(link, LOWER, outbound=True).lost
    assert sender.state(link.now_ns) is SegmentState.MEASURED


def test_a_peer_that_never_answered_is_pending_and_not_lost() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.cut = True
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(20)
    segment = link.segment(LOWER)
    assert segment.state(link.now_ns) is SegmentState.PENDING
    assert not segment.statistics(["delay", "loss", "rtt"], now_ns=link.now_ns, clock=CLOCK)


def test_without_kernel_times_the_process_own_stand_in_and_the_error_is_wider() -> None:
    link = SimulatedLink(exponential(5, 1), exponential(5, 1))
    link.kernel_stamps = False
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(30)
    for address in (LOWER, HIGHER):
        assert delay_ms(link, address) == pytest.approx(6 + 1.5, abs=0.6)
    assert link.segment(LOWER).events[Event.USER_STAMP] > 10
    told = link.segment(LOWER).statistics(["delay"], now_ns=link.now_ns, clock=CLOCK)["delay"]
    assert isinstance(told, DelayStatistics)
    assert told.current_clock_error_ms > 1.1
    assert told.upstream_clock_error_ms > 1.1


def test_the_clock_errors_of_both_ends_stand_beside_the_delay() -> None:
    link = measured(Direction(), Direction(), seconds=10)
    told = link.segment(HIGHER).statistics(["delay"], now_ns=link.now_ns, clock=CLOCK)["delay"]
    assert isinstance(told, DelayStatistics)
    assert told.upstream_clock_error_ms == pytest.approx(0.25, rel=0.01)
    assert told.current_clock_error_ms == pytest.approx(0.25, rel=0.01)
    assert told.synchronized


def test_a_clock_that_steps_back_by_an_hour_does_not_stop_the_probes() -> None:
    link = measured(Direction(), Direction(), seconds=10)
    link.ahead_ns[LOWER] = -3_600_000 * MS
    link.points[LOWER].due(link.clock(LOWER))
    before = link.segment(LOWER).events[Event.SENT]
    link.run(15)
    assert link.segment(LOWER).events[Event.SENT] - before == pytest.approx(150, abs=40)
    assert round_trip_ms(link, LOWER) == pytest.approx(20, abs=1e-6)


def test_probes_are_sent_at_the_expected_rate() -> None:
    link = measured(Direction(), Direction(), seconds=60)
    assert link.segment(LOWER).events[Event.SENT] == pytest.approx(600, abs=75)
