"""Which segment's available bandwidth is measured next: seldom, one at a time, the one somebody asks for first."""

from __future__ import annotations

from prober.timestamp import NS_PER_S


class BandwidthSchedule:
    """The segments of one point.

    Args:
        interval_s: least time between two estimates of one segment that nobody asked for, from end to end; None:
            there are none.
        demand_interval_s: the same when somebody asks; a wish within it is answered by the last estimate.
        retry_interval_s: the same when somebody asks and the last estimate gave nothing.
    """

    def __init__(
        self, *, interval_s: float | None, demand_interval_s: float = 60.0, retry_interval_s: float = 10.0
    ) -> None:
        self._interval_ns = None if interval_s is None else round(interval_s * NS_PER_S)
        self._demand_interval_ns = round(demand_interval_s * NS_PER_S)
        self._retry_interval_ns = round(retry_interval_s * NS_PER_S)
        self._ended_at_ns: dict[str, int | None] = {}
        self._failed: set[str] = set()
        """Upstream points whose last estimate gave nothing."""
        self._demanded: dict[str, None] = {}
        self.running: str | None = None

    def set_upstreams(self, upstreams: frozenset[str]) -> None:
        """The upstream points whose segments are to be measured; all others are forgotten."""
        for gone in self._ended_at_ns.keys() - upstreams:
            del self._ended_at_ns[gone]
            self._demanded.pop(gone, None)
            self._failed.discard(gone)
        for new in sorted(upstreams - self._ended_at_ns.keys()):
            self._ended_at_ns[new] = None

    def demand(self, upstream: str) -> None:
        """Somebody asks for the segment; ignored for one that is not known."""
        if upstream in self._ended_at_ns:
            self._demanded[upstream] = None

    def start(self, now_ns: int) -> str | None:
        """The upstream point to measure now, which is then running; None while one runs or none is due."""
        if self.running is not None:
            return None
        asked = [one for one in self._demanded if self._is_due(one, self._pause_ns(one), now_ns)]
        due = asked or self._due_unasked(now_ns)
        self.running = due[0] if due else None
        return self.running

    def finish(self, now_ns: int, *, is_told: bool) -> None:
        """The running estimate has ended; `is_told`: with a value."""
        if self.running in self._ended_at_ns:
            self._ended_at_ns[self.running] = now_ns
            self._demanded.pop(self.running, None)
            if is_told:
                self._failed.discard(self.running)
            else:
                self._failed.add(self.running)
        self.running = None

    def _pause_ns(self, upstream: str) -> int:
        return self._retry_interval_ns if upstream in self._failed else self._demand_interval_ns

    def _due_unasked(self, now_ns: int) -> list[str]:
        interval_ns = self._interval_ns
        if interval_ns is None:
            return []
        due = (one for one in self._ended_at_ns if self._is_due(one, interval_ns, now_ns))
        return sorted(due, key=self._age_rank)

    def _is_due(self, upstream: str, interval_ns: int, now_ns: int) -> bool:
        ended_at_ns = self._ended_at_ns[upstream]
        return ended_at_ns is None or now_ns - ended_at_ns >= interval_ns

    def _age_rank(self, upstream: str) -> int:
        return self._ended_at_ns[upstream] or 0
