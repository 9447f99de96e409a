from __future__ import annotations

import random

import pytest

from prober.clock_state import ClockState
from prober.neighbor import FORGOTTEN_NS
from prober.prober import MAX_SEGMENTS, NEWCOMERS_PER_S, Prober
from prober.segment import METRICS_MEASURED, Event, Role
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.datagram import Datagram
from prober.stamp.packet import SenderPacket
from prober.stamp.reply_budget import SOURCE_RATE_PER_S, WHOLE_RATE_PER_S
from prober.stamp.session import DEFAULT_RATE_PER_S
from prober.stamp.tlv import SenderFollowUp, sender_extension
from prober.timestamp import NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError, UsageError
from schemas.message import SegmentState
from tests.prober.simulated import HIGHER, LOWER, Direction, SimulatedLink

S = 1_000_000_000
START_NS = 1_700_000_000 * S
CLOCK = ClockState(synchronized=True, error_ms=1)


def prober(address: str = "10.0.0.9", *, rate_per_s: float = DEFAULT_RATE_PER_S) -> Prober:
    return Prober(address, random_source=random.Random(1), clock=CLOCK, rate_per_s=rate_per_s)


def run(point: Prober, from_ns: int, to_ns: int) -> list[str]:
    """The peers probed meanwhile."""
    probed = []
    while (wakeup_ns := point.next_wakeup_ns()) is not None and wakeup_ns <= to_ns:
        from_ns = max(from_ns, wakeup_ns)
        probed += [probe.peer for probe in point.due(from_ns)]
    return probed


def hear(point: Prober, address: str, now_ns: int, sequence: int = 0) -> None:
    error, extension = ErrorEstimate.from_int(0x8F84), sender_extension(SenderFollowUp())
    data = SenderPacket(sequence, ntp_from_unix_ns(now_ns), error, extension=extension).to_bytes()
    point.probe_received(Datagram(data, address, 5000, 255, now_ns), now_ns)


def test_nothing_is_due_without_neighbors() -> None:
    point = prober()
    assert point.next_wakeup_ns() is None
    assert point.due(START_NS) == []
    assert point.segments(START_NS) == ()


@pytest.mark.parametrize("peer", ["", "host", "10.0.0", "::1", "10.0.0.9"])
def test_a_peer_must_be_the_address_of_another_point(peer: str) -> None:
    with pytest.raises(UsageError, match="peer"):
        prober().want(peer, START_NS)


def test_the_rate_must_be_one_that_the_windows_can_hold() -> None:
    for rate_per_s in (0.0, -1.0, 101.0):
        with pytest.raises(UsageError, match="rate_per_s"):
            Prober("10.0.0.9", random_source=random.Random(1), clock=CLOCK, rate_per_s=rate_per_s)


def test_a_configured_peer_with_a_lower_address_is_given_three_seconds_to_begin() -> None:
    point = prober()
    point.want("10.0.0.2", START_NS, configured=True)
    point.want("10.0.0.10", START_NS, configured=True)
    assert set(run(point, START_NS, START_NS + 2 * S)) == {"10.0.0.10"}
    assert set(run(point, START_NS + 2 * S, START_NS + 6 * S)) == {"10.0.0.2", "10.0.0.10"}


def test_a_learned_peer_is_probed_at_once_whatever_its_address() -> None:
    point = prober()
    point.want("10.0.0.2", START_NS)
    assert run(point, START_NS, START_NS + 2 * S)


def test_a_peer_that_probes_us_is_not_probed_until_it_stops() -> None:
    point = prober()
    hear(point, "10.0.0.2", START_NS)
    point.want("10.0.0.2", START_NS + S)
    assert run(point, START_NS, START_NS + 2 * S - 1) == []
    assert run(point, START_NS + 2 * S, START_NS + 4 * S)


