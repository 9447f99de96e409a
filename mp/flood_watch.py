"""Notices that a flood uses up nearly all that the firewall rule lets through.

Then hardly anything else comes through the rule. So it is enough to look now and then, at one packet: most others
pass the queue unseen, and those of the short time in which it takes them wait for company, are counted, and pass
together as they came. To wake up for each and to look at it would take a quarter of a processor that has work, and
is as good as nothing for those whose packets the rule has left out already.
"""

from __future__ import annotations

FLOOD_SHARE = 0.8
"""Of the packets that the rule lets through in the long run. More than that, and more than it lets through at once
besides, are a flood, if they are not as those before, so that they take the way of the pipeline."""
PAUSE_MS = 160
"""For so long the queue takes none, and all go on at once."""
NAP_MS = 40
"""For so long it takes them, before one is looked at: enough to tell whether the flood goes on."""


class FloodWatch:
    """A bucket that leaks as fast as the packets may come that are no flood.

    Args:
        rate_per_s: how many packets may enter the queue in the long run.
        burst: how many may enter at once.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._leak_per_ms = FLOOD_SHARE * rate_per_s / 1000
        self._burst = burst
        self._level = 0.0
        self._looked_at_ms: int | None = None
        self.handled = 0
        """As told at the last look."""
        self._is_flood = False

    def look(self, now_ms: int, handled: int) -> bool:
        """Whether there is a flood: it begins when the bucket runs over, and ends when it is empty.

        Args:
            now_ms: when the turn of the queue began, of a clock that never steps, and stands still while the queue
                takes none; every turn during a flood, and otherwise each at which some were handled.
            handled: how many packets the fast lane has not taken so far.
        """
        leaked = 0 if self._looked_at_ms is None else (now_ms - self._looked_at_ms) * self._leak_per_ms
        level = max(0.0, self._level - leaked) + handled - self.handled
        self._is_flood = level > self._burst or (self._is_flood and level > 0)
        self._level = min(level, self._burst)
        self._looked_at_ms, self.handled = now_ms, handled
        return self._is_flood
