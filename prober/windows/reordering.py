"""Which packets of a stream were overtaken, and by how far (RFC 4737)."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

RECORDS = 256
"""Packets, each with a higher number than all before it, that are kept to find how far another one was moved."""


class Reordering:
    """Follows the first copies of one stream's packets, in the order of their arrival."""

    def __init__(self) -> None:
        self._records: deque[tuple[int, int]] = deque(maxlen=RECORDS)
        """(number, place) of packets with a higher number than all before."""
        self._place = 0

    def extent(self, sequence: int) -> int:
        """Take the next packet; places by which it came too late (section 4.2), 0 when it is not reordered.

        Of a packet that was overtaken by more than RECORDS others, as far as they are remembered.
        """
        self._place += 1
        records = self._records
        if not records or sequence >= records[-1][0]:
            records.append((sequence, self._place))
            return 0
        overtaker = records[bisect_right(records, (sequence, self._place))]
        return self._place - overtaker[1]

    def restart(self) -> None:
        """The numbers begin anew."""
        self._records.clear()
