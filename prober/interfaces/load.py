"""Capacity and utilization of an interface, from its counters (RFC 5136 sections 2.3 and 2.4).

Both are of the IP layer: bits of packets from the first octet of the IP header on. A kernel counts the link's
header too, so that is subtracted. What is left is up to 1 % too much at full-size packets: a card may count the
frame check sequence, and where a packet was merged from several (GRO on a virtual link) only one header is
subtracted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from prober.timestamp import NS_PER_S
from schemas.metrics import ScalarStatistics

INTERVALS: Final = 6
"""The window of the utilization, in sampling intervals: 60 s at the default of 10 s."""
BITS_PER_MBIT: Final = 1_000_000
_ETHERNET_TYPES: Final = frozenset((1, 772))
"""ARPHRD_ETHER and ARPHRD_LOOPBACK of linux/if_arp.h: their counters include an Ethernet header."""
_ETHERNET_HEADER_OCTETS: Final = 14
_ETHERNET_OVERHEAD_OCTETS: Final = 38
"""On the wire beside each IP packet: preamble 8, header 14, check sequence 4, gap 12 (IEEE 802.3)."""
_WRAP_32: Final = 1 << 32
_WRAP_64: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Counters:
    """What crossed an interface in one direction since some start."""

    octets: int
    packets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceReading:
    """What the kernel says of an interface at one moment."""

    index: int
    name: str
    link_type: int
    """ARPHRD_ number of linux/if_arp.h."""
    mtu_octets: int
    received: Counters
    sent: Counters
    speed_mbit_s: int | None
    """Of a real device that knows it; a virtual one's is an invention of its driver."""

    @property
    def header_octets(self) -> int:
        """Of the link's header, in the octets counted for each packet."""
        return _ETHERNET_HEADER_OCTETS if self.link_type in _ETHERNET_TYPES else 0

    @property
    def capacity_mbit_s(self) -> float | None:
        """IP-layer capacity by the device's speed, with packets as large as the MTU: what a test can reach."""
        if self.speed_mbit_s is None:
            return None
        overhead = _ETHERNET_OVERHEAD_OCTETS if self.link_type in _ETHERNET_TYPES else 0
        return self.speed_mbit_s * self.mtu_octets / (self.mtu_octets + overhead)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredCapacity:
    """What the operator says of an interface, Mbit/s of the IP layer; None where nothing is said."""

    ingress_mbit_s: float | None = None
    egress_mbit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """IP-layer bits per second over the window."""

    mean_bit_s: float
    least_bit_s: float
    greatest_bit_s: float
    """Of the window's intervals."""
    intervals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """Used share of the capacity over the window (RFC 5136 section 2.4), 0 to 1."""

    mean: float
    least: float
    greatest: float
    """Of the window's intervals: the averages over 10 s, by default."""
    intervals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceLoad:
    """One direction of one interface."""

    capacity_mbit_s: float | None
    """None: unknown (RFC 2215 section 3.3 writes it as 0); it is never 0."""
    utilization: Utilization | None
    """None: no interval yet, or no capacity to compare with."""


UNKNOWN_LOAD: Final = InterfaceLoad(capacity_mbit_s=None, utilization=None)


class ThroughputWindow:
    """Turns the counters of one direction of one interface into a throughput."""

    def __init__(self) -> None:
        self._last: tuple[Counters, int] | None = None
        self._intervals: deque[tuple[int, int]] = deque(maxlen=INTERVALS)
        """(bits, nanoseconds), the oldest first."""

    def add(self, counters: Counters, *, header_octets: int, now_ns: int) -> None:
        """Take a reading in; counters that fell for another reason than a wrap begin anew.

        Args:
            counters: cumulative.
            header_octets: the link's header, counted with each packet.
            now_ns: monotonic clock.
        """
        last, self._last = self._last, (counters, now_ns)
        if last is None or now_ns <= last[1]:
            return
        octets = counted_since(last[0].octets, counters.octets)
        packets = counted_since(last[0].packets, counters.packets)
        if octets is not None and packets is not None:
            bits = 8 * max(0, octets - header_octets * packets)
            self._intervals.append((bits, now_ns - last[1]))

    def throughput(self) -> Throughput | None:
        """None before the first interval has passed."""
        if not self._intervals:
            return None
        rates = [bits * NS_PER_S / elapsed_ns for bits, elapsed_ns in self._intervals]
        bits, elapsed_ns = (sum(column) for column in zip(*self._intervals, strict=True))
        return Throughput(
            mean_bit_s=bits * NS_PER_S / elapsed_ns,
            least_bit_s=min(rates),
            greatest_bit_s=max(rates),
            intervals=len(rates),
        )


def counted_since(old: int, new: int) -> int | None:
    """What a counter of 32 or 64 bits counted from one reading to the next; None when it was set back.

    It wrapped only if it came from its last quarter to its first: a device that is replaced begins at 0, and few
    were close to a wrap.
    """
    if new >= old:
        return new - old
    modulus = _WRAP_32 if old < _WRAP_32 else _WRAP_64
    if old >= modulus // 4 * 3 and new < modulus // 4:
        return new - old + modulus
    return None


def load_of(capacity_mbit_s: float | None, throughput: Throughput | None) -> InterfaceLoad:
    """Compare a throughput with the capacity.

    A share above 1 is told as 1: bursts pass a shaper, and a capacity may be configured too low.
    """
    if capacity_mbit_s is None or throughput is None:
        return InterfaceLoad(capacity_mbit_s=capacity_mbit_s, utilization=None)
    capacity_bit_s = capacity_mbit_s * BITS_PER_MBIT
    utilization = Utilization(
        mean=min(1.0, throughput.mean_bit_s / capacity_bit_s),
        least=min(1.0, throughput.least_bit_s / capacity_bit_s),
        greatest=min(1.0, throughput.greatest_bit_s / capacity_bit_s),
        intervals=throughput.intervals,
    )
    return InterfaceLoad(capacity_mbit_s=capacity_mbit_s, utilization=utilization)


def segment_capacity(upstream: InterfaceLoad, own: InterfaceLoad, *, now_ms: int) -> ScalarStatistics | None:
    """The smaller of the upstream's egress and the own ingress; None when neither is known.

    With one end unknown the other one counts: the segment has at most its capacity. Links between routers inside
    the segment are not seen.
    """
    known = [load.capacity_mbit_s for load in (upstream, own) if load.capacity_mbit_s is not None]
    if not known:
        return None
    value = min(known)
    return ScalarStatistics(count=len(known), value=value, low=value, high=value, measured_at_ms=now_ms)


def segment_utilization(upstream: InterfaceLoad, own: InterfaceLoad, *, now_ms: int) -> ScalarStatistics | None:
    """The greater of the upstream's egress and the own ingress; None when neither is known.

    The value is the mean over the window; `low` and `high` are the lowest and the highest of its intervals.
    """
    known = [load.utilization for load in (upstream, own) if load.utilization is not None]
    if not known:
        return None
    return ScalarStatistics(
        count=sum(one.intervals for one in known),
        value=max(one.mean for one in known),
        low=max(one.least for one in known),
        high=max(one.greatest for one in known),
        measured_at_ms=now_ms,
    )
