from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from prober.clock_state import ClockState
from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.stamp.authentication import StampKey
from prober.stamp.datagram import Datagram
from prober.stamp.extension_trial import PLAIN_AFTER_ANSWERS
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.probe_extension import Answers, ProbeExtension
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.session import SenderSession
from prober.stamp.session_tally import ReflectorKind
from prober.stamp.tlv import FollowUp, Tlv, TlvType
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


def came(data: bytes, at_ns: int, *, ttl: int = 255) -> Datagram:
    return Datagram(data, PEER, 862, ttl, at_ns)


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
        reply = plain_reply(probe.data, number, left_ns, ptp=ptp)
        sender.reply(came(reply, left_ns + THERE_NS + INSIDE_NS + BACK_NS, ttl=252))
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
    with pytest.raises(ProbeError, match="reply-to-no-probe"):
        sender.reply(came(plain_reply(other.data, 0, START_NS), START_NS + MS))
    with pytest.raises(ProbeError, match="reply-too-short"):
        sender.reply(came(probe.data[:20], START_NS + MS))


def test_a_copy_of_a_reply_is_a_duplicate_and_no_second_sample() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    probe = sender.probe(START_NS, CLOCK)
    sender.transmitted(probe.sequence, START_NS)
    for _ in range(2):
        sender.reply(came(plain_reply(probe.data, 0, START_NS), START_NS + 9 * MS))
    assert segment.events[Event.DUPLICATE] == 1
    assert segment.round_trips.count(START_NS + S, 60) == 1


def test_the_reflector_is_not_told_when_a_reply_came_that_a_step_of_the_own_clock_crossed() -> None:
    sender = session(Segment(PEER))
    now_ns = START_NS + S
    probes = [sender.probe(now_ns, CLOCK), sender.probe(now_ns + MS, CLOCK)]
    sender.clock_stepped(now_ns + 3 * S, step_ns=3 * S)
    probes.append(sender.probe(now_ns + 3 * S, CLOCK))
    for number in (1, 2):  # one from before the step, one from behind it
        reply = plain_reply(probes[number].data, number, now_ns)
        sender.reply(came(reply, now_ns + 3 * S + number * MS))
    told = [sender.probe(now_ns + 4 * S + number, CLOCK) for number in range(4)]
    follow_ups = [
        ProbeExtension(SenderPacket.from_bytes(probe.data).extension).sender_follow_up() for probe in told
    ]
    answered = [one.answered_sequence for one in follow_ups if one and one.reply_received]
    assert answered == [probes[2].sequence]


def test_a_round_trip_that_only_a_clock_step_explains_is_no_sample() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    for number, late_ns in enumerate((GREATEST_ROUND_TRIP_NS + S, -S)):
        probe = sender.probe(START_NS + number, CLOCK)
        sender.transmitted(probe.sequence, START_NS)
        sender.reply(came(plain_reply(probe.data, number, START_NS), START_NS + late_ns))
    assert segment.events[Event.ABSURD] == 2
    assert segment.round_trips.count(START_NS + S, 60) == 0


def test_an_endless_silence_fills_no_memory() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    first = sender.probe(START_NS, CLOCK)
    sender.transmitted(first.sequence, START_NS)
    sender.reply(came(plain_reply(first.data, 0, START_NS), START_NS + 9 * MS))
    now_ns = START_NS
    while now_ns < START_NS + 200 * S:
        now_ns = sender.next_send_at_ns()
        sender.probe(now_ns, CLOCK)
    assert len(segment.unanswered) == pytest.approx(600, abs=100)
    told = segment.statistics(["loss"], now_ns=now_ns, clock=CLOCK)["loss"]
    assert isinstance(told, LossStatistics) and told.lost == told.sent > 400


KEY = StampKey(bytes(range(32)))


class ForeignReflector:
    """Answers by the layouts of the standards alone, in some foreign way, over a link without delay of its own."""

    def __init__(
        self,
        *,
        stateless: bool = False,
        extension: Callable[[bytes], bytes] = lambda came: b"",
        drops_extended: bool = False,
        size: int | None = None,
        ssid: Callable[[int], int] = lambda came: came,
        clock_ahead_ns: int = 0,
        key: StampKey | None = None,
    ) -> None:
        self.stateless, self.extension, self.drops_extended = stateless, extension, drops_extended
        self.size, self.ssid, self.clock_ahead_ns, self.key = size, ssid, clock_ahead_ns, key
        self.number = 0
        self.extended: list[bool] = []

    def answer(self, probe: bytes, sent_at_ns: int) -> bytes | None:
        packet = SenderPacket.from_bytes(probe, self.key)
        self.extended.append(bool(packet.extension))
        if packet.extension and self.drops_extended:
            return None
        received_ns = sent_at_ns + THERE_NS + self.clock_ahead_ns
        reply = ReflectorPacket(
            sequence=packet.sequence if self.stateless else self.number,
            timestamp=ntp_from_unix_ns(received_ns + INSIDE_NS),
            error=ErrorEstimate.from_int(0x8F84),
            received=ntp_from_unix_ns(received_ns),
            sender_sequence=packet.sequence,
            sender_timestamp=packet.timestamp,
            sender_error=packet.error,
            sender_ttl=250,
            ssid=self.ssid(packet.ssid),
            extension=self.extension(packet.extension),
        )
        self.number += 1
        return reply.to_bytes(self.key)[: self.size]


