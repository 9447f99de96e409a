"""Which packets of a numbered stream arrived, came twice, or are lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from prober.packet import SEQUENCE_MODULUS
from prober.window import LOSS_THRESHOLD_NS

MAX_GAP = 1024
"""A jump by more is no loss but another stream. At 10 packets a second it is longer than any window."""
_HALF = SEQUENCE_MODULUS // 2


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
        self._first = 0
        self._highest_sent_at_ns = 0
        self._highest_at_ns = 0
        self._missing: dict[int, Missing] = {}
        self._given_up: dict[int, None] = {}

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
                that was overtaken has an older one. A number that falls with a newer time is a restart.
            at_ns: receive time, own clock.
        """
        number = self.unwrap(sequence)
        if self.highest < 0:
            self._begin(number, sent_at_ns, at_ns)
            return Arrival.NEW
        if self._is_restart(number, sent_at_ns):
            self._begin(sequence, sent_at_ns, at_ns)
            return Arrival.RESTARTED
        if number > self.highest:
            self._pass_over(number, at_ns)
            self.highest, self._highest_sent_at_ns, self._highest_at_ns = number, sent_at_ns, at_ns
            return Arrival.NEW
        return self._behind(number)

    def given_up(self, now_ns: int) -> list[Missing]:
        """The numbers that are lost for good: passed over one threshold or longer before `now_ns`."""
        lost = []
        for missing in self._missing.values():
            if now_ns - missing.noticed_at_ns < LOSS_THRESHOLD_NS:
                break
            lost.append(missing)
        for missing in lost:
            del self._missing[missing.sequence]
            self._given_up[missing.sequence] = None
        while len(self._given_up) > MAX_GAP:
            del self._given_up[next(iter(self._given_up))]
        return lost

    def _is_restart(self, number: int, sent_at_ns: int) -> bool:
        if number <= self.highest:
            return sent_at_ns > self._highest_sent_at_ns
        return number - self.highest > MAX_GAP or len(self._missing) > MAX_GAP

    def _begin(self, number: int, sent_at_ns: int, at_ns: int) -> None:
        self.highest = self._first = number
        self._highest_sent_at_ns, self._highest_at_ns = sent_at_ns, at_ns
        self._missing.clear()
        self._given_up.clear()

    def _pass_over(self, number: int, at_ns: int) -> None:
        steps = number - self.highest
        elapsed_ns = at_ns - self._highest_at_ns
        for step in range(1, steps):
            expected_at_ns = self._highest_at_ns + elapsed_ns * step // steps
            self._missing[self.highest + step] = Missing(self.highest + step, expected_at_ns, at_ns)

    def _behind(self, number: int) -> Arrival:
        if self._missing.pop(number, None):
            return Arrival.NEW
        if number in self._given_up:
            del self._given_up[number]
            return Arrival.LATE
        return Arrival.LATE if number < self._first else Arrival.DUPLICATE
