from __future__ import annotations

import random

import pytest

from prober.clock_state import ClockState
from prober.segment import Segment
from prober.stamp.datagram import Datagram
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reflector import Reflector
from prober.stamp.session import SenderSession
from prober.timestamp import NS_PER_S, TAI_MINUS_UTC_S, ErrorEstimate, ntp_from_unix_ns, unix_ns_from_ntp
from schemas.metrics import DelayStatistics, RoundTripStatistics

MS = 1_000_000
NOW_NS = 1_700_000_000 * NS_PER_S + 123_456_789
CLOCK = ClockState(synchronized=True, error_ms=0.01)
NTP, PTP = ErrorEstimate.from_int(0x8F84), ErrorEstimate.from_int(0xCF84)
THERE_NS, INSIDE_NS, BACK_NS = 3 * MS, 1 * MS, 7 * MS


def ptp_from_unix_ns(unix_ns: int) -> int:
    """Seconds and nanoseconds since 1970, TAI (RFC 8877 section 4.3)."""
    seconds, nanoseconds = divmod(unix_ns, NS_PER_S)
    return seconds + TAI_MINUS_UTC_S << 32 | nanoseconds


def written(unix_ns: int, error: ErrorEstimate) -> int:
    return ptp_from_unix_ns(unix_ns) if error.ptp else ntp_from_unix_ns(unix_ns)


# Each time has the format of whoever took it, and PTP time is 37 s ahead of UTC.
@pytest.mark.parametrize("reflector", [NTP, PTP], ids=["NTP", "PTP"])
def test_a_sender_reads_each_time_of_a_reply_by_the_flag_of_its_own_error_estimate(
    reflector: ErrorEstimate,
) -> None:
    segment = Segment("10.0.0.2")
    session = SenderSession(
        segment, random_source=random.Random(1), now_ns=NOW_NS, probe_format=ProbeFormat(plain=True)
    )
    for number in range(20):
        at_ns = NOW_NS + number * 100 * MS
        probe = session.probe(at_ns, CLOCK)
        session.transmitted(probe.sequence, at_ns)
        sent = SenderPacket.from_bytes(probe.data)
        assert not sent.error.ptp
        reply = ReflectorPacket(
            sequence=number,
            received=written(at_ns + THERE_NS, reflector),
            timestamp=written(at_ns + THERE_NS + INSIDE_NS, reflector),
            error=reflector,
            sender_sequence=sent.sequence,
            sender_timestamp=sent.timestamp,
            sender_error=sent.error,
            sender_ttl=255,
        )
        replied_ns = at_ns + THERE_NS + INSIDE_NS
        session.reply(Datagram(reply.to_bytes(), "10.0.0.2", 862, 255, replied_ns + BACK_NS))
    session.finish()
    assert told_ms(segment, NOW_NS + 2 * NS_PER_S) == pytest.approx((3, 7, 10), abs=1e-5)


def told_ms(segment: Segment, now_ns: int) -> tuple[float, float, float]:
    """Delay there and back, and the round trip."""
    there = segment.outbound_statistics(["delay"], now_ns=now_ns, clock=CLOCK)["delay"]
    inbound = segment.statistics(["delay", "rtt"], now_ns=now_ns, clock=CLOCK)
    back, round_trip = inbound["delay"], inbound["rtt"]
    assert isinstance(there, DelayStatistics) and isinstance(back, DelayStatistics)
    assert isinstance(round_trip, RoundTripStatistics)
    return there.mean_ms, back.mean_ms, round_trip.mean_ms


@pytest.mark.parametrize("sender", [NTP, PTP], ids=["NTP", "PTP"])
def test_a_reflector_reads_the_time_of_a_probe_by_its_flag_and_writes_its_own_times_as_ntp(
    sender: ErrorEstimate,
) -> None:
    segment = Segment("10.0.0.1")
    reflector = Reflector(lambda address: segment)
    for number in range(20):
        at_ns = NOW_NS + number * 100 * MS
        probe = SenderPacket(number, written(at_ns, sender), sender)
        answer = reflector.probe_received(
            Datagram(probe.to_bytes(), "10.0.0.1", 5000, 255, at_ns + THERE_NS),
            now_ns=at_ns + THERE_NS + INSIDE_NS,
            clock=CLOCK,
        )
        assert answer is not None
        reply = ReflectorPacket.from_bytes(answer.data)
        assert (reply.error.ptp, reply.sender_error) == (False, sender)
        assert reply.sender_timestamp == probe.timestamp
        assert unix_ns_from_ntp(reply.received, at_ns) == at_ns + THERE_NS
        assert unix_ns_from_ntp(reply.timestamp, at_ns) == at_ns + THERE_NS + INSIDE_NS
    delay = segment.statistics(["delay"], now_ns=NOW_NS + 2 * NS_PER_S, clock=CLOCK)["delay"]
    assert isinstance(delay, DelayStatistics)
    assert delay.mean_ms == pytest.approx(3, abs=1e-5)
