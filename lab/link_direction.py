"""When does a frame leave an emulated link, if at all? The clock and the chance are passed in.

A frame meets, in this order: the cut (`up`), the queue and the serialization of a limited rate, the loss, the
propagation delay with its jitter. So a frame that is lost has used its share of the rate, as on a real wire.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from lab.impairment import Impairment

Target = TypeVar("Target")

MAX_QUEUE_NS = 50_000_000
"""A limited rate queues 50 ms, the usual buffer of a lab router, and drops what comes on top."""

MIN_QUEUE_PACKETS = 20
"""At low rates 50 ms would hold less than one frame; so many full ones of the usual MTU always fit."""

FULL_FRAME_BYTES = 1514
"""Ethernet header and the usual 1500 octets, without the frame check sequence: what a TAP hands over."""

MAX_IN_FLIGHT_PACKETS = 20_000
"""One second at 20,000 packets/s; bounds the memory of one direction together with the next number."""

MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""1.3 s at 100 Mbit/s."""

_ETHERTYPE = slice(12, 14)
_IPV4 = b"\x08\x00"
_HEADER_LENGTH = 14
_BARE_IPV4 = 0x45
"""Version 4 and five words of header (RFC 791 section 3.1)."""

INITIAL_LEAD_NS = 60_000
"""A typical lateness of a timer on a virtual machine; learning starts here."""

MAX_LEAD_NS = 200_000
"""No spin is longer, however late timers become."""

MAX_EARLY_NS = 30_000
"""No frame leaves earlier than this before its time."""

LEARNING_STEP_NS = 500
"""Settles within some tens of wake-ups; its noise of a few microseconds costs spinning, not precision."""

SPIN_DIVISOR = 8
"""Spinning takes at most an eighth of one core in the long run,"""

MAX_SPIN_CREDIT_NS = 2_000_000
"""and 2 ms more at the start of a burst."""


@dataclass(slots=True)
class Counters:
    """What became of the frames of one direction since the link was made; they only grow.

    Delivered is `packets - lost - queue_drops`, less what is still in flight.
    """

    packets: int = 0
    """Frames that entered the link."""

    bytes: int = 0
    """Their octets, with the 14 of Ethernet."""

    lost: int = 0
    """Lost by `loss_ratio`, by a cut link, or since the far interface was down."""

    queue_drops: int = 0
    """Dropped since the queue in front of a limited rate, the memory of the direction, or the ring between the
    kernel and the process was full, or since the frame did not fit there."""


def has_options(frame: bytes) -> bool:
    """Whether an Ethernet frame holds an IPv4 packet whose header is longer than that without options."""
    return frame[_ETHERTYPE] == _IPV4 and frame[_HEADER_LENGTH] > _BARE_IPV4


class LinkDirection:
    """One direction of a link. Times are integers in nanoseconds on any one monotonic clock."""

    def __init__(self, impairment: Impairment, random: Random) -> None:
        self.counters = Counters()
        self._random = random
        self._byte_ns = 0.0
        self._idle_at_ns = 0
        self._in_flight_packets = 0
        self._in_flight_bytes = 0
        self.set(impairment)

    @property
    def impairment(self) -> Impairment:
        """What the direction does to frames that arrive now."""
        return self._impairment

    @property
    def min_delay_ns(self) -> int:
        """No frame that arrives now is due sooner."""
        return self._delay_ns - self._jitter_ns

    def set(self, impairment: Impairment) -> None:
        """Change the impairment for frames that arrive from now on; those in flight keep their time."""
        self._impairment = impairment
        self._up = impairment.up
        self._loss_ratio = impairment.loss_ratio
        self._drops_options = impairment.drops_options
        self._delay_ns = round(impairment.delay_ms * 1e6)
        self._jitter_ns = round(impairment.jitter_ms * 1e6)
        byte_ns = 8_000 / impairment.rate_mbit if impairment.rate_mbit else 0.0
        if byte_ns != self._byte_ns:
            self._idle_at_ns = 0  # at 1 kbit/s the old queue may reach minutes ahead
        self._byte_ns = byte_ns
        self._queue_ns = round(max(MAX_QUEUE_NS, MIN_QUEUE_PACKETS * FULL_FRAME_BYTES * self._byte_ns))

    def arrive(self, frame: bytes, now_ns: int) -> int | None:
        """Take a frame that arrived at `now_ns`; gives when it is due at the far end, `None` if never.

        Each frame that got a due time must be handed to `depart` later.
        """
        size = len(frame)
        counters = self.counters
        counters.packets += 1
        counters.bytes += size
        if not self._up:
            counters.lost += 1
            return None
        sent_at_ns = self._serialize(size, now_ns) if self._has_room(size) else None
        if sent_at_ns is None:
            counters.queue_drops += 1
            return None
        if self._loss_ratio and self._random.random() < self._loss_ratio:
            counters.lost += 1
            return None
        if self._drops_options and has_options(frame):
            counters.lost += 1
            return None
        self._in_flight_packets += 1
        self._in_flight_bytes += size
        due_ns = sent_at_ns + self._delay_ns
        if self._jitter_ns:
            due_ns += self._random.randint(-self._jitter_ns, self._jitter_ns)
        return due_ns

    def depart(self, frame: bytes) -> bool:
        """The frame's time has come; says whether it gets out, which a link cut meanwhile prevents."""
        self._in_flight_packets -= 1
        self._in_flight_bytes -= len(frame)
        if not self._up:
            self.counters.lost += 1
        return self._up

    def fail(self) -> None:
        """The frame that just departed could not be delivered."""
        self.counters.lost += 1

    def miss(self, frames: int) -> None:
        """So many frames never reached `arrive`: they were too long, or the reader was too slow."""
        self.counters.packets += frames
        self.counters.queue_drops += frames

    def _serialize(self, size: int, now_ns: int) -> int | None:
        if not self._byte_ns:
            return now_ns
        # The exact model of a sender with one queue; TBF in the kernel gives the same rate, but lets a bucket
        # full of packets pass back to back, and its wake-up adds an error of its own in front of our stamp.
        start_ns = max(now_ns, self._idle_at_ns)
        duration_ns = round(size * self._byte_ns)
        if start_ns + duration_ns - now_ns > self._queue_ns:
            return None
        self._idle_at_ns = start_ns + duration_ns
        return self._idle_at_ns

    def _has_room(self, size: int) -> bool:
        return (
            self._in_flight_packets < MAX_IN_FLIGHT_PACKETS and self._in_flight_bytes + size <= MAX_IN_FLIGHT_BYTES
        )


