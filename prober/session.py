"""Session-Sender of one segment (RFC 8762 section 4.2): when to send, what a reply means.

A probe gives delay samples when its four times are known: T1 (kernel, own), T2 (in the reply), T3 (in the next
reply's follow-up, or in the reply itself when the reflector gives none) and T4 (kernel, own). If the next reply
is lost, the probe counts for loss but gives no delay. If the kernel never tells T1, the time at which the
packet was written stands in for it after TX_STAMP_WAIT_NS, and the announced error becomes wider.

Loss: the reflector numbers its replies, so a number missing there was lost on the way back, and an unanswered
probe without a missing number was lost on the way out. A stateless reflector copies our numbers; all its
round-trip loss then appears on the way back.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from prober.clock_state import ClockState
from prober.packet import (
    SEQUENCE_MODULUS,
    ReflectorPacket,
    SenderFollowUp,
    SenderPacket,
    sender_extension,
)
from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.sequence_tracker import Arrival, SequenceTracker
from prober.timestamp import NS_PER_MS, NS_PER_S, ntp_from_unix_ns, unix_ns_from_ntp
from prober.window import LONGEST_WINDOW_S
from schemas.errors import ProbeError

DEFAULT_RATE_PER_S = 10.0
LONGEST_GAP_NS = NS_PER_S
"""Truncated Poisson (RFC 7312 section 4.6): no reader of the window waits longer for the next probe."""
TX_STAMP_WAIT_NS = 200 * NS_PER_MS
EXCHANGE_LIFETIME_NS = 5 * NS_PER_S
"""How long a probe is remembered for its reply and its follow-up."""
MAX_EXCHANGES = 1024
MAX_EARLY_FOLLOW_UPS = 64
"""Departure times kept for packets that are still on their way."""
_MAX_UNTOLD = 8
"""Replies whose T4 waits for a probe that can carry it."""
_CREDIT_LIFETIME_NS = 5 * NS_PER_S
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Probe:
    """A datagram to send."""

    peer: str
    sequence: int
    data: bytes


@dataclass(slots=True)
class _Exchange:
    """The times of one probe, each None until it is known."""

    sequence: int
    written_at_ns: int
    timestamp: int
    """T1 as it stands in the packet; an answer repeats it."""
    transmitted_at_ns: int | None = None
    user_stamped: bool = False
    reflected_number: int | None = None
    reflector_received_at_ns: int = 0
    reflector_transmitted_at_ns: int | None = None
    received_at_ns: int = 0


class PoissonSchedule:
    """Send times with exponential gaps, fixed in advance: a late send delays no later one (RFC 2330 11.1.3).

    Times that were missed are merged into one: a burst after a pause would measure its own queue.
    """

    def __init__(self, random_source: random.Random, *, now_ns: int, rate_per_s: float) -> None:
        self._random = random_source
        self._rate_per_s = rate_per_s
        self.next_at_ns = now_ns + self._gap_ns()

    def advance(self, now_ns: int) -> None:
        """Go to the first time after `now_ns`."""
        while self.next_at_ns <= now_ns:
            self.next_at_ns += self._gap_ns()
            if now_ns - self.next_at_ns > LONGEST_GAP_NS:
                self.next_at_ns = now_ns

    def restart(self, now_ns: int) -> None:
        """Begin anew, after a step of the clock."""
        self.next_at_ns = now_ns + self._gap_ns()

    def _gap_ns(self) -> int:
        return min(max(1, round(self._random.expovariate(self._rate_per_s) * NS_PER_S)), LONGEST_GAP_NS)


class SenderSession:
    """Probes one peer and writes what it learns into `segment`.

    Args:
        segment: where samples go.
        random_source: draws the gaps between probes.
        now_ns: start, own wall clock; the first probe follows one gap later.
        rate_per_s: expected probes per second.
        first_sequence: number of the first probe.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        random_source: random.Random,
        now_ns: int,
        rate_per_s: float = DEFAULT_RATE_PER_S,
        first_sequence: int = 0,
    ) -> None:
        self._segment = segment
        self._schedule = PoissonSchedule(random_source, now_ns=now_ns, rate_per_s=rate_per_s)
        self._next_sequence = first_sequence
        self._exchanges: dict[int, _Exchange] = {}
        self._previous: _Exchange | None = None
        self._unfollowed: dict[int, _Exchange] = {}
        self._early_follow_ups: dict[int, int] = {}
        self._untold_replies: deque[tuple[int, int]] = deque(maxlen=_MAX_UNTOLD)
        self._answered = SequenceTracker()
        self._replies = SequenceTracker()
        self._lost_replies = 0
        self._lost_reply_at_ns = 0

    def next_send_at_ns(self) -> int:
        """When `probe` is due."""
        return self._schedule.next_at_ns

    def restart_schedule(self, now_ns: int) -> None:
        """Forget the planned time, after a step of the clock."""
        self._schedule.restart(now_ns)

    def probe(self, now_ns: int, clock: ClockState) -> Probe:
        """Write the next probe; `now_ns` is its T1 until the kernel tells a better one."""
        self._forget(now_ns)
        self._schedule.advance(now_ns)
        sequence = self._next_sequence
        self._next_sequence = (sequence + 1) % SEQUENCE_MODULUS
        packet = SenderPacket(
            sequence,
            ntp_from_unix_ns(now_ns),
            self._segment.own_error(clock, user_stamped=self._segment.user_stamped),
            extension=sender_extension(self._told(now_ns)),
        )
        self._previous = self._exchanges[sequence] = _Exchange(sequence, now_ns, packet.timestamp)
        if self._answered.highest >= 0:  # a peer that never answered is not there; that is no loss
            self._segment.unanswered[sequence] = now_ns
        self._segment.events[Event.SENT] += 1
        return Probe(self._segment.peer, sequence, packet.to_bytes())

    def transmitted(self, sequence: int, at_ns: int) -> None:
        """The kernel tells when a probe left."""
        exchange = self._exchanges.get(sequence)
        if exchange and exchange.transmitted_at_ns is None:
            exchange.transmitted_at_ns = at_ns
            self._complete(exchange)

    def reply(self, data: bytes, *, ttl: int, received_at_ns: int, user_stamped: bool = False) -> None:
        """Take a reply in.

        Args:
            data: UDP payload.
            ttl: TTL of its IP header.
            received_at_ns: T4.
            user_stamped: T4 is not the kernel's.

        Raises:
            ProbeError: no STAMP reply, or not to a probe of this session.
        """
        packet = ReflectorPacket.from_bytes(data)
        exchange = self._exchanges.get(packet.sender_sequence)
        if exchange is None or exchange.timestamp != packet.sender_timestamp:
            raise ProbeError("a reply answers no probe of this session")
        self._give_up(received_at_ns)
        segment = self._segment
        segment.events[Event.RECEIVED] += 1
        segment.hops = 255 - ttl
        segment.peer_error = packet.error
        number = self._count(packet, exchange, received_at_ns)
        follow_up = packet.follow_up()
        if follow_up and follow_up.transmitted:
            at_ns = unix_ns_from_ntp(follow_up.transmitted, received_at_ns)
            self._followed(self._replies.unwrap(follow_up.sequence), at_ns)
        if number is None or exchange.reflected_number is not None:
            return
        exchange.reflected_number = number
        exchange.reflector_received_at_ns = packet.error.unix_ns(packet.received, received_at_ns)
        exchange.received_at_ns = received_at_ns
        exchange.user_stamped |= user_stamped
        self._untold_replies.append((exchange.sequence, received_at_ns))
        if follow_up:
            self._unfollowed[number] = exchange
            if number in self._early_follow_ups:
                self._followed(number, self._early_follow_ups.pop(number))
        else:
            exchange.reflector_transmitted_at_ns = packet.error.unix_ns(packet.timestamp, received_at_ns)
            self._complete(exchange)

    def _told(self, now_ns: int) -> SenderFollowUp:
        sent_sequence = sent = 0
        previous = self._previous
        if previous:
            self._stand_in(previous, now_ns)
            if previous.transmitted_at_ns is not None:
                sent_sequence, sent = previous.sequence, ntp_from_unix_ns(previous.transmitted_at_ns)
        answered_sequence = received = 0
        if self._untold_replies:
            answered_sequence, at_ns = self._untold_replies.popleft()
            received = ntp_from_unix_ns(at_ns)
        return SenderFollowUp(sent_sequence, sent, answered_sequence, received)

    def _stand_in(self, exchange: _Exchange, now_ns: int) -> None:
        if exchange.transmitted_at_ns is None and now_ns - exchange.written_at_ns >= TX_STAMP_WAIT_NS:
            exchange.user_stamped = True
            self.transmitted(exchange.sequence, exchange.written_at_ns)

    def _count(self, packet: ReflectorPacket, exchange: _Exchange, at_ns: int) -> int | None:
        """Count a reply for loss; its unwrapped number, or None when it can give no delay."""
        segment = self._segment
        transmitted_at_ns = packet.error.unix_ns(packet.timestamp, at_ns)
        back = self._replies.received(packet.sequence, sent_at_ns=transmitted_at_ns, at_ns=at_ns)
        if back is Arrival.RESTARTED:
            self._restart(exchange)
        if back is Arrival.DUPLICATE:
            segment.events[Event.DUPLICATE] += 1
            segment.inbound.losses.duplicate(at_ns)
            return None
        if back is Arrival.LATE:
            segment.events[Event.LATE] += 1
            return None
        segment.inbound.losses.received(at_ns)
        return self._replies.unwrap(packet.sequence) if self._count_outbound(exchange, at_ns) else None

    def _restart(self, exchange: _Exchange) -> None:
        """The peer began anew: what was sent while it was away is no loss of the network."""
        self._segment.events[Event.RESTART] += 1
        self._answered = SequenceTracker()
        self._unfollowed.clear()
        self._early_follow_ups.clear()
        self._lost_replies = 0
        _drop_oldest(self._segment.unanswered, lambda sent_at_ns: sent_at_ns < exchange.written_at_ns)

    def _count_outbound(self, exchange: _Exchange, at_ns: int) -> bool:
        segment = self._segment
        out = self._answered.received(exchange.sequence, sent_at_ns=exchange.written_at_ns, at_ns=at_ns)
        segment.unanswered.pop(exchange.sequence, None)
        if out is Arrival.DUPLICATE:
            segment.outbound.losses.duplicate(at_ns)
        elif out is not Arrival.LATE:
            segment.outbound.losses.received(at_ns)
            return True
        return False

    def _give_up(self, at_ns: int) -> None:
        """Settle what is lost. The same reply showed both gaps, so they come due together."""
        segment = self._segment
        for missing in self._replies.given_up(at_ns):
            segment.inbound.losses.lost(missing.expected_at_ns, at_ns)
            self._lost_replies += 1
            self._lost_reply_at_ns = at_ns
        for missing in self._answered.given_up(at_ns):
            segment.unanswered.pop(missing.sequence % SEQUENCE_MODULUS, None)
            if self._lost_replies:
                self._lost_replies -= 1
                segment.outbound.losses.settled(missing.expected_at_ns, at_ns)
            else:
                segment.outbound.losses.lost(missing.expected_at_ns, at_ns)
        if at_ns - self._lost_reply_at_ns > _CREDIT_LIFETIME_NS:
            self._lost_replies = 0  # left over from a doubled probe, whose second reply was lost

    def _followed(self, number: int, at_ns: int) -> None:
        exchange = self._unfollowed.pop(number, None)
        if exchange:
            exchange.reflector_transmitted_at_ns = at_ns
            self._complete(exchange)
            return
        # A slow reply is overtaken by its follow-up; without it the slow ones would be missing in the mean.
        self._early_follow_ups[number] = at_ns
        if len(self._early_follow_ups) > MAX_EARLY_FOLLOW_UPS:
            del self._early_follow_ups[next(iter(self._early_follow_ups))]

    def _complete(self, exchange: _Exchange) -> None:
        sent, turned = exchange.transmitted_at_ns, exchange.reflector_transmitted_at_ns
        number = exchange.reflected_number
        if sent is None or turned is None or number is None:
            return
        segment, at_ns = self._segment, exchange.received_at_ns
        round_trip_ns = (at_ns - sent) - (turned - exchange.reflector_received_at_ns)
        if not 0 <= round_trip_ns <= GREATEST_ROUND_TRIP_NS:
            segment.events[Event.ABSURD] += 1
            return
        segment.user_stamped = exchange.user_stamped
        segment.events[Event.USER_STAMP] += exchange.user_stamped
        sequence = self._answered.unwrap(exchange.sequence)
        segment.outbound.delays.add(exchange.reflector_received_at_ns - sent, sequence=sequence, at_ns=at_ns)
        segment.round_trips.add(round_trip_ns, sequence=sequence, at_ns=at_ns)
        segment.inbound_sample(at_ns - turned, sequence=number, at_ns=at_ns)

    def _forget(self, now_ns: int) -> None:
        """Bound the memory by age: of the exchanges, and of the unanswered probes to those of the window."""
        _drop_oldest(
            self._exchanges,
            lambda exchange: (
                now_ns - exchange.written_at_ns > EXCHANGE_LIFETIME_NS or len(self._exchanges) > MAX_EXCHANGES
            ),
        )
        _drop_oldest(self._unfollowed, lambda exchange: now_ns - exchange.received_at_ns > EXCHANGE_LIFETIME_NS)
        unanswered = self._segment.unanswered
        _drop_oldest(unanswered, lambda sent_at_ns: now_ns - sent_at_ns > LONGEST_WINDOW_S * NS_PER_S)


def _drop_oldest(entries: dict[int, _V], is_old: Callable[[_V], bool]) -> None:
    """Remove entries from the front, where the oldest are, as long as they are old."""
    while entries:
        first = next(iter(entries))
        if not is_old(entries[first]):
            return
        del entries[first]
