"""How often one caller may ask: a token bucket for each (pure)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_CALLERS = 4096
"""Buckets that are kept; whoever was silent the longest is forgotten first, and gets a full one again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class RateLimit:
    """Bounds each caller's rate.

    Args:
        rate_per_s: requests a second in the long run.
        burst: how many may come at once.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, caller: str, now_s: float, cost: float = 1.0) -> float:
        """Take `cost` tokens and give 0, or take none and give the seconds until they are there.

        A cost above the burst is paid by a full bucket, which is then in debt.

        Args:
            now_s: on a clock that never steps.
        """
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._burst, now_s)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._rate_per_s)
        bucket.at_s = now_s
        needed = min(cost, self._burst)
        if bucket.tokens < needed:
            return (needed - bucket.tokens) / self._rate_per_s
        bucket.tokens -= cost
        return 0.0
