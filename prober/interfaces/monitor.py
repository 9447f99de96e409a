"""Watches the interfaces that lead to and from the neighbors: their MTU, capacity and utilization.

The egress toward a neighbor comes from the routing table, and its ingress from the packets that arrive: whoever
receives them calls `seen`. A reading costs two questions to the kernel, 60 us, per neighbor and interval.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prober.follower import Give, Withdraw, follow
from prober.interfaces.load import (
    UNKNOWN_LOAD,
    ConfiguredCapacity,
    InterfaceLoad,
    InterfaceReading,
    ThroughputWindow,
    load_of,
    segment_capacity,
    segment_utilization,
)
from prober.interfaces.netlink import Netlink
from prober.interfaces.report import InterfaceReport
from prober.timestamp import NS_PER_S

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 10.0
"""From one reading to the next; the utilization is the mean of six intervals."""
REPORT_LIFETIME_INTERVALS: Final = 3
"""A neighbor that told nothing for so long has no known interfaces any more."""
_NOTHING_CONFIGURED: Final = ConfiguredCapacity()


@dataclass(slots=True)
class _Interface:
    reading: InterfaceReading
    received: ThroughputWindow = field(default_factory=ThroughputWindow)
    sent: ThroughputWindow = field(default_factory=ThroughputWindow)

    def add(self, reading: InterfaceReading, now_ns: int) -> None:
        self.reading = reading
        for window, counters in ((self.received, reading.received), (self.sent, reading.sent)):
            window.add(counters, header_octets=reading.header_octets, now_ns=now_ns)


@dataclass(slots=True)
class _Neighbor:
    ingress: int | None = None
    """Index of the interface by which its packets arrive."""
    egress: int | None = None
    report: InterfaceReport | None = None
    reported_at_ns: int = 0
    given: set[str] = field(default_factory=set)
    """Metrics that are known to whoever takes them."""


class InterfaceMonitor:
    """Gives `capacity` and `utilization` of each neighbor's segment, neighbor -> this point.

    Args:
        address: own IPv4 address.
        configured: capacities by interface name; they go before what a device says.
        give: see `Give`; nothing is given while neither end's interface is known.
        withdraw: see `Withdraw`.
        now_ms: wall clock, milliseconds since the Unix epoch.
        monotonic_ns: a clock that never steps.
        interval_s: see INTERVAL_S.
    """

    def __init__(
        self,
        address: str,
        *,
        configured: Mapping[str, ConfiguredCapacity],
        give: Give,
        withdraw: Withdraw,
        now_ms: Callable[[], int],
        monotonic_ns: Callable[[], int],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._address = address
        self._configured = configured
        self._give = give
        self._withdraw = withdraw
        self._now_ms = now_ms
        self._monotonic_ns = monotonic_ns
        self._interval_s = interval_s
        self._neighbors: dict[str, _Neighbor] = {}
        self._interfaces: dict[int, _Interface] = {}
        self._netlink: Netlink | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take the sockets, in the network namespace of the calling thread.

        Raises:
            HostError: the kernel gives none.
        """
        self._netlink = Netlink()

    async def start(self) -> None:
        """Open the sockets if `open` did not, and watch until `close`.

        Raises:
            HostError: as `open`.
        """
        if self._netlink is None:
            self.open()
        self._task = asyncio.create_task(self._watch(), name="interfaces")

    async def close(self) -> None:
        """Stop at once; may be called twice."""
        if self._task:
            self._task.cancel()
            self._task = None
        if self._netlink:
            self._netlink.close()
            self._netlink = None

    def follow(self, peers: Iterable[str]) -> None:
        """Watch the interfaces of just these neighbors (IPv4 addresses)."""
        for peer in follow(self._neighbors, peers, _Neighbor):
            self._look_up_egress(peer)

    def seen(self, peer: str, interface_index: int) -> None:
        """A packet of the neighbor arrived by this interface (IP_PKTINFO).

        Tell it of the packets of one session: with equal-cost routes, those of others may arrive elsewhere.
        """
        neighbor = self._neighbors.get(peer)
        if neighbor and neighbor.ingress != interface_index:
            neighbor.ingress = interface_index
            self._read({interface_index} - self._interfaces.keys())

    def take_report(self, peer: str, report: InterfaceReport) -> None:
        """Take in what a neighbor tells of its interfaces; call it for packets of its own session alone."""
        neighbor = self._neighbors.get(peer)
        if neighbor:
            neighbor.report, neighbor.reported_at_ns = report, self._monotonic_ns()

    def report(self, peer: str) -> InterfaceReport:
        """What to tell the neighbor of this point's interfaces."""
        neighbor = self._neighbors.get(peer)
        if neighbor is None:
            return InterfaceReport()
        return InterfaceReport(egress=self._egress_load(neighbor.egress), ingress=self._own_load(neighbor))

    def mtu_toward(self, peer: str) -> int | None:
        """MTU in octets of the interface that leads to the neighbor; None without a route."""
        neighbor = self._neighbors.get(peer)
        known = self._interfaces.get(neighbor.egress) if neighbor and neighbor.egress is not None else None
        return known.reading.mtu_octets if known else None

    def sample(self) -> None:
        """Look up routes, read counters, and give what follows; runs by itself after `start`."""
        for peer in self._neighbors:
            self._look_up_egress(peer)
        used = {
            index for one in self._neighbors.values() for index in (one.ingress, one.egress) if index is not None
        }
        for index in self._interfaces.keys() - used:
            del self._interfaces[index]
        self._read(used)
        for peer, neighbor in self._neighbors.items():
            self._tell(peer, neighbor)

    async def _watch(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(self._interval_s)

    def _tell(self, peer: str, neighbor: _Neighbor) -> None:
        now_ms, upstream, own = self._now_ms(), self._upstream_load(neighbor), self._own_load(neighbor)
        known = {
            "capacity": segment_capacity(upstream, own, now_ms=now_ms),
            "utilization": segment_utilization(upstream, own, now_ms=now_ms),
        }
        for metric, value in known.items():
            if value:
                neighbor.given.add(metric)
                self._give(peer, metric, value)
            elif metric in neighbor.given:
                neighbor.given.remove(metric)
                self._withdraw(peer, metric)

    def _look_up_egress(self, peer: str) -> None:
        if self._netlink is None:
            return
        neighbor = self._neighbors[peer]
        neighbor.egress = self._netlink.egress(peer, self._address)
        if neighbor.egress is not None and neighbor.egress not in self._interfaces:
            self._read((neighbor.egress,))

    def _read(self, indices: Iterable[int]) -> None:
        if self._netlink is None:
            return
        for index in indices:
            reading = self._netlink.interface(index)
            if reading is None:
                self._interfaces.pop(index, None)
                continue
            known = self._interfaces.setdefault(index, _Interface(reading))
            known.add(reading, self._monotonic_ns())

    def _upstream_load(self, neighbor: _Neighbor) -> InterfaceLoad:
        age_ns = self._monotonic_ns() - neighbor.reported_at_ns
        is_fresh = age_ns <= REPORT_LIFETIME_INTERVALS * self._interval_s * NS_PER_S
        return neighbor.report.egress if neighbor.report and is_fresh else UNKNOWN_LOAD

    def _own_load(self, neighbor: _Neighbor) -> InterfaceLoad:
        known = self._interfaces.get(neighbor.ingress) if neighbor.ingress is not None else None
        if known is None:
            return UNKNOWN_LOAD
        configured = self._configured.get(known.reading.name, _NOTHING_CONFIGURED).ingress_mbit_s
        return load_of(configured or known.reading.capacity_mbit_s, known.received.throughput())

    def _egress_load(self, index: int | None) -> InterfaceLoad:
        known = self._interfaces.get(index) if index is not None else None
        if known is None:
            return UNKNOWN_LOAD
        configured = self._configured.get(known.reading.name, _NOTHING_CONFIGURED).egress_mbit_s
        return load_of(configured or known.reading.capacity_mbit_s, known.sent.throughput())
