"""Puts what is learned late back into the order in which the packets arrived."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

DEPTH = 8
"""Packets that wait for one that arrived before them: 0.8 s at the usual rate."""
T = TypeVar("T")


class ArrivalOrder(Generic[T]):
    """A queue of constant length; a packet that is learned of more than DEPTH packets late comes out late."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, T]] = []
        self._pushed = 0

    def push(self, key: int, item: T) -> T | None:
        """Put an item in its place by `key`, and give the one whose turn it is, once the queue is full."""
        self._pushed += 1
        entry = (key, self._pushed, item)  # the count keeps equal keys in order, and items from being compared
        if len(self._waiting) < DEPTH:
            heapq.heappush(self._waiting, entry)
            return None
        return heapq.heappushpop(self._waiting, entry)[2]

    def waiting(self) -> Iterator[T]:
        """What is still in the queue, in order."""
        return (item for _, _, item in sorted(self._waiting, key=lambda entry: entry[:2]))

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
