"""One segment: what is known of both directions between this point and a neighbor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from types import MappingProxyType

from prober.clock_state import ClockState
from prober.clock_steps.exchange_gate import Exchange, ExchangeGate
from prober.clock_steps.forward_gate import Forward, ForwardGate
from prober.timestamp import NS_PER_MS, NS_PER_S, ErrorEstimate
from prober.windows.arrival_window import WindowArrivals
from prober.windows.delay_window import DelayWindow, WindowDelays
from prober.windows.direction import Direction
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS, LONGEST_WINDOW_S, SHORT_WINDOW_S
from schemas.errors import UsageError
from schemas.message import SegmentState
from schemas.metrics import DelayStatistics, ScalarStatistics, Statistics

METRICS_MEASURED = ("delay", "loss", "jitter", "rtt", "distribution", "reordering", "duplication", "hops")
"""What a segment measures by its probes; all else is given to it."""
LOSS_THRESHOLDS_MS = range(10, 4001)
"""Possible waiting times; the longest is below the time for which a probe is remembered."""

KERNEL_STAMP_ERROR_NS = 50_000
"""Interrupt coalescing of a network card; on veth it is 1 us."""
USER_STAMP_ERROR_NS = NS_PER_MS
"""A time that a busy process took itself, when the kernel gave none."""
SILENCE_AFTER_THRESHOLD_NS = 2 * NS_PER_S
"""A probe without an answer for so long beyond the loss threshold counts as lost in both directions until a later
reply tells which."""
GREATEST_ROUND_TRIP_NS = 10 * NS_PER_S
"""A longer one, or one below zero, shows a step of a clock, not the network."""
_STEP_CROSSING_NS = 2 * NS_PER_S
"""How long before a step of the own clock an exchange may have begun that ends behind it."""


class Role(StrEnum):
    """Who sends the probes of the segment."""

    SENDER = "sender"
    REFLECTOR = "reflector"
    IDLE = "idle"
    """Nobody yet."""
    ASLEEP = "asleep"
    """Nobody, as nobody asked for the segment for a while."""


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
    """A delay that a clock step or a nonsensical timestamp made; it is no sample."""
    CLOCK_STEP = "clock-step"
    """One of the two clocks was set; the one-way windows begin anew."""

    __hash__ = str.__hash__  # that of an enumeration is a function of Python, and events are counted per packet


@lru_cache(maxsize=8)  # it stands in every packet and changes with the clock's state alone
def announced_error(clock: ClockState, user_stamped: bool = False) -> ErrorEstimate:
    """What a packet says of the clock that wrote its times, and of the way in which they were taken."""
    stamp_error_ns = USER_STAMP_ERROR_NS if user_stamped else KERNEL_STAMP_ERROR_NS
    error_ns = round(clock.error_ms * NS_PER_MS) + stamp_error_ns
    return ErrorEstimate.of(error_ns, synchronized=clock.synchronized)


class AnnouncedErrors:
    """`announced_error` as 16 bits of a packet, computed when the clock's state is another object."""

    __slots__ = ("_clock", "_coarse", "_fine")

    def __init__(self) -> None:
        self._clock: ClockState | None = None
        self._fine = self._coarse = 0

    def bits(self, clock: ClockState, *, coarse: bool) -> int:
        """What to announce; `coarse` where times were not taken by the kernel."""
        if clock is not self._clock:
            self._clock = clock
            self._fine, self._coarse = (announced_error(clock, one).to_int() for one in (False, True))
        return self._coarse if coarse else self._fine


class _View:
    """What one direction holds of one window, looked up when the first metric needs it."""

    def __init__(self, direction: Direction, now_ns: int, window_s: int) -> None:
        self.direction = direction
        self.now_ns = now_ns
        self.window_s = window_s

    @cached_property
    def delays(self) -> WindowDelays | None:
        return self.direction.delays.over(self.now_ns, self.window_s)

    @cached_property
    def arrivals(self) -> WindowArrivals:
        return self.direction.arrivals.over(self.now_ns, self.window_s)


