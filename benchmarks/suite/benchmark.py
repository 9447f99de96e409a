"""What one benchmark of the suite is, and what it gives: tables, ratios, a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from benchmarks.suite.ratio import Spread
from benchmarks.suite.workshop import Workshop


class Effort(Enum):
    """How long a benchmark may take."""

    FULL = "full"
    SHORT = "short"
    """All together within a minute: what the regression guard needs, with fewer and shorter readings."""

    @property
    def is_short(self) -> bool:
        """Whether to spare time."""
        return self is Effort.SHORT


class Progress(Protocol):
    """Hears how far a benchmark has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """The stage in words, how many of its steps are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One table: readings by row and column."""

    title: str
    unit: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Spread | None, ...]]
    """By what was measured; None where something cannot be measured."""
    is_logarithmic: bool = True
    """The picture's scale."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        rows = {
            name: [None if reading is None else reading.to_json() for reading in readings]
            for name, readings in self.rows.items()
        }
        return {"title": self.title, "unit": self.unit, "columns": list(self.columns), "rows": rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a benchmark found."""

    tables: tuple[Figures, ...]
    ratios: Mapping[str, Spread] = field(default_factory=dict)
    """By the name under which the figure to reach is known."""
    notes: tuple[str, ...] = ()
    """What the reader must know to read the tables."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark that can be run by name."""

    name: str
    summary: str
    run: Callable[[Effort, Progress, Workshop], Outcome]
    """Raises InpathError when it cannot be run here."""
