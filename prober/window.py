"""Statistics of one direction over the last seconds, in constant memory.

A window is a ring of buckets of one second each. A bucket holds sums of integers (nanoseconds, their squares
and cubes), which are exact, so merging buckets is addition and central moments lose nothing to rounding.
For the 99.9 % quantile it holds its largest delays: with N samples in the window the quantile is the
(N // 1000 + 1)-th largest (RFC 2330 section 11.3), so the answer is exact up to 1000 * LARGEST_KEPT samples.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.metrics import DelayStatistics, JitterStatistics, LossStatistics, RoundTripStatistics

LONGEST_WINDOW_S = 60
SHORT_WINDOW_S = 10
MINIMUM_SAMPLES = 10
"""A window with fewer samples counts as not measured."""
LOSS_THRESHOLD_MS = 1000
"""A packet that comes later than this after one sent behind it is lost (RFC 7680 section 2.5)."""
LOSS_THRESHOLD_NS = LOSS_THRESHOLD_MS * NS_PER_MS
LARGEST_KEPT = 16
_RING_S = 64

SHIFT_DEVIATIONS = 8.0
"""Two means this many standard errors apart belong to two paths; chance alone does that to none in a million."""
SHIFT_NS = 100_000
"""A smaller change of the mean is the host's doing, or does not matter."""
SHIFT_SAMPLES = 20
"""Fewest samples on either side of a shift: two seconds at the usual rate."""


class _Bucket(Protocol):
    second: int


_B = TypeVar("_B", bound=_Bucket)


class _Ring(Generic[_B]):
    """Buckets of the last 64 seconds; one of another second is in the way only after a step of the clock."""

    def __init__(self, empty: Callable[[int], _B]) -> None:
        self._empty = empty
        self._buckets = [empty(second) for second in range(_RING_S)]

    def at(self, time_ns: int) -> _B:
        second = time_ns // NS_PER_S
        bucket = self._buckets[second % _RING_S]
        if bucket.second != second:
            bucket = self._buckets[second % _RING_S] = self._empty(second)
        return bucket

    def forget_before(self, second: int) -> None:
        """Empty the buckets of earlier seconds."""
        for index, bucket in enumerate(self._buckets):
            if bucket.second < second:
                self._buckets[index] = self._empty(bucket.second)

    def within(self, now_ns: int, window_s: int) -> Iterator[_B]:
        last = now_ns // NS_PER_S
        for second in range(last - window_s + 1, last + 1):
            bucket = self._buckets[second % _RING_S]
            if bucket.second == second:
                yield bucket


