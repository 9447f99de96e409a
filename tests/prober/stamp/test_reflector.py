from __future__ import annotations

from collections import Counter

import pytest

from prober.clock_state import ClockState
from prober.segment import Event, Segment
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.reflected_session import Source
from prober.stamp.reflector import MAX_SESSIONS, OLDEST_PROBE_NS, REFWAIT_NS, Reflector, Reply
from prober.stamp.tlv import ClassOfService, FollowUp, SenderFollowUp, TlvType, sender_extension, usable_tlvs
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns, unix_ns_from_ntp
from schemas.errors import ProbeError
from schemas.metrics import DelayStatistics, LossStatistics

MS, S = 1_000_000, 1_000_000_000
START_NS = 1_700_000_000 * S
CLOCK = ClockState(synchronized=False, error_ms=16_000)
SENDER = Source("192.0.2.7", 5000)
ONE_MS = ErrorEstimate.from_int(0x8F84)


def probe(sequence: int, sent_at_ns: int, extension: bytes = b"") -> bytes:
    return SenderPacket(sequence, ntp_from_unix_ns(sent_at_ns), ONE_MS, extension=extension).to_bytes()


def came(data: bytes, at_ns: int, source: Source = SENDER, *, ttl: int = 255) -> Datagram:
    return Datagram(data, source.address, source.port, ttl, at_ns)


def answer(reflector: Reflector, data: bytes, at_ns: int, source: Source = SENDER) -> Reply:
    reply = reflector.probe_received(came(data, at_ns, source, ttl=250), now_ns=at_ns + MS, clock=CLOCK)
    reflector.learn()
    assert reply
    return reply


def follow_up_of(reply: Reply) -> FollowUp | None:
    packet = ReflectorPacket.from_bytes(reply.data)
    tlvs = usable_tlvs(packet.extension, packet.sequence, None) or ()
    return next((FollowUp.from_value(tlv.value) for tlv in tlvs if tlv.type == TlvType.FOLLOW_UP), None)


def test_a_reply_repeats_the_probe_and_tells_the_reflectors_times() -> None:
    reply = answer(Reflector(lambda address: None), probe(7, START_NS), START_NS + 3 * MS)
    packet = ReflectorPacket.from_bytes(reply.data)
    assert len(reply.data) == 44
    assert (packet.sequence, packet.sender_sequence, packet.sender_ttl) == (0, 7, 250)
    assert (packet.sender_timestamp, packet.sender_error) == (ntp_from_unix_ns(START_NS), ONE_MS)
    assert unix_ns_from_ntp(packet.received, START_NS) == START_NS + 3 * MS
    assert unix_ns_from_ntp(packet.timestamp, START_NS) == START_NS + 4 * MS
    assert not packet.error.synchronized
    assert packet.error.error_ms >= 16_001


@pytest.mark.parametrize(("size", "reply_size"), [(14, 44), (43, 44), (44, 44), (45, 45), (500, 500)])
def test_a_reply_is_as_long_as_the_probe_and_never_below_the_base(size: int, reply_size: int) -> None:
    data = (probe(7, START_NS) + bytes(500))[:size]
    assert len(answer(Reflector(lambda address: None), data, START_NS).data) == reply_size


def test_a_sender_without_extensions_is_measured_by_the_time_in_its_packets() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment)
    for sequence in range(40):
        if sequence % 4 != 3:
            sent_ns = START_NS + sequence * 100 * MS
            answer(reflector, probe(sequence, sent_ns)[:14], sent_ns + 6 * MS)
    told = segment.statistics(["delay", "loss", "rtt"], now_ns=START_NS + 6 * S, clock=CLOCK)
    assert isinstance(told["delay"], DelayStatistics) and isinstance(told["loss"], LossStatistics)
    assert told["delay"].mean_ms == pytest.approx(6, abs=1e-6)
    assert not told["delay"].synchronized
    assert told["loss"].lost / told["loss"].sent == pytest.approx(0.25, abs=0.04)
    assert "rtt" not in told
    assert segment.hops == 5


def test_the_counter_advances_with_every_reply_of_a_session_alone() -> None:
    reflector = Reflector(lambda address: None)
    other = Source(SENDER.address, 5001)
    numbers = [
        answer(reflector, probe(n, START_NS + n), START_NS + n, source).number
        for n in range(3)
        for source in (SENDER, other)
    ]
    assert numbers == [0, 0, 1, 1, 2, 2]


