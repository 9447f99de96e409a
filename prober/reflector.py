"""Stateful Session-Reflector (RFC 8762 section 4.3): what to answer, and what the probes tell of the segment.

A sender that knows TLV 240 tells T1 and T4 of earlier probes, so this end learns the forward delay and the round
trip as exactly as the sender does. From any other sender it learns the forward delay by T1 in the packet.

A second copy of a probe with TLV 240 is counted and not answered: its reply would take a number of the counter
that belongs to no probe, and the sender would take a probe that was lost on the way out for one that arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prober.clock_state import ClockState
from prober.packet import (
    SEQUENCE_MODULUS,
    FollowUp,
    ReflectorPacket,
    SenderFollowUp,
    SenderPacket,
    reflected_extension,
)
from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.sequence_tracker import Arrival, SequenceTracker
from prober.session import MAX_EARLY_FOLLOW_UPS, TX_STAMP_WAIT_NS
from prober.timestamp import NS_PER_S, ntp_from_unix_ns, unix_ns_from_ntp

MAX_SESSIONS = 1024
"""Beyond it the session that was idle longest is forgotten."""
REFWAIT_NS = 900 * NS_PER_S
"""A session without a probe for so long ends (RFC 5357 section 4.2)."""
MAX_REFLECTIONS = 64
"""Probes remembered per session until their follow-up comes."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a probe came from; with our own address and port it names the session (RFC 8762 section 3)."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A datagram to send back."""

    source: Source
    number: int
    """Own counter of the session; `Reflector.transmitted` wants it back."""
    data: bytes


@dataclass(slots=True)
class _Reflection:
    """The times of one probe, as far as they are known."""

    sequence: int
    number: int
    received_at_ns: int
    written_at_ns: int
    user_stamped: bool
    sent_at_ns: int | None = None
    transmitted_at_ns: int | None = None


@dataclass(slots=True)
class _Session:
    tracker: SequenceTracker = field(default_factory=SequenceTracker)
    next_number: int = 0
    last_probe_at_ns: int = 0
    reflections: dict[int, _Reflection] = field(default_factory=dict)
    """By unwrapped number of the probe, oldest first."""
    early_follow_ups: dict[int, int] = field(default_factory=dict)
    """True T1 of probes that are still on their way."""
    previous: _Reflection | None = None


class Reflector:
    """Answers probes of any sender; samples go to the segment of its address, if there is one.

    Args:
        segment_of: the segment that wants the samples of a sender's address, or None.
    """

    def __init__(self, segment_of: Callable[[str], Segment | None]) -> None:
        self._segment_of = segment_of
        self._sessions: dict[Source, _Session] = {}
        self._unwanted = Segment("")

    def __len__(self) -> int:
        return len(self._sessions)

    def probe_received(
        self,
        data: bytes,
        source: Source,
        *,
        ttl: int,
        received_at_ns: int,
        now_ns: int,
        clock: ClockState,
        user_stamped: bool = False,
    ) -> Reply | None:
        """Answer a probe; None for a copy that gets no answer.

        Args:
            data: UDP payload.
            source: where the reply goes.
            ttl: TTL of the probe's IP header.
            received_at_ns: T2.
            now_ns: T3 until the kernel tells a better one.
            clock: state of the own clock.
            user_stamped: T2 is not the kernel's.

        Raises:
            ProbeError: no probe; nothing must be answered.
        """
        packet = SenderPacket.from_bytes(data)
        session = self._session(source, received_at_ns)
        segment = self._segment_of(source.address) or self._unwanted
        segment.hops = 255 - ttl
        segment.peer_error = packet.error
        previous = self._previous(session, now_ns)
        told = packet.sender_follow_up()
        arrival = _count(session, segment, packet, received_at_ns)
        if arrival is Arrival.DUPLICATE and told:
            return None
        reflection = _Reflection(
            session.tracker.unwrap(packet.sequence), session.next_number, received_at_ns, now_ns, user_stamped
        )
        session.next_number = (reflection.number + 1) % SEQUENCE_MODULUS
        session.previous = reflection
        if told:
            _take_told(session, segment, told, received_at_ns)
        if arrival in (Arrival.NEW, Arrival.RESTARTED):
            if told:
                _remember(session, segment, reflection)
            else:
                _forward_sample(segment, reflection, packet.error.unix_ns(packet.timestamp, received_at_ns))
        segment.events[Event.SENT] += 1
        # Without a follow-up, the time written into the reply is all that its reader has.
        coarse = user_stamped or segment.user_stamped or told is None or not previous.transmitted
        reply = ReflectorPacket(
            sequence=reflection.number,
            timestamp=ntp_from_unix_ns(now_ns),
            error=segment.own_error(clock, user_stamped=coarse),
            received=ntp_from_unix_ns(received_at_ns),
            sender_sequence=packet.sequence,
            sender_timestamp=packet.timestamp,
            sender_error=packet.error,
            sender_ttl=ttl,
            ssid=packet.ssid,
            extension=reflected_extension(packet.extension, previous),
        )
        return Reply(source, reflection.number, reply.to_bytes())

    def transmitted(self, source: Source, number: int, at_ns: int) -> None:
        """The kernel tells when a reply left."""
        session = self._sessions.get(source)
        if session and session.previous and session.previous.number == number:
            session.previous.transmitted_at_ns = at_ns

    def _session(self, source: Source, now_ns: int) -> _Session:
        """The session of the source, moved behind all others: the first one is the idlest."""
        session = self._sessions.pop(source, None)
        if session is None:
            session = _Session()
            self._make_room(now_ns)
        session.last_probe_at_ns = now_ns
        self._sessions[source] = session
        return session

    def _make_room(self, now_ns: int) -> None:
        while self._sessions:
            idlest = next(iter(self._sessions))
            idle_ns = now_ns - self._sessions[idlest].last_probe_at_ns
            if len(self._sessions) < MAX_SESSIONS and idle_ns <= REFWAIT_NS:
                return
            del self._sessions[idlest]

    def _previous(self, session: _Session, now_ns: int) -> FollowUp:
        """The true T3 of the reply before, or zeros while it is not known."""
        previous = session.previous
        if previous is None:
            return FollowUp()
        if previous.transmitted_at_ns is None and now_ns - previous.written_at_ns >= TX_STAMP_WAIT_NS:
            previous.transmitted_at_ns = previous.written_at_ns
            previous.user_stamped = True
        if previous.transmitted_at_ns is None:
            return FollowUp()
        return FollowUp(previous.number, ntp_from_unix_ns(previous.transmitted_at_ns))


def _count(session: _Session, segment: Segment, packet: SenderPacket, at_ns: int) -> Arrival:
    """Count a probe for loss."""
    losses = segment.inbound.losses
    for missing in session.tracker.given_up(at_ns):
        losses.lost(missing.expected_at_ns, at_ns)
    sent_at_ns = packet.error.unix_ns(packet.timestamp, at_ns)
    arrival = session.tracker.received(packet.sequence, sent_at_ns=sent_at_ns, at_ns=at_ns)
    segment.events[Event.RECEIVED] += 1
    match arrival:
        case Arrival.DUPLICATE:
            segment.events[Event.DUPLICATE] += 1
            losses.duplicate(at_ns)
        case Arrival.LATE:
            segment.events[Event.LATE] += 1
        case Arrival.RESTARTED:
            segment.events[Event.RESTART] += 1
            session.reflections.clear()
            session.early_follow_ups.clear()
            losses.received(at_ns)
        case Arrival.NEW:
            losses.received(at_ns)
    return arrival


def _remember(session: _Session, segment: Segment, reflection: _Reflection) -> None:
    """Keep the probe until its sender tells when it really left, which it may have told already."""
    reflection.sent_at_ns = session.early_follow_ups.pop(reflection.sequence, None)
    if reflection.sent_at_ns is not None:
        _forward_sample(segment, reflection, reflection.sent_at_ns)
    session.reflections[reflection.sequence] = reflection
    if len(session.reflections) > MAX_REFLECTIONS:
        del session.reflections[next(iter(session.reflections))]


def _take_told(session: _Session, segment: Segment, told: SenderFollowUp, at_ns: int) -> None:
    if told.transmitted:
        _take_departure(
            session,
            segment,
            session.tracker.unwrap(told.sent_sequence),
            unix_ns_from_ntp(told.transmitted, at_ns),
        )
    if told.reply_received:
        answered = session.reflections.pop(session.tracker.unwrap(told.answered_sequence), None)
        if answered:
            _return_sample(segment, answered, unix_ns_from_ntp(told.reply_received, at_ns))


def _take_departure(session: _Session, segment: Segment, sequence: int, sent_at_ns: int) -> None:
    sent = session.reflections.get(sequence)
    if sent is None:
        # A slow probe is overtaken by its follow-up; without it the slow ones would be missing in the mean.
        session.early_follow_ups[sequence] = sent_at_ns
        if len(session.early_follow_ups) > MAX_EARLY_FOLLOW_UPS:
            del session.early_follow_ups[next(iter(session.early_follow_ups))]
    elif sent.sent_at_ns is None:
        sent.sent_at_ns = sent_at_ns
        _forward_sample(segment, sent, sent_at_ns)


def _forward_sample(segment: Segment, reflection: _Reflection, sent_at_ns: int) -> None:
    segment.user_stamped = reflection.user_stamped
    segment.events[Event.USER_STAMP] += reflection.user_stamped
    delay_ns = reflection.received_at_ns - sent_at_ns
    segment.inbound_sample(delay_ns, sequence=reflection.sequence, at_ns=reflection.received_at_ns)


def _return_sample(segment: Segment, reflection: _Reflection, reply_received_at_ns: int) -> None:
    """Backward delay and round trip, when all four times are known."""
    sent, turned = reflection.sent_at_ns, reflection.transmitted_at_ns
    if sent is None or turned is None:
        return
    round_trip_ns = (reply_received_at_ns - sent) - (turned - reflection.received_at_ns)
    if not 0 <= round_trip_ns <= GREATEST_ROUND_TRIP_NS:
        segment.events[Event.ABSURD] += 1
        return
    at_ns = reflection.received_at_ns
    segment.outbound.delays.add(reply_received_at_ns - turned, sequence=reflection.number, at_ns=at_ns)
    segment.round_trips.add(round_trip_ns, sequence=reflection.sequence, at_ns=at_ns)
