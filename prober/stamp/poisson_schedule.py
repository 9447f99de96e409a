"""When the probes of a session are sent."""

from __future__ import annotations

import random

from prober.timestamp import NS_PER_S

LONGEST_GAP_NS = NS_PER_S
"""Truncated Poisson (RFC 7312 section 4.6): no reader of the window waits longer for the next probe."""


class PoissonSchedule:
    """Send times with exponential gaps, fixed in advance: a late send delays no later one (RFC 2330 11.1.3).

    Times that were missed are merged into one: a burst after a pause would measure its own queue.
    """

    def __init__(self, random_source: random.Random, *, now_ns: int, rate_per_s: float) -> None:
        self._random = random_source
        self._rate_per_s = rate_per_s
        self.next_at_ns = now_ns + self._gap_ns()

    def advance(self, now_ns: int) -> None:
        """Go on to the next time, and from there to the first one after `now_ns`."""
        self.next_at_ns += self._gap_ns()
        while self.next_at_ns <= now_ns:
            if now_ns - self.next_at_ns > LONGEST_GAP_NS:
                self.next_at_ns = now_ns
            self.next_at_ns += self._gap_ns()

    def restart(self, now_ns: int) -> None:
        """Begin anew, after a step of the clock."""
        self.next_at_ns = now_ns + self._gap_ns()

    def _gap_ns(self) -> int:
        return min(max(1, round(self._random.expovariate(self._rate_per_s) * NS_PER_S)), LONGEST_GAP_NS)
