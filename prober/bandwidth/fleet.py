"""A fleet: streams of one rate, and what most of them say (Pathload 1.3.2)."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from prober.bandwidth.trend import Verdict

AGREEING_RATIO = 0.75
"""So many of the streams that say something must say the same; else the rate lies in the grey region. Pathload's
code has 0.6 and its paper 0.7, for 12 streams of every fleet; with the streams that fit into a quarter of a minute
the interval would miss the truth too often (simulated with Poisson traffic of 1500 octets on a third of the
link, tested rates alone: 0.6 hits in three of four runs, 0.7 in 85 to 98 %, 0.75 in 91 to 99 %)."""
USABLE_RATIO = 0.5
"""A fleet of which fewer streams say something is repeated."""
SOME_LOSS_RATIO = 0.03
LOSSY_STREAMS_RATIO = 0.5
"""A fleet is given up when so many of its streams lost `SOME_LOSS_RATIO`."""


class FleetVerdict(StrEnum):
    """How the rate of a fleet compares with the available bandwidth."""

    ABOVE = "above"
    BELOW = "below"
    GREY = "grey"
    """The available bandwidth varies, and this rate is now below it, now above it."""
    LOSSY = "lossy"
    """Above it, so much that packets were lost."""
    SPOILED = "spoiled"
    """Too few streams kept their intervals on the way out of the sender."""
    CLUSTERED = "clustered"
    """Too few streams were given to the receiver packet by packet."""
    UNCLEAR = "unclear"
    """Too few streams say anything, for other reasons."""


class Fleet:
    """Collects verdicts on streams of one rate.

    Args:
        size: number of streams, of which the last ones are left out when they cannot change the verdict.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: Counter[Verdict] = Counter()
        self._with_loss = 0

    def note(self, verdict: Verdict, loss_ratio: float = 0.0) -> None:
        """One stream has ended."""
        self._seen[verdict] += 1
        self._with_loss += loss_ratio >= SOME_LOSS_RATIO

    def verdict(self) -> FleetVerdict | None:
        """None while streams are missing that could change it."""
        increasing, level = self._seen[Verdict.INCREASING], self._seen[Verdict.NO_TREND]
        left = self._size - self._seen.total()
        unusable = self._seen.total() - increasing - level
        if self._seen[Verdict.LOSSY] or self._with_loss >= LOSSY_STREAMS_RATIO * self._size:
            return FleetVerdict.LOSSY
        if unusable > USABLE_RATIO * self._size:
            return self._why_unusable()
        most = increasing + level + left
        if increasing >= AGREEING_RATIO * most:
            return FleetVerdict.ABOVE
        if level >= AGREEING_RATIO * most:
            return FleetVerdict.BELOW
        if max(increasing, level) + left < AGREEING_RATIO * most:
            return FleetVerdict.GREY
        return None

    def _why_unusable(self) -> FleetVerdict:
        reasons = {
            Verdict.SPOILED: FleetVerdict.SPOILED,
            Verdict.CLUSTERED: FleetVerdict.CLUSTERED,
            Verdict.UNCLEAR: FleetVerdict.UNCLEAR,
            Verdict.LOST: FleetVerdict.UNCLEAR,
        }
        return reasons[max(reasons, key=lambda verdict: self._seen[verdict])]
