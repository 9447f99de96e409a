"""The last seconds of one direction: a ring of buckets of one second each, and which packets of them were lost.

All windows keep constant memory and are kept by the receive time on the own clock. What a bucket holds can be
merged, so a window of any length up to LONGEST_WINDOW_S is the sum of its buckets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from prober.stamp.packet import SEQUENCE_MODULUS
from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.metrics import LossStatistics

LONGEST_WINDOW_S = 60
SHORT_WINDOW_S = 10
MINIMUM_SAMPLES = 10
"""A window with fewer samples counts as not measured."""
DEFAULT_LOSS_THRESHOLD_MS = 1000
"""A packet that comes later than this after one sent behind it is lost (RFC 7680 section 2.5)."""
_RING_S = 64
_SLOTS_PER_THRESHOLD = 32
"""How finely it is known which arrivals are younger than the threshold."""


class _Bucket(Protocol):
    second: int


B = TypeVar("B", bound=_Bucket)


class Ring(Generic[B]):
    """Buckets of the last 64 seconds; one of another second is in the way only after a step of the clock."""

    def __init__(self, empty: Callable[[int], B]) -> None:
        self._empty = empty
        self._buckets: list[B] = []
        self.clear()

    def at(self, time_ns: int) -> B:
        """The bucket of a time."""
        second = time_ns // NS_PER_S
        bucket = self._buckets[second % _RING_S]
        return bucket if bucket.second == second else self.of(second)

    def of(self, second: int) -> B:
        """The bucket of a second, empty if it held another one."""
        bucket = self._buckets[second % _RING_S]
        if bucket.second != second:
            bucket = self._buckets[second % _RING_S] = self._empty(second)
        return bucket

    def held(self, second: int) -> B | None:
        """The bucket of a second, if there is one."""
        bucket = self._buckets[second % _RING_S]
        return bucket if bucket.second == second else None

    def within(self, now_ns: int, window_s: int) -> list[B]:
        """The buckets of the last seconds, oldest first."""
        end = now_ns // NS_PER_S + 1
        first = end - window_s
        place = end % _RING_S
        # The ring as it lies begins with its newest seconds when it is turned so that they come last.
        turned = self._buckets[place:] + self._buckets[:place]
        return [bucket for bucket in turned[-window_s:] if first <= bucket.second < end]

    def newest_first(self, now_ns: int, window_s: int) -> Iterator[B]:
        """The buckets of the last seconds that hold anything, newest first."""
        end = now_ns // NS_PER_S
        for second in range(end, end - window_s, -1):
            bucket = self._buckets[second % _RING_S]
            if bucket.second == second:
                yield bucket

    def clear(self) -> None:
        """Empty all buckets."""
        self._buckets = [self._empty(second) for second in range(_RING_S)]

    def forget_before(self, second: int) -> None:
        """Empty the buckets of earlier seconds."""
        for index, bucket in enumerate(self._buckets):
            if bucket.second < second:
                self._buckets[index] = self._empty(bucket.second)

    def move(self, seconds: int) -> None:
        """Say that what was received at a time was received so much later, since the clock has stepped."""
        moved = list(self._buckets)
        for bucket in self._buckets:
            bucket.second += seconds
            moved[bucket.second % _RING_S] = bucket
        self._buckets = moved


@dataclass(slots=True)
class _Fates:
    second: int
    received: int = 0
    lost: int = 0
    runs: int = 0
    first_run: int = 0
    """Losses of this second's first run; those of the second before not included."""
    last_run: int = 0
    longest_run: int = 0
    continues: bool = False
    """The first run follows on the loss before, which was in an earlier second."""

    def lose(self, *, follows: bool) -> None:
        if follows and self.lost:
            self.last_run += 1
        else:
            self.continues |= follows  # only the first loss of a second follows on one of another
            self.runs += 1
            self.last_run = 1
        if self.runs == 1:
            self.first_run = self.last_run
        self.lost += 1
        self.longest_run = max(self.longest_run, self.last_run)