def measured(
    reflector: ForeignReflector, *, probes: int = 100, probe_format: ProbeFormat | None = None, lost: str = "."
) -> tuple[SenderSession, Segment, int]:
    """A session to the reflector; `lost` says by turns what is lost: `t`here, `b`ack or nothing."""
    segment = Segment(PEER)
    sender = SenderSession(segment, random_source=random.Random(5), now_ns=START_NS, probe_format=probe_format)
    now_ns = START_NS
    for number in range(probes):
        now_ns = sender.next_send_at_ns()
        probe = sender.probe(now_ns, CLOCK)
        sender.transmitted(probe.sequence, now_ns)
        fate = lost[number % len(lost)]
        reply = None if fate == "t" else reflector.answer(probe.data, now_ns)
        if reply is not None and fate != "b":
            sender.reply(came(reply, now_ns + THERE_NS + INSIDE_NS + BACK_NS, ttl=252))
    sender.finish()
    return sender, segment, now_ns + S


def assert_true_delays(segment: Segment, now_ns: int) -> None:
    there = segment.outbound_statistics(["delay"], now_ns=now_ns, clock=CLOCK)["delay"]
    told = segment.statistics(["delay", "rtt"], now_ns=now_ns, clock=CLOCK)
    back, round_trip = told["delay"], told["rtt"]
    assert isinstance(there, DelayStatistics) and isinstance(back, DelayStatistics)
    assert isinstance(round_trip, RoundTripStatistics)
    assert there.mean_ms == pytest.approx(THERE_NS / MS, abs=1e-5)
    assert back.mean_ms == pytest.approx(BACK_NS / MS, abs=1e-5)
    assert round_trip.mean_ms == pytest.approx((THERE_NS + BACK_NS) / MS, abs=1e-5)


def losses(segment: Segment, now_ns: int) -> tuple[int, int]:
    there = segment.outbound_statistics(["loss"], now_ns=now_ns, clock=CLOCK)["loss"]
    back = segment.statistics(["loss"], now_ns=now_ns, clock=CLOCK)["loss"]
    assert isinstance(there, LossStatistics) and isinstance(back, LossStatistics)
    return there.lost, back.lost


@pytest.mark.parametrize("stateless", [False, True])
@pytest.mark.parametrize(
    "extension",
    [lambda came: b"", lambda came: came, lambda came: bytes(len(came))],
    ids=["cut", "copied", "zeroed"],
)
def test_a_reflector_without_tlvs_is_measured_and_gets_plain_probes_soon(
    extension: Callable[[bytes], bytes], *, stateless: bool
) -> None:
    reflector = ForeignReflector(extension=extension, stateless=stateless)
    sender, segment, now_ns = measured(reflector)
    assert_true_delays(segment, now_ns)
    assert losses(segment, now_ns) == (0, 0)
    assert reflector.extended[:4] == [True, False, True, False]
    assert not any(reflector.extended[PLAIN_AFTER_ANSWERS:])
    assert not sender.is_extended
    assert sender.tally.reflector is ReflectorKind.UNKNOWN
    assert segment.outbound.delays.count(now_ns, 60) == 100


def test_a_reflector_that_drops_extended_probes_is_measured_without_a_loss() -> None:
    reflector = ForeignReflector(drops_extended=True)
    sender, segment, now_ns = measured(reflector)
    assert_true_delays(segment, now_ns)
    assert losses(segment, now_ns) == (0, 0)
    assert (sender.tally.sent, sender.tally.answered) == (100 - PLAIN_AFTER_ANSWERS, 100 - PLAIN_AFTER_ANSWERS)
    assert sender.tally.lost_there == sender.tally.lost_back == 0
    assert not segment.unanswered


def test_real_losses_to_a_reflector_that_drops_extended_probes_are_still_seen() -> None:
    # Each twentieth probe is lost on the way out and each twentieth reply on the way back, after the trial.
    reflector = ForeignReflector(drops_extended=True)
    _, segment, now_ns = measured(reflector, probes=300, lost="." * 19 + "t" + "." * 19 + "b")
    there, back = losses(segment, now_ns)
    assert there == pytest.approx(7, abs=1)
    assert back == pytest.approx(7, abs=1)


def test_a_stateless_reflector_that_answers_follow_ups_with_zeros_is_believed_in_its_packets() -> None:
    def zero_follow_up(came: bytes) -> bytes:
        return ProbeExtension(came).answered(Answers())

    sender, segment, now_ns = measured(ForeignReflector(extension=zero_follow_up, stateless=True))
    assert_true_delays(segment, now_ns)
    assert sender.tally.reflector is ReflectorKind.STATELESS
    assert sender.is_extended
    assert segment.outbound.delays.count(now_ns, 60) == 100


