"""What an examination of the host found: one thing looked at, how good it is, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How good a thing is."""

    OK = "ok"
    WARNING = "warning"
    """A point runs, with less than it could give; or the check could not look."""
    ERROR = "error"
    """A point does not start, or does not measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    level: Level
    found: str
    advice: str = ""
    """What to do, in one line; empty when there is nothing to do."""

    def to_json(self) -> dict[str, Any]:
        """One object of the list that `inpath doctor --json` prints."""
        return {"check": self.check, "level": str(self.level), "found": self.found, "advice": self.advice}


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, level=Level.OK, found=found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It could be better."""
    return Finding(check=check, level=Level.WARNING, found=found, advice=advice)


def error(check: str, found: str, advice: str) -> Finding:
    """A point cannot do its work."""
    return Finding(check=check, level=Level.ERROR, found=found, advice=advice)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if there is an error, else 0."""
    return int(any(finding.level is Level.ERROR for finding in findings))


def findings_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, the advice below it, and a sum at the end."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.check:<{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"{'':<8} {'':<{width}}  -> {finding.advice}")
    levels = [finding.level for finding in findings]
    counts = ", ".join(f"{levels.count(level)} {level}" for level in Level)
    return "\n".join((*lines, f"{len(findings)} checks: {counts}"))
