"""One session as its reflector sees it: numbers, open probes, and what its sender tells of them later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.stamp.packet import SEQUENCE_MODULUS
from prober.stamp.session import MAX_EARLY_FOLLOW_UPS, TX_STAMP_WAIT_NS
from prober.stamp.tlv import FollowUp
from prober.timestamp import ntp_from_unix_ns
from prober.windows.sequence_tracker import MAX_GAP, Arrival, SequenceTracker

MAX_REFLECTIONS = 64
"""Probes remembered per session until their follow-up comes."""
MAX_UNTOLD = 2
"""So many probes without TLV 240 in a row, and the sender will not tell their true T1: a sender that tries whether
its extensions are understood sends every other probe without them."""
_UNKNOWN = FollowUp()


class Source(NamedTuple):
    """Where a probe came from; with our own address and port it names the session (RFC 8762 section 3)."""

    address: str
    port: int
    ssid: int = 0
    """Tells sessions of one port apart (RFC 8972 section 3); set by the reflector."""


@dataclass(slots=True)
class Reflection:
    """The times of one probe, as far as they are known."""

    sequence: int
    number: int
    received_at_ns: int
    written_at_ns: int
    user_stamped: bool
    sent_at_ns: int | None = None
    transmitted_at_ns: int | None = None

    def take_forward_sample(self, segment: Segment, sent_at_ns: int) -> None:
        """The delay of the probe, which left at `sent_at_ns`."""
        segment.user_stamped = self.user_stamped
        if self.user_stamped:
            segment.events[Event.USER_STAMP] += 1
        delay_ns = self.received_at_ns - sent_at_ns
        segment.inbound_sample(delay_ns, sequence=self.sequence, at_ns=self.received_at_ns)

    def take_return_sample(self, segment: Segment, reply_received_at_ns: int) -> None:
        """Backward delay and round trip, when all four times are known."""
        sent, turned = self.sent_at_ns, self.transmitted_at_ns
        if sent is None or turned is None:
            return
        round_trip_ns = (reply_received_at_ns - sent) - (turned - self.received_at_ns)
        if not 0 <= round_trip_ns <= GREATEST_ROUND_TRIP_NS:
            segment.events[Event.ABSURD] += 1
            return
        segment.take_exchange(
            outbound_ns=reply_received_at_ns - turned,
            inbound_ns=self.received_at_ns - sent,
            outbound_sequence=self.number,
            inbound_sequence=self.sequence,
            began_at_ns=self.received_at_ns,
            at_ns=self.received_at_ns,
            arrived_there_ns=reply_received_at_ns,
            inbound_taken=True,
        )


@dataclass(slots=True)
class ReflectedSession:
    """The session of one source, in constant memory."""

    source: Source
    tracker: SequenceTracker = field(default_factory=SequenceTracker)
    next_number: int = 0
    last_probe_at_ns: int = 0
    newest_sequence: int = 0
    """Of the probes that were answered or counted, as in the packet."""
    newest_sent_at_ns: int = 0
    """Latest T1 so far, on the sender's clock."""
    is_asked_for: bool = False
    """Its sender is a neighbor that was asked for; those of strangers give way first."""
    untold: int = MAX_UNTOLD
    """Probes without TLV 240 since the last one with it."""
    reflections: dict[int, Reflection] = field(default_factory=dict)
    """By unwrapped number of the probe, oldest first."""
    early_follow_ups: dict[int, int] = field(default_factory=dict)
    """True T1 of probes that are still on their way."""
    previous: Reflection | None = None

    @property
    def is_told(self) -> bool:
        """The sender tells the true T1 of its probes."""
        return self.untold < MAX_UNTOLD

    def goes_on(self, sequence: int) -> bool:
        """Whether a probe of that number is a later one of this stream, so that it can be no copy."""
        return 0 < (sequence - self.newest_sequence) % SEQUENCE_MODULUS <= MAX_GAP

    def count(self, segment: Segment, sequence: int, *, sent_at_ns: int, at_ns: int) -> Arrival:
        """Count a probe for loss; one that begins anew from the same port begins a new session."""
        inbound, tracker = segment.inbound, self.tracker
        for missing in tracker.given_up(at_ns, threshold_ns=segment.loss_threshold_ns):
            inbound.losses.lost(missing.sequence, missing.expected_at_ns, at_ns)
        highest = tracker.highest
        if highest < 0:
            segment.new_stream()
        arrival = tracker.received(sequence, sent_at_ns=sent_at_ns, at_ns=at_ns)
        self.newest_sequence = tracker.highest % SEQUENCE_MODULUS
        segment.events[Event.RECEIVED] += 1
        match arrival:
            case Arrival.DUPLICATE:
                segment.events[Event.DUPLICATE] += 1
                inbound.arrivals.copied(at_ns)
            case Arrival.LATE:
                segment.events[Event.LATE] += 1
            case Arrival.RESTARTED:
                self._restart(segment, highest)
                inbound.arrived(at_ns, extent=tracker.extent)
            case Arrival.NEW:
                inbound.arrived(at_ns, extent=tracker.extent)
        return arrival

    def reflect(self, sequence: int, received_at_ns: int, now_ns: int, *, user_stamped: bool) -> Reflection:
        """Give the answer to a probe its number."""
        unwrapped = self.tracker.unwrap(sequence)
        reflection = Reflection(unwrapped, self.next_number, received_at_ns, now_ns, user_stamped)
        self.next_number = (reflection.number + 1) % SEQUENCE_MODULUS
        self.previous = reflection
        return reflection

    def follow_up(self, now_ns: int) -> FollowUp:
        """The true T3 of the reply before, or zeros while it is not known."""
        previous = self.previous
        if previous is None:
            return _UNKNOWN
        if previous.transmitted_at_ns is None:
            if now_ns - previous.written_at_ns < TX_STAMP_WAIT_NS:
                return _UNKNOWN
            previous.transmitted_at_ns = previous.written_at_ns
            previous.user_stamped = True
        return FollowUp(previous.number, ntp_from_unix_ns(previous.transmitted_at_ns))

    def remember(self, segment: Segment, reflection: Reflection) -> None:
        """Keep the probe until its sender tells when it really left, which it may have told already."""
        reflection.sent_at_ns = self.early_follow_ups.pop(reflection.sequence, None)
        if reflection.sent_at_ns is not None:
            reflection.take_forward_sample(segment, reflection.sent_at_ns)
        self.reflections[reflection.sequence] = reflection
        if len(self.reflections) > MAX_REFLECTIONS:
            del self.reflections[next(iter(self.reflections))]

    def take_departure(self, segment: Segment, sequence: int, sent_at_ns: int) -> None:
        """The sender tells when a probe really left."""
        unwrapped = self.tracker.unwrap(sequence)
        sent = self.reflections.get(unwrapped)
        if sent is None:
            # A slow probe is overtaken by its follow-up; without it the slow ones would be missing in the mean.
            self.early_follow_ups[unwrapped] = sent_at_ns
            if len(self.early_follow_ups) > MAX_EARLY_FOLLOW_UPS:
                del self.early_follow_ups[next(iter(self.early_follow_ups))]
        elif sent.sent_at_ns is None:
            sent.sent_at_ns = sent_at_ns
            sent.take_forward_sample(segment, sent_at_ns)

    def take_return(self, segment: Segment, sequence: int, reply_received_at_ns: int) -> None:
        """The sender tells when the reply to a probe arrived."""
        answered = self.reflections.pop(self.tracker.unwrap(sequence), None)
        if answered:
            answered.take_return_sample(segment, reply_received_at_ns)

    def clock_stepped(self, step_ns: int) -> None:
        """The own clock was set: times of probes that are still open mean nothing any more."""
        self.last_probe_at_ns += step_ns
        self.reflections.clear()
        self.early_follow_ups.clear()
        self.previous = None

    def _restart(self, segment: Segment, highest_before: int) -> None:
        segment.events[Event.RESTART] += 1
        self.reflections.clear()
        self.early_follow_ups.clear()
        segment.new_stream()
        if self.tracker.highest < highest_before:
            self.next_number, self.previous = 0, None