@pytest.mark.parametrize(("size", "hops"), [(38, None), (41, 5), (44, 5)])
def test_a_twamp_light_reflector_that_cuts_its_replies_is_measured(size: int, hops: int | None) -> None:
    sender, segment, now_ns = measured(ForeignReflector(size=size, ssid=lambda came: 0))
    assert_true_delays(segment, now_ns)
    assert sender.outbound_hops == hops


@pytest.mark.parametrize("returned", [0, 77])
def test_an_ssid_may_be_missing_in_replies(returned: int) -> None:
    reflector = ForeignReflector(ssid=lambda came: returned)
    _, segment, now_ns = measured(reflector, probe_format=ProbeFormat(ssid=77))
    assert_true_delays(segment, now_ns)


def test_a_reply_of_another_ssid_is_refused() -> None:
    with pytest.raises(ProbeError, match="wrong-ssid"):
        measured(ForeignReflector(ssid=lambda came: 78), probe_format=ProbeFormat(ssid=77))


def test_a_reflector_whose_clock_was_never_set_gives_the_round_trip_and_no_other_delay() -> None:
    for ahead_ns in (20 * 365 * 86_400 * S, -START_NS):
        sender, segment, now_ns = measured(ForeignReflector(clock_ahead_ns=ahead_ns))
        told = segment.statistics(["delay", "rtt"], now_ns=now_ns, clock=CLOCK)
        round_trip = told["rtt"]
        assert isinstance(round_trip, RoundTripStatistics)
        assert round_trip.mean_ms == pytest.approx((THERE_NS + BACK_NS) / MS, abs=1e-5)
        assert "delay" not in told
        assert "delay" not in segment.outbound_statistics(["delay"], now_ns=now_ns, clock=CLOCK)
        assert sender.tally.answered == 100


def test_authenticated_replies_alone_are_taken_by_a_session_with_a_key() -> None:
    _, segment, now_ns = measured(ForeignReflector(key=KEY), probe_format=ProbeFormat(key=KEY))
    assert_true_delays(segment, now_ns)
    sender = SenderSession(
        Segment(PEER), random_source=random.Random(5), now_ns=START_NS, probe_format=ProbeFormat(key=KEY)
    )
    probe = sender.probe(START_NS, CLOCK)
    unauthenticated = plain_reply(SenderPacket.from_bytes(probe.data, KEY).to_bytes(), 0, START_NS)
    with pytest.raises(ProbeError, match="not-authenticated"):
        sender.reply(came(unauthenticated, START_NS + MS))
    forged = ForeignReflector(key=KEY).answer(probe.data, START_NS)
    assert forged is not None
    with pytest.raises(ProbeError, match="wrong-authentication"):
        sender.reply(came(forged[:-1] + bytes((forged[-1] ^ 1,)), START_NS + MS))
    assert not sender.all_answered


def test_tlvs_of_a_reply_that_were_changed_are_void_and_counted() -> None:
    def forged(came: bytes) -> bytes:
        return Tlv(0, TlvType.FOLLOW_UP, FollowUp(0, 1 << 63).to_value()).to_bytes() if came else b""

    faults: Counter[ProbeFault] = Counter()
    segment = Segment(PEER)
    sender = SenderSession(
        segment,
        random_source=random.Random(5),
        now_ns=START_NS,
        probe_format=ProbeFormat(key=KEY),
        faults=faults,
    )
    probe = sender.probe(START_NS, CLOCK)
    sender.transmitted(probe.sequence, START_NS)
    reply = ForeignReflector(key=KEY, extension=forged).answer(probe.data, START_NS)
    assert reply is not None
    sender.reply(came(reply, START_NS + THERE_NS + INSIDE_NS + BACK_NS))
    assert faults[ProbeFault.TLV_INTEGRITY] == 1
    assert segment.outbound.delays.count(START_NS + S, 60) == 1


def test_a_replayed_reply_is_no_sample() -> None:
    segment = Segment(PEER)
    sender = session(segment)
    replies = []
    for number in range(20):
        now_ns = START_NS + number * 100 * MS
        probe = sender.probe(now_ns, CLOCK)
        sender.transmitted(probe.sequence, now_ns)
        replies.append(plain_reply(probe.data, number, now_ns))
        sender.reply(came(replies[-1], now_ns + 9 * MS))
    sender.finish()
    for reply in replies:
        sender.reply(came(reply, START_NS + 3 * S))
    assert segment.events[Event.DUPLICATE] == 20
    assert segment.round_trips.count(START_NS + 3 * S, 60) == 20
    sender.probe(START_NS + 20 * S, CLOCK)
    for reply in replies:
        with pytest.raises(ProbeError, match="reply-to-no-probe"):
            sender.reply(came(reply, START_NS + 20 * S))
