"""When the sessions of a point send, so that one wake-up serves several of them."""

from __future__ import annotations

import random
from collections import deque

from prober.stamp.poisson_schedule import LONGEST_GAP_NS
from prober.timestamp import NS_PER_S

LARGEST_SHARE = 0.4
"""Of the common times, that a session takes. With it twenty sessions at ten packets a second wake their process 25
times a second and not 200 times; what is sent first then costs as much as eight that follow."""
USUAL_BATCH = 8
"""Probes that leave together, on average, where there are many sessions. A packet waits at the interface behind
those before it, as it would for other traffic, unless that is faster than the system calls: 100 Mbit/s are."""


class CommonTimes:
    """One Poisson process, of which each session takes each time with the same probability, whatever others take.

    What a session takes is a Poisson process again, of its own rate (thinning): it samples its path without bias,
    and nobody can foresee it (RFC 2330 section 11.1.1). That others send at some of its times changes neither.

    Args:
        random_source: draws the times, and who takes them.
        rate_per_s: expected times a second of each session.
    """

    def __init__(self, random_source: random.Random, *, rate_per_s: float) -> None:
        self._random = random_source
        self._rate_per_s = rate_per_s
        self._share = LARGEST_SHARE
        self._coming: deque[int] = deque()
        """Common times that have been drawn, in order."""
        self._asked_at_ns = 0

    def share_among(self, sessions: int) -> None:
        """So many sessions send from now on."""
        share = min(LARGEST_SHARE, USUAL_BATCH / max(1, sessions))
        if share != self._share:
            self._share = share
            self._coming.clear()

    def after(self, now_ns: int) -> int:
        """A session's next time after `now_ns`, at most LONGEST_GAP_NS later.

        Args:
            now_ns: never earlier than at the last call, unless the clock was set.
        """
        coming, latest_ns = self._coming, now_ns + LONGEST_GAP_NS
        if now_ns < self._asked_at_ns:
            coming.clear()
        self._asked_at_ns = now_ns
        while coming and coming[0] <= now_ns:
            coming.popleft()
        number = 0
        while True:
            if number == len(coming):
                gap_s = self._random.expovariate(self._rate_per_s / self._share)
                coming.append((coming[-1] if coming else now_ns) + max(1, round(gap_s * NS_PER_S)))
            at_ns = coming[number]
            if at_ns >= latest_ns or self._random.random() < self._share:
                return min(at_ns, latest_ns)
            number += 1


class CommonSchedule:
    """The times of one session: what `PoissonSchedule` gives, in common with others.

    Args:
        times: of all sessions.
        now_ns: the first time follows this.
    """

    def __init__(self, times: CommonTimes, *, now_ns: int) -> None:
        self._times = times
        self.next_at_ns = times.after(now_ns)

    def advance(self, now_ns: int) -> None:
        """Go on to the first time after `now_ns`: those that were missed are merged into one."""
        self.next_at_ns = self._times.after(now_ns)

    def restart(self, now_ns: int) -> None:
        """Begin anew, after a step of the clock."""
        self.next_at_ns = self._times.after(now_ns)
