"""Session-Sender of one segment (RFC 8762 section 4.2): when to send, what a reply means.

A probe gives delay samples when its four times are known: T1 (kernel, own), T2 (in the reply), T3 (in the next
reply's follow-up, or in the reply itself when the reflector gives none) and T4 (kernel, own). If the next reply
is lost, the probe counts for loss but gives no delay. If the kernel never tells T1, the time at which the
packet was written stands in for it after TX_STAMP_WAIT_NS, and the announced error becomes wider.

Loss: the reflector numbers its replies, so a number missing there was lost on the way back, and an unanswered
probe without a missing number was lost on the way out. A stateless reflector copies our numbers; all its
round-trip loss then appears on the way back.

Foreign reflectors: TLVs are sent as long as the peer may know them (`ExtensionTrial`). One that answers the
Follow-Up TLV with zeros for ever, as a stateless one must, is believed in the time that stands in its replies.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import NamedTuple

from prober.clock_state import ClockState
from prober.segment import AnnouncedErrors, Event, Segment
from prober.stamp.authentication import StampKey
from prober.stamp.common_times import CommonSchedule
from prober.stamp.datagram import Datagram
from prober.stamp.exchange import Exchange
from prober.stamp.extension_trial import ExtensionTrial
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import SEQUENCE_MODULUS, ReflectorPacket, SenderPacket, routers_crossed
from prober.stamp.poisson_schedule import PoissonSchedule
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reply_count import ReplyCount
from prober.stamp.reply_reader import ReplyReader
from prober.stamp.session_tally import SessionTally
from prober.stamp.tlv import FollowUp, SenderFollowUp
from prober.stamp.usual_packet import UsualReply, usual_probe
from prober.timestamp import NS_PER_MS, NS_PER_S, ntp_from_unix_ns
from prober.windows.sequence_tracker import Arrival
from prober.windows.window import LONGEST_WINDOW_S
from schemas.errors import ProbeError

DEFAULT_RATE_PER_S = 10.0
TX_STAMP_WAIT_NS = 200 * NS_PER_MS
EXCHANGE_LIFETIME_NS = 5 * NS_PER_S
"""How long a probe is remembered for its reply and its follow-up."""
MAX_EXCHANGES = 1024
MAX_EARLY_FOLLOW_UPS = 64
"""Departure times kept for packets that are still on their way."""
MAX_UNTOLD_REPLIES = 8
"""Replies whose T4 waits for a probe that can carry it."""
_NOISE_BYTES = 64
_FORGET_EVERY_NS = NS_PER_S


class Probe(NamedTuple):
    """A datagram to send."""

    peer: str
    sequence: int
    data: bytes
    tos: int = 0
    """The octet of DSCP and ECN for its IP header."""


class SenderSession:
    """Probes one peer and writes what it learns into `segment`.

    Args:
        segment: where samples go.
        random_source: draws the gaps between probes, and what fills them up.
        now_ns: start, own wall clock; the first probe follows one gap later.
        rate_per_s: expected probes per second.
        schedule: when probes are sent; without it, by gaps that are drawn for them alone.
        first_sequence: number of the first probe.
        probe_format: how probes look; with its key only authenticated replies are taken.
        faults: where troubles are counted that lose no reply.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        random_source: random.Random,
        now_ns: int,
        rate_per_s: float = DEFAULT_RATE_PER_S,
        first_sequence: int = 0,
        probe_format: ProbeFormat | None = None,
        faults: Counter[ProbeFault] | None = None,
        schedule: CommonSchedule | None = None,
    ) -> None:
        self._segment = segment
        self._format = probe_format or ProbeFormat()
        self._faults: Counter[ProbeFault] = Counter() if faults is None else faults
        self._tos = self._format.tos
        self._noise = random_source.randbytes(_NOISE_BYTES) if self._format.size_bytes else b""
        self._trial = ExtensionTrial(wanted=self._format.has_extensions)
        self.tally = SessionTally()
        self.outbound_hops: int | None = None
        """Routers between this point and the peer, from the TTL with which the newest probe arrived there."""
        self.replies = ReplyReader(self._format.key, self._faults, self.tally)
        self._schedule = schedule or PoissonSchedule(random_source, now_ns=now_ns, rate_per_s=rate_per_s)
        self._next_sequence = first_sequence
        self._exchanges: dict[int, Exchange] = {}
        self._previous: Exchange | None = None
        self._unfollowed: dict[int, Exchange] = {}
        self._early_follow_ups: dict[int, int] = {}
        self._untold_replies: deque[tuple[int, int]] = deque(maxlen=MAX_UNTOLD_REPLIES)
        self._count = ReplyCount(segment)
        self._may_be_usual = not self._format.ssid
        self._writes_usual = self._format.is_usual
        self._errors = AnnouncedErrors()
        self._forgot_at_ns = now_ns

    @property
    def key(self) -> StampKey | None:
        """Of its probes and replies."""
        return self._format.key

    @property
    def is_extended(self) -> bool:
        """The peer has answered our TLVs."""
        return self._trial.works

    @property
    def all_answered(self) -> bool:
        """No probe waits for its answer any more."""
        return all(exchange.answered for exchange in self._exchanges.values())

    def next_send_at_ns(self) -> int:
        """When `probe` is due."""
        return self._schedule.next_at_ns

    def restart_schedule(self, now_ns: int) -> None:
        """Forget the planned time."""
        self._schedule.restart(now_ns)

    def clock_stepped(self, now_ns: int, *, step_ns: int) -> None:
        """The own clock was set: plans and half-known times mean nothing any more, but replies still count.

        Args:
            now_ns: own clock, after the step.
            step_ns: how far it was set, forward positive.
        """
        self.restart_schedule(now_ns)
        for exchange in self._exchanges.values():
            exchange.written_at_ns += step_ns
            exchange.crosses_step = True
        self._unfollowed.clear()
        self._early_follow_ups.clear()
        self._untold_replies.clear()
        self._previous = None

    def probe(self, now_ns: int, clock: ClockState) -> Probe:
        """Write the next probe; `now_ns` is its T1 until the kernel tells a better one."""
        if abs(now_ns - self._forgot_at_ns) >= _FORGET_EVERY_NS or len(self._exchanges) >= MAX_EXCHANGES:
            self._forgot_at_ns = now_ns
            self._forget(now_ns)
        self._schedule.advance(now_ns)
        sequence = self._next_sequence
        self._next_sequence = (sequence + 1) % SEQUENCE_MODULUS
        extended, segment, key = self._trial.extends(), self._segment, self._format.key
        timestamp = ntp_from_unix_ns(now_ns)
        if extended and self._writes_usual:
            told = self._told(now_ns)
            data = usual_probe(
                sequence=sequence,
                timestamp=timestamp,
                error=self._errors.bits(clock, coarse=segment.user_stamped),
                told=told,
                interfaces=segment.told_interfaces,
                key=key,
            )
        else:
            extension = self._extension(sequence, now_ns) if extended else self._format.plain_extension()
            # Without TLVs the time in the packet is all that its reader has.
            error = segment.own_error(clock, user_stamped=segment.user_stamped or not extended)
            data = SenderPacket(sequence, timestamp, error, self._format.ssid, extension).to_bytes(key)
        self._previous = self._exchanges[sequence] = Exchange(sequence, now_ns, timestamp, extended=extended)
        # A peer that never answered is not there, and one that may drop extended probes gets them on trial.
        if self._count.is_answered and (self._trial.extended_answered or not extended):
            segment.unanswered[sequence] = now_ns
        segment.events[Event.SENT] += 1
        self.tally.probe_sent(extended=extended)
        return Probe(segment.peer, sequence, data, self._tos)

    def transmitted(self, sequence: int, at_ns: int) -> None:
        """The kernel tells when a probe left."""
        exchange = self._exchanges.get(sequence)
        if exchange and exchange.transmitted_at_ns is None:
            exchange.transmitted_at_ns = at_ns
            if exchange.reflected_number is not None:
                self._settle(exchange)

    def reply(self, datagram: Datagram) -> None:
        """Take a reply in.

        Raises:
            ProbeError: no STAMP reply, or to none of its probes; the text is a ProbeFault.
        """
        key = self._format.key
        usual = UsualReply.from_bytes(datagram.data, key) if self._may_be_usual else None
        packet = usual or ReflectorPacket.from_bytes(datagram.data, key)
        exchange = self._exchange_of(packet)
        at_ns = datagram.received_at_ns
        self._count.give_up(at_ns)
        segment = self._segment
        segment.events[Event.RECEIVED] += 1
        segment.hops = routers_crossed(datagram.ttl)
        self.outbound_hops = routers_crossed(packet.sender_ttl)
        segment.peer_error = packet.error
        written_at_ns = packet.error.unix_ns(packet.timestamp, at_ns)
        number = self._counted(packet, exchange, written_at_ns, at_ns)
        follow_up = self._follow_up(packet) if exchange.extended else None
        segment.heard_interfaces = self.replies.interfaces
        self._note_answer(packet, exchange, understood=follow_up is not None)
        if follow_up and follow_up.transmitted:
            transmitted_at_ns = packet.error.unix_ns(follow_up.transmitted, at_ns)
            self._followed(self._count.reply_number(follow_up.sequence), transmitted_at_ns)
        if number is None or exchange.reflected_number is not None:
            return
        exchange.reflected_number = number
        exchange.reflector_received_at_ns = packet.error.unix_ns(packet.received, at_ns)
        exchange.received_at_ns = at_ns
        exchange.user_stamped |= datagram.user_stamped
        if not exchange.crosses_step:
            self._untold_replies.append((exchange.sequence, at_ns))
        exchange.reflector_written_at_ns = written_at_ns
        self._unfollowed[number] = exchange
        if number in self._early_follow_ups:
            self._followed(number, self._early_follow_ups.pop(number))
        if not self._trial.may_work or self.replies.tells_nothing:
            self._stop_waiting()

    def finish(self) -> None:
        """Take the samples that wait for a follow-up which may never come: no further probe is sent."""
        if not self._trial.works:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        """No follow-up will come: the times that stand in the replies are all there is."""
        while self._unfollowed:
            self._take_as_written(self._unfollowed.pop(next(iter(self._unfollowed))))

    def _take_as_written(self, exchange: Exchange) -> None:
        exchange.reflector_transmitted_at_ns = exchange.reflector_written_at_ns
        self._settle(exchange)

    def _exchange_of(self, packet: UsualReply | ReflectorPacket) -> Exchange:
        """The probe that the reply answers; a reflector without RFC 8972 returns no SSID (section 3 there)."""
        exchange = self._exchanges.get(packet.sender_sequence)
        if exchange is None or exchange.timestamp != packet.sender_timestamp:
            raise ProbeError(ProbeFault.UNASKED_REPLY)
        if self._format.ssid and packet.ssid not in (0, self._format.ssid):
            raise ProbeError(ProbeFault.WRONG_SSID)
        return exchange

    def _note_answer(self, packet: UsualReply | ReflectorPacket, exchange: Exchange, *, understood: bool) -> None:
        """Count for the tally and the trial."""
        alike = packet.sequence == packet.sender_sequence
        self.tally.reply_numbered(self._count.reply_number(packet.sequence), like_probe=alike)
        if exchange.answered:
            return
        exchange.answered = True
        self.tally.probe_answered(extended=exchange.extended)
        given_up = self._trial.answered(extended=exchange.extended, understood=understood)
        if given_up and not self._trial.extended_answered:
            self._count.begin_anew()

    def _extension(self, sequence: int, now_ns: int) -> bytes:
        return self._format.extension(sequence, self._told(now_ns), self._noise, self._segment.told_interfaces)

    def _told(self, now_ns: int) -> SenderFollowUp:
        sent_sequence = sent = 0
        previous = self._previous
        if previous:
            if previous.transmitted_at_ns is None:
                self._stand_in(previous, now_ns)
            if previous.transmitted_at_ns is not None:
                sent_sequence, sent = previous.sequence, ntp_from_unix_ns(previous.transmitted_at_ns)
        answered_sequence = received = 0
        if self._untold_replies:
            answered_sequence, at_ns = self._untold_replies.popleft()
            received = ntp_from_unix_ns(at_ns)
        return SenderFollowUp(sent_sequence, sent, answered_sequence, received)

    def _stand_in(self, exchange: Exchange, now_ns: int) -> None:
        if now_ns - exchange.written_at_ns >= TX_STAMP_WAIT_NS:
            exchange.user_stamped = True
            self.transmitted(exchange.sequence, exchange.written_at_ns)

    def _counted(
        self, packet: UsualReply | ReflectorPacket, exchange: Exchange, written_at_ns: int, at_ns: int
    ) -> int | None:
        """Count a reply; its unwrapped number, or None when it can give no delay."""
        # A point of ours swallows copies of extended probes, so nothing tells of them here.
        self._segment.outbound.arrivals.shows_copies = not self.is_extended
        arrival, number = self._count.count(
            packet.sequence, exchange, transmitted_at_ns=written_at_ns, at_ns=at_ns
        )
        if arrival is Arrival.RESTARTED:
            self._unfollowed.clear()
            self._early_follow_ups.clear()
        return number

    def _follow_up(self, packet: UsualReply | ReflectorPacket) -> FollowUp | None:
        if isinstance(packet, ReflectorPacket):
            return self.replies.follow_up(packet)
        self.replies.take(packet.follow_up, packet.interfaces)
        return packet.follow_up

    def _followed(self, number: int, at_ns: int) -> None:
        exchange = self._unfollowed.pop(number, None)
        if exchange:
            exchange.reflector_transmitted_at_ns = at_ns
            self._settle(exchange)
            return
        # A slow reply is overtaken by its follow-up; without it the slow ones would be missing in the mean.
        self._early_follow_ups[number] = at_ns
        if len(self._early_follow_ups) > MAX_EARLY_FOLLOW_UPS:
            del self._early_follow_ups[next(iter(self._early_follow_ups))]

    def _settle(self, exchange: Exchange) -> None:
        exchange.settle(self._segment, self._count.probe_number(exchange.sequence), self._faults)

    def _forget(self, now_ns: int) -> None:
        """Bound the memory by age: of the exchanges, and of the unanswered probes to those of the window."""
        for sequence, exchange in list(self._exchanges.items()):
            if now_ns - exchange.written_at_ns <= EXCHANGE_LIFETIME_NS and len(self._exchanges) < MAX_EXCHANGES:
                break
            del self._exchanges[sequence]
        for number, exchange in list(self._unfollowed.items()):
            if now_ns - exchange.received_at_ns <= EXCHANGE_LIFETIME_NS:
                break
            del self._unfollowed[number]
            if not self._trial.works:
                self._take_as_written(exchange)
        unanswered = self._segment.unanswered
        for sequence, sent_at_ns in list(unanswered.items()):
            if now_ns - sent_at_ns <= LONGEST_WINDOW_S * NS_PER_S:
                break
            del unanswered[sequence]
