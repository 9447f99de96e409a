"""Delays of one direction over the last seconds, in constant memory.

A bucket holds sums of integers (nanoseconds, their squares and cubes), which are exact, so merging buckets is
addition and central moments lose nothing to rounding. Quantiles come from `FineBins`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from prober.timestamp import NS_PER_MS, NS_PER_S
from prober.windows.fine_bins import FineBins, RankedDelays
from prober.windows.interarrival_jitter import InterarrivalJitter
from prober.windows.mean_shift import SHIFT_NS, second_of_shift
from prober.windows.window import LONGEST_WINDOW_S, MINIMUM_SAMPLES, Ring
from schemas.histogram import LAST_BIN, Histogram, bin_edges_ms, bin_of
from schemas.metrics import DelayStatistics, DistributionStatistics, JitterStatistics, RoundTripStatistics

PDV_PERMILLE = 999
"""RFC 5481 section 4.2, ITU-T Y.1541."""
_US_NS = 1000
_REMEMBERED = 64
"""Packets whose delay is kept by number: a neighbor in sending order may arrive so many packets later."""
_MAX_UNSORTED = 64
"""Samples that may wait for the next question; it comes about once a second, when all is well."""
_NONE = (-(1 << 62), 0)
_UPPER_EDGES_NS = tuple(round(bin_edges_ms(index)[1] * NS_PER_MS) for index in range(LAST_BIN))
"""Of the histogram's bins; the last one has no end."""


@dataclass(slots=True)
class _Delays:
    """Sums of one second's delays, or of some seconds'."""

    second: int
    count: int = 0
    total: int = 0
    squares: int = 0
    cubes: int = 0
    minimum: int = 0
    maximum: int = 0
    bins: FineBins = field(default_factory=FineBins)
    variations: int = 0
    variation_total: int = 0
    absolute_total: int = 0
    least_variation: int = 0
    greatest_variation: int = 0

    def add(self, delay_ns: int) -> None:
        if not self.count:
            self.minimum = self.maximum = delay_ns
        elif delay_ns < self.minimum:
            self.minimum = delay_ns
        elif delay_ns > self.maximum:
            self.maximum = delay_ns
        self.count += 1
        self.total += delay_ns
        square = delay_ns * delay_ns
        self.squares += square
        self.cubes += square * delay_ns

    def vary(self, change_ns: int) -> None:
        if not self.variations or change_ns < self.least_variation:
            self.least_variation = change_ns
        if not self.variations or change_ns > self.greatest_variation:
            self.greatest_variation = change_ns
        self.variations += 1
        self.variation_total += change_ns
        self.absolute_total += abs(change_ns)

    @classmethod
    def merged(cls, parts: Iterable[_Delays]) -> _Delays:
        held = [part for part in parts if part.count]
        whole = cls(0, bins=FineBins.merged([part.bins for part in held]))
        if not held:
            return whole
        for part in held:
            whole.count += part.count
            whole.total += part.total
            whole.squares += part.squares
            whole.cubes += part.cubes
            whole.variations += part.variations
            whole.variation_total += part.variation_total
            whole.absolute_total += part.absolute_total
        whole.minimum = min([part.minimum for part in held])
        whole.maximum = max([part.maximum for part in held])
        whole.least_variation = min([part.least_variation for part in held if part.variations], default=0)
        whole.greatest_variation = max([part.greatest_variation for part in held if part.variations], default=0)
        return whole


