"""How many strangers' probes are answered: a reflector must be no amplifier.

A reply to the shortest TWAMP-Light probe is three times as long, and the source of a datagram is easily forged. So
the replies to addresses that are no neighbors are limited by a token bucket for each address, which protects the
one whose address was forged, and by one for all, which bounds what a flood from any addresses can make us send.
"""

from __future__ import annotations

from dataclasses import dataclass

from prober.timestamp import NS_PER_S

SOURCE_RATE_PER_S = 200.0
"""Twice the highest rate of our own senders."""
WHOLE_RATE_PER_S = 3_000.0
"""More than all neighbors that a point may have send at the usual rate: those that it merely heard are strangers.
Takes a fifth of a processor core to answer."""
BURST_S = 1.0
"""A bucket that was not used for so long is full."""
MAX_SOURCES = 4_096
"""Beyond it the source that was idle longest is forgotten, and has a full bucket when it comes again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_ns: int

    def take(self, rate_per_s: float, now_ns: int) -> bool:
        elapsed_s = max(0, now_ns - self.filled_at_ns) / NS_PER_S
        self.tokens = min(rate_per_s * BURST_S, self.tokens + rate_per_s * elapsed_s)
        self.filled_at_ns = now_ns
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class ReplyBudget:
    """Token buckets of the strangers."""

    def __init__(self) -> None:
        self._whole = _Bucket(WHOLE_RATE_PER_S * BURST_S, 0)
        self._sources: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def allows(self, address: str, now_ns: int) -> bool:
        """Whether a reply to the address may be sent now; if so, it is spent."""
        bucket = self._sources.pop(address, None) or _Bucket(SOURCE_RATE_PER_S * BURST_S, now_ns)
        self._sources[address] = bucket
        if len(self._sources) > MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        return bucket.take(SOURCE_RATE_PER_S, now_ns) and self._whole.take(WHOLE_RATE_PER_S, now_ns)
