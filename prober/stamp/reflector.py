"""Session-Reflector (RFC 8762 section 4.3): what to answer, and what the probes tell of the segment.

A sender that knows TLV 240 tells T1 and T4 of earlier probes, so this end learns the forward delay and the round
trip as exactly as the sender does. From any other sender it learns the forward delay by T1 in the packet.

A second copy of a probe with TLV 240 is counted and not answered: its reply would take a number of the counter
that belongs to no probe, and the sender would take a probe that was lost on the way out for one that arrived.
A stateless reflector has no such counter: it copies the number of the probe and tells nothing of earlier replies.

Sessions with an SSID are measurements beside the overlay (RFC 8972 section 3): answered, and part of no segment.
Nothing needs to be provisioned for them; what strangers may ask for is bounded by `admits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from prober.clock_state import ClockState
from prober.interfaces.report import UNKNOWN_REPORT
from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.stamp.authentication import StampKey
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import SEQUENCE_MODULUS, ReflectorPacket, SenderPacket
from prober.stamp.probe_extension import Answers, ProbeExtension
from prober.stamp.session import FAR_OFF_NS, MAX_EARLY_FOLLOW_UPS, TX_STAMP_WAIT_NS
from prober.stamp.tlv import FollowUp, SenderFollowUp
from prober.timestamp import NS_PER_MS, NS_PER_S, ntp_from_unix_ns, unix_ns_from_ntp
from prober.windows.sequence_tracker import MAX_GAP, Arrival, SequenceTracker
from schemas.errors import ProbeError

MAX_SESSIONS = 1024
"""Beyond it the session that was idle longest is forgotten."""
REFWAIT_NS = 900 * NS_PER_S
"""A session without a probe for so long ends (RFC 5357 section 4.2)."""
MAX_REFLECTIONS = 64
"""Probes remembered per session until their follow-up comes."""
MAX_UNTOLD = 2
"""So many probes without TLV 240 in a row, and the sender will not tell their true T1: a sender that tries whether
its extensions are understood sends every other probe without them."""
OLDEST_PROBE_NS = GREATEST_ROUND_TRIP_NS
"""An authenticated probe that is older was kept by somebody."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a probe came from; with our own address and port it names the session (RFC 8762 section 3)."""

    address: str
    port: int
    ssid: int = 0
    """Tells sessions of one port apart (RFC 8972 section 3); set by the reflector."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A datagram to send back."""

    source: Source
    number: int
    """Own counter of the session; `Reflector.transmitted` wants it back."""
    data: bytes
    tos: int = 0
    """The octet of DSCP and ECN for its IP header."""


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
    newest_sent_at_ns: int = 0
    """Latest T1 so far, on the sender's clock."""
    is_asked_for: bool = False
    """Its sender is a neighbor that was asked for; those of strangers give way first."""
    untold: int = MAX_UNTOLD
    """Probes without TLV 240 since the last one with it."""
    reflections: dict[int, _Reflection] = field(default_factory=dict)
    """By unwrapped number of the probe, oldest first."""
    early_follow_ups: dict[int, int] = field(default_factory=dict)
    """True T1 of probes that are still on their way."""
    previous: _Reflection | None = None

    @property
    def is_told(self) -> bool:
        """The sender tells the true T1 of its probes."""
        return self.untold < MAX_UNTOLD

    def reflect(
        self, packet: SenderPacket, sent_at_ns: int, received_at_ns: int, now_ns: int, *, user_stamped: bool
    ) -> _Reflection:
        """Give the answer to a probe its number."""
        sequence = self.tracker.unwrap(packet.sequence)
        reflection = _Reflection(sequence, self.next_number, received_at_ns, now_ns, user_stamped)
        self.next_number = (reflection.number + 1) % SEQUENCE_MODULUS
        self.previous = reflection
        self.newest_sent_at_ns = max(self.newest_sent_at_ns, sent_at_ns)
        return reflection


