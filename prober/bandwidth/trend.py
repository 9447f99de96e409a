"""Does the delay of one stream grow? (SLoPS: Jain and Dovrolis, "End-to-end available bandwidth", 2003)

A stream is a number of equal packets sent at equal intervals. When it is faster than the available bandwidth, the
queue before the tight link grows while the stream passes, and so does the delay from packet to packet. Only
differences of delays count, so the two clocks may be any time apart.

The thresholds are those of the code of Pathload 1.3.2, not of the paper (PCT 0.66 and 0.54, PDT 0.55 and 0.45):
its bands of +-10 % around one value are wider in PDT, and the code, not the paper, is what was compared with
measured networks for years.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

IP_UDP_BYTES = 28
"""IPv4 and UDP headers; a rate counts them, as capacity at the IP layer does (RFC 5136 section 2.2)."""
PCT_INCREASING, PCT_NONE = 0.605, 0.495
PDT_INCREASING, PDT_NONE = 0.44, 0.36
"""0.55 and 0.40, each +-10 %."""
MIN_GROUPS = 5
MIN_USABLE_PACKETS = 36
LOSSY_RATIO = 0.15
"""A stream that lost so many of its packets was far too fast: no more of it."""
MAX_DISPLACED_RATIO = 0.2
"""Of the gaps between packets, so many may be wrong by more than half; a median of ten stands that."""
MAX_RATE_ERROR_RATIO = 0.05
"""The whole stream may be so much slower or faster than asked for."""
CLUSTERED_RATIO = 0.5
CLUSTER_DIVISOR = 10
"""Packets that come ten times closer than they were sent were held back together by an interface or its driver."""


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What one stream looks like."""

    packets: int
    packet_bytes: int
    """At the IP layer."""
    interval_ns: int

    @property
    def rate_mbit_s(self) -> float:
        """At the IP layer."""
        return self.packet_bytes * 8_000 / self.interval_ns

    @property
    def duration_ns(self) -> int:
        """From the first packet to the end of the last one's interval."""
        return self.packets * self.interval_ns

    @property
    def total_bytes(self) -> int:
        """All packets, at the IP layer."""
        return self.packets * self.packet_bytes


@dataclass(frozen=True, slots=True)
class StreamPacket:
    """One packet that came. The two times are of two clocks."""

    sequence: int
    sent_at_ns: int
    received_at_ns: int


class Verdict(StrEnum):
    """What one stream says."""

    INCREASING = "increasing"
    NO_TREND = "no-trend"
    UNCLEAR = "unclear"
    """The two tests contradict each other, or neither says anything."""
    LOSSY = "lossy"
    """More than `LOSSY_RATIO` of its packets are missing, but not all."""
    LOST = "lost"
    """Nothing came."""
    SPOILED = "spoiled"
    """The sender did not keep the intervals."""
    CLUSTERED = "clustered"
    """The receiver was given its packets in heaps (interrupt coalescing, GRO)."""


def judge(shape: StreamShape, packets: Iterable[StreamPacket]) -> Verdict:
    """What the packets of one stream say, in any order and with any copies; the first of two copies counts."""
    first: dict[int, StreamPacket] = {}
    for packet in packets:
        if 0 <= packet.sequence < shape.packets:
            first.setdefault(packet.sequence, packet)
    if not first:
        return Verdict.LOST
    if len(first) < (1 - LOSSY_RATIO) * shape.packets:
        return Verdict.LOSSY
    came = [first[sequence] for sequence in sorted(first)]
    if _is_spoiled(shape, came):
        return Verdict.SPOILED
    if _is_clustered(shape, came):
        return Verdict.CLUSTERED
    return trend([packet.received_at_ns - packet.sent_at_ns for packet in came])


def dispersion_rate_mbit_s(shape: StreamShape, packets: Iterable[StreamPacket]) -> float | None:
    """The rate at which the packets came: between the available bandwidth and the capacity if they went faster.

    None when fewer than half of them came.
    """
    times_ns = sorted({packet.sequence: packet.received_at_ns for packet in packets}.values())
    if len(times_ns) < max(2, shape.packets // 2) or times_ns[-1] <= times_ns[0]:
        return None
    return (len(times_ns) - 1) * shape.packet_bytes * 8_000 / (times_ns[-1] - times_ns[0])


def trend(delays_ns: Sequence[int]) -> Verdict:
    """INCREASING, NO_TREND or UNCLEAR by pairwise comparison (PCT) and pairwise difference (PDT) of medians."""
    size = math.isqrt(len(delays_ns))
    groups = len(delays_ns) // size if size else 0
    if groups < MIN_GROUPS or len(delays_ns) < MIN_USABLE_PACKETS:
        return Verdict.UNCLEAR
    medians = [statistics.median(delays_ns[at * size : (at + 1) * size]) for at in range(groups)]
    both = {
        _banded(_comparison(medians), PCT_NONE, PCT_INCREASING),
        _banded(_difference(medians), PDT_NONE, PDT_INCREASING),
    }
    if both == {Verdict.INCREASING, Verdict.NO_TREND}:
        return Verdict.UNCLEAR
    return next((verdict for verdict in both if verdict is not Verdict.UNCLEAR), Verdict.UNCLEAR)


def _comparison(medians: Sequence[float]) -> float:
    """Share of medians above the one before; over the number of medians, as the thresholds were made for that."""
    return sum(later > earlier for earlier, later in pairwise(medians)) / len(medians)


def _difference(medians: Sequence[float]) -> float:
    way = sum(abs(later - earlier) for earlier, later in pairwise(medians))
    return (medians[-1] - medians[0]) / way if way else 0.0


def _banded(value: float, none_below: float, increasing_above: float) -> Verdict:
    if value > increasing_above:
        return Verdict.INCREASING
    return Verdict.NO_TREND if value < none_below else Verdict.UNCLEAR


def _is_spoiled(shape: StreamShape, came: Sequence[StreamPacket]) -> bool:
    """By the times at which the packets were really sent."""
    wrong = steps = 0
    for earlier, later in pairwise(came):
        planned_ns = (later.sequence - earlier.sequence) * shape.interval_ns
        steps += 1
        wrong += abs(later.sent_at_ns - earlier.sent_at_ns - planned_ns) > shape.interval_ns / 2
    planned_ns = (came[-1].sequence - came[0].sequence) * shape.interval_ns
    error_ns = abs(came[-1].sent_at_ns - came[0].sent_at_ns - planned_ns)
    return wrong > MAX_DISPLACED_RATIO * steps or error_ns > MAX_RATE_ERROR_RATIO * planned_ns


def _is_clustered(shape: StreamShape, came: Sequence[StreamPacket]) -> bool:
    limit_ns = shape.interval_ns // CLUSTER_DIVISOR
    close = sum(abs(later.received_at_ns - earlier.received_at_ns) < limit_ns for earlier, later in pairwise(came))
    return close > CLUSTERED_RATIO * (len(came) - 1)
