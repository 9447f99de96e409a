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
NEIGHBOR_RATE_PER_S = 500.0
"""To a neighbor: its session, a search for the path MTU and a closure check may come at once; a reflector that
answers our replies as if they were probes does not make a loop that fills the link."""
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
    """Token buckets, of the strangers if nothing else is said.

    Args:
        source_rate_per_s: replies a second to one address.
        whole_rate_per_s: to all of them.
    """

    def __init__(
        self, *, source_rate_per_s: float = SOURCE_RATE_PER_S, whole_rate_per_s: float = WHOLE_RATE_PER_S
    ) -> None:
        self._source_rate_per_s = source_rate_per_s
        self._whole_rate_per_s = whole_rate_per_s
        self._whole = _Bucket(whole_rate_per_s * BURST_S, 0)
        self._sources: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def allows(self, address: str, now_ns: int) -> bool:
        """Whether a reply to the address may be sent now; if so, it is spent."""
        bucket = self._sources.pop(address, None) or _Bucket(self._source_rate_per_s * BURST_S, now_ns)
        self._sources[address] = bucket
        if len(self._sources) > MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        within_source = bucket.take(self._source_rate_per_s, now_ns)
        return within_source and self._whole.take(self._whole_rate_per_s, now_ns)
