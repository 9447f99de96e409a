"""What a picture of a path's history is made of: every answer where they are few, else roll-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mp.results.plots.path_history import Grain, PathHistory, Sample, sample_from_answer, sample_from_point
from mp.results.stored_results import StoredResults
from receiver.store.history import HistoryPoint, Resolution, ResultFilter
from schemas.metrics import METRICS
from schemas.result import PathResult, ResultStatus

MAX_ANSWERS = 2_000
"""More than a picture has columns for."""
MAX_PERIODS = 1_500
"""Minutes of a bit more than a day; of a longer time the hours are drawn."""
MAX_ROUTES = 200
LOSS = "loss"

_GRAINS = {Resolution.MINUTE: Grain.MINUTE, Resolution.HOUR: Grain.HOUR}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """What is to be drawn; times in microseconds since the Unix epoch."""

    source: str
    destination: str
    metric: str
    start_us: int
    end_us: int

    @property
    def resolution(self) -> Resolution:
        """Of roll-ups, so that they are not too many."""
        periods = (self.end_us - self.start_us) // Resolution.MINUTE.duration_us
        return Resolution.MINUTE if periods <= MAX_PERIODS else Resolution.HOUR


@dataclass(frozen=True, slots=True)
class _Series:
    grain: Grain
    samples: tuple[Sample, ...]
    losses: tuple[Sample, ...]
    is_cut: bool = False


def read_history(results: StoredResults, query: HistoryQuery) -> PathHistory | None:
    """What the store knows; None when that is nothing.

    Raises:
        StoreError: the database is away or refuses.
    """
    series = _series(results, query)
    if not any(sample.value is not None for sample in series.samples):
        return None
    routes = results.route_events(
        source=query.source,
        destination=query.destination,
        start_us=query.start_us,
        end_us=query.end_us,
        limit=MAX_ROUTES,
    )
    return PathHistory(
        source=query.source,
        destination=query.destination,
        metric=query.metric,
        unit=_unit(results, query),
        grain=series.grain,
        start_us=query.start_us,
        end_us=query.end_us,
        samples=series.samples,
        losses=series.losses,
        routes=tuple(reversed(routes)),
        is_cut=series.is_cut,
    )


def _series(results: StoredResults, query: HistoryQuery) -> _Series:
    hours = _points(results, query, query.metric, Resolution.HOUR)
    if sum(hour.count for hour in hours) <= MAX_ANSWERS:
        answers = _answers(results, query)
        if not answers.is_cut and _reach_back(answers.samples, hours):
            return answers
    for resolution in dict.fromkeys((query.resolution, Resolution.HOUR)):
        points = _points(results, query, query.metric, resolution)
        if points and (not hours or points[0].start_us < _end_us(hours[0])):
            return _rolled_up(results, query, points, resolution)
    return _answers(results, query)


def _reach_back(samples: Sequence[Sample], hours: Sequence[HistoryPoint]) -> bool:
    """Whether the answers are still there of which the oldest hour was made."""
    return not hours or (bool(samples) and samples[0].start_us < _end_us(hours[0]))


def _end_us(hour: HistoryPoint) -> int:
    return hour.start_us + Resolution.HOUR.duration_us


def _answers(results: StoredResults, query: HistoryQuery) -> _Series:
    samples: list[Sample] = []
    losses: list[Sample] = []
    for result in _each(results, query):
        samples.append(sample_from_answer(result, query.metric))
        if query.metric != LOSS:
            losses.append(sample_from_answer(result, LOSS))
    is_cut = len(samples) > MAX_ANSWERS
    newest = slice(MAX_ANSWERS - 1, None, -1) if is_cut else slice(None, None, -1)
    return _Series(Grain.ANSWER, tuple(samples[newest]), tuple(losses[newest]), is_cut)


def _each(results: StoredResults, query: HistoryQuery) -> Iterator[PathResult]:
    wanted = ResultFilter(
        source=query.source,
        destination=query.destination,
        metric=query.metric,
        start_us=query.start_us,
        end_us=query.end_us,
    )
    for result in results.each(wanted, MAX_ANSWERS + 1):
        if result.status is not ResultStatus.PENDING:
            yield result


def _rolled_up(
    results: StoredResults, query: HistoryQuery, points: Sequence[HistoryPoint], resolution: Resolution
) -> _Series:
    losses = () if query.metric == LOSS else _points(results, query, LOSS, resolution)
    return _Series(
        _GRAINS[resolution],
        tuple(sample_from_point(point, resolution) for point in points),
        tuple(sample_from_point(point, resolution) for point in losses),
    )


def _points(
    results: StoredResults, query: HistoryQuery, metric: str, resolution: Resolution
) -> Sequence[HistoryPoint]:
    first_us = resolution.start_us(query.start_us)
    return results.history(query.source, query.destination, metric, first_us, query.end_us, resolution)


def _unit(results: StoredResults, query: HistoryQuery) -> str:
    """A metric that every point knows has its unit; that of a plug-in is told by an answer."""
    if query.metric in METRICS:
        return METRICS[query.metric].unit
    wanted = ResultFilter(source=query.source, destination=query.destination, metric=query.metric)
    told = (result.composed.get(query.metric) for result in results.each(wanted, MAX_ANSWERS))
    return next((composed.unit for composed in told if composed is not None), "")
