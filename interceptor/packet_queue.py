"""What a queue of intercepted packets promises, whichever queue it is.

Each packet gets exactly one verdict. A handler that fails, or that forgets the verdict, leaves the packet as
it came: it is accepted unchanged and counted, since other people's traffic must never be hurt by our mistakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

LOG_INTERVAL_NS = 1_000_000_000
"""A fault that every packet meets must not fill the log: one line in this time."""


LONGEST_PACKET_BYTES = 3840
"""How much of a packet a queue shows; a longer one goes on unchanged.

The library behind the kernel's queue has a buffer of 4096 octets for the packet and what the kernel tells about it
(interfaces, mark, time, addresses), and reserves 80 octets for that. A stamped and cut packet needs 88; it would
be lost, and its place in the queue with it. All attributes together, without a security context, stay below 200.
"""


class InterceptedPacket(Protocol):
    """One packet that waits for its verdict. A second verdict raises RuntimeError."""

    @property
    def payload(self) -> bytes:
        """The IPv4 packet, or its beginning if the queue could not hand over the whole."""

    @property
    def arrived_at_ns(self) -> int | None:
        """When the kernel received it, nanoseconds since the Unix epoch on this host's clock, if it knows."""

    def accept(self) -> None:
        """Let the packet go on as it came."""

    def accept_with(self, packet: bytes) -> None:
        """Let `packet`, a whole IPv4 packet with right lengths and checksums, go on in its place."""

    def drop(self) -> None:
        """End the packet here."""


class QueuedPacket(InterceptedPacket, Protocol):
    """What a queue knows beyond what it shows to the handler."""

    @property
    def decided(self) -> bool:
        """Whether the verdict has been given."""


PacketHandler = Callable[[InterceptedPacket], None]
Shortcut = Callable[[bytes], bytes | None]
"""Says at once what goes on in place of a packet; None when the handler has to see it."""


def no_shortcut(_packet: bytes) -> bytes | None:
    """The handler sees every packet."""
    return None


class HandlerGuard:
    """Shows packets to a handler so that each gets its verdict, whatever the handler does.

    Args:
        handler: gives each packet its verdict before it returns.
        monotonic_ns: reads a clock that never goes back; asked only after a failure.
    """

    def __init__(self, handler: PacketHandler, monotonic_ns: Callable[[], int]) -> None:
        self._handler = handler
        self._monotonic_ns = monotonic_ns
        self._logged_at_ns: int | None = None
        self.handled = 0
        """Packets that were shown to the handler."""
        self.failed = 0
        """Packets for which it raised or gave no verdict."""

    def show(self, packet: QueuedPacket) -> None:
        """Have the handler decide on `packet`; raises only what ends the process (KeyboardInterrupt)."""
        self.handled += 1
        try:
            self._handler(packet)
            if not packet.decided:
                self.count_failure("gave no verdict")
        except Exception as error:  # noqa: BLE001 -- one bad packet must not stop the queue
            self.count_failure(f"raised {error!r}")
        finally:
            if not packet.decided:
                packet.accept()

    def count_failure(self, what: str) -> None:
        """Something failed for a packet that goes on all the same; `what` it did."""
        self.failed += 1
        now_ns = self._monotonic_ns()
        if self._logged_at_ns is None or now_ns - self._logged_at_ns >= LOG_INTERVAL_NS:
            self._logged_at_ns = now_ns
            logger.error("packet handler %s; packet goes on unchanged (%d so far)", what, self.failed)
