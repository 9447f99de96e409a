"""Which packets the firewall sends into the queue, and how many of them (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import UsageError
from schemas.message import MEASUREMENT_PORT

MAXIMUM_RATE_PER_S = 1_000_000
"""The finest step of the kernel's xt_hashlimit is a microsecond; the same bound holds for both back ends."""
MAXIMUM_BURST = 1_000_000
"""XT_HASHLIMIT_BURST_MAX of linux/netfilter/xt_hashlimit.h."""
MAXIMUM_QUEUES = 8
"""One for each process; beyond that the memory bus is what limits a software router."""

LONGEST_MEMORY_MS = 10_000
"""Of a source that is silent: the longer, the more of them share the room that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptionRule:
    """Which packets go into which queues.

    Raises:
        UsageError: a number is out of its range.
    """

    queue_number: int
    """0 to 65535: the only queue, or the first of several that follow one another."""
    queues: int = 1
    """How many there are. The kernel picks one by the addresses, so what one host sends another stays in order."""
    port: int = MEASUREMENT_PORT
    """UDP destination port of measurement messages."""
    plain_udp: bool = True
    """Besides those with router alert, take datagrams without an option whose payload begins as a message does."""
    rate_per_s: int = 1000
    """Packets per second that may enter the queues."""
    burst: int = 200
    """Packets that may enter at once, before the rate holds."""
    source_rate_per_s: int = 500
    """Packets per second from one source address; 0 for no such limit."""
    source_burst: int = 200
    """Packets that one source may send at once, before its rate holds."""

    def __post_init__(self) -> None:
        _require("queues", self.queues, 1, MAXIMUM_QUEUES)
        _require("queue_number", self.queue_number, 0, 0x10000 - self.queues)
        _require("port", self.port, 1, 0xFFFF)
        _require("rate_per_s", self.rate_per_s, 1, MAXIMUM_RATE_PER_S)
        _require("burst", self.burst, 1, MAXIMUM_BURST)
        _require("source_rate_per_s", self.source_rate_per_s, 0, MAXIMUM_RATE_PER_S)
        _require("source_burst", self.source_burst, 1, MAXIMUM_BURST)

    @property
    def last_queue(self) -> int:
        """Number of the last queue."""
        return self.queue_number + self.queues - 1

    @property
    def forget_source_ms(self) -> int:
        """After how long a silent source is forgotten: when its burst is whole again, if that is soon."""
        whole_again_ms = -(-1000 * self.source_burst // max(1, self.source_rate_per_s))
        return min(max(1000, whole_again_ms), LONGEST_MEMORY_MS)


def _require(field: str, value: int, least: int, greatest: int) -> None:
    if not least <= value <= greatest:
        raise UsageError(field, value, f"{least} to {greatest}")
