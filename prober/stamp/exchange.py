"""One probe and its reply, as the sender of the probe sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from prober.segment import GREATEST_ROUND_TRIP_NS, Event, Segment
from prober.stamp.fault import ProbeFault
from prober.timestamp import NS_PER_S

FAR_OFF_NS = 86_400 * NS_PER_S
"""Two clocks that differ by more than a day are not both meant as clocks: no one-way delay comes of them."""


@dataclass(slots=True)
class Exchange:
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
    reflector_written_at_ns: int = 0
    """T3 as it stands in the reply, somewhat before it left."""
    received_at_ns: int = 0
    extended: bool = True
    answered: bool = False
    crosses_step: bool = False
    """The own clock was set before its reply was read: the reflector must not be told T4 beside an older T1."""

    def settle(self, segment: Segment, sequence: int, faults: Counter[ProbeFault]) -> None:
        """Give the segment the samples as soon as all times are known; `sequence` is the unwrapped number."""
        sent, turned = self.transmitted_at_ns, self.reflector_transmitted_at_ns
        number = self.reflected_number
        if sent is None or turned is None or number is None:
            return
        at_ns = self.received_at_ns
        round_trip_ns = (at_ns - sent) - (turned - self.reflector_received_at_ns)
        is_far_off = abs(self.reflector_received_at_ns - at_ns) > FAR_OFF_NS
        if is_far_off:
            faults[ProbeFault.FAR_OFF] += 1
        if not 0 <= round_trip_ns <= GREATEST_ROUND_TRIP_NS:
            segment.events[Event.ABSURD] += 1
        elif is_far_off:
            # A reflector whose clock was never set tells nothing but the time that it took.
            segment.round_trips.add(round_trip_ns, sequence=sequence, at_ns=at_ns)
        else:
            segment.user_stamped = self.user_stamped
            if self.user_stamped:
                segment.events[Event.USER_STAMP] += 1
            segment.take_exchange(
                outbound_ns=self.reflector_received_at_ns - sent,
                inbound_ns=at_ns - turned,
                outbound_sequence=sequence,
                inbound_sequence=number,
                began_at_ns=sent,
                at_ns=at_ns,
                arrived_there_ns=self.reflector_received_at_ns,
            )