class Reflector:
    """Answers probes of any sender; samples go to the segment of its address, if there is one.

    Args:
        segment_of: the segment that wants the samples of a sender's address, or None.
        key: with it only authenticated probes are answered, without it none of them.
        stateless: number replies like their probes.
        admits: whether a reply to the address may be sent at this time; None for always.
        faults: where troubles are counted for which a probe is answered all the same.
        asked_for: whether the address is that of a neighbor somebody asked for, not of one merely heard.
    """

    def __init__(
        self,
        segment_of: Callable[[str], Segment | None],
        *,
        key: StampKey | None = None,
        stateless: bool = False,
        admits: Callable[[str, int], bool] | None = None,
        faults: Counter[ProbeFault] | None = None,
        asked_for: Callable[[str], bool] = lambda address: False,
    ) -> None:
        self._segment_of = segment_of
        self._asked_for = asked_for
        self._key = key
        self._stateless = stateless
        self._admits = admits
        self._faults: Counter[ProbeFault] = Counter() if faults is None else faults
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
        tos: int = 0,
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
            tos: the octet of DSCP and ECN in the probe's IP header.

        Raises:
            ProbeError: no probe, or one of a kind that nothing must be answered to; the text is a ProbeFault.
        """
        packet = SenderPacket.from_bytes(data, self._key)
        if packet.ssid:
            source = Source(source.address, source.port, packet.ssid)
        sent_at_ns = packet.error.unix_ns(packet.timestamp, received_at_ns)
        if self._key and self._is_replay(packet, source, sent_at_ns, received_at_ns, clock):
            raise ProbeError(ProbeFault.REPLAYED)
        if self._admits and not self._admits(source.address, now_ns):
            raise ProbeError(ProbeFault.RATE_LIMITED)
        extension = ProbeExtension(packet.extension, packet.sequence, self._key)
        self._faults[ProbeFault.TLV_INTEGRITY] += not extension.intact
        segment = (None if packet.ssid else self._segment_of(source.address)) or self._unwanted
        session = self._session(source, received_at_ns, kept=not self._stateless or segment is not self._unwanted)
        segment.hops = 255 - ttl
        segment.peer_error = packet.error
        arrival = self._counted(session, segment, packet, received_at_ns)
        told = extension.sender_follow_up()
        if segment is not self._unwanted:
            segment.heard_interfaces = extension.interface_report() or segment.heard_interfaces
        session.untold = 0 if told else session.untold + 1
        if arrival is Arrival.DUPLICATE and self._is_not_answered_twice(session):
            return None
        previous = FollowUp() if self._stateless else self._previous(session, now_ns)
        reflection = session.reflect(packet, sent_at_ns, received_at_ns, now_ns, user_stamped=user_stamped)
        self._take_samples(session, segment, reflection, told, sent_at_ns, arrival)
        # Without a follow-up, the time written into the reply is all that its reader has.
        coarse = user_stamped or segment.user_stamped or told is None or not previous.transmitted
        segment.events[Event.SENT] += 1
        number = packet.sequence if self._stateless else reflection.number
        reply = ReflectorPacket(
            sequence=number,
            timestamp=ntp_from_unix_ns(now_ns),
            error=segment.own_error(clock, user_stamped=coarse),
            received=ntp_from_unix_ns(received_at_ns),
            sender_sequence=packet.sequence,
            sender_timestamp=packet.timestamp,
            sender_error=packet.error,
            sender_ttl=ttl,
            ssid=packet.ssid,
            extension=extension.answered(
                Answers(
                    previous=previous,
                    arrived_tos=tos,
                    synchronized=clock.synchronized,
                    interfaces=segment.told_interfaces or UNKNOWN_REPORT,
                ),
                number,
            ),
        )
        return Reply(source, reflection.number, reply.to_bytes(self._key), extension.reply_dscp(tos >> 2) << 2)

    def clock_stepped(self, step_ns: int) -> None:
        """The own clock was set by `step_ns`: times of probes that are still open mean nothing any more."""
        for session in self._sessions.values():
            session.last_probe_at_ns += step_ns
            session.reflections.clear()
            session.early_follow_ups.clear()
            session.previous = None

    def transmitted(self, source: Source, number: int, at_ns: int) -> None:
        """The kernel tells when a reply left."""
        session = self._sessions.get(source)
        if session and session.previous and session.previous.number == number:
            session.previous.transmitted_at_ns = at_ns

    def _is_replay(
        self, packet: SenderPacket, source: Source, sent_at_ns: int, received_at_ns: int, clock: ClockState
    ) -> bool:
        """Whether somebody sends an authenticated packet again: the format has no protection against it.

        Told by its age where both clocks are synchronized, else by what its session has sent since.
        """
        if packet.error.synchronized and clock.synchronized:
            errors_ms = packet.error.error_ms + clock.error_ms
            return abs(received_at_ns - sent_at_ns) > OLDEST_PROBE_NS + errors_ms * NS_PER_MS
        session = self._sessions.get(source)
        if session is None or sent_at_ns >= session.newest_sent_at_ns - OLDEST_PROBE_NS:
            return False
        # The next numbers with an old time show a step of the sender's clock.
        return not 0 < session.tracker.unwrap(packet.sequence) - session.tracker.highest <= MAX_GAP

    def _counted(self, session: _Session, segment: Segment, packet: SenderPacket, at_ns: int) -> Arrival:
        """Count the probe; one that begins anew from the same port has a new session."""
        highest = session.tracker.highest
        arrival = _count(session, segment, packet, at_ns)
        if arrival is Arrival.RESTARTED and session.tracker.highest < highest:
            session.next_number, session.previous = 0, None
        return arrival

    def _take_samples(
        self,
        session: _Session,
        segment: Segment,
        reflection: _Reflection,
        told: SenderFollowUp | None,
        sent_at_ns: int,
        arrival: Arrival,
    ) -> None:
        """Take what is told of earlier probes, and this one's delay, now or when its true T1 is told."""
        is_near = self._is_near(sent_at_ns, reflection.received_at_ns)
        if told:
            self._take_told(session, segment, told, reflection.received_at_ns)
        if arrival not in (Arrival.NEW, Arrival.RESTARTED) or not is_near:
            return
        if session.is_told:
            _remember(session, segment, reflection)
        else:
            _forward_sample(segment, reflection, sent_at_ns)

    def _is_not_answered_twice(self, session: _Session) -> bool:
        """Whether the further copies of a probe stay without an answer; counts an authenticated one."""
        self._faults[ProbeFault.REPLAYED] += self._key is not None
        return self._key is not None or (session.is_told and not self._stateless)

    def _is_near(self, time_ns: int, now_ns: int) -> bool:
        """Whether the other end's time can be meant as one; counts what can not."""
        is_near = abs(now_ns - time_ns) <= FAR_OFF_NS
        self._faults[ProbeFault.FAR_OFF] += not is_near
        return is_near

    def _take_told(self, session: _Session, segment: Segment, told: SenderFollowUp, at_ns: int) -> None:
        if told.transmitted:
            sent_at_ns = unix_ns_from_ntp(told.transmitted, at_ns)
            if self._is_near(sent_at_ns, at_ns):
                _take_departure(session, segment, session.tracker.unwrap(told.sent_sequence), sent_at_ns)
        if told.reply_received:
            answered = session.reflections.pop(session.tracker.unwrap(told.answered_sequence), None)
            if answered:
                _return_sample(segment, answered, unix_ns_from_ntp(told.reply_received, at_ns))

    def _session(self, source: Source, now_ns: int, *, kept: bool) -> _Session:
        """The session of the source, moved behind all others: the first one is the idlest."""
        if not kept:
            return _Session()
        session = self._sessions.pop(source, None)
        if session is None:
            session = _Session()
            self._make_room(now_ns)
        session.last_probe_at_ns = now_ns
        session.is_asked_for = self._asked_for(source.address)
        self._sessions[source] = session
        return session

    def _make_room(self, now_ns: int) -> None:
        while self._sessions:
            idlest = next(iter(self._sessions))
            idle_ns = now_ns - self._sessions[idlest].last_probe_at_ns
            if idle_ns <= REFWAIT_NS:
                if len(self._sessions) < MAX_SESSIONS:
                    return
                idlest = next((one for one, session in self._sessions.items() if not session.is_asked_for), idlest)
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
    inbound = segment.inbound
    for missing in session.tracker.given_up(at_ns, threshold_ns=segment.loss_threshold_ns):
        inbound.losses.lost(missing.sequence, missing.expected_at_ns, at_ns)
    if session.tracker.highest < 0:
        segment.new_stream()
    sent_at_ns = packet.error.unix_ns(packet.timestamp, at_ns)
    arrival = session.tracker.received(packet.sequence, sent_at_ns=sent_at_ns, at_ns=at_ns)
    segment.events[Event.RECEIVED] += 1
    match arrival:
        case Arrival.DUPLICATE:
            segment.events[Event.DUPLICATE] += 1
            inbound.arrivals.copied(at_ns)
        case Arrival.LATE:
            segment.events[Event.LATE] += 1
        case Arrival.RESTARTED:
            segment.events[Event.RESTART] += 1
            session.reflections.clear()
            session.early_follow_ups.clear()
            segment.new_stream()
            inbound.arrived(at_ns, extent=session.tracker.extent)
        case Arrival.NEW:
            inbound.arrived(at_ns, extent=session.tracker.extent)
    return arrival


def _remember(session: _Session, segment: Segment, reflection: _Reflection) -> None:
    """Keep the probe until its sender tells when it really left, which it may have told already."""
    reflection.sent_at_ns = session.early_follow_ups.pop(reflection.sequence, None)
    if reflection.sent_at_ns is not None:
        _forward_sample(segment, reflection, reflection.sent_at_ns)
    session.reflections[reflection.sequence] = reflection
    if len(session.reflections) > MAX_REFLECTIONS:
        del session.reflections[next(iter(session.reflections))]


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
    segment.take_exchange(
        outbound_ns=reply_received_at_ns - turned,
        inbound_ns=reflection.received_at_ns - sent,
        outbound_sequence=reflection.number,
        inbound_sequence=reflection.sequence,
        began_at_ns=reflection.received_at_ns,
        at_ns=reflection.received_at_ns,
        arrived_there_ns=reply_received_at_ns,
        inbound_taken=True,
    )
