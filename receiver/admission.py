"""Who may have a connection for reports, and how fast octets are taken from whom (pure).

Reports are slowed down rather than refused: what is not read waits at its sender, who loses nothing by it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

MAX_CONNECTIONS = 128
"""Each may hold a report of 64 KiB that is not whole yet: 10 MiB in all."""
MAX_CONNECTIONS_PER_PEER = 32
"""A point carries as many reports to one source at once."""
PEER_OCTETS_PER_S = 1 << 19
"""500 short reports a second: more requests than that nobody makes over one last point."""
OCTETS_PER_S = 1 << 20
"""From all peers together, what they inflate to included; to decode so many takes a third of a processor."""
BURST_S = 2.0
"""How much may come at once, as the time that it stands for."""
REPORT_OCTETS = 1 << 10
"""What a report costs besides its octets: the answer, and the look for its request."""
CONNECTION_OCTETS = 1 << 10
"""What a connection costs."""
HANDSHAKE_OCTETS = 1 << 12
"""What one with TLS costs besides: two signatures to check, one to make."""
MAX_PEERS = 1024
"""Whose pace is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How much is taken."""

    connections: int = MAX_CONNECTIONS
    connections_per_peer: int = MAX_CONNECTIONS_PER_PEER
    peer_octets_per_s: float = PEER_OCTETS_PER_S
    octets_per_s: float = OCTETS_PER_S
    burst_s: float = BURST_S


class _Pace:
    """When what was taken so far would have come at the allowed rate."""

    __slots__ = ("_due_s",)

    def __init__(self) -> None:
        self._due_s = 0.0

    def wait_s(self, octets: int, octets_per_s: float, burst_s: float, now_s: float) -> float:
        """Take the octets, which are here already; how long to wait for the next."""
        self._due_s = max(self._due_s, now_s - burst_s) + octets / octets_per_s
        return max(0.0, self._due_s - now_s)


class Admission:
    """Counts connections and octets by peer."""

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self._limits = limits or AdmissionLimits()
        self._open: Counter[str] = Counter()
        self._paces: OrderedDict[str, _Pace] = OrderedDict()
        self._pace = _Pace()

    def __len__(self) -> int:
        return self._open.total()

    @property
    def is_full(self) -> bool:
        """Whether a further connection takes the place of another."""
        return len(self) >= self._limits.connections

    def refusal(self, peer: str) -> str | None:
        """Why this peer may have no further connection; None when it may."""
        limits = self._limits
        if self._open[peer] >= limits.connections_per_peer:
            return f"{self._open[peer]} of that address are open"
        if len(self) >= limits.connections and self.greediest(peer) is None:
            return f"{len(self)} are open"
        return None

    def greediest(self, newcomer: str) -> str | None:
        """The peer that must give up a connection before `newcomer` can have one; None when nobody must.

        It has at least two more than the newcomer, so that two peers never take turns in displacing each other.
        """
        if len(self) < self._limits.connections:
            return None
        peer, connections = max(self._open.items(), key=lambda item: item[1])
        return peer if connections >= self._open[newcomer] + 2 else None

    def opened(self, peer: str) -> None:
        """The peer has one more connection."""
        self._open[peer] += 1

    def closed(self, peer: str) -> None:
        """The peer has one less."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]

    def wait_s(self, peer: str, octets: int, now_s: float) -> float:
        """Count octets that came; how long nothing more is to be read from the peer.

        Args:
            peer: its address.
            octets: those, and what stands for other costs.
            now_s: on a clock that never steps.
        """
        limits = self._limits
        pace = self._paces.setdefault(peer, _Pace())
        self._paces.move_to_end(peer)
        if len(self._paces) > MAX_PEERS:
            self._paces.popitem(last=False)
        return max(
            pace.wait_s(octets, limits.peer_octets_per_s, limits.burst_s, now_s),
            self._pace.wait_s(octets, limits.octets_per_s, limits.burst_s, now_s),
        )
