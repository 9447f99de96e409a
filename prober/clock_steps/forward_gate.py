"""Holds back one-way delays that lie seconds away from all others, where only the way in is measured.

A delay that falls so far, or rises beyond what any packet takes, comes from a clock's step or from nonsense in one
packet. One that rises by some seconds may also come from a link that stalled. Smaller steps are left to the test
for a shift of the mean.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low
from typing import NamedTuple

from prober.clock_steps.judgement import Judgement
from prober.timestamp import NS_PER_S

FAR_NS = NS_PER_S
"""So far from the median, a delay is held back until the next ones agree."""
GREATEST_RISE_NS = 10 * NS_PER_S
"""No link stalls for longer and then delivers."""
AGREEING = 4
_RECENT = 9


class Forward(NamedTuple):
    """One delay peer -> this point."""

    delay_ns: int
    sequence: int
    at_ns: int


class ForwardGate:
    """Judges the inbound delays of one segment.

    Args:
        far_ns: how far is far; not below the loss threshold, as delays up to it are the network's.
    """

    def __init__(self, far_ns: int = FAR_NS) -> None:
        self._far_ns = max(FAR_NS, far_ns)
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._held: list[Forward] = []

    def judge(self, sample: Forward) -> Judgement[Forward] | None:
        """None when the sample counts and nothing is strange about it."""
        recent = self._recent
        if not recent or (not self._held and abs(sample.delay_ns - recent[-1]) <= self._far_ns):
            recent.append(sample.delay_ns)
            return None
        usual_ns = median_low(recent)
        if abs(sample.delay_ns - usual_ns) > self._far_ns:
            return self._hold(sample, usual_ns)
        recent.append(sample.delay_ns)
        dropped = len(self._held)
        self._held = []
        return Judgement(samples=(sample,), dropped=dropped)

    def restart(self) -> None:
        """Forget what the delays were."""
        self._recent.clear()
        self._held = []

    def _hold(self, sample: Forward, usual_ns: int) -> Judgement[Forward]:
        dropped = 0
        if self._held and abs(sample.delay_ns - self._held[-1].delay_ns) > self._far_ns:
            dropped = len(self._held)
            self._held = []
        self._held.append(sample)
        if len(self._held) < AGREEING:
            return Judgement(dropped=dropped)
        samples = tuple(self._held)
        self.restart()
        self._recent.extend(sample.delay_ns for sample in samples)
        change_ns = samples[0].delay_ns - usual_ns
        stepped = not 0 < change_ns <= GREATEST_RISE_NS
        # The peer's clock went ahead when its packets seem to have taken less.
        return Judgement(samples=samples, dropped=dropped, step_ns=-change_ns if stepped else None)
