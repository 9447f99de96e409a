"""The search of Pathload 1.3.2 for the available bandwidth: fleets of streams, each at the next rate.

A fleet below the available bandwidth raises the lower end of the interval, one above it lowers the upper end, and
one in the grey region, in which the available bandwidth varies, splits the search in two: for the lower and for
the upper end of that region. The result is the interval, never its middle alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from prober.bandwidth.fleet import Fleet, FleetVerdict
from prober.bandwidth.settings import MAX_PACKETS, BandwidthSettings
from prober.bandwidth.trend import StreamShape, Verdict

TRAIN_PACKETS = 30
"""Of the first train, whose rate of arrival is where the search begins; 45 ms at 8 Mbit/s."""
OTHER_PACKET_BYTES = 1500
"""Of other traffic: what the trend of a stream is told from."""
ROUGH_STREAMS = 4
"""Of a fleet while an end of the interval is missing."""
GREY_GROWTH, GROWTH = 1.5, 2.0
"""How fast the rate grows while no upper end is known."""
MAX_REPEATS = 2
MAX_LOSSY_FLEETS = 4
"""The rate is halved after each; a path that still loses packets does so for another reason."""


class Bound(StrEnum):
    """Which ends of the interval are measured."""

    RANGE = "range"
    LOWER = "lower"
    """Even the fastest stream showed no trend: at least `low` is available."""
    UPPER = "upper"
    """Even the slowest stream showed a trend: at most `high` is available."""
    NONE = "none"


class End(StrEnum):
    """Why a search ended."""

    CONVERGED = "converged"
    FASTEST_RATE = "fastest-rate"
    """The rate cannot grow any more."""
    SLOWEST_RATE = "slowest-rate"
    SENDER_TOO_SLOW = "sender-too-slow"
    """The upstream point cannot keep the intervals of a faster stream."""
    CLUSTERED = "clustered"
    TOO_FEW_USABLE = "too-few-usable-streams"
    TOO_MUCH_LOSS = "too-much-loss"
    TIME_OUT = "time-out"
    """The time of an estimate is used up; an interval that both ends are known of is wider, and no less true."""
    OCTETS_USED = "octets-used-up"
    """So are its octets."""
    NO_ANSWER = "no-answer"
    """The upstream point does not answer, or nothing of its streams arrives (a packet larger than the MTU)."""
    REFUSED = "refused"
    CLOSED = "closed"
    """This point was stopped meanwhile."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What is known so far; an end is None until it is measured."""

    low_mbit_s: float | None
    high_mbit_s: float | None

    @property
    def bound(self) -> Bound:
        """Which ends are known."""
        if self.low_mbit_s is not None:
            return Bound.LOWER if self.high_mbit_s is None else Bound.RANGE
        return Bound.NONE if self.high_mbit_s is None else Bound.UPPER


