"""Interarrival jitter of RFC 3550 section 6.4.1."""

from __future__ import annotations

from prober.windows.arrival_order import ArrivalOrder

_GAIN = 1 / 16


class InterarrivalJitter:
    """A running mean of the difference of the delays of packets that *arrived* one after the other (appendix A.8).

    In the order of arrival, unlike IPDV; it does not compose, and no window bounds it.
    """

    def __init__(self) -> None:
        self._order: ArrivalOrder[int] = ArrivalOrder()
        self._jitter_ns = 0.0
        self._last_delay_ns: int | None = None

    def add(self, delay_ns: int, arrived_at_ns: int) -> None:
        """Take a delay; `arrived_at_ns` is on the receiver's clock, whichever end that is."""
        due_ns = self._order.push(arrived_at_ns, delay_ns)
        if due_ns is not None:
            self._jitter_ns = _next(self._jitter_ns, self._last_delay_ns, due_ns)
            self._last_delay_ns = due_ns

    def value_ns(self) -> float:
        """The jitter up to the packet that arrived last."""
        jitter_ns, last_ns = self._jitter_ns, self._last_delay_ns
        for delay_ns in self._order.waiting():
            jitter_ns, last_ns = _next(jitter_ns, last_ns, delay_ns), delay_ns
        return jitter_ns

    def restart(self) -> None:
        """Begin anew."""
        self._order.clear()
        self._jitter_ns, self._last_delay_ns = 0.0, None


def _next(jitter_ns: float, last_ns: int | None, delay_ns: int) -> float:
    return jitter_ns if last_ns is None else jitter_ns + (abs(delay_ns - last_ns) - jitter_ns) * _GAIN