def test_a_sender_that_begins_anew_from_the_same_port_has_a_new_session() -> None:
    reflector = Reflector(lambda address: None)
    extension = sender_extension(SenderFollowUp())
    numbers: list[int] = []
    for sequence in (0, 1, 2, 0, 1, 2_000, 2_001):
        at_ns = START_NS + len(numbers) * S
        reply = answer(reflector, probe(sequence, at_ns, extension), at_ns)
        reflector.transmitted(reply.source, reply.number, at_ns + MS)
        numbers.append(reply.number)
        told = follow_up_of(reply)
        assert told and bool(told.transmitted) == (sequence not in (0,))
    assert numbers == [0, 1, 2, 0, 1, 2, 3]


def test_a_copy_is_answered_only_when_its_sender_knows_no_extensions() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment)
    plain, ours = probe(0, START_NS), probe(0, START_NS, sender_extension(SenderFollowUp()))
    assert [answer(reflector, plain, START_NS + n).number for n in range(2)] == [0, 1]
    other = Source(SENDER.address, 1)
    answer(reflector, ours, START_NS, other)
    copy = reflector.probe_received(came(ours, START_NS, other), now_ns=START_NS, clock=CLOCK)
    assert copy is None
    assert segment.events[Event.DUPLICATE] == 2


def test_a_malformed_probe_opens_no_session() -> None:
    reflector = Reflector(lambda address: None)
    for data in (b"", bytes(13), bytes(44)):
        with pytest.raises(ProbeError):
            answer(reflector, data, START_NS)
    assert len(reflector) == 0


def test_sessions_are_bounded_and_the_idlest_goes_first() -> None:
    reflector = Reflector(lambda address: None)
    sources = [Source("192.0.2.9", port) for port in range(MAX_SESSIONS)]
    for place, source in enumerate(sources):
        answer(reflector, probe(0, START_NS), START_NS + place, source)
    answer(reflector, probe(1, START_NS + 1), START_NS + S, sources[0])
    answer(reflector, probe(0, START_NS), START_NS + S)
    assert len(reflector) == MAX_SESSIONS
    assert answer(reflector, probe(2, START_NS + 2), START_NS + S, sources[0]).number == 2
    assert answer(reflector, probe(1, START_NS + 1), START_NS + S, sources[1]).number == 0


def test_an_idle_session_ends_when_another_begins() -> None:
    reflector = Reflector(lambda address: None)
    answer(reflector, probe(0, START_NS), START_NS)
    answer(reflector, probe(0, START_NS), START_NS + REFWAIT_NS + 1, Source("192.0.2.8", 1))
    assert len(reflector) == 1


def test_the_true_departure_of_a_reply_is_told_in_the_next_one() -> None:
    reflector = Reflector(lambda address: None)
    extension = sender_extension(SenderFollowUp())
    first = answer(reflector, probe(0, START_NS, extension), START_NS)
    reflector.transmitted(SENDER, first.number, START_NS + 1_500_000)
    second = answer(reflector, probe(1, START_NS + S, extension), START_NS + S)
    third = answer(reflector, probe(2, START_NS + S + MS, extension), START_NS + S + MS)
    told = [follow_up_of(reply) for reply in (first, second, third)]
    assert [(follow_up.sequence, bool(follow_up.transmitted)) for follow_up in told if follow_up] == [
        (0, False),
        (0, True),
        (0, False),  # the second one's departure is not known yet
    ]
    assert told[1] and unix_ns_from_ntp(told[1].transmitted, START_NS) == START_NS + 1_500_000


KEY = StampKey(bytes(range(32)))
SYNCHRONIZED = ClockState(synchronized=True, error_ms=1)


def sealed_probe(sequence: int, sent_at_ns: int, *, ssid: int = 0, synchronized: bool = False) -> bytes:
    error = ErrorEstimate.of(MS, synchronized=synchronized)
    extension = sender_extension(SenderFollowUp(), sequence=sequence, key=KEY)
    return SenderPacket(sequence, ntp_from_unix_ns(sent_at_ns), error, ssid, extension).to_bytes(KEY)


def refusal(
    reflector: Reflector, data: bytes, at_ns: int, source: Source = SENDER, clock: ClockState = CLOCK
) -> str:
    with pytest.raises(ProbeError) as refused:
        reflector.probe_received(came(data, at_ns, source), now_ns=at_ns, clock=clock)
    return str(refused.value)


