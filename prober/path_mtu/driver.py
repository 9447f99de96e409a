"""Drives `MtuSearch` toward the neighbors: padded STAMP probes to their reflectors, with DF set.

A reflector answers in the size that it was asked in (RFC 8762 section 4.3), so a value is the smaller of both
directions' path MTU. A reply that was fragmented on its way back does not count as one that fits, and a reply that
is shorter than its probe does not count at all. The kernel's cache of path MTUs, which forged ICMP messages can
fill, is not asked (IP_PMTUDISC_PROBE), and no ICMP message is needed.

Traffic toward a neighbor, in octets of IP packets at an MTU near 1500: 90 kB an hour where the interface's MTU
fits, 112 kB where it does not, 240 kB toward one that answers nothing, and 35 kB for a search, twice that at 10 %
loss. At most one probe leaves per SPACING_S, whatever its destination.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from prober.follower import Give, Withdraw, follow
from prober.path_mtu.search import MtuFinding, MtuSearch, MtuTimes
from prober.stamp.packet import SENT_TTL, STAMP_PORT
from prober.timestamp import NS_PER_S
from schemas.errors import HostError, ProbeError
from schemas.metrics import ScalarStatistics

logger = logging.getLogger(__name__)

SPACING_S: Final = 0.02
"""From one probe to the next, whatever their destinations: at most 50 a second."""
LONGEST_SLEEP_S: Final = 1.0
"""The interface's MTU is looked at this often at least."""
IP_UDP_OCTETS: Final = 28
"""Headers before the STAMP packet; our probes carry no IP options."""
ETHERNET_OCTETS: Final = 1500
"""What every reflector answers; `prober.stamp.packet.MAX_PACKET_BYTES` is made for it."""
_MAX_DATAGRAM_OCTETS: Final = 65_535

# Constants of Linux that Python 3.11 does not name.
_IP_TTL: Final = 2
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_PROBE: Final = 3
_IP_RECVFRAGSIZE: Final = 25
_INDEX = struct.Struct("=i")
_ANCILLARY_OCTETS: Final = 128

Limit = Callable[[str], int | None]
"""MTU in octets of the interface that leads to a peer; None without a route."""
Seen = Callable[[str, int], None]
"""Takes (peer, index of the interface by which its reply arrived)."""


class MtuCodec(Protocol):
    """Writes probes of a session with an SSID of its own, and reads their replies."""

    def write(self, address: str, sequence: int, size_octets: int) -> bytes:
        """A probe to the address of `size_octets` of UDP payload, padded."""
        ...

    def read(self, address: str, data: bytes) -> int | None:
        """The probe's number in a reply from the address; None or ProbeError for any other datagram."""
        ...


@dataclass(slots=True)
class _Peer:
    search: MtuSearch
    interface_octets: int
    told: MtuFinding | None = None


