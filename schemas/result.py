"""The answer to a path request as frozen values, tied to the JSON that others rely on (`result.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import MessageError
from schemas.message import SegmentState


class ResultStatus(StrEnum):
    """How much of the question is answered; PENDING only while the answer is awaited."""

    PENDING = "pending"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentResult:
    """One segment of the path as its downstream point reported it."""

    upstream: str
    current: str
    state: SegmentState
    measured_at: str | None
    """Time of the newest sample, RFC 3339 in UTC; None while pending."""
    metrics: Mapping[str, Mapping[str, float | int | bool | str | None]]
    """By metric name: `value`, `unit`, `count`, and the statistics by the names of the registry.

    A metric that the point cannot give has the value None and the count 0.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMetric:
    """One metric of the whole path with its 95 % interval."""

    value: float | None
    """None when a segment is undefined: then so is the path (RFC 6049 section 2)."""
    unit: str
    low: float | None
    high: float | None
    oldest_age_s: float | None
    count: int
    """The smallest sample count among the segments."""
    binding_segment: tuple[str, str] | None
    """(upstream, current) of the segment with the largest share, or of the one that is undefined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathResult:
    """All that is known about one request."""

    id: str
    status: ResultStatus
    source: str
    destination: str
    metrics: tuple[str, ...]
    requested_at: str
    """RFC 3339 in UTC with microseconds."""
    elapsed_ms: float | None
    segments: tuple[SegmentResult, ...]
    composed: Mapping[str, ComposedMetric]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document that `inpath request --json` prints."""
        return {
            "id": self.id,
            "status": str(self.status),
            "source": self.source,
            "destination": self.destination,
            "metrics": list(self.metrics),
            "requested_at": self.requested_at,
            "elapsed_ms": self.elapsed_ms,
            "segments": [_segment_to_json(segment) for segment in self.segments],
            "composed": {name: _composed_to_json(value) for name, value in self.composed.items()},
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PathResult:
        """The result that `to_json` wrote.

        Raises:
            MessageError: a key is missing or has another type than `to_json` gives it.
        """
        try:
            return cls(
                id=document["id"],
                status=ResultStatus(document["status"]),
                source=document["source"],
                destination=document["destination"],
                metrics=tuple(document["metrics"]),
                requested_at=document["requested_at"],
                elapsed_ms=document["elapsed_ms"],
                segments=tuple(_segment_from_json(segment) for segment in document["segments"]),
                composed={name: _composed_from_json(value) for name, value in document["composed"].items()},
                warnings=tuple(document["warnings"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageError(f"result: {type(error).__name__} {error}, expected what to_json wrote") from error


def _segment_to_json(segment: SegmentResult) -> dict[str, Any]:
    return {
        "upstream": segment.upstream,
        "current": segment.current,
        "state": str(segment.state),
        "measured_at": segment.measured_at,
        "metrics": {name: dict(values) for name, values in segment.metrics.items()},
    }


def _segment_from_json(document: Mapping[str, Any]) -> SegmentResult:
    return SegmentResult(
        upstream=document["upstream"],
        current=document["current"],
        state=SegmentState(document["state"]),
        measured_at=document["measured_at"],
        metrics={name: dict(values) for name, values in document["metrics"].items()},
    )


def _composed_to_json(composed: ComposedMetric) -> dict[str, Any]:
    binding = composed.binding_segment
    return {
        "value": composed.value,
        "unit": composed.unit,
        "low": composed.low,
        "high": composed.high,
        "oldest_age_s": composed.oldest_age_s,
        "count": composed.count,
        "binding_segment": None if binding is None else {"upstream": binding[0], "current": binding[1]},
    }


def _composed_from_json(document: Mapping[str, Any]) -> ComposedMetric:
    binding = document["binding_segment"]
    return ComposedMetric(
        value=document["value"],
        unit=document["unit"],
        low=document["low"],
        high=document["high"],
        oldest_age_s=document["oldest_age_s"],
        count=document["count"],
        binding_segment=None if binding is None else (binding["upstream"], binding["current"]),
    )