class Segment:
    """Gathers the samples of one neighbor, whichever end sends the probes.

    Args:
        peer: IPv4 address of the neighbor.
        loss_threshold_ms: waiting time after which a packet counts as lost, one of LOSS_THRESHOLDS_MS.

    Raises:
        UsageError: no such threshold.
    """

    def __init__(self, peer: str, *, loss_threshold_ms: int = DEFAULT_LOSS_THRESHOLD_MS) -> None:
        if loss_threshold_ms not in LOSS_THRESHOLDS_MS:
            raise UsageError("loss_threshold_ms", loss_threshold_ms, "10 to 4000")
        self.peer = peer
        self.loss_threshold_ns = loss_threshold_ms * NS_PER_MS
        self.role = Role.IDLE
        self.inbound = Direction(loss_threshold_ms)
        self.outbound = Direction(loss_threshold_ms)
        self.round_trips = DelayWindow(moments_only=True)
        self.events: Counter[Event] = Counter()
        self.newest_sample_at_ns: int | None = None
        """Receive time of the newest packet that gave an inbound delay."""
        self.hops: int | None = None
        """Routers between the peer and this point, from the TTL of its packets."""
        self.peer_error: ErrorEstimate | None = None
        self.told_interfaces = b""
        """Value of TLV 241 that the peer is told; empty: nothing is."""
        self.heard_interfaces: bytes | None = None
        """The newest value of TLV 241 that the peer told in its session with us."""
        self.user_stamped = False
        """The newest sample rests on a time that the kernel did not give."""
        self.unanswered: dict[int, int] = {}
        """Send times of own probes whose fate is open, by number; ages at the sender alone."""
        self.last_step_ns: int | None = None
        """By how much a clock was last set: forward positive for the peer's, negative for the own one.

        A change of `events[Event.CLOCK_STEP]` tells that there was one more.
        """
        self._exchanges = ExchangeGate()
        self._forward = ForwardGate(self.loss_threshold_ns)
        self._void_until_ns: int | None = None
        """Own times of the last moments before this one were taken by a clock that was set since."""
        self._stepped_at_ns = 0
        self._given: dict[str, ScalarStatistics] = {}

    def inbound_sample(self, delay_ns: int, *, sequence: int, at_ns: int) -> None:
        """Take a delay peer -> this point, of which T1 and T2 are known; a strange one must wait for others."""
        if self._crosses_step(at_ns):
            return
        sample = Forward(delay_ns, sequence, at_ns)
        judgement = self._forward.judge(sample)
        if judgement is None:
            self._count_inbound(delay_ns, sequence, at_ns)
            return
        self.events[Event.ABSURD] += judgement.dropped
        if judgement.step_ns is not None:
            self._peer_stepped(judgement.step_ns)
            self._exchanges.restart()
        for one in judgement.samples:
            self._count_inbound(one.delay_ns, one.sequence, one.at_ns)

    def take_exchange(
        self,
        *,
        outbound_ns: int,
        inbound_ns: int,
        outbound_sequence: int,
        inbound_sequence: int,
        began_at_ns: int,
        at_ns: int,
        arrived_there_ns: int,
        inbound_taken: bool = False,
    ) -> None:
        """Take the delays of a probe and its reply, of which all four times are known; strange ones must wait.

        Args:
            outbound_ns: delay this point -> peer, as far as the clocks agree.
            inbound_ns: delay peer -> this point.
            outbound_sequence: unwrapped number of the packet to the peer.
            inbound_sequence: unwrapped number of the packet from the peer.
            began_at_ns: the earlier of the two own times.
            at_ns: receive time on the own clock.
            arrived_there_ns: receive time on the peer's clock.
            inbound_taken: its inbound delay was an `inbound_sample` before.
        """
        if self._crosses_step(began_at_ns):
            return
        exchange = Exchange(outbound_ns, inbound_ns, outbound_sequence, inbound_sequence, at_ns, arrived_there_ns)
        judgement = self._exchanges.judge(exchange)
        if judgement is None:
            self._count_exchange(exchange, inbound_taken=inbound_taken)
            return
        self.events[Event.ABSURD] += judgement.dropped
        if judgement.step_ns is not None:
            self._peer_stepped(judgement.step_ns)
            self._forward.restart()
        for one in judgement.samples:
            self._count_exchange(one, inbound_taken=inbound_taken)

    def clock_stepped(self, now_ns: int, *, step_ns: int) -> None:
        """Begin the one-way windows anew, since the own clock was set; the round trips go on.

        Args:
            now_ns: own clock, after the step.
            step_ns: how far it was set, forward positive.
        """
        self.events[Event.CLOCK_STEP] += 1
        self.last_step_ns = -step_ns
        self._stepped_at_ns, self._void_until_ns = now_ns, now_ns - step_ns
        self.inbound.restart()
        self.outbound.restart()
        self.round_trips.move(step_ns)
        self._exchanges.restart()
        self._forward.restart()
        self.unanswered.clear()
        if self.newest_sample_at_ns is not None:
            self.newest_sample_at_ns = min(now_ns, self.newest_sample_at_ns + step_ns)

    def new_stream(self) -> None:
        """The sender, or the reflector, numbers anew."""
        self.inbound.new_stream()
        self.outbound.new_stream()
        self.round_trips.new_stream()

    def forget_losses(self) -> None:
        """Begin to count losses anew in both directions: those so far were none of the network."""
        self.inbound.losses.restart()
        self.outbound.losses.restart()
        self.unanswered.clear()

    def give(self, metric: str, statistics: ScalarStatistics) -> None:
        """Keep what somebody else measured of the direction peer -> this point, until the next or `withdraw`.

        Raises:
            UsageError: a metric that the segment measures itself.
        """
        if metric in METRICS_MEASURED:
            raise UsageError("metric", metric, "one that probes do not measure")
        self._given[metric] = statistics

    def withdraw(self, metric: str) -> None:
        """Forget what was given, if anything was."""
        self._given.pop(metric, None)

    @property
    def metrics_known(self) -> tuple[str, ...]:
        """What `statistics` may tell: METRICS_MEASURED and the given ones."""
        return (*METRICS_MEASURED, *self._given)

    def own_error(self, clock: ClockState, *, user_stamped: bool = False) -> ErrorEstimate:
        """The estimate that this point announces: its clock and its way of taking times."""
        return announced_error(clock, user_stamped)

    def state(self, now_ns: int) -> SegmentState:
        """Measured when the inbound delay of the long window can be told."""
        delays = self.inbound.delays
        return SegmentState.MEASURED if delays.is_measured(now_ns, LONGEST_WINDOW_S) else SegmentState.PENDING

    def statistics(
        self, metrics: Iterable[str], *, now_ns: int, clock: ClockState, window_s: int = LONGEST_WINDOW_S
    ) -> Mapping[str, Statistics]:
        """The metrics of the direction peer -> this point that can be told, by name, in the given order.

        Args:
            metrics: names of METRICS_MEASURED, or of what was given; what is not known (yet) is left out.
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
        view = _View(direction, now_ns, window_s)
        told: dict[str, Statistics] = {}
        for metric in metrics:
            value = self._statistics_of(metric, view, clock)
            if value is not None:
                told[metric] = value
        return MappingProxyType(told)

    def _statistics_of(self, metric: str, view: _View, clock: ClockState) -> Statistics | None:
        match metric:
            case "delay":
                return self._delay(view, clock)
            case "loss":
                silent = self._silent(view.now_ns, view.window_s)
                return view.direction.losses.statistics(view.now_ns, view.window_s, unanswered=silent)
            case "jitter":
                return view.delays.jitter() if view.delays else None
            case "rtt":
                round_trips = self.round_trips.over(view.now_ns, view.window_s)
                return round_trips.round_trip() if round_trips else None
            case "distribution":
                return view.delays.distribution() if view.delays else None
            case "reordering":
                return view.arrivals.reordering()
            case "duplication":
                return view.arrivals.duplication()
            case "hops":
                return self._hops(view)
            case _:
                return self._given.get(metric) if view.direction is self.inbound else None

    def _delay(self, view: _View, clock: ClockState) -> DelayStatistics | None:
        if view.delays is None or self.peer_error is None:
            return None
        own = self.own_error(clock, user_stamped=self.user_stamped)
        first, last = (self.peer_error, own) if view.direction is self.inbound else (own, self.peer_error)
        return view.delays.delay(
            upstream_clock_error_ms=first.error_ms,
            current_clock_error_ms=last.error_ms,
            synchronized=first.synchronized and last.synchronized,
        )

    def _hops(self, view: _View) -> ScalarStatistics | None:
        """IP hops from the peer to this point: one more than the routers between, as traceroute counts them."""
        if self.hops is None or view.direction is not self.inbound:
            return None
        return view.arrivals.hops(self.hops + 1)

    def _silent(self, now_ns: int, window_s: int) -> list[int]:
        start_ns = now_ns - window_s * NS_PER_S
        end_ns = now_ns - self.loss_threshold_ns - SILENCE_AFTER_THRESHOLD_NS
        return [sequence for sequence, sent_at_ns in self.unanswered.items() if start_ns <= sent_at_ns < end_ns]

    def _count_inbound(self, delay_ns: int, sequence: int, at_ns: int) -> None:
        self.inbound.delays.add(delay_ns, sequence=sequence, at_ns=at_ns)
        self.newest_sample_at_ns = at_ns

    def _count_exchange(self, exchange: Exchange, *, inbound_taken: bool) -> None:
        at_ns, sequence = exchange.at_ns, exchange.outbound_sequence
        self.outbound.delays.add(
            exchange.outbound_ns, sequence=sequence, at_ns=at_ns, arrived_at_ns=exchange.arrived_there_ns
        )
        self.round_trips.add(exchange.round_trip_ns, sequence=sequence, at_ns=at_ns)
        if not inbound_taken:
            self._count_inbound(exchange.inbound_ns, exchange.inbound_sequence, at_ns)

    def _peer_stepped(self, step_ns: int) -> None:
        """The delays of one way are of no more use; what arrived and what was lost is by the own clock."""
        self.events[Event.CLOCK_STEP] += 1
        self.last_step_ns = step_ns
        self.inbound.delays.restart()
        self.outbound.delays.restart()

    def _crosses_step(self, own_time_ns: int) -> bool:
        """Whether the time was taken before the own clock was set."""
        until_ns = self._void_until_ns
        if until_ns is None:
            return False
        newest_at_ns = self.inbound.arrivals.newest_at_ns
        if newest_at_ns is not None and newest_at_ns - self._stepped_at_ns > _STEP_CROSSING_NS:
            self._void_until_ns = None
            return False
        return 0 <= until_ns - own_time_ns <= _STEP_CROSSING_NS


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
    """By the values of `Event`, all present, and

    - `shift`: how often the inbound delay changed for good;
    - `reordering-extent`: places by which the most reordered packet that came in was too late.
    """

    @classmethod
    def of(cls, segment: Segment, *, now_ns: int, clock: ClockState) -> SegmentSnapshot:
        """Read a segment."""
        return cls(
            peer=segment.peer,
            role=segment.role,
            state=segment.state(now_ns),
            statistics=segment.statistics(segment.metrics_known, now_ns=now_ns, clock=clock),
            recent=segment.statistics(METRICS_MEASURED, now_ns=now_ns, clock=clock, window_s=SHORT_WINDOW_S),
            outbound=segment.outbound_statistics(METRICS_MEASURED, now_ns=now_ns, clock=clock),
            newest_sample_at_ns=segment.newest_sample_at_ns,
            hops=segment.hops,
            counters={
                **{event.value: segment.events[event] for event in Event},
                "shift": segment.inbound.delays.shifts,
                "reordering-extent": segment.inbound.arrivals.greatest_extent,
            },
        )
