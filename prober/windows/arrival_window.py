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

    def count(self, now_ns: int, window_s: int) -> int:
        """How many packets arrived, each once."""
        return sum(bucket.unique for bucket in self._ring.within(now_ns, window_s))

    def reordering(self, now_ns: int, window_s: int) -> ScalarStatistics | None:
        """Reordered of the packets that arrived (RFC 4737 section 4.1), with its Wilson interval.

        None below MINIMUM_SAMPLES.
        """
        unique = self.count(now_ns, window_s)
        reordered = sum(bucket.reordered for bucket in self._ring.within(now_ns, window_s))
        return (
            self._scalar(reordered / unique, unique, ratio_interval(reordered, unique))
            if self._enough(unique)
            else None
        )

    def duplication(self, now_ns: int, window_s: int) -> ScalarStatistics | None:
        """Further copies per packet that arrived (RFC 5560 section 5.1), with its score interval.

        It may exceed 1. None below MINIMUM_SAMPLES, or when this end cannot know.
        """
        if not self.shows_copies:
            return None
        unique = self.count(now_ns, window_s)
        copies = sum(bucket.copies for bucket in self._ring.within(now_ns, window_s))
        return (
            self._scalar(copies / unique, unique, rate_interval(copies, unique)) if self._enough(unique) else None
        )

    def hops(self, value: int, now_ns: int, window_s: int) -> ScalarStatistics | None:
        """A count that each packet of the window told; None when there was none."""
        unique = self.count(now_ns, window_s)
        return self._scalar(value, unique, (value, value)) if unique else None

    def new_stream(self) -> None:
        """The numbers begin anew."""
        self._order.clear()
        self._reordering.restart()

    def restart(self) -> None:
        """Forget all but the greatest extent."""
        self._ring.clear()
        self.newest_at_ns = None
        self.new_stream()

    @staticmethod
    def _enough(unique: int) -> bool:
        return unique >= MINIMUM_SAMPLES

    def _scalar(self, value: float, count: int, interval: tuple[float, float]) -> ScalarStatistics:
        low, high = interval
        measured_at_ms = (self.newest_at_ns or 0) // NS_PER_MS
        return ScalarStatistics(count=count, value=value, low=low, high=high, measured_at_ms=measured_at_ms)
