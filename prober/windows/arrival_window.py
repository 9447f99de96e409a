"""Order and copies of the packets that arrived over the last seconds, of one direction."""

from __future__ import annotations

from dataclasses import dataclass

from prober.timestamp import NS_PER_MS
from prober.windows.arrival_order import ArrivalOrder
from prober.windows.reordering import Reordering
from prober.windows.window import MINIMUM_SAMPLES, Ring
from schemas.intervals import rate_interval, ratio_interval
from schemas.metrics import ScalarStatistics


@dataclass(slots=True)
class _Arrivals:
    second: int
    unique: int = 0
    copies: int = 0
    reordered: int = 0


class ArrivalWindow:
    """Arrivals and what became of their order. Copies are taken out first (RFC 4737 section 3.3)."""

    def __init__(self) -> None:
        self._ring = Ring(_Arrivals)
        self._order: ArrivalOrder[tuple[int, int]] = ArrivalOrder()
        self._reordering = Reordering()
        self.newest_at_ns: int | None = None
        """When the last packet arrived that the windows hold."""
        self.greatest_extent = 0
        """Places by which the most reordered packet came too late (RFC 4737 section 4.2), since the start."""
        self.shows_copies = True
        """Whether this end would learn of a copy at all."""

    def arrived(self, at_ns: int, *, extent: int) -> None:
        """Count the first copy of a packet.

        Args:
            at_ns: receive time on the own clock, by which the window is kept.
            extent: places by which it came too late, 0 in order; each stream has its own order.
        """
        bucket = self._ring.at(at_ns)
        bucket.unique += 1
        self.newest_at_ns = at_ns
        if extent:
            bucket.reordered += 1
            self.greatest_extent = max(self.greatest_extent, extent)

    def arrived_there(self, sequence: int, at_ns: int, *, order: int) -> None:
        """Count a packet that arrived at the other end; `order` is its place among the arrivals there."""
        due = self._order.push(order, (sequence, at_ns))
        if due is not None:
            number, due_at_ns = due
            self.arrived(due_at_ns, extent=self._reordering.extent(number))

    def copied(self, at_ns: int) -> None:
        """Count a further copy."""
        self._ring.at(at_ns).copies += 1

    def over(self, now_ns: int, window_s: int) -> WindowArrivals:
        """What arrived over the last seconds."""
        unique = copies = reordered = 0
        for bucket in self._ring.within(now_ns, window_s):
            unique += bucket.unique
            copies += bucket.copies
            reordered += bucket.reordered
        newest_at_ms = (self.newest_at_ns or 0) // NS_PER_MS
        return WindowArrivals(unique, copies if self.shows_copies else None, reordered, newest_at_ms)

    def new_stream(self) -> None:
        """The numbers begin anew."""
        self._order.clear()
        self._reordering.restart()

    def restart(self) -> None:
        """Forget all but the greatest extent."""
        self._ring.clear()
        self.newest_at_ns = None
        self.new_stream()


@dataclass(frozen=True, slots=True)
class WindowArrivals:
    """The arrivals of one window, told as statistics."""

    unique: int
    """Packets, each once."""
    copies: int | None
    """Further copies; None when this end would not learn of them."""
    reordered: int
    newest_at_ms: int
    """Milliseconds since the Unix epoch."""

    def reordering(self) -> ScalarStatistics | None:
        """Reordered of the packets that arrived (RFC 4737 section 4.1), with its Wilson interval.

        None below MINIMUM_SAMPLES.
        """
        if self.unique < MINIMUM_SAMPLES:
            return None
        return self._scalar(self.reordered / self.unique, ratio_interval(self.reordered, self.unique))

    def duplication(self) -> ScalarStatistics | None:
        """Further copies per packet that arrived (RFC 5560 section 5.1), with its score interval.

        It may exceed 1. None below MINIMUM_SAMPLES, or when this end cannot know.
        """
        if self.copies is None or self.unique < MINIMUM_SAMPLES:
            return None
        return self._scalar(self.copies / self.unique, rate_interval(self.copies, self.unique))

    def hops(self, value: int) -> ScalarStatistics | None:
        """A count that each packet of the window told; None when there was none."""
        return self._scalar(value, (value, value)) if self.unique else None

    def _scalar(self, value: float, interval: tuple[float, float]) -> ScalarStatistics:
        low, high = interval
        return ScalarStatistics(
            count=self.unique, value=value, low=low, high=high, measured_at_ms=self.newest_at_ms
        )
