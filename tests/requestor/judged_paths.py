"""Composed values made by hand, and profiles to hold them against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from requestor.profile import BUILT_IN_PROFILES, Limit, Profile
from requestor.verdict import verdict_of
from schemas.message import SegmentState
from schemas.metrics import METRICS
from schemas.result import ComposedMetric, Flag, Method, PathResult, ResultStatus, SegmentResult
from schemas.verdict import LimitVerdict, Sense
from tests.receiver.paths import unanswered

VOICE = BUILT_IN_PROFILES["voice"]
FIRST, SECOND = ("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.3")


def metric(
    name: str, value: float | None, low: float | None = None, high: float | None = None, **changes: Any
) -> ComposedMetric:
    """A composed metric, exactly known unless its interval is given."""
    if low is None and high is None:
        low = high = value
    flags = (Flag.PARTIAL,) if value is None else ()
    plain = ComposedMetric(
        value=value,
        unit=METRICS[name].unit,
        low=low,
        high=high,
        oldest_age_s=1.0,
        count=600,
        binding_segment=SECOND,
        method=Method.SUM,
        flags=flags,
    )
    return replace(plain, **changes)


def path(**composed: ComposedMetric) -> PathResult:
    """A result with these metrics; an underscore stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in composed.items()}
    return replace(
        unanswered(status=ResultStatus.COMPLETE),
        elapsed_ms=3.0,
        metrics=tuple(named),
        composed=named,
    )


def purpose(*limits: Limit) -> Profile:
    return Profile(name="mine", limits=limits)


def at_most(name: str, bound: float, quantile: str | None = None) -> Limit:
    return Limit(metric=name, quantile=quantile, sense=Sense.AT_MOST, bound=bound)


def at_least(name: str, bound: float) -> Limit:
    return Limit(metric=name, sense=Sense.AT_LEAST, bound=bound)


def judged(answer: PathResult, limit: Limit) -> LimitVerdict:
    return verdict_of(answer, purpose(limit)).binding


def lossy_segment(lost: int, runs: int) -> SegmentResult:
    return SegmentResult(
        upstream=FIRST[0],
        current=FIRST[1],
        state=SegmentState.MEASURED,
        measured_at="2026-01-01T00:00:00.000Z",
        metrics={"loss": {"value": lost / 200, "unit": "ratio", "count": 200, "lost": lost, "runs": runs}},
    )


def least_delay(least_ms: float, clock_error_ms: float = 0.0) -> SegmentResult:
    """A segment that says how short its delay can be."""
    errors = {"upstream_clock_error_ms": clock_error_ms, "current_clock_error_ms": clock_error_ms}
    return SegmentResult(
        upstream=FIRST[0],
        current=FIRST[1],
        state=SegmentState.MEASURED,
        measured_at="2026-01-01T00:00:00.000Z",
        metrics={
            "distribution": {"value": 50.0, "unit": "ms", "count": 600, "minimum_ms": least_ms},
            "delay": {"value": 40.0, "unit": "ms", "count": 600, **errors},
        },
    )


def voice_path(**changes: ComposedMetric) -> PathResult:
    values = {
        "delay": metric("delay", 40.0, 39.0, 41.0, binding_segment=FIRST),
        "loss": metric("loss", 0.001, 0.0, 0.005),
        "jitter": metric("jitter", 10.0, 8.0, 15.0),
        "rtt": metric("rtt", 80.0),
        "distribution": metric("distribution", 50.0, 49.0, 53.0),
    }
    return replace(path(**{**values, **changes}), segments=(least_delay(39.0),))
