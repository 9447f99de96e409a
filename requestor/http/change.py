"""What of a path has changed since it was last told (pure)."""

from __future__ import annotations

from enum import StrEnum

from schemas.result import ComposedMetric, PathResult


class Change(StrEnum):
    """Why an event is sent."""

    FIRST = "first"
    """Nothing was told before."""
    STATUS = "status"
    ROUTE = "route"
    """The points on the way are others."""
    VERDICT = "verdict"
    VALUE = "value"
    """A metric left the interval that it had, or has become known or unknown."""


def changes(
    before: PathResult | None, after: PathResult, verdict_before: str | None, verdict: str | None
) -> tuple[Change, ...]:
    """In the order of `Change`; empty when there is nothing to tell.

    Args:
        before: what was told last, not what was measured last: small steps are told once they add up.
        verdict: None when no profile is asked for.
    """
    if before is None:
        return (Change.FIRST,)
    found = (
        (Change.STATUS, before.status is not after.status),
        (Change.ROUTE, _route(before) != _route(after)),
        (Change.VERDICT, verdict_before != verdict),
        (Change.VALUE, _values_moved(before, after)),
    )
    return tuple(change for change, happened in found if happened)


def _route(result: PathResult) -> tuple[tuple[str, str], ...]:
    return tuple((segment.upstream, segment.current) for segment in result.segments)


def _values_moved(before: PathResult, after: PathResult) -> bool:
    if before.composed.keys() != after.composed.keys():
        return True
    return any(_moved(before.composed[name], metric) for name, metric in after.composed.items())


def _moved(before: ComposedMetric, after: ComposedMetric) -> bool:
    if before.value is None or after.value is None:
        return before.value is not after.value
    low = before.value if before.low is None else before.low
    high = before.value if before.high is None else before.high
    return not low <= after.value <= high
