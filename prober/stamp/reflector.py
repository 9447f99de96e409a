"""Session-Reflector (RFC 8762 section 4.3): what to answer, and what the probes tell of the segment.

A sender that knows TLV 240 tells T1 and T4 of earlier probes, so this end learns the forward delay and the round
trip as exactly as the sender does. From any other sender it learns the forward delay by T1 in the packet.

A second copy of a probe with TLV 240 is counted and not answered: its reply would take a number of the counter
that belongs to no probe, and the sender would take a probe that was lost on the way out for one that arrived.
A stateless reflector has no such counter: it copies the number of the probe and tells nothing of earlier replies.

Sessions with an SSID are measurements beside the overlay (RFC 8972 section 3): answered, and part of no segment.
Nothing needs to be provisioned for them; what strangers may ask for is bounded by `admits`.

A usual probe, the next one of a neighbor's running session, is answered before anything is learned of it: code
that runs again and again is several times as fast as code that runs once, so what such probes tell waits for
`learn`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from prober.clock_state import ClockState
from prober.interfaces.report import UNKNOWN_REPORT
from prober.segment import GREATEST_ROUND_TRIP_NS, AnnouncedErrors, Event, Segment
from prober.stamp.authentication import NO_KEY, KeyOf, StampKey
from prober.stamp.datagram import Datagram
from prober.stamp.exchange import FAR_OFF_NS
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import ReflectorPacket, SenderPacket, routers_crossed
from prober.stamp.probe_extension import Answers, ProbeExtension
from prober.stamp.reflected_session import ReflectedSession, Reflection, Source
from prober.stamp.tlv import FollowUp, SenderFollowUp
from prober.stamp.usual_packet import UsualProbe
from prober.timestamp import NS_PER_MS, NS_PER_S, ErrorEstimate, ntp_from_unix_ns, unix_ns_from_ntp
from prober.windows.sequence_tracker import MAX_GAP, Arrival
from schemas.errors import ProbeError

MAX_SESSIONS = 1024
"""Beyond it the session that was idle longest is forgotten."""
REFWAIT_NS = 900 * NS_PER_S
"""A session without a probe for so long ends (RFC 5357 section 4.2)."""
OLDEST_PROBE_NS = GREATEST_ROUND_TRIP_NS
"""An authenticated probe that is older was kept by somebody."""
MAX_UNLEARNED = 256
"""So many answered probes may wait for `learn`."""


_DSCP_BITS = 0xFC
"""Of the octet that ECN shares with it."""


class Reply(NamedTuple):
    """A datagram to send back."""

    source: Source
    number: int
    """Own counter of the session; `Reflector.transmitted` wants it back."""
    data: bytes
    tos: int = 0
    """The octet of DSCP and ECN for its IP header."""
    is_usual: bool = False
    """To a neighbor's usual probe: it takes the time between T2 and T3 off what it tells, as points do."""


_Answered = tuple[ReflectedSession, Segment, UsualProbe, Reflection, int]
"""A usual probe that has got its reply, and of which nothing is learned yet; the last one is its TTL."""


