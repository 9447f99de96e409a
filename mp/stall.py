"""Notices that a process did not run: stopped, starved of the processor, or held up by itself."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

STALL_MS = 1_900
"""Of a loop that turns at least once a second: whoever stands still for two seconds takes longer for a turn, also
if it was about to rest just then."""


class StallWatch:
    """Looks at the clock at each turn of a loop.

    Args:
        what: of whom the log is to speak.
        most_ms: a turn that takes no longer is none.
    """

    def __init__(self, what: str, most_ms: int) -> None:
        self._what = what
        self._most_ms = most_ms
        self._seen_at_ms: int | None = None
        self.stalls = 0

    def look(self, now_ms: int) -> None:
        """Call at each turn, with a clock that never steps."""
        if self._seen_at_ms is not None and now_ms - self._seen_at_ms > self._most_ms:
            self.stalls += 1
            logger.warning("%s did not run for %.1f s", self._what, (now_ms - self._seen_at_ms) / 1000)
        self._seen_at_ms = now_ms


class Silence:
    """How long another process has said nothing, less the time in which this one stood still and heard nobody.

    Args:
        most_ms: from one look to the next; whoever takes longer stood still.
    """

    def __init__(self, most_ms: int) -> None:
        self._most_ms = most_ms
        self._heard_at_ms = self._looked_at_ms = 0

    def heard(self, now_ms: int) -> None:
        """Call when it begins and whenever it says something, with a clock that never steps."""
        self._heard_at_ms = self._looked_at_ms = now_ms

    def look(self, now_ms: int) -> int:
        """Its length in milliseconds."""
        if now_ms - self._looked_at_ms > self._most_ms:
            self._heard_at_ms = now_ms
        self._looked_at_ms = now_ms
        return now_ms - self._heard_at_ms