class MtuProber:
    """Searches and confirms the path MTU of each neighbor's segment, and gives it as the metric `mtu`.

    Args:
        address: own IPv4 address, the source of the probes.
        codec: see `MtuCodec`.
        limit_of: see `Limit`; asked again and again, so it should be cheap.
        give: takes each result, and again each confirmation of it (by default every 60 s).
        withdraw: called when a peer whose value was given answers nothing any more.
        now_ms: wall clock, milliseconds since the Unix epoch.
        monotonic_ns: a clock that never steps.
        random_source: draws the first sequence number; `random.SystemRandom` makes forged replies hard.
        port: of the neighbors' reflectors.
        greatest_octets: larger packets are not tried, as a reflector may refuse them; a value that ends here has
            the interface's MTU as its upper bound.
        seen: see `Seen`.
        times: when to probe; other values than the defaults break RFC 8899's lower bounds.
    """

    def __init__(
        self,
        address: str,
        *,
        codec: MtuCodec,
        limit_of: Limit,
        give: Give,
        withdraw: Withdraw,
        now_ms: Callable[[], int],
        monotonic_ns: Callable[[], int],
        random_source: random.Random,
        port: int = STAMP_PORT,
        greatest_octets: int = ETHERNET_OCTETS,
        seen: Seen | None = None,
        times: MtuTimes | None = None,
    ) -> None:
        self._address = address
        self._codec = codec
        self._limit_of = limit_of
        self._give = give
        self._withdraw = withdraw
        self._now_ms = now_ms
        self._monotonic_ns = monotonic_ns
        self._first_sequence = random_source.getrandbits(32)
        self._port = port
        self._greatest_octets = greatest_octets
        self._seen = seen
        self._times = times
        self._peers: dict[str, _Peer | None] = {}
        """None: no route yet."""
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_send_at_ns = 0
        self.sent_probes = 0
        """Since the start, with those that the kernel refused."""
        self.sent_octets = 0
        """Of IP packets, since the start."""

    def open(self) -> None:
        """Take the socket, in the network namespace of the calling thread.

        Raises:
            HostError: the address is not one of this machine.
        """
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            for option, value in (
                (_IP_TTL, SENT_TTL),
                (_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE),
                (_IP_RECVFRAGSIZE, 1),
                (_IP_PKTINFO, 1),
            ):
                opened.setsockopt(socket.IPPROTO_IP, option, value)
            opened.bind((self._address, 0))
        except OSError as error:
            opened.close()
            raise HostError(f"no MTU probes from {self._address}: {error.strerror}") from error
        self._socket = opened

    async def start(self) -> None:
        """Open the socket if `open` did not, and run until `close`.

        Raises:
            HostError: as `open`.
        """
        if self._socket is None:
            self.open()
        assert self._socket is not None  # `open` makes it or raises
        asyncio.get_running_loop().add_reader(self._socket, self._take, self._socket)
        self._wake()

    async def close(self) -> None:
        """Stop at once; may be called twice."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def follow(self, peers: Iterable[str]) -> None:
        """Search toward just these neighbors (IPv4 addresses); those that answer probes, best."""
        follow(self._peers, peers, lambda: None)

    def _wake(self) -> None:
        sending = self._socket
        if sending is None:
            return
        now_ns = self._monotonic_ns()
        self._look_at_limits(now_ns)
        if now_ns >= self._next_send_at_ns and self._send_due(sending, now_ns):
            self._next_send_at_ns = now_ns + round(SPACING_S * NS_PER_S)
        self._arm(now_ns)

    def _arm(self, now_ns: int) -> None:
        if self._timer:
            self._timer.cancel()
        due_at_ns = min((peer.search.due_at_ns() for peer in self._peers.values() if peer), default=None)
        sleep_s = LONGEST_SLEEP_S
        if due_at_ns is not None:
            due_in_s = (max(self._next_send_at_ns, due_at_ns) - now_ns) / NS_PER_S
            sleep_s = min(max(0.0, due_in_s), LONGEST_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(sleep_s, self._wake)

    def _look_at_limits(self, now_ns: int) -> None:
        for address, peer in self._peers.items():
            limit = self._limit_of(address)
            if limit is None:
                continue
            tried = min(limit, self._greatest_octets)
            if peer is None:
                self._peers[address] = _Peer(self._new_search(tried, now_ns), limit)
            else:
                peer.interface_octets = limit
                peer.search.limit(tried, now_ns)

    def _new_search(self, limit_octets: int, now_ns: int) -> MtuSearch:
        # Numbers toward a peer never go back, or its reflector would see copies of old probes.
        first = self._first_sequence + self.sent_probes
        return MtuSearch(limit_octets=limit_octets, now_ns=now_ns, first_sequence=first, times=self._times)

    def _send_due(self, sending: socket.socket, now_ns: int) -> bool:
        """Send one probe, of the search that is due longest; False when none is due."""
        peers = [(address, peer) for address, peer in self._peers.items() if peer]
        for address, peer in sorted(peers, key=lambda one: one[1].search.due_at_ns()):
            search = peer.search
            probe = search.poll(now_ns)
            if search.found is None and peer.told:
                peer.told = None
                self._withdraw(address, "mtu")
            if probe is None:
                continue
            self.sent_probes += 1
            data = self._codec.write(address, probe.sequence, probe.size_octets - IP_UDP_OCTETS)
            try:
                sending.sendto(data, (address, self._port))
                self.sent_octets += probe.size_octets
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    search.refused(probe.sequence, now_ns)
                # Without a route, and in any other trouble, the probe is lost.
            return True
        return False

    def _take(self, receiving: socket.socket) -> None:
        try:
            data, ancillary, _, (address, port) = receiving.recvmsg(_MAX_DATAGRAM_OCTETS, _ANCILLARY_OCTETS)
        except OSError:  # none there
            return
        peer = self._peers.get(address)
        sequence = self._sequence(address, data)
        if peer is None or port != self._port or sequence is None:
            return
        index, is_fragmented = _arrival(ancillary)
        now_ns = self._monotonic_ns()
        if is_fragmented:
            peer.search.refused(sequence, now_ns)
        elif (
            peer.search.answered(sequence, len(data) + IP_UDP_OCTETS, now_ns) and self._seen and index is not None
        ):
            self._seen(address, index)
        self._tell(address, peer)
        self._arm(now_ns)

    def _sequence(self, address: str, data: bytes) -> int | None:
        try:
            return self._codec.read(address, data)
        except ProbeError:
            return None

    def _tell(self, address: str, peer: _Peer) -> None:
        found = peer.search.found
        if found is None or found == peer.told:
            return
        if peer.told is None or peer.told.octets != found.octets:
            logger.info("segment from %s: path MTU %d octets", address, found.octets)
        peer.told = found
        high = peer.interface_octets if found.octets == self._greatest_octets else found.octets
        told = ScalarStatistics(
            count=found.answers, value=found.octets, low=found.octets, high=high, measured_at_ms=self._now_ms()
        )
        self._give(address, "mtu", told)


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> tuple[int | None, bool]:
    """(index of the interface, came in fragments)."""
    index, is_fragmented = None, False
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            (index,) = _INDEX.unpack_from(value)
        elif level == socket.IPPROTO_IP and kind == _IP_RECVFRAGSIZE:
            is_fragmented = True
    return index, is_fragmented
