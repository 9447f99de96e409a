"""Delays above a minimum, counted in bins that all points share, so that histograms of segments can be convolved.

Bins are log-linear: below 8 us each is 1 us wide, above that each power of two is cut into 8. The center of a bin
is off by at most RELATIVE_ERROR of the delay above the minimum (RFC 6049 section 6.1.5 takes bins of 1 ms, which
hide everything that a short path does).

In the message a histogram is a list of whole numbers: a positive one is the count of the next bin, a negative one
skips as many empty bins. `12 30 -3 2` has 12 samples in bin 0, 30 in bin 1, and 2 in bin 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import MessageError

BINS_PER_OCTAVE = 8
_OCTAVE_BITS = BINS_PER_OCTAVE.bit_length() - 1
RELATIVE_ERROR = 1 / (2 * BINS_PER_OCTAVE)
"""Of a delay above the minimum of 8 us and more; below it the error is at most 0.5 us."""
LAST_BIN = 215
"""Ends at 536 s; what is longer is counted there."""
_US_PER_MS = 1000


def bin_of(above_minimum_us: int) -> int:
    """The bin of a delay above the minimum, in whole microseconds, not negative."""
    octave = max(0, above_minimum_us.bit_length() - _OCTAVE_BITS - 1)
    return min(LAST_BIN, BINS_PER_OCTAVE * octave + (above_minimum_us >> octave))


def bin_edges_ms(index: int) -> tuple[float, float]:
    """Where a bin begins and where it ends, in milliseconds above the minimum."""
    return _edge_us(index) / _US_PER_MS, _edge_us(index + 1) / _US_PER_MS


def _edge_us(index: int) -> int:
    octave = max(0, index // BINS_PER_OCTAVE - 1)
    return (index - BINS_PER_OCTAVE * octave) << octave


@dataclass(frozen=True, slots=True)
class Histogram:
    """Samples by bin.

    Args:
        counts: number of samples (positive) by bin, in the order of the bins.
    """

    counts: Mapping[int, int]

    @property
    def total(self) -> int:
        """How many samples it holds."""
        return sum(self.counts.values())

    @classmethod
    def from_text(cls, text: str) -> Histogram:
        """Decode the list of whole numbers of the message.

        Raises:
            MessageError: a zero, two skips in a row, a skip at the end, or a bin behind the last.
        """
        counts: dict[int, int] = {}
        position = 0
        skipped = False
        for token in text.split():
            number = int(token)
            if number == 0 or (number < 0 and skipped):
                raise MessageError(f"bins: got {token}, expected a count or one skip before a count")
            skipped = number < 0
            if skipped:
                position -= number
                continue
            if position > LAST_BIN:
                raise MessageError(f"bins: got bin {position}, expected at most {LAST_BIN}")
            counts[position] = number
            position += 1
        if skipped:
            raise MessageError("bins: got a skip at the end, expected a count")
        return cls(counts)

    def to_text(self) -> str:
        """The list of whole numbers of the message; `from_text` reverses it."""
        tokens = []
        position = 0
        for index in sorted(self.counts):
            if index > position:
                tokens.append(str(position - index))
            tokens.append(str(self.counts[index]))
            position = index + 1
        return " ".join(tokens)

    def quantile_ms(self, permille: int) -> float:
        """The smallest bin's center that `permille` of 1000 samples do not exceed (RFC 2330 section 11.3).

        In milliseconds above the minimum. The histogram must not be empty.
        """
        wanted = max(1, -(-permille * self.total // 1000))
        seen = 0
        index = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= wanted:
                break
        return sum(bin_edges_ms(index)) / 2
