"""Which probes of a session and which of their replies arrived, by the numbers in the replies.

The reflector numbers its replies, so a number missing there was lost on the way back, and an unanswered probe
without a missing number was lost on the way out.
"""

from __future__ import annotations

from prober.segment import Event, Segment
from prober.stamp.exchange import Exchange
from prober.stamp.packet import SEQUENCE_MODULUS
from prober.timestamp import NS_PER_S
from prober.windows.sequence_tracker import Arrival, SequenceTracker

_CREDIT_LIFETIME_NS = 5 * NS_PER_S


class ReplyCount:
    """Counts for `segment`, in both directions."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._probes = SequenceTracker()
        self._replies = SequenceTracker()
        self._lost_replies = 0
        self._lost_reply_at_ns = 0

    @property
    def is_answered(self) -> bool:
        """Some probe was."""
        return self._probes.highest >= 0

    def probe_number(self, sequence: int) -> int:
        """The unwrapped number of a probe."""
        return self._probes.unwrap(sequence)

    def reply_number(self, sequence: int) -> int:
        """The unwrapped number of a reply."""
        return self._replies.unwrap(sequence)

    def count(
        self, sequence: int, exchange: Exchange, *, transmitted_at_ns: int, at_ns: int
    ) -> tuple[Arrival, int | None]:
        """Count a reply.

        Args:
            sequence: the number that its reflector gave it.
            exchange: the probe that it answers.
            transmitted_at_ns: T3 as it stands in the reply.
            at_ns: T4.

        Returns:
            What its arrival means, and its unwrapped number, or None when it can give no delay.
        """
        segment = self._segment
        if self._replies.highest < 0:
            segment.new_stream()
        arrival = self._replies.received(sequence, sent_at_ns=transmitted_at_ns, at_ns=at_ns)
        if arrival is Arrival.DUPLICATE:
            segment.events[Event.DUPLICATE] += 1
            segment.inbound.arrivals.copied(at_ns)
            return arrival, None
        if arrival is Arrival.LATE:
            segment.events[Event.LATE] += 1
            return arrival, None
        if arrival is Arrival.RESTARTED:
            self._restart(exchange)
        number = self._replies.unwrap(sequence)
        segment.inbound.arrived(at_ns, extent=self._replies.extent)
        if not self._count_probe(exchange, at_ns):
            return arrival, None
        segment.outbound.arrived_there(self._probes.unwrap(exchange.sequence), at_ns, order=number)
        return arrival, number

    def give_up(self, at_ns: int) -> None:
        """Settle what is lost. The same reply showed both gaps, so they come due together."""
        segment = self._segment
        for missing in self._replies.given_up(at_ns, threshold_ns=segment.loss_threshold_ns):
            segment.inbound.losses.lost(missing.sequence, missing.expected_at_ns, at_ns)
            self._lost_replies += 1
            self._lost_reply_at_ns = at_ns
        for missing in self._probes.given_up(at_ns, threshold_ns=segment.loss_threshold_ns):
            segment.unanswered.pop(missing.sequence % SEQUENCE_MODULUS, None)
            if self._lost_replies:
                self._lost_replies -= 1
                segment.outbound.losses.settled(missing.expected_at_ns, at_ns)
            else:
                segment.outbound.losses.lost(missing.sequence, missing.expected_at_ns, at_ns)
        if abs(at_ns - self._lost_reply_at_ns) > _CREDIT_LIFETIME_NS:
            self._lost_replies = 0  # left over from a doubled probe, whose second reply was lost

    def begin_anew(self) -> None:
        """Forget the losses counted so far: the peer drops extended probes, so they were none of the network."""
        self._probes, self._replies = SequenceTracker(), SequenceTracker()
        self._lost_replies = 0
        self._segment.forget_losses()

    def _restart(self, exchange: Exchange) -> None:
        """The peer began anew: what was sent while it was away is no loss of the network."""
        segment = self._segment
        segment.events[Event.RESTART] += 1
        segment.new_stream()
        self._probes = SequenceTracker()
        self._lost_replies = 0
        for sequence, sent_at_ns in list(segment.unanswered.items()):
            if sent_at_ns >= exchange.written_at_ns:
                break
            del segment.unanswered[sequence]

    def _count_probe(self, exchange: Exchange, at_ns: int) -> bool:
        segment = self._segment
        arrival = self._probes.received(exchange.sequence, sent_at_ns=exchange.written_at_ns, at_ns=at_ns)
        segment.unanswered.pop(exchange.sequence, None)
        if arrival is Arrival.DUPLICATE:
            segment.outbound.arrivals.copied(at_ns)
        return arrival in (Arrival.NEW, Arrival.RESTARTED)
