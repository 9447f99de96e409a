"""A closure check as frozen values: one path measured directly, and composed at the same time.

It is the overlay's own honesty: where both disagree by more than their intervals explain, the segments do not make
up the path (RFC 6049 section 3.1.8.3: an incomplete coverage, a parallel link, a correlated loss).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import MessageError


class ClosureVerdict(StrEnum):
    """What the check shows."""

    AGREES = "agrees"
    DIFFERS = "differs"
    """At least one metric differs by more than its 99 % interval explains."""
    UNKNOWN = "unknown"
    """No metric could be compared: the direct measurement or the composition has no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its 95 % interval; all None where there is none."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosureMetric:
    """One metric, measured and composed, in the metric's unit."""

    unit: str
    direct: Interval
    composed: Interval
    difference: Interval
    """Composed less direct; its interval is one of 99 %, as several metrics are compared at once."""
    agrees: bool | None
    """Whether the interval of the difference, widened by what time stamps may be off, holds 0; None: no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosureCheck:
    """One check of one path."""

    id: str
    """128 random bits as hexadecimal digits."""
    request_id: str
    """Of the request whose answer was compared."""
    source: str
    destination: str
    checked_at: str
    """When the direct measurement ended, RFC 3339 in UTC with microseconds."""
    duration_s: float
    """How long the direct measurement took."""
    verdict: ClosureVerdict
    metrics: Mapping[str, ClosureMetric]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document that `inpath verify --json` prints."""
        return {
            "id": self.id,
            "request_id": self.request_id,
            "source": self.source,
            "destination": self.destination,
            "checked_at": self.checked_at,
            "duration_s": self.duration_s,
            "verdict": str(self.verdict),
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ClosureCheck:
        """The check that `to_json` wrote.

        Raises:
            MessageError: a key is missing or has another type than `to_json` gives it.
        """
        try:
            return cls(
                id=document["id"],
                request_id=document["request_id"],
                source=document["source"],
                destination=document["destination"],
                checked_at=document["checked_at"],
                duration_s=document["duration_s"],
                verdict=ClosureVerdict(document["verdict"]),
                metrics={name: _metric_from_json(one) for name, one in document["metrics"].items()},
                warnings=tuple(document["warnings"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageError(
                f"closure check: {type(error).__name__} {error}, expected what to_json wrote"
            ) from error


def _metric_from_json(document: Mapping[str, Any]) -> ClosureMetric:
    return ClosureMetric(
        unit=document["unit"],
        direct=Interval(**document["direct"]),
        composed=Interval(**document["composed"]),
        difference=Interval(**document["difference"]),
        agrees=document["agrees"],
    )