@dataclass(frozen=True, slots=True)
class _Sums:
    """As much of some buckets as a comparison of means needs."""

    count: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, buckets: Sequence[_Delays]) -> _Sums:
        return cls(
            sum(bucket.count for bucket in buckets),
            sum(bucket.total for bucket in buckets),
            sum(bucket.squares for bucket in buckets),
        )

    def plus(self, bucket: _Delays) -> _Sums:
        return _Sums(self.count + bucket.count, self.total + bucket.total, self.squares + bucket.squares)

    def less(self, other: _Sums) -> _Sums:
        return _Sums(self.count - other.count, self.total - other.total, self.squares - other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def variance(self) -> float:
        return (self.count * self.squares - self.total**2) / self.count**2


@dataclass(slots=True)
class _Delays:
    second: int
    count: int = 0
    total: int = 0
    squares: int = 0
    cubes: int = 0
    minimum: int = 0
    largest: list[int] = field(default_factory=list)
    """Heap of at most LARGEST_KEPT delays; those of all buckets in a merged one."""
    variations: int = 0
    variation_total: int = 0

    def add(self, delay_ns: int) -> None:
        self.minimum = min(self.minimum, delay_ns) if self.count else delay_ns
        self.count += 1
        self.total += delay_ns
        square = delay_ns * delay_ns
        self.squares += square
        self.cubes += square * delay_ns
        if len(self.largest) < LARGEST_KEPT:
            heapq.heappush(self.largest, delay_ns)
        elif delay_ns > self.largest[0]:
            heapq.heapreplace(self.largest, delay_ns)

    def merge(self, other: _Delays) -> None:
        self.minimum = min(self.minimum, other.minimum) if self.count else other.minimum
        self.largest += other.largest
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.cubes += other.cubes
        self.variations += other.variations
        self.variation_total += other.variation_total

    def variance_ms2(self) -> float:
        return (self.count * self.squares - self.total**2) / self.count**2 / NS_PER_MS**2

    def third_moment_ms3(self) -> float:
        n, total = self.count, self.total
        return (n * n * self.cubes - 3 * n * total * self.squares + 2 * total**3) / n**3 / NS_PER_MS**3

    def high_quantile_ns(self) -> int:
        """The 99.9 % quantile; from 16,000 samples on the LARGEST_KEPT-th largest delay, which is not below it."""
        return heapq.nlargest(min(self.count // 1000 + 1, LARGEST_KEPT), self.largest)[-1]


def _second_of_shift(buckets: Sequence[_Delays]) -> int | None:
    """The second that begins the clearest shift of the mean, if there is one (Welch's test at every boundary).

    The larger variance of the two sides stands for both: a few samples of a path with rare peaks may show none.
    """
    whole = _Sums.of(buckets)
    before = _Sums()
    clearest, found = SHIFT_DEVIATIONS, None
    for bucket in buckets:
        after = whole.less(before)
        if after.count < SHIFT_SAMPLES:
            break
        if before.count >= SHIFT_SAMPLES:
            difference = abs(before.mean - after.mean)
            variance = max(before.variance, after.variance) * (1 / before.count + 1 / after.count)
            if difference > SHIFT_NS and difference > clearest * math.sqrt(variance):
                clearest = difference / math.sqrt(variance) if variance > 0 else math.inf
                found = bucket.second
        before = before.plus(bucket)
    return found


class DelayWindow:
    """Delays of packets that arrived, of one direction or of the round trip.

    When the mean shifts (another route, another link delay) the samples from before are forgotten, since a mean
    over two paths is that of none. A shift is looked for once a second.
    """

    def __init__(self) -> None:
        self._ring = _Ring(_Delays)
        self._second = 0
        self.shifts = 0
        """How often samples were forgotten since the mean had shifted."""
        self._last_sequence: int | None = None
        self._last_delay_ns = 0

    def add(self, delay_ns: int, *, sequence: int, at_ns: int) -> None:
        """Count a sample, received at `at_ns`; IPDV takes packets that follow each other in `sequence`."""
        if at_ns // NS_PER_S != self._second:
            self._second = at_ns // NS_PER_S
            self._forget_before_shift(at_ns)
        bucket = self._ring.at(at_ns)
        bucket.add(delay_ns)
        if self._last_sequence is not None and sequence == self._last_sequence + 1:
            bucket.variations += 1
            bucket.variation_total += abs(delay_ns - self._last_delay_ns)
        self._last_sequence, self._last_delay_ns = sequence, delay_ns

    def count(self, now_ns: int, window_s: int) -> int:
        """How many samples the window holds."""
        return sum(bucket.count for bucket in self._ring.within(now_ns, window_s))

    def _forget_before_shift(self, now_ns: int) -> None:
        buckets = [bucket for bucket in self._ring.within(now_ns, LONGEST_WINDOW_S) if bucket.count]
        second = _second_of_shift(buckets)
        if second is not None:
            # The second in which it happened may hold samples of both.
            self._ring.forget_before(second + 1)
            self.shifts += 1

    def _merged(self, now_ns: int, window_s: int) -> _Delays | None:
        merged = _Delays(0)
        for bucket in self._ring.within(now_ns, window_s):
            if bucket.count:
                merged.merge(bucket)
        return merged if merged.count >= MINIMUM_SAMPLES else None

    def delay(
        self,
        now_ns: int,
        window_s: int,
        *,
        upstream_clock_error_ms: float,
        current_clock_error_ms: float,
        synchronized: bool,
    ) -> DelayStatistics | None:
        """One-way delay (RFC 7679); None below MINIMUM_SAMPLES."""
        window = self._merged(now_ns, window_s)
        if window is None:
            return None
        return DelayStatistics(
            count=window.count,
            mean_ms=window.total / window.count / NS_PER_MS,
            minimum_ms=window.minimum / NS_PER_MS,
            variance_ms2=window.variance_ms2(),
            third_moment_ms3=window.third_moment_ms3(),
            upstream_clock_error_ms=upstream_clock_error_ms,
            current_clock_error_ms=current_clock_error_ms,
            synchronized=synchronized,
        )

    def jitter(self, now_ns: int, window_s: int) -> JitterStatistics | None:
        """Delay variation (RFC 5481); None below MINIMUM_SAMPLES, or when no two packets followed each other."""
        window = self._merged(now_ns, window_s)
        if window is None or not window.variations:
            return None
        return JitterStatistics(
            count=window.count,
            pdv_ms=(window.high_quantile_ns() - window.minimum) / NS_PER_MS,
            ipdv_ms=window.variation_total / window.variations / NS_PER_MS,
            mean_pdv_ms=(window.total / window.count - window.minimum) / NS_PER_MS,
            variance_ms2=window.variance_ms2(),
            third_moment_ms3=window.third_moment_ms3(),
        )

    def round_trip(self, now_ns: int, window_s: int) -> RoundTripStatistics | None:
        """Two-way delay (RFC 2681); None below MINIMUM_SAMPLES."""
        window = self._merged(now_ns, window_s)
        if window is None:
            return None
        return RoundTripStatistics(
            count=window.count,
            mean_ms=window.total / window.count / NS_PER_MS,
            minimum_ms=window.minimum / NS_PER_MS,
            variance_ms2=window.variance_ms2(),
        )


@dataclass(slots=True)
class _Fates:
    second: int
    received: int = 0
    lost: int = 0
    duplicates: int = 0


class LossWindow:
    """Packets that arrived and packets that did not.

    A loss is known one threshold after the packet behind it came. So that arrivals are not ahead of losses, those
    of the last threshold before the newest one are left out: both sides of the ratio cover the same packets.
    """

    def __init__(self) -> None:
        self._ring = _Ring(_Fates)
        self._unsettled_ns: deque[int] = deque()

    def received(self, at_ns: int) -> None:
        """Count the first copy of a packet."""
        self._ring.at(at_ns).received += 1
        self._unsettled_ns.append(at_ns)  # never empty below, as this one is of the last threshold
        while not 0 <= at_ns - self._unsettled_ns[0] < LOSS_THRESHOLD_NS:
            self._unsettled_ns.popleft()

    def duplicate(self, at_ns: int) -> None:
        """Count a further copy (RFC 5560)."""
        self._ring.at(at_ns).duplicates += 1

    def settled(self, at_ns: int, now_ns: int) -> None:
        """Count a packet of which it is known only `now_ns` that it arrived at about `at_ns`."""
        if now_ns - at_ns < LONGEST_WINDOW_S * NS_PER_S:
            self._ring.at(at_ns).received += 1

    def lost(self, at_ns: int, now_ns: int) -> None:
        """Count a packet that would have come at about `at_ns` and is given up at `now_ns`."""
        if now_ns - at_ns < LONGEST_WINDOW_S * NS_PER_S:
            self._ring.at(at_ns).lost += 1

    def duplicates(self, now_ns: int, window_s: int) -> int:
        """How many further copies came within the window."""
        return sum(bucket.duplicates for bucket in self._ring.within(now_ns, window_s))

    def statistics(self, now_ns: int, window_s: int, *, unanswered: int = 0) -> LossStatistics | None:
        """One-way loss (RFC 7680); None below MINIMUM_SAMPLES packets.

        Args:
            unanswered: packets of the window that count as lost although their fate is not proven.
        """
        received = lost = 0
        for bucket in self._ring.within(now_ns, window_s):
            received += bucket.received
            lost += bucket.lost
        sent = max(0, received - len(self._unsettled_ns)) + lost + unanswered
        if sent < MINIMUM_SAMPLES:
            return None
        return LossStatistics(sent=sent, lost=lost + unanswered, threshold_ms=LOSS_THRESHOLD_MS)