class WindowDelays:
    """The delays of one window, MINIMUM_SAMPLES or more, told as statistics."""

    def __init__(self, sums: _Delays, interarrival_ns: float) -> None:
        self._sums = sums
        self._interarrival_ns = interarrival_ns
        self._ranked: RankedDelays | None = None
        self.count = sums.count

    def delay(
        self, *, upstream_clock_error_ms: float, current_clock_error_ms: float, synchronized: bool
    ) -> DelayStatistics:
        """One-way delay (RFC 7679)."""
        return DelayStatistics(
            count=self.count,
            mean_ms=self._mean_ms(),
            minimum_ms=self._sums.minimum / NS_PER_MS,
            variance_ms2=self._variance_ms2(),
            third_moment_ms3=self._third_moment_ms3(),
            upstream_clock_error_ms=upstream_clock_error_ms,
            current_clock_error_ms=current_clock_error_ms,
            synchronized=synchronized,
        )

    def round_trip(self) -> RoundTripStatistics:
        """Two-way delay (RFC 2681)."""
        return RoundTripStatistics(
            count=self.count,
            mean_ms=self._mean_ms(),
            minimum_ms=self._sums.minimum / NS_PER_MS,
            variance_ms2=self._variance_ms2(),
            third_moment_ms3=self._third_moment_ms3(),
        )

    def jitter(self) -> JitterStatistics | None:
        """Delay variation (RFC 5481, RFC 3393, RFC 3550); None when no two packets followed each other."""
        sums = self._sums
        if not sums.variations:
            return None
        return JitterStatistics(
            count=self.count,
            pdv_ms=(self._quantile_ns(PDV_PERMILLE) - sums.minimum) / NS_PER_MS,
            ipdv_ms=sums.absolute_total / sums.variations / NS_PER_MS,
            signed_ipdv_ms=sums.variation_total / sums.variations / NS_PER_MS,
            least_ipdv_ms=sums.least_variation / NS_PER_MS,
            greatest_ipdv_ms=sums.greatest_variation / NS_PER_MS,
            interarrival_ms=self._interarrival_ns / NS_PER_MS,
            mean_pdv_ms=(sums.total / sums.count - sums.minimum) / NS_PER_MS,
            variance_ms2=self._variance_ms2(),
            third_moment_ms3=self._third_moment_ms3(),
        )

    def distribution(self) -> DistributionStatistics:
        """The whole distribution (RFC 6049 section 6.1.5)."""
        return DistributionStatistics(
            count=self.count,
            minimum_ms=self._sums.minimum / NS_PER_MS,
            p50_ms=self._quantile_ns(500) / NS_PER_MS,
            p95_ms=self._quantile_ns(950) / NS_PER_MS,
            p99_ms=self._quantile_ns(990) / NS_PER_MS,
            bins=self._histogram().to_text(),
        )

    def _histogram(self) -> Histogram:
        """The fine bins in those of the message, by their centers above the minimum."""
        minimum, ranked = self._sums.minimum, self._by_rank()
        counts: dict[int, int] = {}
        below = 0
        for index in range(bin_of(max(0, ranked.centers_ns[0] - minimum) // _US_NS), LAST_BIN):
            rank = ranked.count_below(minimum + _UPPER_EDGES_NS[index])
            if rank > below:
                counts[index] = rank - below
                below = rank
            if below == self.count:
                return Histogram(counts)
        counts[LAST_BIN] = self.count - below
        return Histogram(counts)

    def _by_rank(self) -> RankedDelays:
        if self._ranked is None:
            self._ranked = self._sums.bins.ranked()
        return self._ranked

    def _quantile_ns(self, permille: int) -> int:
        """No quantile lies beyond what was measured, although the center of its bin may."""
        center_ns = self._by_rank().quantile_ns(permille)
        return min(self._sums.maximum, max(self._sums.minimum, center_ns))

    def _mean_ms(self) -> float:
        return self._sums.total / self.count / NS_PER_MS

    def _variance_ms2(self) -> float:
        sums = self._sums
        return (sums.count * sums.squares - sums.total**2) / sums.count**2 / NS_PER_MS**2

    def _third_moment_ms3(self) -> float:
        n, total = self._sums.count, self._sums.total
        third = n * n * self._sums.cubes - 3 * n * total * self._sums.squares + 2 * total**3
        return third / n**3 / NS_PER_MS**3


class DelayWindow:
    """Delays of packets that arrived, of one direction or of the round trip.

    When the mean shifts (another route, another link delay) the samples from before are forgotten, since a mean
    over two paths is that of none. A shift is looked for once a second.

    Args:
        moments_only: whether mean, minimum and moments are all that is asked of it, no quantile and no variation.
    """

    def __init__(self, *, moments_only: bool = False) -> None:
        self._moments_only = moments_only
        self._ring = Ring(_Delays)
        self._second = 0
        self._interarrival = InterarrivalJitter()
        self._recent = [_NONE] * _REMEMBERED
        """(number, delay) of the packets last added, by number."""
        self._shifts = 0
        self._least_mean_ns = self._greatest_mean_ns = 0.0
        """Of the window's seconds, and perhaps of some before: whether it is worth to look for a shift."""
        self._unsorted: list[tuple[int, int, int, int]] = []
        """Samples that are in no bucket yet, as `add` got them: many at once take less time for each."""

    @property
    def shifts(self) -> int:
        """How often samples were forgotten since the mean had shifted."""
        self._sort()
        return self._shifts

    def add(self, delay_ns: int, *, sequence: int, at_ns: int, arrived_at_ns: int | None = None) -> None:
        """Count a sample.

        Args:
            delay_ns: may be negative, as clocks may disagree.
            sequence: unwrapped; IPDV takes packets that follow each other in it.
            at_ns: receive time on the own clock, by which the window is kept.
            arrived_at_ns: receive time on the receiver's clock, when this end is not the receiver.
        """
        self._unsorted.append((delay_ns, sequence, at_ns, at_ns if arrived_at_ns is None else arrived_at_ns))
        if len(self._unsorted) >= _MAX_UNSORTED:
            self._sort()

    def count(self, now_ns: int, window_s: int) -> int:
        """How many samples the window holds."""
        self._sort()
        return sum([bucket.count for bucket in self._ring.within(now_ns, window_s)])

    def is_measured(self, now_ns: int, window_s: int) -> bool:
        """Whether the window holds MINIMUM_SAMPLES: it is often asked, so the newest of them are enough."""
        self._sort()
        counts = accumulate(bucket.count for bucket in self._ring.newest_first(now_ns, window_s))
        return any(count >= MINIMUM_SAMPLES for count in counts)

    def over(self, now_ns: int, window_s: int) -> WindowDelays | None:
        """The delays of the last seconds; None below MINIMUM_SAMPLES."""
        self._sort()
        merged = _Delays.merged(self._ring.within(now_ns, window_s))
        if merged.count < MINIMUM_SAMPLES:
            return None
        return WindowDelays(merged, self._interarrival.value_ns())

    def new_stream(self) -> None:
        """The numbers begin anew: no packet follows on one from before."""
        self._sort()
        self._recent = [_NONE] * _REMEMBERED
        self._interarrival.restart()

    def restart(self) -> None:
        """Forget all samples, after a step of a clock that they rest on."""
        self._unsorted.clear()
        self._ring.clear()
        self.new_stream()

    def move(self, step_ns: int) -> None:
        """Keep the samples although the own clock has stepped; for delays that do not rest on its time of day."""
        self._sort()
        seconds = round(step_ns / NS_PER_S)
        self._ring.move(seconds)
        self._second += seconds
        self._interarrival.restart()

    def _sort(self) -> None:
        """Put the samples into their buckets, and compare each with its neighbors."""
        unsorted, self._unsorted = self._unsorted, []
        recent, interarrival, moments_only = self._recent, self._interarrival, self._moments_only
        bucket: _Delays | None = None
        for delay_ns, sequence, at_ns, arrived_at_ns in unsorted:
            second = at_ns // NS_PER_S
            if second != self._second:
                self._forget_before_shift(at_ns)
                self._second, bucket = second, None
            bucket = bucket or self._ring.of(second)
            bucket.add(delay_ns)
            if moments_only:
                continue
            bucket.bins.add(delay_ns)
            number, neighbor_ns = recent[(sequence - 1) % _REMEMBERED]
            if number == sequence - 1:
                bucket.vary(delay_ns - neighbor_ns)
            number, neighbor_ns = recent[(sequence + 1) % _REMEMBERED]
            if number == sequence + 1:
                bucket.vary(neighbor_ns - delay_ns)
            recent[sequence % _REMEMBERED] = (sequence, delay_ns)
            interarrival.add(delay_ns, arrived_at_ns)

    def _forget_before_shift(self, now_ns: int) -> None:
        """Look for a shift, when samples of another second come than before."""
        left = self._ring.held(self._second)
        if left and left.count:
            mean_ns = left.total / left.count
            self._least_mean_ns = min(self._least_mean_ns, mean_ns)
            self._greatest_mean_ns = max(self._greatest_mean_ns, mean_ns)
        if self._greatest_mean_ns - self._least_mean_ns <= SHIFT_NS:
            return
        buckets = [bucket for bucket in self._ring.within(now_ns, LONGEST_WINDOW_S) if bucket.count]
        if now_ns // NS_PER_S > self._second:  # else newer ones are missing
            means_ns = [bucket.total / bucket.count for bucket in buckets]
            self._least_mean_ns, self._greatest_mean_ns = min(means_ns, default=0.0), max(means_ns, default=0.0)
        second = second_of_shift(buckets)
        if second is not None:
            # The second in which it happened may hold samples of both.
            self._ring.forget_before(second + 1)
            self._shifts += 1