@pytest.mark.parametrize(("rate_per_s", "silence_s"), [(100, 1), (10, 2), (1, 20)])
def test_the_slower_the_probes_the_longer_a_silence_is_no_end(rate_per_s: float, silence_s: int) -> None:
    point = prober(rate_per_s=rate_per_s)
    hear(point, "10.0.0.2", START_NS)
    point.want("10.0.0.2", START_NS + S // 2)
    assert run(point, START_NS, START_NS + silence_s * S - 1) == []
    assert run(point, START_NS + silence_s * S, START_NS + (silence_s + 10) * S)


def test_the_higher_of_two_senders_stops_when_it_hears_the_lower_one_and_not_the_other_way_round() -> None:
    point = prober()
    for peer in ("10.0.0.2", "10.0.0.10"):
        point.want(peer, START_NS)
    run(point, START_NS, START_NS + S)
    for peer in ("10.0.0.2", "10.0.0.10"):
        hear(point, peer, START_NS + S)
    roles = {snapshot.peer: snapshot.role for snapshot in point.segments(START_NS + S)}
    assert roles == {"10.0.0.2": Role.REFLECTOR, "10.0.0.10": Role.SENDER}


def test_a_learned_peer_is_forgotten_when_nobody_wants_it_and_a_configured_one_never() -> None:
    point = prober()
    point.want("10.0.0.10", START_NS)
    point.want("10.0.0.11", START_NS, configured=True)
    run(point, START_NS, START_NS + S)
    late_ns = START_NS + FORGOTTEN_NS + S
    point.due(late_ns)
    assert [snapshot.peer for snapshot in point.segments(late_ns)] == ["10.0.0.11"]


def test_a_point_that_forgot_its_last_neighbor_rests() -> None:
    point = prober()
    point.want("10.0.0.10", START_NS)
    run(point, START_NS, START_NS + S)
    for _ in range(2):
        point.due(START_NS + FORGOTTEN_NS + S)
    assert point.segments(START_NS) == ()
    assert point.next_wakeup_ns() is None


def test_an_unwanted_peer_that_still_probes_us_is_only_reflected() -> None:
    point = prober()
    point.want("10.0.0.10", START_NS)
    run(point, START_NS, START_NS + S)
    late_ns = START_NS + FORGOTTEN_NS + S
    hear(point, "10.0.0.10", late_ns - 1)
    point.due(late_ns)
    assert [snapshot.role for snapshot in point.segments(late_ns)] == [Role.IDLE]
    hear(point, "10.0.0.10", late_ns, 1)
    assert [snapshot.role for snapshot in point.segments(late_ns)] == [Role.REFLECTOR]


def test_segments_are_bounded_and_the_learned_one_of_least_use_gives_way() -> None:
    point = prober()
    point.want("10.9.0.0", START_NS, configured=True)
    for number in range(1, MAX_SEGMENTS + 1):
        point.want(f"10.9.{number // 256}.{number % 256}", START_NS + number)
    peers = {snapshot.peer for snapshot in point.segments(START_NS)}
    assert len(peers) == MAX_SEGMENTS
    assert "10.9.0.0" in peers
    assert "10.9.0.1" not in peers


NEWCOMER_GAP_NS = round(S / NEWCOMERS_PER_S)
"""At this pace each gets a segment."""


def test_strangers_that_probe_us_drive_no_wanted_peer_out() -> None:
    point = prober()
    point.want("10.8.0.1", START_NS)
    for number in range(MAX_SEGMENTS + 5):
        hear(point, f"10.9.{number // 256}.{number % 256}", START_NS + S + number * NEWCOMER_GAP_NS)
    peers = {snapshot.peer for snapshot in point.segments(START_NS)}
    assert len(peers) == MAX_SEGMENTS
    assert "10.8.0.1" in peers


def test_a_full_table_of_configured_peers_ignores_a_further_wish() -> None:
    point = prober()
    for number in range(MAX_SEGMENTS):
        point.want(f"10.9.0.{number}", START_NS, configured=True)
    point.want("10.10.0.1", START_NS)
    assert point.segment("10.10.0.1") is None


def test_malformed_packets_are_refused_and_counted_at_their_neighbor() -> None:
    point = prober()
    point.want("10.0.0.10", START_NS)
    run(point, START_NS, START_NS + S)
    with pytest.raises(ProbeError):
        point.probe_received(Datagram(b"?", "10.0.0.10", 1, 1, START_NS), START_NS)
    with pytest.raises(ProbeError):
        point.reply_received(Datagram(b"?", "10.0.0.10", 862, 1, START_NS))
    with pytest.raises(ProbeError, match="reply-from-stranger"):
        point.reply_received(Datagram(b"?", "10.0.0.77", 862, 1, START_NS))
    segment = point.segment("10.0.0.10")
    assert segment and segment.events[Event.MALFORMED] == 2


def test_a_packet_with_our_own_address_makes_no_neighbor() -> None:
    point = prober()
    hear(point, "10.0.0.9", START_NS)
    assert point.segments(START_NS) == ()


def test_a_snapshot_tells_all_of_a_segment() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(20)
    (snapshot,) = link.points[HIGHER].segments(link.now_ns)
    assert (snapshot.peer, snapshot.role, snapshot.state) == (LOWER, Role.REFLECTOR, SegmentState.MEASURED)
    assert list(snapshot.statistics) == list(snapshot.recent) == list(METRICS_MEASURED)
    assert set(snapshot.outbound) >= {"delay", "jitter", "rtt"}
    assert "loss" not in snapshot.outbound  # only the sender can tell it
    assert snapshot.newest_sample_at_ns and link.now_ns - snapshot.newest_sample_at_ns < 2 * S
    assert snapshot.hops == 1
    assert snapshot.counters["sent"] == snapshot.counters["received"] > 100
    assert set(snapshot.counters) == {"shift", "reordering-extent", *(event.value for event in Event)}


@pytest.mark.parametrize("peer", ["224.0.0.5", "255.255.255.255", "240.1.1.1", "0.0.0.0", "0.1.2.3"])
def test_no_forged_message_has_a_whole_network_probed(peer: str) -> None:
    prober = Prober(LOWER, random_source=random.Random(1), clock=CLOCK)
    with pytest.raises(UsageError, match="unicast"):
        prober.want(peer, 0)


def test_a_learned_peer_that_never_answers_is_forgotten_soon_and_a_configured_one_never() -> None:
    prober = Prober(LOWER, random_source=random.Random(1), clock=CLOCK)
    prober.want("10.9.9.8", 0)
    prober.want("10.9.9.9", 0, configured=True)
    sent = {"10.9.9.8": 0, "10.9.9.9": 0}
    for step in range(6_000):  # a minute
        for probe in prober.due(step * 10_000_000):
            sent[probe.peer] += 1
    assert [snapshot.peer for snapshot in prober.segments(60 * NS_PER_S)] == ["10.9.9.9"]
    assert sent["10.9.9.8"] < 300 < sent["10.9.9.9"]


KEY = StampKey(bytes(range(32)))


def test_a_session_beside_the_overlay_makes_no_neighbor_and_stops_no_session() -> None:
    point = prober()
    point.want("10.0.0.2", START_NS)
    run(point, START_NS, START_NS + S)
    for address in ("10.0.0.2", "10.0.0.77"):
        data = SenderPacket(0, ntp_from_unix_ns(START_NS), ErrorEstimate.from_int(0x8F84), 9).to_bytes()
        reply = point.probe_received(Datagram(data, address, 5000, 255, START_NS + S), START_NS + S)
        assert reply is not None
    assert [(snapshot.peer, snapshot.role) for snapshot in point.segments(START_NS + S)] == [
        ("10.0.0.2", Role.SENDER)
    ]


def test_points_with_one_key_measure_each_other_and_one_without_is_refused() -> None:
    link = SimulatedLink(Direction(), Direction())
    for address in (LOWER, HIGHER):
        link.points[address] = Prober(
            address, random_source=random.Random(address), clock=CLOCK, key_of=sole_key(KEY)
        )
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(10)
    for address in (LOWER, HIGHER):
        assert link.segment(address).state(link.now_ns) is SegmentState.MEASURED
        assert not +link.points[address].faults
    with pytest.raises(ProbeError, match="not-authenticated"):
        hear(link.points[HIGHER], "10.0.0.77", link.now_ns)
    assert +link.points[HIGHER].faults == {"not-authenticated": 1}
    assert link.points[HIGHER].segment("10.0.0.77") is None


def test_a_stateless_point_is_measured_by_its_neighbor() -> None:
    link = SimulatedLink(Direction(), Direction())
    link.points[HIGHER] = Prober(HIGHER, random_source=random.Random(1), clock=CLOCK, stateless=True)
    link.points[LOWER].want(HIGHER, link.now_ns)
    link.run(10)
    assert link.segment(LOWER).state(link.now_ns) is SegmentState.MEASURED
    assert link.segment(HIGHER).state(link.now_ns) is SegmentState.MEASURED


def test_a_flood_of_strangers_is_answered_at_a_bounded_rate_and_a_neighbor_always() -> None:
    point = prober()
    point.want("10.0.0.2", START_NS)
    answered = 0
    for number in range(int(WHOLE_RATE_PER_S) + 500):
        try:
            hear(point, f"10.7.{number // 250 % 250}.{number % 250 + 1}", START_NS + number, number)
            answered += 1
        except ProbeError as error:
            assert str(error) == "rate-limited"
        if number % 10 == 0:
            hear(point, "10.0.0.2", START_NS + number, number)
    assert answered == WHOLE_RATE_PER_S
    assert +point.faults == {"rate-limited": 500}


def test_all_neighbors_that_a_point_may_have_are_answered_at_the_usual_rate() -> None:
    assert WHOLE_RATE_PER_S >= MAX_SEGMENTS * DEFAULT_RATE_PER_S


def test_an_address_that_was_merely_heard_is_a_stranger() -> None:
    point = prober()
    for number in range(int(SOURCE_RATE_PER_S)):
        hear(point, "10.0.0.77", START_NS, number)
    with pytest.raises(ProbeError, match="rate-limited"):
        hear(point, "10.0.0.77", START_NS, int(SOURCE_RATE_PER_S))


def test_a_learned_neighbor_that_hellos_still_meet_falls_asleep_and_a_request_wakes_it() -> None:
    point = prober()
    point.meet("10.0.0.10", START_NS)
    assert run(point, START_NS, START_NS + 2 * S)
    hear(point, "10.0.0.10", START_NS + 2 * S)
    late_ns = START_NS + FORGOTTEN_NS + S
    point.meet("10.0.0.10", late_ns - S)
    point.due(late_ns)
    assert run(point, late_ns, late_ns + 5 * S) == []
    assert [snapshot.role for snapshot in point.segments(late_ns)] == [Role.ASLEEP]
    point.want("10.0.0.10", late_ns + 5 * S)
    assert run(point, late_ns + 5 * S, late_ns + 7 * S)
    assert [snapshot.role for snapshot in point.segments(late_ns)] == [Role.SENDER]


def test_two_points_that_meet_each_other_at_once_have_one_session() -> None:
    lower, higher = prober("10.0.0.1"), prober("10.0.0.10")
    lower.meet("10.0.0.10", START_NS)
    higher.meet("10.0.0.1", START_NS)
    for point, other in ((higher, "10.0.0.1"), (lower, "10.0.0.10")):
        run(point, START_NS, START_NS + S)
        hear(point, other, START_NS + S)
        run(point, START_NS + S, START_NS + 2 * S)
    roles = [point.segments(START_NS + 2 * S)[0].role for point in (lower, higher)]
    assert roles == [Role.SENDER, Role.REFLECTOR]


def test_a_met_neighbor_that_never_answers_is_forgotten_and_met_anew() -> None:
    point = prober()
    point.meet("10.0.0.10", START_NS)
    run(point, START_NS, START_NS + 25 * S)
    assert point.segments(START_NS + 25 * S) == ()
    point.meet("10.0.0.10", START_NS + 60 * S)
    assert len(point.segments(START_NS + 60 * S)) == 1


def test_a_step_of_the_own_clock_forgets_no_neighbor() -> None:
    point = prober()
    point.want("10.0.0.10", START_NS)
    run(point, START_NS, START_NS + S)
    hour_ns = 3600 * S
    point.clock_stepped(START_NS + hour_ns, step_ns=hour_ns)
    assert run(point, START_NS + hour_ns, START_NS + hour_ns + 2 * S)
    assert len(point.segments(START_NS + hour_ns)) == 1
