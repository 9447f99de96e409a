from __future__ import annotations

import random
from statistics import fmean

import pytest

from prober.clock_state import ClockState
from prober.packet import ReflectorPacket, SenderPacket
from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.session import LONGEST_GAP_NS, PoissonSchedule, SenderSession
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError
from schemas.metrics import DelayStatistics, LossStatistics, RoundTripStatistics

MS, S = 1_000_000, 1_000_000_000
START_NS = 1_700_000_000 * S
CLOCK = ClockState(synchronized=True, error_ms=0)
PEER = "192.0.2.1"
THERE_NS, INSIDE_NS, BACK_NS = 3 * MS, MS, 5 * MS


def session(segment: Segment, *, first_sequence: int = 0) -> SenderSession:
    return SenderSession(segment, random_source=random.Random(5), now_ns=START_NS, first_sequence=first_sequence)


def plain_reply(probe: bytes, number: int, sent_at_ns: int, *, ptp: bool = False) -> bytes:
    """What a reflector of RFC 8762 alone answers: 44 octets, with its times in the packet."""
    packet = SenderPacket.from_bytes(probe)
    received_ns, replied_ns = sent_at_ns + THERE_NS, sent_at_ns + THERE_NS + INSIDE_NS

    def encoded(unix_ns: int) -> int:
        return (unix_ns // S + 37) << 32 | unix_ns % S if ptp else ntp_from_unix_ns(unix_ns)

    return ReflectorPacket(
        sequence=number,
        timestamp=encoded(replied_ns),
        error=ErrorEstimate.from_int(0xCF84 if ptp else 0x8F84),
        received=encoded(received_ns),
        sender_sequence=packet.sequence,
        sender_timestamp=packet.timestamp,
        sender_error=packet.error,
        sender_ttl=254,
    ).to_bytes()


def converse(segment: Segment, *, first_sequence: int = 0, ptp: bool = False, probes: int = 100) -> int:
    sender = session(segment, first_sequence=first_sequence)
    now_ns = START_NS
    for number in range(probes):
        now_ns = sender.next_send_at_ns()
        probe = sender.probe(now_ns, CLOCK)
        left_ns = now_ns + 2 * MS
        sender.transmitted(probe.sequence, left_ns)
        sender.reply(
            plain_reply(probe.data, number, left_ns, ptp=ptp),
            ttl=252,
            received_at_ns=left_ns + THERE_NS + INSIDE_NS + BACK_NS,
        )
    return now_ns + S


@pytest.mark.parametrize("ptp", [False, True])
def test_a_reflector_without_extensions_gives_right_answers_by_the_times_in_its_packets(*, ptp: bool) -> None:
    segment = Segment(PEER)
    now_ns = converse(segment, ptp=ptp)
    told = segment.statistics(["delay", "loss", "rtt", "jitter"], now_ns=now_ns, clock=CLOCK)
    delay, loss, round_trip = told["delay"], told["loss"], told["rtt"]
    assert isinstance(delay, DelayStatistics)
    assert delay.mean_ms == pytest.approx(BACK_NS / MS, abs=1e-5)
    assert delay.upstream_clock_error_ms == pytest.approx(1, rel=0.02)
    assert isinstance(loss, LossStatistics) and loss.lost == 0
    assert isinstance(round_trip, RoundTripStatistics)
    assert round_trip.mean_ms == pytest.approx((THERE_NS + BACK_NS) / MS, abs=1e-5)
    out = segment.outbound_statistics(["delay"], now_ns=now_ns, clock=CLOCK)["delay"]
    assert isinstance(out, DelayStatistics)
    assert out.mean_ms == pytest.approx(THERE_NS / MS, abs=1e-5)
    assert segment.hops == 3


def test_numbers_that_wrap_are_no_loss_and_no_restart() -> None:
    segment = Segment(PEER)
    now_ns = converse(segment, first_sequence=2**32 - 50)
    told = segment.outbound_statistics(["loss", "jitter"], now_ns=now_ns, clock=CLOCK)
    assert isinstance(told["loss"], LossStatistics) and told["loss"].lost == 0
    assert "jitter" in told
    assert segment.events[Event.RESTART] == 0


def test_a_reply_to_another_session_or_to_none_is_refused() -> None:
    sender = session(Segment(PEER))
    probe = sender.probe(START_NS, CLOCK)
    other = session(Segment(PEER)).probe(START_NS + 1_000, CLOCK)
    with pytest.raises(ProbeError, match="no probe of this session"):
        sender.reply(plain_reply(other.data, 0, START_NS), ttl=255, received_at_ns=START_NS + MS)
    with pytest.raises(ProbeError, match="44 octets"):
        sender.reply(probe.data[:20], ttl=255, received_at_ns=START_NS + MS)


def test_a_copy_of_a_reply_is_a_duplicate_and_no_second_sample() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    probe = sender.probe(START_NS, CLOCK)
    sender.transmitted(probe.sequence, START_NS)
    for _ in range(2):
        sender.reply(plain_reply(probe.data, 0, START_NS), ttl=255, received_at_ns=START_NS + 9 * MS)
    assert segment.events[Event.DUPLICATE] == 1
    assert segment.round_trips.count(START_NS + S, 60) == 1


def test_a_round_trip_that_only_a_clock_step_explains_is_no_sample() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    for number, late_ns in enumerate((GREATEST_ROUND_TRIP_NS + S, -S)):
        probe = sender.probe(START_NS + number, CLOCK)
        sender.transmitted(probe.sequence, START_NS)
        sender.reply(plain_reply(probe.data, number, START_NS), ttl=255, received_at_ns=START_NS + late_ns)
    assert segment.events[Event.ABSURD] == 2
    assert segment.round_trips.count(START_NS + S, 60) == 0


def test_an_endless_silence_fills_no_memory() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    first = sender.probe(START_NS, CLOCK)
    sender.transmitted(first.sequence, START_NS)
    sender.reply(plain_reply(first.data, 0, START_NS), ttl=255, received_at_ns=START_NS + 9 * MS)
    now_ns = START_NS
    while now_ns < START_NS + 200 * S:
        now_ns = sender.next_send_at_ns()
        sender.probe(now_ns, CLOCK)
    assert len(segment.unanswered) == pytest.approx(600, abs=100)
    told = segment.statistics(["loss"], now_ns=now_ns, clock=CLOCK)["loss"]
    assert isinstance(told, LossStatistics) and told.lost == told.sent > 400


def test_gaps_are_exponential_and_truncated() -> None:
    schedule = PoissonSchedule(random.Random(3), now_ns=0, rate_per_s=10)
    gaps = []
    for _ in range(4000):
        before_ns = schedule.next_at_ns
        schedule.advance(before_ns)
        gaps.append(schedule.next_at_ns - before_ns)
    mean = fmean(gaps)
    assert mean == pytest.approx(100 * MS, rel=0.05)
    # The standard deviation of an exponential distribution is its mean.
    assert fmean((gap - mean) ** 2 for gap in gaps) ** 0.5 == pytest.approx(mean, rel=0.08)
    assert max(gaps) <= LONGEST_GAP_NS


def test_times_that_were_missed_become_one_probe_and_not_a_burst() -> None:
    schedule = PoissonSchedule(random.Random(3), now_ns=0, rate_per_s=10)
    for now_ns in (10 * S, 10**6 * S):
        schedule.advance(now_ns)
        assert now_ns < schedule.next_at_ns <= now_ns + LONGEST_GAP_NS