class Reflector:
    """Answers probes of any sender; samples go to the segment of its address, if there is one.

    Args:
        segment_of: the segment that wants the samples of a sender's address, or None.
        key_of: from an address with a key only authenticated probes are answered, from others none of them.
        stateless: number replies like their probes.
        admits: whether a reply to the address may be sent at this time; None for always.
        faults: where troubles are counted for which a probe is answered all the same.
        asked_for: whether the address is that of a neighbor somebody asked for, not of one merely heard.
        heard: takes (address, receive time, whether the sender tells its true times, as points do) of each probe
            without SSID that was taken in.
    """

    def __init__(
        self,
        segment_of: Callable[[str], Segment | None],
        *,
        key_of: KeyOf = NO_KEY,
        stateless: bool = False,
        admits: Callable[[str, int], bool] | None = None,
        faults: Counter[ProbeFault] | None = None,
        asked_for: Callable[[str], bool] = lambda address: False,
        heard: Callable[[str, int, bool], None] = lambda address, at_ns, is_point: None,
    ) -> None:
        self._segment_of = segment_of
        self._asked_for = asked_for
        self._heard = heard
        self._key_of = key_of
        self._stateless = stateless
        self._admits = admits
        self._faults: Counter[ProbeFault] = Counter() if faults is None else faults
        self._sessions: dict[tuple[str, int, int], ReflectedSession] = {}
        """By `Source`; the one that was idle longest comes first."""
        self._unwanted = Segment("")
        self._unlearned: list[_Answered] = []
        self._errors = AnnouncedErrors()

    def __len__(self) -> int:
        return len(self._sessions)

    def probe_received(self, datagram: Datagram, *, now_ns: int, clock: ClockState) -> Reply | None:
        """Answer a probe; None for a copy that gets no answer. What a usual probe tells waits for `learn`.

        Args:
            datagram: the probe.
            now_ns: T3 until the kernel tells a better one.
            clock: state of the own clock.

        Raises:
            ProbeError: no probe, or one of a kind that nothing must be answered to; the text is a ProbeFault.
        """
        key = self._key_of(datagram.address)
        if not self._stateless:
            probe = UsualProbe.from_bytes(datagram.data, key)
            session = probe and self._sessions.get((datagram.address, datagram.port, 0))  # as a Source
            if probe and session and session.is_told and session.goes_on(probe.sequence):
                segment = self._segment_of(datagram.address)
                if segment and not (key and _was_kept(probe, datagram.received_at_ns, clock)):
                    return self._answer_usual(probe, key, session, segment, datagram, now_ns, clock)
        self.learn()
        return self._answer(datagram, key, now_ns, clock)

    def learn(self) -> None:
        """Take in what the probes tell that were answered since the last time."""
        unlearned, self._unlearned = self._unlearned, []
        for answered in unlearned:
            session, segment, probe, reflection, _ = answered
            arrival = self._count_answered(answered)
            sent_at_ns = probe.estimate.unix_ns(probe.timestamp, reflection.received_at_ns)
            self._take_samples(session, segment, reflection, probe.told, sent_at_ns, arrival)

    def clock_stepped(self, step_ns: int) -> None:
        """The own clock was set by `step_ns`: times of probes that are still open mean nothing any more.

        Call it before the segments hear of the step. Nobody can tell by which clock the probes were stamped that
        wait to be learned: they are counted, and give no delay.
        """
        unlearned, self._unlearned = self._unlearned, []
        for answered in unlearned:
            self._count_answered(answered)
        for session in self._sessions.values():
            session.clock_stepped(step_ns)

    def transmitted(self, source: Source, number: int, at_ns: int) -> None:
        """The kernel tells when a reply left."""
        session = self._sessions.get(source)
        if session and session.previous and session.previous.number == number:
            session.previous.transmitted_at_ns = at_ns

    def _answer_usual(
        self,
        probe: UsualProbe,
        key: StampKey | None,
        session: ReflectedSession,
        segment: Segment,
        datagram: Datagram,
        now_ns: int,
        clock: ClockState,
    ) -> Reply:
        """As `_answer` does, of which this is the short way."""
        source, at_ns, user_stamped = session.source, datagram.received_at_ns, datagram.user_stamped
        self._require_admission(source.address, now_ns)
        session.untold, session.newest_sequence = 0, probe.sequence
        previous = session.follow_up(now_ns)
        reflection = session.reflect(probe.sequence, at_ns, now_ns, user_stamped=user_stamped)
        coarse = user_stamped or segment.user_stamped or not previous.transmitted
        data = probe.reply(
            number=reflection.number,
            timestamp=ntp_from_unix_ns(now_ns),
            error=self._errors.bits(clock, coarse=coarse),
            received=ntp_from_unix_ns(at_ns),
            ttl=datagram.ttl,
            previous=previous,
            interfaces=segment.told_interfaces or UNKNOWN_REPORT,
            key=key,
        )
        self._unlearned.append((session, segment, probe, reflection, datagram.ttl))
        if len(self._unlearned) > MAX_UNLEARNED:
            self.learn()
        return Reply(source, reflection.number, data, datagram.tos & _DSCP_BITS, is_usual=True)

    def _count_answered(self, answered: _Answered) -> Arrival:
        session, segment, probe, reflection, ttl = answered
        at_ns, error = reflection.received_at_ns, probe.estimate
        sent_at_ns = error.unix_ns(probe.timestamp, at_ns)
        self._keep(session, at_ns)
        segment.hops = routers_crossed(ttl)
        segment.peer_error = error
        arrival = session.count(segment, probe.sequence, sent_at_ns=sent_at_ns, at_ns=at_ns)
        session.newest_sent_at_ns = max(session.newest_sent_at_ns, sent_at_ns)
        segment.heard_interfaces = probe.interfaces or segment.heard_interfaces
        segment.events[Event.SENT] += 1
        self._heard(session.source.address, at_ns, True)
        return arrival

    def _answer(self, datagram: Datagram, key: StampKey | None, now_ns: int, clock: ClockState) -> Reply | None:
        packet = SenderPacket.from_bytes(datagram.data, key)
        source = Source(datagram.address, datagram.port, packet.ssid)
        at_ns, user_stamped = datagram.received_at_ns, datagram.user_stamped
        sent_at_ns = packet.error.unix_ns(packet.timestamp, at_ns)
        if key and self._is_replay(packet, source, sent_at_ns, at_ns, clock):
            raise ProbeError(ProbeFault.REPLAYED)
        self._require_admission(source.address, now_ns)
        extension = ProbeExtension(packet.extension, packet.sequence, key)
        self._faults[ProbeFault.TLV_INTEGRITY] += not extension.intact
        told = extension.sender_follow_up()
        segment = (None if packet.ssid else self._segment_of(source.address)) or self._unwanted
        session = self._session(source, at_ns, kept=not self._stateless or segment is not self._unwanted)
        if not packet.ssid:
            self._heard(source.address, at_ns, told is not None)
        segment.hops = routers_crossed(datagram.ttl)
        segment.peer_error = packet.error
        arrival = session.count(segment, packet.sequence, sent_at_ns=sent_at_ns, at_ns=at_ns)
        if segment is not self._unwanted:
            segment.heard_interfaces = extension.interface_report() or segment.heard_interfaces
        session.untold = 0 if told else session.untold + 1
        if arrival is Arrival.DUPLICATE and self._is_not_answered_twice(session, authenticated=key is not None):
            return None
        previous = FollowUp() if self._stateless else session.follow_up(now_ns)
        reflection = session.reflect(packet.sequence, at_ns, now_ns, user_stamped=user_stamped)
        session.newest_sent_at_ns = max(session.newest_sent_at_ns, sent_at_ns)
        self._take_samples(session, segment, reflection, told, sent_at_ns, arrival)
        segment.events[Event.SENT] += 1
        # Without a follow-up, the time written into the reply is all that its reader has.
        coarse = user_stamped or segment.user_stamped or told is None or not previous.transmitted
        number = packet.sequence if self._stateless else reflection.number
        answers = Answers(
            previous=previous,
            arrived_tos=datagram.tos,
            synchronized=clock.synchronized,
            interfaces=segment.told_interfaces or UNKNOWN_REPORT,
        )
        reply = ReflectorPacket(
            sequence=number,
            timestamp=ntp_from_unix_ns(now_ns),
            error=segment.own_error(clock, user_stamped=coarse),
            received=ntp_from_unix_ns(at_ns),
            sender_sequence=packet.sequence,
            sender_timestamp=packet.timestamp,
            sender_error=packet.error,
            sender_ttl=datagram.ttl,
            ssid=packet.ssid,
            extension=extension.answered(answers, number),
        )
        tos = extension.reply_dscp(datagram.tos >> 2) << 2
        return Reply(source, reflection.number, reply.to_bytes(key), tos)

    def _require_admission(self, address: str, now_ns: int) -> None:
        if self._admits and not self._admits(address, now_ns):
            raise ProbeError(ProbeFault.RATE_LIMITED)

    def _is_replay(
        self, packet: SenderPacket, source: Source, sent_at_ns: int, received_at_ns: int, clock: ClockState
    ) -> bool:
        """Whether somebody sends an authenticated packet again: the format has no protection against it.

        Told by its age where both clocks are synchronized, else by what its session has sent since.
        """
        if packet.error.synchronized and clock.synchronized:
            return _is_too_old(packet.error, sent_at_ns, received_at_ns, clock)
        session = self._sessions.get(source)
        if session is None or sent_at_ns >= session.newest_sent_at_ns - OLDEST_PROBE_NS:
            return False
        # The next numbers with an old time show a step of the sender's clock.
        return not 0 < session.tracker.unwrap(packet.sequence) - session.tracker.highest <= MAX_GAP

    def _take_samples(
        self,
        session: ReflectedSession,
        segment: Segment,
        reflection: Reflection,
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
            session.remember(segment, reflection)
        else:
            reflection.take_forward_sample(segment, sent_at_ns)

    def _is_not_answered_twice(self, session: ReflectedSession, *, authenticated: bool) -> bool:
        """Whether the further copies of a probe stay without an answer; counts an authenticated one."""
        self._faults[ProbeFault.REPLAYED] += authenticated
        return authenticated or (session.is_told and not self._stateless)

    def _is_near(self, time_ns: int, now_ns: int) -> bool:
        """Whether the other end's time can be meant as one; counts what can not."""
        if abs(now_ns - time_ns) <= FAR_OFF_NS:
            return True
        self._faults[ProbeFault.FAR_OFF] += 1
        return False

    def _take_told(self, session: ReflectedSession, segment: Segment, told: SenderFollowUp, at_ns: int) -> None:
        if told.transmitted:
            sent_at_ns = unix_ns_from_ntp(told.transmitted, at_ns)
            if self._is_near(sent_at_ns, at_ns):
                session.take_departure(segment, told.sent_sequence, sent_at_ns)
        if told.reply_received:
            reply_received_at_ns = unix_ns_from_ntp(told.reply_received, at_ns)
            session.take_return(segment, told.answered_sequence, reply_received_at_ns)

    def _session(self, source: Source, now_ns: int, *, kept: bool) -> ReflectedSession:
        """The session of the source, moved behind all others: the first one is the idlest."""
        if not kept:
            return ReflectedSession(source)
        session = self._sessions.get(source)
        if session is None:
            session = ReflectedSession(source)
            self._make_room(now_ns)
        self._keep(session, now_ns)
        return session

    def _keep(self, session: ReflectedSession, now_ns: int) -> None:
        session.last_probe_at_ns = now_ns
        session.is_asked_for = self._asked_for(session.source.address)
        self._sessions.pop(session.source, None)
        self._sessions[session.source] = session

    def _make_room(self, now_ns: int) -> None:
        while self._sessions:
            idlest = next(iter(self._sessions))
            idle_ns = now_ns - self._sessions[idlest].last_probe_at_ns
            if idle_ns <= REFWAIT_NS:
                if len(self._sessions) < MAX_SESSIONS:
                    return
                idlest = next((one for one, session in self._sessions.items() if not session.is_asked_for), idlest)
            del self._sessions[idlest]


def _was_kept(probe: UsualProbe, received_at_ns: int, clock: ClockState) -> bool:
    """Whether the next probe of a session was kept by somebody. Where that cannot be told it is none: its number
    is a new one, so that an old time shows a step of the sender's clock (`Reflector._is_replay`)."""
    error = probe.estimate
    if not (error.synchronized and clock.synchronized):
        return False
    return _is_too_old(error, error.unix_ns(probe.timestamp, received_at_ns), received_at_ns, clock)


def _is_too_old(error: ErrorEstimate, sent_at_ns: int, received_at_ns: int, clock: ClockState) -> bool:
    """By clocks that are both synchronized."""
    errors_ms = error.error_ms + clock.error_ms
    return abs(received_at_ns - sent_at_ns) > OLDEST_PROBE_NS + errors_ms * NS_PER_MS
