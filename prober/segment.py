"""One segment: what is known of both directions between this point and a neighbor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from prober.clock_state import ClockState
from prober.timestamp import NS_PER_MS, NS_PER_S, ErrorEstimate
from prober.window import LONGEST_WINDOW_S, MINIMUM_SAMPLES, SHORT_WINDOW_S, DelayWindow, LossWindow
from schemas.message import SegmentState
from schemas.metrics import DelayStatistics, Statistics

KERNEL_STAMP_ERROR_NS = 50_000
"""Interrupt coalescing of a network card; on veth it is 1 us."""
USER_STAMP_ERROR_NS = NS_PER_MS
"""A time that a busy process took itself, when the kernel gave none."""
SILENCE_NS = 3 * NS_PER_S
"""A probe without an answer for so long counts as lost in both directions until a later reply tells which."""
GREATEST_ROUND_TRIP_NS = 10 * NS_PER_S
"""A longer one, or one below zero, shows a step of a clock, not the network."""


class Role(StrEnum):
    """Who sends the probes of the segment."""

    SENDER = "sender"
    REFLECTOR = "reflector"
    IDLE = "idle"
    """Nobody yet."""


class Event(StrEnum):
    """What a segment counts since its start."""

    SENT = "sent"
    RECEIVED = "received"
    DUPLICATE = "duplicate"
    LATE = "late"
    MALFORMED = "malformed"
    RESTART = "restart"
    USER_STAMP = "user-stamp"
    """A time that the kernel did not give was taken by the process; the error estimate is wider then."""
    ABSURD = "absurd"
    """A delay that a clock step made; it is no sample."""


@dataclass(slots=True)
class Direction:
    """Windows of one direction."""

    delays: DelayWindow = field(default_factory=DelayWindow)
    losses: LossWindow = field(default_factory=LossWindow)


@lru_cache(maxsize=8)  # it stands in every packet and changes with the clock's state alone
def _announced(clock: ClockState, user_stamped: bool) -> ErrorEstimate:
    stamp_error_ns = USER_STAMP_ERROR_NS if user_stamped else KERNEL_STAMP_ERROR_NS
    error_ns = round(clock.error_ms * NS_PER_MS) + stamp_error_ns
    return ErrorEstimate.of(error_ns, synchronized=clock.synchronized)


class Segment:
    """Gathers the samples of one neighbor, whichever end sends the probes.

    Args:
        peer: IPv4 address of the neighbor.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.role = Role.IDLE
        self.inbound = Direction()
        self.outbound = Direction()
        self.round_trips = DelayWindow()
        self.events: Counter[Event] = Counter()
        self.newest_sample_at_ns: int | None = None
        """Receive time of the newest packet that gave an inbound delay."""
        self.hops: int | None = None
        """Routers between the peer and this point, from the TTL of its packets."""
        self.peer_error: ErrorEstimate | None = None
        self.user_stamped = False
        """The newest sample rests on a time that the kernel did not give."""
        self.unanswered: dict[int, int] = {}
        """Send times of own probes whose fate is open, by number; ages at the sender alone."""

    def inbound_sample(self, delay_ns: int, *, sequence: int, at_ns: int) -> None:
        """Count a delay peer -> this point."""
        self.inbound.delays.add(delay_ns, sequence=sequence, at_ns=at_ns)
        self.newest_sample_at_ns = at_ns

    def own_error(self, clock: ClockState, *, user_stamped: bool = False) -> ErrorEstimate:
        """The estimate that this point announces: its clock and its way of taking times."""
        return _announced(clock, user_stamped)

    def state(self, now_ns: int) -> SegmentState:
        """Measured when the inbound delay of the long window can be told."""
        enough = self.inbound.delays.count(now_ns, LONGEST_WINDOW_S) >= MINIMUM_SAMPLES
        return SegmentState.MEASURED if enough else SegmentState.PENDING

    def statistics(
        self, metrics: Iterable[str], *, now_ns: int, clock: ClockState, window_s: int = LONGEST_WINDOW_S
    ) -> Mapping[str, Statistics]:
        """The metrics of the direction peer -> this point that can be told, by name, in the given order.

        Args:
            metrics: names of `schemas.metrics.METRICS`; what is not measured (yet) is left out.
            now_ns: end of the window, own clock.
            clock: state of the own clock.
            window_s: at most LONGEST_WINDOW_S.
        """
        return self._told(self.inbound, metrics, now_ns, clock, window_s)

    def outbound_statistics(
        self, metrics: Iterable[str], *, now_ns: int, clock: ClockState, window_s: int = LONGEST_WINDOW_S
    ) -> Mapping[str, Statistics]:
        """The same for the direction this point -> peer; only the sender knows its loss."""
        return self._told(self.outbound, metrics, now_ns, clock, window_s)

    def _told(
        self, direction: Direction, metrics: Iterable[str], now_ns: int, clock: ClockState, window_s: int
    ) -> Mapping[str, Statistics]:
        told: dict[str, Statistics] = {}
        for metric in metrics:
            value = self._statistics_of(metric, direction, now_ns, clock, window_s)
            if value is not None:
                told[metric] = value
        return MappingProxyType(told)

    def _statistics_of(
        self, metric: str, direction: Direction, now_ns: int, clock: ClockState, window_s: int
    ) -> Statistics | None:
        match metric:
            case "delay":
                return self._delay(direction, now_ns, clock, window_s)
            case "loss":
                unanswered = self._silent(now_ns, window_s)
                return direction.losses.statistics(now_ns, window_s, unanswered=unanswered)
            case "jitter":
                return direction.delays.jitter(now_ns, window_s)
            case "rtt":
                return self.round_trips.round_trip(now_ns, window_s)
            case _:
                return None

    def _delay(
        self, direction: Direction, now_ns: int, clock: ClockState, window_s: int
    ) -> DelayStatistics | None:
        if self.peer_error is None:
            return None
        own = self.own_error(clock, user_stamped=self.user_stamped)
        first, last = (self.peer_error, own) if direction is self.inbound else (own, self.peer_error)
        return direction.delays.delay(
            now_ns,
            window_s,
            upstream_clock_error_ms=first.error_ms,
            current_clock_error_ms=last.error_ms,
            synchronized=first.synchronized and last.synchronized,
        )

    def _silent(self, now_ns: int, window_s: int) -> int:
        start_ns = now_ns - window_s * NS_PER_S
        return sum(start_ns <= sent_at_ns < now_ns - SILENCE_NS for sent_at_ns in self.unanswered.values())


