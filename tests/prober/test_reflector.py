from __future__ import annotations

import pytest

from prober.clock_state import ClockState
from prober.packet import ReflectorPacket, SenderFollowUp, SenderPacket, sender_extension
from prober.reflector import MAX_SESSIONS, REFWAIT_NS, Reflector, Reply, Source
from prober.segment import Event, Segment
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


def answer(reflector: Reflector, data: bytes, at_ns: int, source: Source = SENDER) -> Reply:
    reply = reflector.probe_received(data, source, ttl=250, received_at_ns=at_ns, now_ns=at_ns + MS, clock=CLOCK)
    assert reply
    return reply


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


def test_a_copy_is_answered_only_when_its_sender_knows_no_extensions() -> None:
    segment = Segment(SENDER.address)
    reflector = Reflector(lambda address: segment)
    plain, ours = probe(0, START_NS), probe(0, START_NS, sender_extension(SenderFollowUp()))
    assert [answer(reflector, plain, START_NS + n).number for n in range(2)] == [0, 1]
    other = Source(SENDER.address, 1)
    answer(reflector, ours, START_NS, other)
    copy = reflector.probe_received(ours, other, ttl=255, received_at_ns=START_NS, now_ns=START_NS, clock=CLOCK)
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
    told = [ReflectorPacket.from_bytes(reply.data).follow_up() for reply in (first, second, third)]
    assert [(follow_up.sequence, bool(follow_up.transmitted)) for follow_up in told if follow_up] == [
        (0, False),
        (0, True),
        (0, False),  # the second one's departure is not known yet
    ]
    assert told[1] and unix_ns_from_ntp(told[1].transmitted, START_NS) == START_NS + 1_500_000
