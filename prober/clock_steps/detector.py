"""Steps of the own clock, seen by comparing it with one that never steps."""

from __future__ import annotations

from prober.timestamp import NS_PER_MS

STEP_NS = NS_PER_MS
"""A smaller change is no step that matters."""
SLEW_PARTS = 2000
"""A clock that is being corrected gains or loses at most 1 part in 2000 (500 ppm, adjtimex)."""
SLOWEST_READ_NS = STEP_NS // 2
"""Two clocks that could not be read closer together say nothing of a step."""


class ClockStepDetector:
    """Watches the time of day (CLOCK_REALTIME) beside CLOCK_MONOTONIC; also the end of a suspension is a step."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._monotonic_ns = 0

    def observe(self, wall_ns: int, monotonic_ns: int, *, read_took_ns: int = 0) -> int | None:
        """Take a reading of both clocks, at best some times a second.

        Args:
            wall_ns: time of day.
            monotonic_ns: the other clock.
            read_took_ns: how far apart the two may have been read; a process may be held up in between.

        Returns:
            How far the clock has stepped since the last reading, forward positive; None when it has not.
        """
        if read_took_ns > SLOWEST_READ_NS:
            return None
        before_ns, elapsed_ns = self._offset_ns, monotonic_ns - self._monotonic_ns
        self._offset_ns, self._monotonic_ns = wall_ns - monotonic_ns, monotonic_ns
        if before_ns is None:
            return None
        change_ns = self._offset_ns - before_ns
        slewed_ns = max(0, elapsed_ns) // SLEW_PARTS
        return change_ns if abs(change_ns) > STEP_NS + slewed_ns else None
