"""When each plug-in measures each segment, and which of its values still hold. Pure: time comes in as an argument.

Gaps are random around the interval, so that neither the segments of one point nor the points of an overlay that
started together stay in step. A measurement that had to wait delays all later ones of its segment: there is no
catching up.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

MOST_AT_ONCE: Final = 2
"""Measurements of all plug-ins: a router has more to do."""
FIRST_WITHIN_S: Final = 10.0
"""A new segment is measured this soon, however long the interval is."""
SHORTEST_GAP: Final = 0.75
LONGEST_GAP: Final = 1.25
"""Of the interval; the mean is 1."""
MOST_INTERVALS: Final = 3
"""A value is withdrawn when it is older."""
MOST_FAILURES: Final = 3
"""A value is withdrawn when as many attempts in a row have failed since."""


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """One plug-in on one segment."""

    metric: str
    peer: str


@dataclass(slots=True)
class _State:
    """What is known of a turn."""

    due_at_s: float
    failures: int = 0
    valued_at_s: float | None = None
    """When it last gave a value, if that was not withdrawn."""


class PluginSchedule:
    """The turns of some plug-ins.

    Args:
        intervals_s: by the metric's name.
        random_source: draws the gaps.
    """

    def __init__(
        self, intervals_s: Mapping[str, float], *, random_source: random.Random, most_at_once: int = MOST_AT_ONCE
    ) -> None:
        self._intervals_s = dict(intervals_s)
        self._random = random_source
        self._most_at_once = most_at_once
        self._states: dict[Turn, _State] = {}
        self._running: set[Turn] = set()
        self._orphans: set[Turn] = set()

    def keep(self, peers: Collection[str], now_s: float) -> None:
        """Take up the segments that are new and give up those that are gone."""
        wanted = {Turn(metric, peer) for metric in self._intervals_s for peer in peers}
        for turn in self._states.keys() - wanted:
            if self._states.pop(turn).valued_at_s is not None:
                self._orphans.add(turn)
        for turn in sorted(wanted - self._states.keys()):
            first_s = min(self._intervals_s[turn.metric], FIRST_WITHIN_S)
            self._states[turn] = _State(now_s + self._random.uniform(0, first_s))

    def begin(self, now_s: float) -> tuple[Turn, ...]:
        """The turns to start now: one per plug-in, longest overdue first, as many as may run."""
        begun = []
        for turn, state in sorted(self._states.items(), key=lambda item: item[1].due_at_s):
            if state.due_at_s > now_s or len(self._running) >= self._most_at_once:
                break
            if any(running.metric == turn.metric for running in self._running):
                continue
            gap = self._random.uniform(SHORTEST_GAP, LONGEST_GAP)
            state.due_at_s = now_s + gap * self._intervals_s[turn.metric]
            self._running.add(turn)
            begun.append(turn)
        return tuple(begun)

    def succeeded(self, turn: Turn, now_s: float) -> bool:
        """It gave a value; False when nobody wants it any more."""
        state = self._end(turn)
        if state is None:
            return False
        state.failures = 0
        state.valued_at_s = now_s
        self._orphans.discard(turn)
        return True

    def failed(self, turn: Turn) -> int:
        """It gave none; how often in a row, 0 when nobody cares any more."""
        state = self._end(turn)
        if state is None:
            return 0
        state.failures += 1
        return state.failures

    def withdrawn(self, now_s: float) -> tuple[Turn, ...]:
        """Values that hold no longer, each told once: too old, failed too often since, or the segment is gone."""
        expired = [turn for turn, state in self._states.items() if self._is_expired(turn, state, now_s)]
        for turn in expired:
            self._states[turn].valued_at_s = None
        told = (*sorted(self._orphans), *expired)
        self._orphans.clear()
        return told

    def _is_expired(self, turn: Turn, state: _State, now_s: float) -> bool:
        if state.valued_at_s is None:
            return False
        is_old = now_s - state.valued_at_s > MOST_INTERVALS * self._intervals_s[turn.metric]
        return is_old or state.failures >= MOST_FAILURES

    def _end(self, turn: Turn) -> _State | None:
        self._running.discard(turn)
        return self._states.get(turn)
