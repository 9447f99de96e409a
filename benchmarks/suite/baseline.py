"""The figures to reach, the figures of the last accepted run, and what to say of a run that differs (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.suite.ratio import Spread
from schemas.errors import UsageError

FILE = Path(__file__).parents[1] / "baseline.json"
WARN_FACTOR = 1.2
"""So much worse than the baseline is worth a loud word; a noisy machine gets there by itself."""
FAIL_FACTOR = 2.0
"""Half the speed is never noise."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure to reach."""

    value: float
    is_floor: bool = False
    """More is better."""

    @property
    def text(self) -> str:
        """For people."""
        return f"{'at least' if self.is_floor else 'at most'} {self.value:g}"

    def holds(self, value: float) -> bool:
        """Whether it is reached."""
        return value >= self.value if self.is_floor else value <= self.value


LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "service_vs_c_append": Limit(3),
        "rate_vs_lxml_rebuild": Limit(2, is_floor=True),
        "rate_vs_scapy": Limit(40, is_floor=True),
        "latency_vs_c_append": Limit(3),
        "p99_loaded_vs_idle": Limit(2),
        "answer_10_points_over_rtt_ms": Limit(10),
        "memory_mb": Limit(100),
    }
)


class Verdict(Enum):
    """What a change is worth."""

    FINE = "fine"
    WORSE = "worse"
    HALVED = "half the speed"


@dataclass(frozen=True, slots=True)
class Change:
    """One ratio, held against its baseline and its limit."""

    verdict: Verdict
    baseline: float | None
    limit: Limit | None
    is_reached: bool
    """Whether the median is within the limit; true without one."""
    factor: float | None
    """How many times worse than the baseline the median is; None without a baseline."""

    @property
    def text(self) -> str:
        """What to say."""
        words = [] if self.is_reached else ["NOT REACHED"]
        if self.verdict is not Verdict.FINE and self.factor is not None:
            words.append(f"{self.factor:.2f} TIMES WORSE THAN THE BASELINE")
        return ", ".join(words)


def changes(ratios: Mapping[str, Spread], baseline: Mapping[str, float]) -> dict[str, Change]:
    """Hold each ratio against the baseline.

    The median decides about a warning. Half the speed it is only if the best reading says so too: what was good
    once is not slow, it was disturbed.
    """
    return {name: _change(spread, baseline.get(name), LIMITS.get(name)) for name, spread in ratios.items()}


def _change(spread: Spread, baseline: float | None, limit: Limit | None) -> Change:
    is_reached = limit is None or limit.holds(spread.median)
    if baseline is None:
        return Change(Verdict.FINE, None, limit, is_reached, None)
    is_floor = limit is not None and limit.is_floor
    factor, best = (
        (baseline / spread.median, baseline / spread.high)
        if is_floor
        else (spread.median / baseline, spread.low / baseline)
    )
    verdict = Verdict.HALVED if best >= FAIL_FACTOR else Verdict.WORSE if factor >= WARN_FACTOR else Verdict.FINE
    return Change(verdict, baseline, limit, is_reached, factor)


def baseline_from_text(text: str) -> dict[str, float]:
    """Read a baseline: an object whose `ratios` maps names to {median, low, high}, as a run prints it.

    Raises:
        UsageError: it is none.
    """
    try:
        ratios: dict[str, Any] = json.loads(text)["ratios"]
        return {name: float(spread["median"]) for name, spread in ratios.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "baseline", text[:60], "an object with `ratios`, as `scripts/bench --json` prints it"
        ) from error
