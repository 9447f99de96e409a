"""The kernel's packet queue, in memory: for tests and for an overlay without a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from interceptor.packet_queue import HandlerGuard, PacketHandler, Shortcut, no_shortcut


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one packet."""

    arrived: bytes
    """The packet as it was put in."""
    forwarded: bytes | None
    """The packet as it goes on; None if it was dropped."""


class MemoryPacket:
    """One packet of a `MemoryQueue`."""

    def __init__(self, payload: bytes, arrived_at_ns: int | None) -> None:
        self.payload = payload
        self.arrived_at_ns = arrived_at_ns
        self.verdict: Verdict | None = None

    @property
    def decided(self) -> bool:
        """Whether the verdict has been given."""
        return self.verdict is not None

    def accept(self) -> None:
        """Let the packet go on as it came."""
        self._decide(self.payload)

    def accept_with(self, packet: bytes) -> None:
        """Let another packet go on in its place."""
        self._decide(packet)

    def drop(self) -> None:
        """End the packet here."""
        self._decide(None)

    def _decide(self, forwarded: bytes | None) -> None:
        if self.verdict is not None:
            raise RuntimeError("verdict already given for this packet")
        self.verdict = Verdict(self.payload, forwarded)


class MemoryQueue:
    """Packets wait here until `process_pending` shows them to the handler, oldest first.

    Args:
        handler: gives each packet its verdict before it returns.
        length: packets that may wait; like the kernel's queue it fails open, so the excess goes on
            unprocessed and overtakes those that wait.
        monotonic_ns: the clock that limits log lines about a failing handler.
        shortcut: is asked before the handler.
    """

    def __init__(
        self,
        handler: PacketHandler,
        *,
        length: int = 8192,
        monotonic_ns: Callable[[], int] = lambda: 0,
        shortcut: Shortcut = no_shortcut,
    ) -> None:
        self._guard = HandlerGuard(handler, monotonic_ns)
        self._shortcut = shortcut
        self._replaced = 0
        self._length = length
        self._waiting: deque[MemoryPacket] = deque()
        self._verdicts: list[Verdict] = []

    @property
    def handled(self) -> int:
        """Packets that were shown to the handler, or replaced by its shortcut."""
        return self._guard.handled + self._replaced

    @property
    def failed(self) -> int:
        """Packets that went on unchanged because the handler failed."""
        return self._guard.failed

    def put(self, packet: bytes, *, arrived_at_ns: int | None = None) -> None:
        """A packet arrives."""
        if len(self._waiting) < self._length:
            self._waiting.append(MemoryPacket(packet, arrived_at_ns))
        else:
            self._verdicts.append(Verdict(packet, packet))

    def process_pending(self) -> None:
        """Show every waiting packet to the handler."""
        while self._waiting:
            packet = self._waiting.popleft()
            replacement = self._replacement(packet.payload)
            try:
                if replacement is None:
                    self._guard.show(packet)
                else:
                    packet.accept_with(replacement)
                    self._replaced += 1
            finally:
                if packet.verdict is not None:
                    self._verdicts.append(packet.verdict)

    def _replacement(self, packet: bytes) -> bytes | None:
        try:
            return self._shortcut(packet)
        except Exception as error:  # noqa: BLE001 -- the handler sees the packet then
            self._guard.count_failure(f"raised {error!r} on its shortcut")
            return None

    def take_verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts since the last call, in the order in which packets left."""
        verdicts = tuple(self._verdicts)
        self._verdicts.clear()
        return verdicts
