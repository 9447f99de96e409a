"""What the routes work with: the point, what is under way, what is stored, and what the configuration names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from requestor.http.history import History, HistoryPage, HistoryQuery
from requestor.http.jobs import Jobs
from requestor.http.limits import RateLimit
from requestor.http.point import PathAnswer, Point
from requestor.http.problems import problem_of, too_many
from requestor.http.questions import BatchQuestion, PathQuestion, PathWish
from requestor.http.watches import Sight, Watches, WatchKey
from requestor.profile import Profile, profile_named
from requestor.query import ALL_METRICS, DEFAULT_TIMEOUT_S, PathQuery, metrics_from_text
from requestor.verdict import verdict_of
from schemas.errors import InpathError, NoAnswerError
from schemas.metrics import Registry
from schemas.result import PathResult

BATCH_CONCURRENCY = 8
"""So that one batch leaves connections to the point for others."""
MAX_READERS = 16
"""Of stored results; the database serves one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A checked question."""

    query: PathQuery
    profile: Profile | None


@dataclass(slots=True, kw_only=True)
class Desk:
    """Everything behind the routes.

    Args:
        names: of the configuration, for addresses.
        registry: the metrics that the point knows.
    """

    point: Point
    history: History
    names: Mapping[str, str]
    registry: Registry
    profiles: Mapping[str, Profile]
    rate: RateLimit
    now_ms: Callable[[], int]
    jobs: Jobs = field(default_factory=Jobs)
    watches: Watches = field(init=False)
    _readers: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.watches = Watches(self._look)

    async def close(self) -> None:
        """End what is under way."""
        await self.jobs.close()
        await self.watches.close()
        self.point.close()

    def wish(self, question: PathQuestion) -> Wish:
        """Check what the types of the question could not.

        Raises:
            UsageError: naming the key, the value, and what was expected.
        """
        return self._wish(question, question.source, question.destination, both=question.both_directions)

    def wish_for(
        self, source: str, destination: str, *, profile: str | None, metrics: str | None, timeout_s: float
    ) -> Wish:
        """The same for a question in query parameters.

        Raises:
            UsageError: as `wish`.
        """
        wish = PathWish(timeout_s=timeout_s, profile=profile)
        if metrics is not None:
            named = list(metrics_from_text(metrics, self.registry))
            wish = PathWish(timeout_s=timeout_s, profile=profile, metrics=named)
        return self._wish(wish, source, destination)

    async def answer(self, wish: Wish) -> dict[str, Any]:
        """Have a path measured, and judged if a profile was named.

        Raises:
            RemoteError, NoAnswerError, HostError: see `Point.path`.
        """
        answer = await self.point.path(wish.query)
        return {
            "result": answer.result,
            **({"return": answer.way_back} if wish.query.both_directions else {}),
            **({} if wish.profile is None else {"verdict": _verdict(answer, wish.profile)}),
        }

    async def batch(self, question: BatchQuestion) -> list[dict[str, Any]]:
        """Have many paths measured, some at a time; each gets an answer or a problem of its own."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + question.timeout_s
        slots = asyncio.Semaphore(BATCH_CONCURRENCY)

        async def one(source: str, destination: str) -> dict[str, Any]:
            ends = {"source": source, "destination": destination}
            try:
                async with slots:
                    left_s = deadline_s - loop.time()
                    if left_s < min(0.001, question.timeout_s):
                        raise NoAnswerError("batch: the time was up before this pair's turn")
                    wish = self._wish(question.model_copy(update={"timeout_s": left_s}), source, destination)
                    return {**ends, "answer": await self.answer(wish)}
            except InpathError as error:
                return {**ends, "problem": problem_of(error).to_json()}

        return list(await asyncio.gather(*(one(pair.source, pair.destination) for pair in question.pairs)))

    async def stored(self, query: HistoryQuery) -> HistoryPage:
        """A page of stored results.

        Raises:
            StoreError: the database is away or refuses.
            RefusedError: too many wait for it.
        """
        if self._readers >= MAX_READERS:
            raise too_many(f"history: {MAX_READERS} wait for the database already", 1.0)
        self._readers += 1
        try:
            return await self.history.page(query)
        finally:
            self._readers -= 1

    def charge(self, caller: str, count: int) -> None:
        """Take what `count` further questions cost from the caller's budget.

        Raises:
            RefusedError: it is used up.
        """
        wait_s = self.rate.wait_s(caller, asyncio.get_running_loop().time(), cost=count)
        if wait_s:
            raise too_many(f"rate: {caller} asks too often, try again in {wait_s:.1f} s", wait_s)

    async def _look(self, key: WatchKey) -> Sight:
        answer = await self.point.path(key.query)
        result = PathResult.from_json(answer.result)
        profile = None if key.profile is None else profile_named(key.profile, self.profiles)
        return Sight(result=result, verdict=None if profile is None else verdict_of(result, profile))

    def _wish(self, wish: PathWish, source: str, destination: str, *, both: bool = False) -> Wish:
        profile = None if wish.profile is None else profile_named(wish.profile, self.profiles)
        given = wish.model_fields_set
        document = {
            "source": source,
            "destination": destination,
            "metrics": self._metrics(wish.metrics if "metrics" in given or profile is None else (), profile),
            "timeout_s": wish.timeout_s,
            "max_age_s": profile.max_age_s if profile is not None and "max_age_s" not in given else wish.max_age_s,
            "both_directions": both,
            "carrier": wish.carrier,
        }
        return Wish(query=PathQuery.from_json(document, self.names, self.registry), profile=profile)

    def _metrics(self, named: Sequence[str], profile: Profile | None) -> list[str]:
        if ALL_METRICS in named:
            return list(named)
        needed = () if profile is None else profile.metrics(self.registry)
        return [*named, *(metric for metric in needed if metric not in named)]


def _verdict(answer: PathAnswer, profile: Profile) -> dict[str, Any]:
    return verdict_of(PathResult.from_json(answer.result), profile).to_json()


def watch_timeout_s(interval_s: float) -> float:
    """How long one look may take: no two of one watch overlap."""
    return min(interval_s, DEFAULT_TIMEOUT_S)