METRICS_MEASURED = ("delay", "loss", "jitter", "rtt")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSnapshot:
    """What is known of a segment at one moment; safe to hand to another process."""

    peer: str
    role: Role
    state: SegmentState
    statistics: Mapping[str, Statistics]
    """Peer -> this point, over 60 s."""
    recent: Mapping[str, Statistics]
    """Peer -> this point, over 10 s."""
    outbound: Mapping[str, Statistics]
    """This point -> peer, over 60 s."""
    newest_sample_at_ns: int | None
    hops: int | None
    counters: Mapping[str, int]
    """By the values of `Event`, all present, and `shift`: how often the inbound delay changed for good."""

    @classmethod
    def of(cls, segment: Segment, *, now_ns: int, clock: ClockState) -> SegmentSnapshot:
        """Read a segment."""
        metrics = METRICS_MEASURED
        return cls(
            peer=segment.peer,
            role=segment.role,
            state=segment.state(now_ns),
            statistics=segment.statistics(metrics, now_ns=now_ns, clock=clock),
            recent=segment.statistics(metrics, now_ns=now_ns, clock=clock, window_s=SHORT_WINDOW_S),
            outbound=segment.outbound_statistics(metrics, now_ns=now_ns, clock=clock),
            newest_sample_at_ns=segment.newest_sample_at_ns,
            hops=segment.hops,
            counters={
                **{event.value: segment.events[event] for event in Event},
                "shift": segment.inbound.delays.shifts,
            },
        )