def shape_for(rate_mbit_s: float, settings: BandwidthSettings, *, stretch: int = 1) -> StreamShape:
    """The stream of this rate: small packets rather than few, for more can be learned of more packets.

    Args:
        rate_mbit_s: at the IP layer, no more than `settings.fastest_rate_mbit_s`.
        settings: limits of sizes and times.
        stretch: 2 makes intervals and packets twice as large, if the largest packet allows that.
    """
    wanted_ns = max(
        settings.stream_duration_ns * stretch / settings.packets_per_stream, settings.min_interval_us * 1_000
    )
    octets = rate_mbit_s * wanted_ns / 8_000
    packet_bytes = round(min(max(octets, settings.min_packet_bytes), settings.max_packet_bytes))
    interval_ns = max(round(packet_bytes * 8_000 / rate_mbit_s), settings.min_interval_us * 1_000)
    packets = min(max(settings.stream_duration_ns // interval_ns, settings.packets_per_stream), MAX_PACKETS)
    return StreamShape(packets, packet_bytes, interval_ns)


class RateSearch:
    """Says which stream comes next, until `ended` is set.

    Args:
        settings: limits.
        first_rate_mbit_s: where to begin, such as the rate at which a train arrived.
    """

    def __init__(self, settings: BandwidthSettings, first_rate_mbit_s: float) -> None:
        self._settings = settings
        self._low: float | None = None
        self._high: float | None = None
        self._grey: tuple[float, float] | None = None
        self._fastest = max(settings.fastest_rate_mbit_s, settings.min_rate_mbit_s)
        self._too_fast = End.FASTEST_RATE
        self._rate = min(max(first_rate_mbit_s, settings.min_rate_mbit_s), self._fastest)
        self._stretch = 1
        self._repeats = 0
        self._lossy_fleets = 0
        self._fleet = self._next_fleet()
        self.ended: End | None = None

    @property
    def shape(self) -> StreamShape:
        """The next stream."""
        return shape_for(self._rate, self._settings, stretch=self._stretch)

    @property
    def interval(self) -> Interval:
        """What is known so far: the rates tested, less and more what a stream cannot tell."""
        low, high = self._low, self._high
        return Interval(
            None if low is None else max(0.0, low - self._blur_mbit_s(low)),
            None if high is None else high + self._blur_mbit_s(high),
        )

    def _blur_mbit_s(self, rate_mbit_s: float) -> float:
        """A queue that grows by less than one packet looks like a packet that happened to be there."""
        return OTHER_PACKET_BYTES * 8_000 / shape_for(rate_mbit_s, self._settings).duration_ns

    def note(self, verdict: Verdict, loss_ratio: float = 0.0) -> None:
        """The stream of `shape` has ended."""
        self._fleet.note(verdict, loss_ratio)
        fleet_verdict = self._fleet.verdict()
        if fleet_verdict is None:
            return
        self._take(fleet_verdict)
        self._fleet = self._next_fleet()

    def _next_fleet(self) -> Fleet:
        """A small one while an end is missing: those rates are far from the answer, and time is short."""
        is_rough = self._low is None or self._high is None
        streams = self._settings.streams_per_fleet
        return Fleet(min(ROUGH_STREAMS, streams) if is_rough else streams)

    def _take(self, verdict: FleetVerdict) -> None:
        match verdict:
            case FleetVerdict.ABOVE:
                self._lower()
            case FleetVerdict.BELOW:
                self._raise()
            case FleetVerdict.GREY:
                self._widen_grey()
            case FleetVerdict.LOSSY:
                self._lower()
                self._count_lossy()
            case FleetVerdict.SPOILED | FleetVerdict.CLUSTERED | FleetVerdict.UNCLEAR:
                self._repeat(verdict)
                return
            case _:
                assert_never(verdict)
        self._repeats = 0
        self._stretch = 1
        if self.ended is None:
            self._go_on()

    def _lower(self) -> None:
        self._high = self._rate
        if self._grey and self._grey[0] >= self._rate:
            self._grey = None
        elif self._grey:
            self._grey = (self._grey[0], min(self._grey[1], self._rate))

    def _count_lossy(self) -> None:
        """Loss at every rate says nothing of the rate, so no end of the interval stands on it."""
        self._lossy_fleets += 1
        slowest = self._rate <= self._settings.min_rate_mbit_s
        if self._low is None and (slowest or self._lossy_fleets > MAX_LOSSY_FLEETS):
            self._high = None
            self.ended = End.TOO_MUCH_LOSS

    def _raise(self) -> None:
        self._low = self._rate
        if self._grey and self._grey[1] <= self._rate:
            self._grey = None
        elif self._grey:
            self._grey = (max(self._grey[0], self._rate), self._grey[1])

    def _widen_grey(self) -> None:
        low, high = self._grey or (self._rate, self._rate)
        self._grey = (min(low, self._rate), max(high, self._rate))

    def _repeat(self, verdict: FleetVerdict) -> None:
        """Once more, if that is not in vain; intervals are longer then, which a busy host keeps more easily."""
        self._repeats += 1
        if self._repeats <= MAX_REPEATS:
            self._stretch = 2
            return
        self._repeats = 0
        self._stretch = 1
        slower = self._rate / 2
        if verdict is FleetVerdict.SPOILED and self._low is None and slower >= self._settings.min_rate_mbit_s:
            self._fastest = self._rate = slower
            self._too_fast = End.SENDER_TOO_SLOW
        else:
            reasons = {FleetVerdict.SPOILED: End.SENDER_TOO_SLOW, FleetVerdict.CLUSTERED: End.CLUSTERED}
            self.ended = reasons.get(verdict, End.TOO_FEW_USABLE)

    def _go_on(self) -> None:
        rate = self._next_rate()
        if rate is not None:
            self._rate = rate

    def _next_rate(self) -> float | None:
        """The next rate, or None after setting `ended`."""
        if self._high is None:
            return self._faster()
        if self._low is None:
            return self._slower()
        return self._between(self._low, self._high)

    def _faster(self) -> float | None:
        tested = self._grey[1] if self._grey else self._low or 0.0
        if tested >= self._fastest:
            if self._grey and self._low is None:
                return self._slower()
            self.ended = self._too_fast
            return None
        return min(tested * (GREY_GROWTH if self._grey else GROWTH), self._fastest)

    def _slower(self) -> float | None:
        tested = self._grey[0] if self._grey else self._rate
        if tested <= self._settings.min_rate_mbit_s:
            self.ended = End.SLOWEST_RATE
            return None
        return max(tested / 2, self._settings.min_rate_mbit_s)

    def _between(self, low: float, high: float) -> float | None:
        resolution = self._settings.resolution_ratio * high
        if high - low > resolution:
            if self._grey is None:
                return (low + high) / 2
            if high - self._grey[1] > resolution / 2:
                return (high + self._grey[1]) / 2
            if self._grey[0] - low > resolution / 2:
                return (low + self._grey[0]) / 2
        self.ended = End.CONVERGED
        return None