def test_a_stateless_reflector_copies_the_number_and_has_no_follow_up() -> None:
    reflector = Reflector(lambda address: None, stateless=True)
    for sequence in (5, 9, 9, 2**32 - 1):
        reply = answer(reflector, probe(sequence, START_NS, sender_extension(SenderFollowUp())), START_NS)
        reflector.transmitted(reply.source, reply.number, START_NS + MS)
        packet = ReflectorPacket.from_bytes(reply.data)
        assert (packet.sequence, packet.sender_sequence) == (sequence, sequence)
        assert follow_up_of(reply) == FollowUp()
    assert len(reflector) == 0


def test_a_stateless_reflector_measures_its_neighbor_all_the_same() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment, stateless=True)
    for sequence in range(20):
        sent_ns = START_NS + sequence * 100 * MS
        answer(reflector, probe(sequence, sent_ns), sent_ns + 6 * MS)
    assert segment.inbound.delays.count(START_NS + 3 * S, 60) == 20


def test_sessions_of_one_port_are_told_apart_by_their_ssid() -> None:
    reflector = Reflector(lambda address: None)
    numbers: list[int] = []
    for sequence in range(3):
        for ssid in (0, 1, 65_535):
            data = SenderPacket(sequence, ntp_from_unix_ns(START_NS + sequence), ONE_MS, ssid).to_bytes()
            reply = answer(reflector, data, START_NS + sequence)
            assert ReflectorPacket.from_bytes(reply.data).ssid == reply.source.ssid == ssid
            numbers.append(reply.number)
    assert numbers == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_session_with_an_ssid_is_part_of_no_segment() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment)
    for sequence in range(20):
        sent_ns = START_NS + sequence * 100 * MS
        answer(reflector, SenderPacket(sequence, ntp_from_unix_ns(sent_ns), ONE_MS, 7).to_bytes(), sent_ns + MS)
    assert not segment.events
    assert (segment.hops, segment.peer_error) == (None, None)
    assert segment.inbound.delays.count(START_NS + 3 * S, 60) == 0


def test_authenticated_probes_get_authenticated_answers_with_follow_ups() -> None:
    reflector = Reflector(lambda address: None, key_of=sole_key(KEY))
    told = []
    for sequence in range(3):
        reply = answer(reflector, sealed_probe(sequence, START_NS + sequence), START_NS + sequence)
        reflector.transmitted(reply.source, reply.number, START_NS + MS)
        packet = ReflectorPacket.from_bytes(reply.data, KEY)
        tlvs = usable_tlvs(packet.extension, packet.sequence, KEY)
        assert tlvs and [tlv.type for tlv in tlvs] == [7, 240, 8]
        told.append(bool(FollowUp.from_value(tlvs[0].value).transmitted))
    assert told == [False, True, True]


def test_with_a_key_nothing_else_is_answered_and_without_it_nothing_authenticated() -> None:
    with_key, without = Reflector(lambda address: None, key_of=sole_key(KEY)), Reflector(lambda address: None)
    assert refusal(with_key, probe(0, START_NS), START_NS) == "not-authenticated"
    assert refusal(with_key, probe(0, START_NS, bytes(100)), START_NS) == "wrong-authentication"
    assert refusal(without, sealed_probe(0, START_NS), START_NS) == "unexpectedly-authenticated"
    assert len(with_key) == len(without) == 0


def test_tlvs_without_a_right_seal_come_back_flagged_and_are_not_used() -> None:
    faults: Counter[ProbeFault] = Counter()
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment, key_of=sole_key(KEY), faults=faults)
    forged = sender_extension(SenderFollowUp(0, ntp_from_unix_ns(START_NS), 0, 0))
    data = SenderPacket(0, ntp_from_unix_ns(START_NS), ONE_MS, extension=forged).to_bytes(KEY)
    packet = ReflectorPacket.from_bytes(answer(reflector, data, START_NS + MS).data, KEY)
    assert packet.extension == bytes(
        octet | 0x20 if place in (0, 20) else octet for place, octet in enumerate(forged)
    )
    assert +faults == {ProbeFault.TLV_INTEGRITY: 1}
    # The packet itself is right, so that its own time is used.
    assert segment.inbound.delays.count(START_NS + S, 60) == 1


def test_an_authenticated_probe_is_answered_once() -> None:
    faults: Counter[ProbeFault] = Counter()
    reflector = Reflector(lambda address: None, key_of=sole_key(KEY), faults=faults)
    plain = SenderPacket(0, ntp_from_unix_ns(START_NS), ONE_MS).to_bytes(KEY)
    answer(reflector, plain, START_NS)
    again = reflector.probe_received(came(plain, START_NS), now_ns=START_NS, clock=CLOCK)
    assert again is None
    assert +faults == {ProbeFault.REPLAYED: 1}


