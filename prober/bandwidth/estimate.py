"""One estimate from the receiver's side: ask for a stream, take its packets, judge it, rest, ask for the next.

Pure: time and packets come in, requests go out. `now_ns` is any clock that never steps; the times at which packets
arrived are those of the kernel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum, auto

from prober.bandwidth.packet import (
    NO_COOKIE,
    BandwidthPacket,
    Challenge,
    Refusal,
    StreamId,
    StreamProbe,
    StreamRefusal,
    StreamRequest,
)
from prober.bandwidth.search import TRAIN_PACKETS, Bound, End, Interval, RateSearch
from prober.bandwidth.settings import BandwidthSettings
from prober.bandwidth.trend import StreamPacket, StreamShape, Verdict, dispersion_rate_mbit_s, judge
from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.errors import UsageError
from schemas.metrics import ScalarStatistics

ANSWER_WAIT_NS = NS_PER_S
"""From a request to the first packet of the stream."""
MAX_UNANSWERED = 3
"""Requests in a row."""
TAIL_WAIT_NS = 300 * NS_PER_MS
"""After a stream should have arrived: the longest queue that a link is expected to have."""
REORDERED_WAIT_NS = 20 * NS_PER_MS
"""After the last packet of a stream while others are missing."""
MAX_CHALLENGES = 8
BUSY_WAIT_NS = 200 * NS_PER_MS
BUSY_SPREAD = 16
"""Points that found the same upstream point busy come back at so many different times, 10 ms apart."""
_BUSY_STEP_NS = 10 * NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthOutcome:
    """What an estimate of the direction upstream neighbor -> this point gave, at the IP layer (RFC 5136)."""

    upstream: str
    interval: Interval
    end: End
    """Why it ended; also why an end of the interval is missing."""
    refusal: Refusal | None
    """What the upstream point said, with `End.REFUSED`."""
    streams: int
    """Streams that arrived, at least in part."""
    octets: int
    """Of the streams, as sent."""
    duration_ns: int
    measured_at_ms: int

    @property
    def bound(self) -> Bound:
        """Which ends are known; only `Bound.RANGE` has a value."""
        return self.interval.bound

    def statistics(self) -> ScalarStatistics | None:
        """The metric's value with its interval, in Mbit/s; None unless both ends were measured.

        The interval is the range of Pathload, in which the available bandwidth varied, not one of confidence.
        """
        low, high = self.interval.low_mbit_s, self.interval.high_mbit_s
        if low is None or high is None:
            return None
        return ScalarStatistics(
            count=self.streams, value=(low + high) / 2, low=low, high=high, measured_at_ms=self.measured_at_ms
        )


class _State(Enum):
    RESTING = auto()
    ASKED = auto()
    RECEIVING = auto()


class BandwidthEstimate:
    """Runs until `ended` is set.

    Args:
        settings: limits of the receiver.
        session: 64 random bits; whoever does not know them cannot pretend to be a stream.
        now_ns: start.
    """

    def __init__(self, settings: BandwidthSettings, *, session: int, now_ns: int) -> None:
        self._settings = settings
        self._session = session
        self._started_at_ns = now_ns
        self._deadline_ns = now_ns + round(settings.max_estimate_s * NS_PER_S)
        self._search: RateSearch | None = None
        self._state = _State.RESTING
        self._act_at_ns = now_ns
        self._number = -1
        self._cookie = NO_COOKIE
        self._unanswered = self._challenges = 0
        self._asked_at_ns = self._first_at_ns = now_ns
        self._shape = self._train()
        self._packets: list[StreamPacket] = []
        self._sequences: set[int] = set()
        self.streams = self.octets = 0
        self.ended: End | None = None
        self.refusal: Refusal | None = None
        self.verdicts: Counter[Verdict] = Counter()
        self.oddities: Counter[str] = Counter()
        """Packets that were of no use, by kind."""

    @property
    def interval(self) -> Interval:
        """What is known so far."""
        return self._search.interval if self._search else Interval(None, None)

    def next_wakeup_ns(self) -> int:
        """When `due` has something to do."""
        return min(self._act_at_ns, self._deadline_ns)

    def outcome(self, upstream: str, now_ns: int, measured_at_ms: int) -> BandwidthOutcome:
        """The result, or what is known while `ended` is None."""
        return BandwidthOutcome(
            upstream=upstream,
            interval=self.interval,
            end=self.ended or End.CLOSED,
            refusal=self.refusal,
            streams=self.streams,
            octets=self.octets,
            duration_ns=now_ns - self._started_at_ns,
            measured_at_ms=measured_at_ms,
        )

    def due(self, now_ns: int) -> StreamRequest | None:
        """The request to send now."""
        if self.ended or now_ns < self.next_wakeup_ns():
            return None
        if now_ns >= self._deadline_ns:
            self.ended = End.TIME_OUT  # a stream that is cut off here would look like a lossy one
            return None
        if self._state is _State.RECEIVING:
            self._conclude(now_ns)
            return None
        if self._state is _State.ASKED:
            self._unanswered += 1
        self._shape = self._search.shape if self._search else self._train()
        self.ended = self._why_stop(now_ns)
        return None if self.ended else self._ask(now_ns)

    def received(self, packet: BandwidthPacket, received_at_ns: int, now_ns: int) -> None:
        """A packet came from the upstream point.

        Args:
            packet: any.
            received_at_ns: the kernel's time of arrival.
            now_ns: the clock of `due`.
        """
        if self.ended or self._state is _State.RESTING or packet.stream != StreamId(self._session, self._number):
            self.oddities["stray-stream-packet"] += 1
            return
        match packet:
            case StreamProbe():
                self._take_probe(packet, received_at_ns, now_ns)
            case Challenge() if self._state is _State.ASKED:
                self._take_challenge(packet, now_ns)
            case StreamRefusal() if self._state is _State.ASKED:
                self._take_refusal(packet, now_ns)
            case _:
                self.oddities["answer-out-of-turn"] += 1

    def _train(self) -> StreamShape:
        """As fast as allowed: the rate at which it arrives tells where to search."""
        settings = self._settings
        interval_ns = round(settings.max_packet_bytes * 8_000 / settings.max_rate_mbit_s)
        return StreamShape(
            TRAIN_PACKETS, settings.max_packet_bytes, max(interval_ns, settings.min_interval_us * 1_000)
        )

    def _why_stop(self, now_ns: int) -> End | None:
        if self._unanswered >= MAX_UNANSWERED:
            return End.NO_ANSWER
        if now_ns + self._shape.duration_ns >= self._deadline_ns:
            return End.TIME_OUT
        if self.octets + self._shape.total_bytes > self._settings.max_octets_per_estimate:
            return End.OCTETS_USED
        return None

    def _ask(self, now_ns: int) -> StreamRequest:
        # Each request has a number of its own: what comes late of an earlier stream cannot be taken for this one.
        self._number = (self._number + 1) & 0xFFFF
        self._packets.clear()
        self._sequences.clear()
        self._state = _State.ASKED
        self._asked_at_ns = now_ns
        self._act_at_ns = now_ns + ANSWER_WAIT_NS
        return StreamRequest(StreamId(self._session, self._number), self._shape, self._cookie)

    def _rest(self, until_ns: int) -> None:
        self._state = _State.RESTING
        self._act_at_ns = until_ns

    def _take_challenge(self, challenge: Challenge, now_ns: int) -> None:
        self._cookie = challenge.cookie
        self._challenges += 1
        if self._challenges > MAX_CHALLENGES:
            self.ended = End.NO_ANSWER
        self._rest(now_ns)

    def _take_refusal(self, refusal: StreamRefusal, now_ns: int) -> None:
        self._unanswered = 0
        if refusal.reason is Refusal.BUSY:
            self._rest(now_ns + BUSY_WAIT_NS + self._session % BUSY_SPREAD * _BUSY_STEP_NS)
        elif self._search is None and self._adapt(refusal):
            self._rest(now_ns)
        else:
            self.ended, self.refusal = End.REFUSED, refusal.reason

    def _adapt(self, refusal: StreamRefusal) -> bool:
        """Take on the limit of the upstream point; the train is the stream that meets all of them."""
        own = self._settings
        try:
            match refusal.reason:
                case Refusal.RATE:
                    self._settings = replace(own, max_rate_mbit_s=min(refusal.limit / 1000, own.max_rate_mbit_s))
                case Refusal.PACKET_BYTES:
                    self._settings = replace(own, max_packet_bytes=min(refusal.limit, own.max_packet_bytes))
                case Refusal.INTERVAL:
                    interval_us = max(-(-refusal.limit // 1000), own.min_interval_us)
                    self._settings = replace(own, min_interval_us=interval_us)
        except UsageError:  # the limits of both ends leave nothing between
            return False
        return self._settings != own and self._settings.fastest_rate_mbit_s >= own.min_rate_mbit_s

    def _take_probe(self, probe: StreamProbe, received_at_ns: int, now_ns: int) -> None:
        shape = self._shape
        if probe.packet_bytes != shape.packet_bytes or probe.sequence >= shape.packets:
            self.oddities["probe-of-wrong-shape"] += 1
            return
        if probe.sequence in self._sequences:
            self.oddities["duplicate-probe"] += 1
            return
        if self._state is _State.ASKED:
            self._state = _State.RECEIVING
            self._unanswered = 0
            self.streams += 1
            self.octets += shape.total_bytes
            self._first_at_ns = now_ns
            self._act_at_ns = now_ns + shape.duration_ns + TAIL_WAIT_NS
        self._sequences.add(probe.sequence)
        self._packets.append(StreamPacket(probe.sequence, probe.sent_at_ns, received_at_ns))
        if len(self._packets) == shape.packets:
            self._conclude(now_ns)
        elif probe.sequence == shape.packets - 1:
            self._act_at_ns = min(self._act_at_ns, now_ns + REORDERED_WAIT_NS)

    def _conclude(self, now_ns: int) -> None:
        """The stream is over."""
        shape = self._shape
        round_trip_ns = self._first_at_ns - self._asked_at_ns
        period_ns = round(shape.duration_ns / self._settings.load_ratio)
        # The request itself takes a round trip before the next stream begins.
        self._rest(max(now_ns, self._asked_at_ns + max(period_ns, shape.duration_ns + 2 * round_trip_ns)))
        if self._search is None:
            self._begin_search()
            return
        verdict = judge(shape, self._packets)
        self.verdicts[verdict] += 1
        self._search.note(verdict, 1 - len(self._packets) / shape.packets)
        self.ended = self._search.ended

    def _begin_search(self) -> None:
        """At the rate of arrival; when the train drowned, far below its own rate."""
        settings = self._settings
        middle = (settings.min_rate_mbit_s * settings.max_rate_mbit_s) ** 0.5
        self._search = RateSearch(settings, dispersion_rate_mbit_s(self._shape, self._packets) or middle)
