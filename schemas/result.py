"""The answer to a path request as frozen values, tied to the JSON that others rely on (`result.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from schemas.authentication import Standing
from schemas.errors import MessageError
from schemas.json_text import JsonText, json_object, json_text
from schemas.message import Carrier, SegmentState


class ResultStatus(StrEnum):
    """How much of the question is answered; PENDING only while the answer is awaited."""

    PENDING = "pending"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


class Method(StrEnum):
    """What made a value of the whole path."""

    SUM = "sum"
    COMPLEMENT_PRODUCT = "complement-product"
    CUMULANTS = "cumulants"
    """A quantile from mean, variance and third central moment."""
    CONVOLUTION = "convolution"
    """A quantile from the distributions of the segments."""
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    LISTED = "listed"
    """There is no value of the path on purpose; those of the segments stand for themselves."""


class Flag(StrEnum):
    """What keeps a composed metric from being taken at its word."""

    PARTIAL = "partial"
    """A segment is undefined, so the path is too."""
    UNSYNCHRONIZED = "unsynchronized"
    """It rests on clocks that no external source keeps: it may be off by more than its interval."""
    STALE = "stale"
    """Its oldest part is older than whoever asked accepts."""
    UNVERIFIED = "unverified"
    """A point that holds keys cannot vouch for a record of it: unsigned, signed by an unknown key, or forged."""


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
    told_by: str | None = None
    """The point that told of the segment from what it knew; None when the request came by `current`."""
    authenticity: Standing = Standing.UNSIGNED
    """What the record's tag is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Quantiles of a delay over the whole path, in the unit of the metric (RFC 2330 section 11.3)."""

    p50: float
    p95: float
    p99: float
    method: Method
    """CUMULANTS or CONVOLUTION."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMetric:
    """One metric of the whole path with its 95 % interval."""

    value: float | None
    """None when a segment is undefined: then so is the path (RFC 6049 section 2). None too when it is LISTED."""
    unit: str
    low: float | None
    high: float | None
    oldest_age_s: float | None
    count: int
    """The smallest sample count among the segments."""
    binding_segment: tuple[str, str] | None
    """(upstream, current) of the segment with the largest share, or of the one that is undefined."""
    method: Method
    """Of `value`."""
    flags: tuple[Flag, ...]
    """In the order of `Flag`, each once."""
    quantiles: Quantiles | None = None
    """Of `delay` when it has a value."""

    def flagged(self, flag: Flag) -> ComposedMetric:
        """The same with one more flag, which is the last in the order of `Flag`."""
        return replace(self, flags=(*self.flags, flag))


@dataclass(frozen=True, kw_only=True)
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
    carrier: Carrier | None = None
    """How the request travelled that brought the answer; None without an answer, or when nothing had to travel."""
    authenticity: Standing | None = None
    """What the tags of the request and of all its records are worth: the least; None without an answer."""

    def to_json(self) -> dict[str, Any]:
        """The document that `inpath request --json` prints."""
        return self._document(_segments_to_json(self.segments), _all_composed_to_json(self.composed))

    def to_text(self) -> JsonText:
        """The same document as text.

        Raises:
            ValueError: it holds a number that is none.
        """
        return json_object(self._document(self.segments_text, self.composed_text))

    @cached_property
    def segments_text(self) -> JsonText:
        """The segments of the document as text, made once: what is stored is told, too."""
        return json_text(_segments_to_json(self.segments))

    @cached_property
    def composed_text(self) -> JsonText:
        """The composed metrics of the document as text, made once."""
        return json_text(_all_composed_to_json(self.composed))

    def _document(self, segments: object, composed: object) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": str(self.status),
            "source": self.source,
            "destination": self.destination,
            "metrics": list(self.metrics),
            "requested_at": self.requested_at,
            "elapsed_ms": self.elapsed_ms,
            "segments": segments,
            "composed": composed,
            "warnings": list(self.warnings),
            "carrier": None if self.carrier is None else str(self.carrier),
            "authenticity": None if self.authenticity is None else str(self.authenticity),
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
                # Documents that were stored by earlier versions know neither.
                carrier=_optional(Carrier, document.get("carrier")),
                authenticity=_optional(Standing, document.get("authenticity")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageError(f"result: {type(error).__name__} {error}, expected what to_json wrote") from error


_Word = TypeVar("_Word", bound=StrEnum)


def _optional(kind: type[_Word], text: str | None) -> _Word | None:
    return None if text is None else kind(text)


def _segments_to_json(segments: Sequence[SegmentResult]) -> list[dict[str, Any]]:
    return [_segment_to_json(segment) for segment in segments]


def _segment_to_json(segment: SegmentResult) -> dict[str, Any]:
    return {
        "upstream": segment.upstream,
        "current": segment.current,
        "state": str(segment.state),
        "measured_at": segment.measured_at,
        "metrics": {name: dict(values) for name, values in segment.metrics.items()},
        "told_by": segment.told_by,
        "authenticity": str(segment.authenticity),
    }


def _segment_from_json(document: Mapping[str, Any]) -> SegmentResult:
    return SegmentResult(
        upstream=document["upstream"],
        current=document["current"],
        state=SegmentState(document["state"]),
        measured_at=document["measured_at"],
        metrics={name: dict(values) for name, values in document["metrics"].items()},
        told_by=document.get("told_by"),
        authenticity=Standing(document.get("authenticity", Standing.UNSIGNED)),
    )


def _all_composed_to_json(composed: Mapping[str, ComposedMetric]) -> dict[str, Any]:
    return {name: _composed_to_json(value) for name, value in composed.items()}


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
        "method": str(composed.method),
        "flags": [str(flag) for flag in composed.flags],
        "quantiles": None if composed.quantiles is None else _quantiles_to_json(composed.quantiles),
    }


def _composed_from_json(document: Mapping[str, Any]) -> ComposedMetric:
    binding = document["binding_segment"]
    quantiles = document["quantiles"]
    return ComposedMetric(
        value=document["value"],
        unit=document["unit"],
        low=document["low"],
        high=document["high"],
        oldest_age_s=document["oldest_age_s"],
        count=document["count"],
        binding_segment=None if binding is None else (binding["upstream"], binding["current"]),
        method=Method(document["method"]),
        flags=tuple(Flag(flag) for flag in document["flags"]),
        quantiles=None if quantiles is None else _quantiles_from_json(quantiles),
    )


def _quantiles_to_json(quantiles: Quantiles) -> dict[str, Any]:
    return {
        "p50": quantiles.p50,
        "p95": quantiles.p95,
        "p99": quantiles.p99,
        "method": str(quantiles.method),
    }


def _quantiles_from_json(document: Mapping[str, Any]) -> Quantiles:
    return Quantiles(
        p50=document["p50"], p95=document["p95"], p99=document["p99"], method=Method(document["method"])
    )