@dataclass(slots=True)
class _LossRuns:
    """Runs of losses (RFC 3357) over some buckets; of one that the window's edge cuts the part inside counts."""

    runs: int = 0
    longest: int = 0
    last: int = 0

    def take(self, bucket: _Fates) -> None:
        if not bucket.lost:
            return  # a run goes on behind it when no packet was due in that second
        joined = bucket.continues and self.last > 0
        first = bucket.first_run + (self.last if joined else 0)
        self.runs += bucket.runs - joined
        self.longest = max(self.longest, first, bucket.longest_run)
        self.last = first if bucket.runs == 1 else bucket.last_run

    def take_numbers(self, numbers: Iterable[int]) -> None:
        """Add packets that are lost too, of which none follows on those before."""
        before: int | None = None
        for number in numbers:
            follows = before is not None and (number - before) % SEQUENCE_MODULUS == 1
            self.runs += not follows
            self.last = self.last + 1 if follows else 1
            self.longest = max(self.longest, self.last)
            before = number


class LossWindow:
    """Packets that arrived and packets that did not.

    A loss is known one threshold after the packet behind it came. So that arrivals are not ahead of losses, those
    of the last threshold before the newest one are left out (by slots of 1/32 of it): both sides of the ratio
    cover the same packets.

    Args:
        threshold_ms: waiting time after which a packet counts as lost.
    """

    def __init__(self, threshold_ms: int = DEFAULT_LOSS_THRESHOLD_MS) -> None:
        self._threshold_ms = threshold_ms
        self._slot_ns = max(1, threshold_ms * NS_PER_MS // _SLOTS_PER_THRESHOLD)
        self._ring = Ring(_Fates)
        self._unsettled: deque[list[int]] = deque()
        """Slots of the last threshold, oldest first: number and arrivals."""
        self._last_lost: int | None = None

    def received(self, at_ns: int) -> None:
        """Count the first copy of a packet."""
        self._ring.at(at_ns).received += 1
        slot = at_ns // self._slot_ns
        unsettled = self._unsettled
        if unsettled and unsettled[-1][0] == slot:
            unsettled[-1][1] += 1
            return
        unsettled.append([slot, 1])  # never empty below, as this one is of the last threshold
        while not 0 <= slot - unsettled[0][0] < _SLOTS_PER_THRESHOLD:
            unsettled.popleft()

    def settled(self, at_ns: int, now_ns: int) -> None:
        """Count a packet of which it is known only `now_ns` that it arrived at about `at_ns`."""
        if _is_within(at_ns, now_ns):
            self._ring.at(at_ns).received += 1

    def lost(self, sequence: int, at_ns: int, now_ns: int) -> None:
        """Count a packet that would have come at about `at_ns` and is given up at `now_ns`.

        Args:
            sequence: unwrapped; packets in a row make a run.
            at_ns: own clock.
            now_ns: own clock.
        """
        if _is_within(at_ns, now_ns):
            follows = self._last_lost is not None and sequence == self._last_lost + 1
            self._ring.at(at_ns).lose(follows=follows)
            self._last_lost = sequence

    def new_stream(self) -> None:
        """The numbers begin anew."""
        self._last_lost = None

    def restart(self) -> None:
        """Forget everything."""
        self._ring.clear()
        self._unsettled.clear()
        self._last_lost = None

    def statistics(self, now_ns: int, window_s: int, *, unanswered: Iterable[int] = ()) -> LossStatistics | None:
        """One-way loss (RFC 7680); None below MINIMUM_SAMPLES packets.

        Args:
            now_ns: end of the window, own clock.
            window_s: at most LONGEST_WINDOW_S.
            unanswered: numbers of packets of the window that count as lost although their fate is not proven.
        """
        received = lost = 0
        runs = _LossRuns()
        for bucket in self._ring.within(now_ns, window_s):
            received += bucket.received
            lost += bucket.lost
            runs.take(bucket)
        silent = tuple(unanswered)
        runs.take_numbers(silent)
        lost += len(silent)
        sent = max(0, received - sum(arrivals for _, arrivals in self._unsettled)) + lost
        if sent < MINIMUM_SAMPLES:
            return None
        return LossStatistics(
            sent=sent,
            lost=lost,
            threshold_ms=self._threshold_ms,
            runs=runs.runs,
            longest_run=runs.longest,
        )


def _is_within(at_ns: int, now_ns: int) -> bool:
    """Neither older than every window, nor of a time before the clock stepped back."""
    return 0 <= now_ns - at_ns < LONGEST_WINDOW_S * NS_PER_S