def test_an_old_authenticated_probe_is_refused_by_its_age_from_anywhere() -> None:
    reflector = Reflector(lambda address: None, key_of=sole_key(KEY))
    data = sealed_probe(0, START_NS, synchronized=True)
    other = Source("192.0.2.66", 1)
    assert refusal(reflector, data, START_NS + OLDEST_PROBE_NS + S, other, SYNCHRONIZED) == "replayed"
    late = reflector.probe_received(came(data, START_NS + 9 * S, other), now_ns=START_NS, clock=SYNCHRONIZED)
    assert late is not None


def test_without_synchronized_clocks_an_old_probe_is_refused_by_what_its_session_has_sent_since() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment, key_of=sole_key(KEY))
    old = sealed_probe(5_000, START_NS - 3_600 * S)
    answer(reflector, sealed_probe(0, START_NS), START_NS)
    assert refusal(reflector, old, START_NS + S) == "replayed"
    assert segment.events[Event.RESTART] == 0
    # A sender whose clock is set back goes on in its numbers.
    answer(reflector, sealed_probe(1, START_NS - 3_600 * S), START_NS + S)


def test_a_replayed_unauthenticated_probe_is_no_sample() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment)
    probes = [probe(sequence, START_NS + sequence * 100 * MS) for sequence in range(20)]
    for sequence, data in enumerate(probes):
        answer(reflector, data, START_NS + sequence * 100 * MS + MS)
    for data in probes:
        answer(reflector, data, START_NS + 4 * S)
    assert segment.inbound.delays.count(START_NS + 5 * S, 60) == 20
    assert segment.events[Event.DUPLICATE] == 20


def test_a_time_of_the_far_future_is_counted_and_no_sample() -> None:
    faults: Counter[ProbeFault] = Counter()
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment, faults=faults)
    future_ns = START_NS + 10 * 365 * 86_400 * S
    told = sender_extension(SenderFollowUp(1, ntp_from_unix_ns(future_ns), 0, 0))
    answer(reflector, probe(0, future_ns), START_NS)
    answer(reflector, probe(1, START_NS + MS, sender_extension(SenderFollowUp())), START_NS + 2 * MS)
    answer(reflector, probe(2, START_NS + 3 * MS, told), START_NS + 4 * MS)
    assert +faults == {ProbeFault.FAR_OFF: 2}
    assert segment.inbound.delays.count(START_NS + S, 60) == 0


def test_reordered_and_wrapping_numbers_are_samples_each() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment)
    order = [0, 1, 3, 2, 4, 6, 7, 5, *range(8, 20)]
    for place, number in enumerate(order):
        sent_ns = START_NS + number * 100 * MS
        arrived_ns = START_NS + place * 100 * MS + 400 * MS
        answer(reflector, probe((2**32 - 10 + number) % 2**32, sent_ns), arrived_ns)
    assert segment.inbound.delays.count(START_NS + 5 * S, 60) == 20
    assert not segment.events[Event.RESTART] and not segment.events[Event.DUPLICATE]


def test_a_reply_bears_the_mark_of_its_probe_or_the_one_that_is_asked_for() -> None:
    reflector = Reflector(lambda address: None)
    wanted = sender_extension(SenderFollowUp(), class_of_service=ClassOfService(wanted_dscp=46))
    marks = []
    for sequence, extension in enumerate((b"", wanted)):
        arrived = came(probe(sequence, START_NS, extension), START_NS)._replace(tos=10 << 2 | 1)
        reply = reflector.probe_received(arrived, now_ns=START_NS, clock=CLOCK)
        assert reply is not None
        marks.append(reply.tos)
    assert marks == [10 << 2, 46 << 2]


def test_what_is_not_admitted_is_refused_after_it_was_found_right() -> None:
    asked: list[str] = []

    def admits(address: str, now_ns: int) -> bool:
        asked.append(address)
        return False

    reflector = Reflector(lambda address: None, admits=admits)
    assert refusal(reflector, b"rubbish", START_NS) == "probe-too-short"
    assert asked == []
    assert refusal(reflector, probe(0, START_NS), START_NS) == "rate-limited"
    assert asked == [SENDER.address]
    assert len(reflector) == 0
