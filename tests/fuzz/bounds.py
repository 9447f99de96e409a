"""What every input must keep to, besides what its target checks: time, and memory that does not grow."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

LIMIT_MS = 100
"""Of processor time, for one input, with coverage woven in: without, it takes a third of that."""
ATTEMPTS = 3
"""An input that is slow once was disturbed; one that is slow each time is slow."""
LOOK_EVERY_S = 2.0
WARM_UP_LOOKS = 2
"""Caches (of regular expressions, of what was imported late) fill while the first inputs run."""
MOST_NEW_BLOCKS = 100_000
"""Blocks of memory, some 10 MB, that Python may hold more of than after the warm-up, however long it runs: tables
that are bounded, such as the questions that `schemas.glance` remembers, may fill."""


class BoundsError(AssertionError):
    """An input took too long, or memory grows from input to input."""


class Bounded:
    """A target's function under those bounds.

    Args:
        one_input: the function.
    """

    def __init__(self, one_input: Callable[[bytes], None]) -> None:
        self._one_input = one_input
        self._looks = 0
        self._blocks = 0
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        self.executions = 0
        self.slowest_ms = 0.0

    def __call__(self, data: bytes) -> None:
        """Run one input."""
        took_ms = self._time(data)
        if took_ms > LIMIT_MS:
            took_ms = min(took_ms, *(self._time(data) for _ in range(ATTEMPTS - 1)))
            if took_ms > LIMIT_MS:
                raise BoundsError(f"{len(data)} octets took {took_ms:.0f} ms, expected at most {LIMIT_MS}")
        self.slowest_ms = max(self.slowest_ms, took_ms)
        self.executions += 1
        if time.monotonic() >= self._next_look_s:
            self._look()
            self._next_look_s = time.monotonic() + LOOK_EVERY_S

    def _time(self, data: bytes) -> float:
        began_ns = time.thread_time_ns()
        self._one_input(data)
        return (time.thread_time_ns() - began_ns) / 1e6

    def _look(self) -> None:
        gc.collect()
        blocks = sys.getallocatedblocks()
        self._looks += 1
        if self._looks <= WARM_UP_LOOKS:
            self._blocks = blocks
        elif blocks - self._blocks > MOST_NEW_BLOCKS:
            raise BoundsError(f"{blocks - self._blocks} blocks of memory more than after the warm-up")
