"""Histories of one path, for tests of pictures."""

from __future__ import annotations

from collections.abc import Sequence

from mp.results.plots.path_history import Grain, PathHistory, Sample
from receiver.store.history import RouteEvent
from tests.mp.results.stored_paths import DESTINATION, MINUTE_US, NOW_US, SOURCE

SPAN_MINUTES = 60


def sample(minute: float, value: float | None = 10.0, *, width: float = 1.0, duration_us: int = 0) -> Sample:
    """`minute` minutes after the beginning; its interval is as wide as its quantiles are apart."""
    if value is None:
        return Sample(start_us=at_us(minute), duration_us=0, value=None)
    return Sample(
        start_us=at_us(minute),
        duration_us=duration_us,
        value=value,
        low=value - width,
        high=value + width,
        p50=value - 0.1,
        p95=value + 2.0,
    )


def at_us(minute: float) -> int:
    return NOW_US - round((SPAN_MINUTES - minute) * MINUTE_US)


def history(
    samples: Sequence[Sample],
    *,
    losses: Sequence[Sample] = (),
    routes: Sequence[RouteEvent] = (),
    metric: str = "delay",
    unit: str = "ms",
    grain: Grain = Grain.ANSWER,
    is_cut: bool = False,
) -> PathHistory:
    """Of the hour before noon."""
    return PathHistory(
        source=SOURCE,
        destination=DESTINATION,
        metric=metric,
        unit=unit,
        grain=grain,
        start_us=at_us(0),
        end_us=NOW_US,
        samples=tuple(samples),
        losses=tuple(losses),
        routes=tuple(routes),
        is_cut=is_cut,
    )


def route(minute: float, old: Sequence[str], new: Sequence[str]) -> RouteEvent:
    return RouteEvent(
        source=SOURCE,
        destination=DESTINATION,
        at_us=at_us(minute),
        old_points=tuple(old),
        new_points=tuple(new),
        duration_us=None,
    )