class DepartureSchedule(Generic[Target]):
    """Frames in flight, in the order in which they are due; equal times leave in the order of arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Target, bytes]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_ns: int, target: Target, frame: bytes) -> None:
        """Hold a frame for `target` until `due_ns`."""
        self._arrivals += 1
        heapq.heappush(self._heap, (due_ns, self._arrivals, target, frame))

    def next_due_ns(self) -> int | None:
        """When the first frame is due; `None` when nothing is in flight."""
        return self._heap[0][0] if self._heap else None

    def pop(self) -> tuple[Target, bytes]:
        """Take out the first frame, due or not.

        Raises:
            IndexError: nothing is in flight.
        """
        _, _, target, frame = heapq.heappop(self._heap)
        return target, frame


class WakeLead:
    """How long before a frame is due the process should be awake, learned from how late it woke before.

    A timer wakes late by some 5 to 150 us, differently on an idle and on a busy core, so no constant fits. Waking
    early by the 95th percentile of that lateness and spinning for the rest makes nearly each departure exact.
    What spins cannot do other work, so spinning is paid from a budget. When it is spent, the lead falls to the
    median and frames leave as soon as the process is awake, half of them a little early, half a little late.
    """

    def __init__(self) -> None:
        self._high_ns = INITIAL_LEAD_NS
        self._median_ns = MAX_EARLY_NS // 2
        self._credit_ns = MAX_SPIN_CREDIT_NS
        self._credited_at_ns = 0

    def lead_ns(self, now_ns: int) -> int:
        """The lead for the next timer."""
        earned_ns = (now_ns - self._credited_at_ns) // SPIN_DIVISOR
        self._credited_at_ns = now_ns
        self._credit_ns = min(MAX_SPIN_CREDIT_NS, self._credit_ns + earned_ns)
        return self._high_ns if self.can_spin else self._median_ns

    @property
    def can_spin(self) -> bool:
        """Whether the budget allows to spin now."""
        return self._credit_ns > 0

    def observe(self, late_ns: int) -> None:
        """Learn that a timer woke the process `late_ns` after the time that it was set to."""
        # A quantile settles where steps up and down balance: 19 to 1, and 1 to 1.
        self._high_ns += 19 * LEARNING_STEP_NS if late_ns > self._high_ns else -LEARNING_STEP_NS
        self._median_ns += LEARNING_STEP_NS if late_ns > self._median_ns else -LEARNING_STEP_NS
        self._high_ns = min(MAX_LEAD_NS, max(0, self._high_ns))
        self._median_ns = min(MAX_EARLY_NS, self._high_ns, max(0, self._median_ns))

    def spend(self, spun_ns: int) -> None:
        """Pay for a spin."""
        self._credit_ns -= spun_ns
