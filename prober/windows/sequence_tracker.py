"""Which packets of a numbered stream arrived, came twice, or are lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from prober.stamp.packet import SEQUENCE_MODULUS
from prober.timestamp import NS_PER_MS
from prober.windows.reordering import Reordering
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS

MAX_GAP = 1024
"""A jump by more is no loss but another stream. At 10 packets a second it is longer than any window."""
STRANGERS = 16
"""So many packets in a row with rising numbers, all below the highest and none awaited, are another stream."""
_HALF = SEQUENCE_MODULUS // 2
_REMEMBERED = 64
"""Packets whose send time is kept, to know a copy by it."""
_ANSWERED_TWICE_NS = 100 * NS_PER_MS
"""Two packets of one number and about one time are copies: a stateless reflector answers each copy of a probe."""
_NEVER = (-1, 0)


class Arrival(Enum):
    """What the arrival of a number means."""

    NEW = auto()
    DUPLICATE = auto()
    LATE = auto()
    """It was given up before, or is older than the stream's first packet here: neither received nor lost again."""
    RESTARTED = auto()
    """The stream began anew with this packet; nothing of the old one is counted as lost."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A number that was passed over."""

    sequence: int
    expected_at_ns: int
    """Between the arrivals around the gap, in proportion."""
    noticed_at_ns: int


class SequenceTracker:
    """Follows one stream by event time: all times are arrival times, so a busy process declares no loss.

    Numbers in are 32 bits and wrap; numbers out are unwrapped.
    """

    def __init__(self) -> None:
        self.highest = -1
        """Highest number so far, unwrapped; -1 before the first packet."""
        self.extent = 0
        """Places by which the last NEW or RESTARTED packet came too late (RFC 4737), 0 in order."""
        self._reordering = Reordering()
        self._first = 0
        self._highest_sent_at_ns = 0
        self._highest_at_ns = 0
        self._missing: dict[int, Missing] = {}
        self._given_up: dict[int, None] = {}
        self._recent = [_NEVER] * _REMEMBERED
        """(number, send time) of the packets that came last, by number."""
        self._strangers = 0
        self._last_stranger = 0

    def unwrap(self, sequence: int) -> int:
        """The unwrapped number nearest to the highest so far (RFC 4737 section 6)."""
        if self.highest < 0:
            return sequence
        return self.highest + (sequence - self.highest + _HALF) % SEQUENCE_MODULUS - _HALF

    def received(self, sequence: int, *, sent_at_ns: int, at_ns: int) -> Arrival:
        """Take note of an arrival.

        Args:
            sequence: the number in the packet.
            sent_at_ns: the send time in the packet, on the sender's clock: a copy repeats it, and a packet
                that was overtaken has an older one. A number that falls with a newer time is a restart; with an
                older one, as that clock may have been set back, it is one when more like it follow.
            at_ns: receive time, own clock.
        """
        number = self.unwrap(sequence)
        if self.highest < 0:
            self._begin(number, sent_at_ns, at_ns)
            return Arrival.NEW
        if number > self.highest:
            arrival = self._ahead(number, sent_at_ns, at_ns)
        else:
            arrival = self._behind(number, sent_at_ns)
        if arrival is Arrival.RESTARTED:
            self._begin(sequence, sent_at_ns, at_ns)
        else:
            self._recent[number % _REMEMBERED] = (number, sent_at_ns)
            if arrival is Arrival.NEW:
                self.extent = self._reordering.extent(number)
        return arrival

    def given_up(self, now_ns: int, *, threshold_ns: int = DEFAULT_LOSS_THRESHOLD_MS * NS_PER_MS) -> list[Missing]:
        """The numbers that are lost for good, rising: passed over one threshold or longer before `now_ns`.

        Also those that were passed over later than now, since the clock was set back meanwhile.
        """
        lost: list[Missing] = []
        if not self._missing:
            return lost
        for missing in self._missing.values():
            if -threshold_ns < now_ns - missing.noticed_at_ns < threshold_ns:
                break
            lost.append(missing)
        for missing in lost:
            del self._missing[missing.sequence]
            self._given_up[missing.sequence] = None
        while len(self._given_up) > MAX_GAP:
            del self._given_up[next(iter(self._given_up))]
        return lost

    def _begin(self, number: int, sent_at_ns: int, at_ns: int) -> None:
        self.highest = self._first = number
        self._highest_sent_at_ns, self._highest_at_ns = sent_at_ns, at_ns
        self._missing.clear()
        self._given_up.clear()
        self._recent = [_NEVER] * _REMEMBERED
        self._recent[number % _REMEMBERED] = (number, sent_at_ns)
        self._strangers = 0
        self._reordering.restart()
        self.extent = self._reordering.extent(number)

    def _ahead(self, number: int, sent_at_ns: int, at_ns: int) -> Arrival:
        if number - self.highest > MAX_GAP or len(self._missing) > MAX_GAP:
            return Arrival.RESTARTED
        if number - self.highest > 1:
            self._pass_over(number, at_ns)
        self.highest, self._highest_sent_at_ns, self._highest_at_ns = number, sent_at_ns, at_ns
        self._strangers = 0
        return Arrival.NEW

    def _pass_over(self, number: int, at_ns: int) -> None:
        steps = number - self.highest
        elapsed_ns = at_ns - self._highest_at_ns
        for step in range(1, steps):
            expected_at_ns = self._highest_at_ns + elapsed_ns * step // steps
            self._missing[self.highest + step] = Missing(self.highest + step, expected_at_ns, at_ns)

    def _behind(self, number: int, sent_at_ns: int) -> Arrival:
        if self._missing.pop(number, None):
            return Arrival.NEW
        remembered, its_sent_at_ns = self._recent[number % _REMEMBERED]
        if remembered == number:
            copied = abs(sent_at_ns - its_sent_at_ns) < _ANSWERED_TWICE_NS
            return Arrival.DUPLICATE if copied else Arrival.RESTARTED
        if sent_at_ns > self._highest_sent_at_ns:
            return Arrival.RESTARTED
        if number in self._given_up:
            del self._given_up[number]
            return Arrival.LATE
        return self._strange(number)

    def _strange(self, number: int) -> Arrival:
        rises = self._strangers > 0 and number > self._last_stranger
        self._strangers = self._strangers + 1 if rises else 1
        self._last_stranger = number
        if self._strangers >= STRANGERS:
            return Arrival.RESTARTED
        return Arrival.LATE if number < self._first else Arrival.DUPLICATE
