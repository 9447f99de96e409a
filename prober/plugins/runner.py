"""Drives plug-ins on an asyncio loop: starts measurements when their turn comes, and hands on what they give."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final

from prober.follower import Give, Withdraw
from prober.plugins.plugin import MetricPlugin, Sample
from prober.plugins.schedule import PluginSchedule, Turn
from prober.timestamp import NS_PER_MS
from schemas.errors import InpathError
from schemas.metrics import ScalarStatistics

logger = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""How long a due measurement or a value that is too old may go unseen."""


class Outcome(StrEnum):
    """What is counted of each plug-in."""

    MEASURED = "measured"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    WITHDRAWN = "withdrawn"


class PluginRunner:
    """Running plug-ins.

    Args:
        own: this point's address.
        plugins: each with a metric of its own, as `prober.plugins.plugin.load_plugins` gives them.
        peers: gives the neighbors whose segments are measured now.
        give, withdraw: see the types.
        now_ns: wall clock (CLOCK_REALTIME), which dates the values.
        random_source: draws the gaps between measurements.
    """

    def __init__(
        self,
        own: str,
        plugins: Sequence[MetricPlugin],
        *,
        peers: Callable[[], Collection[str]],
        give: Give,
        withdraw: Withdraw,
        now_ns: Callable[[], int],
        random_source: random.Random,
    ) -> None:
        self._own = own
        self._plugins = {plugin.metric.name: plugin for plugin in plugins}
        self._peers = peers
        self._give = give
        self._withdraw = withdraw
        self._now_ns = now_ns
        intervals_s = {name: plugin.interval_s for name, plugin in self._plugins.items()}
        self._schedule = PluginSchedule(intervals_s, random_source=random_source)
        self._counters: dict[str, Counter[Outcome]] = {name: Counter() for name in self._plugins}
        self._measuring: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure from now on, on the running loop, until `close`; programs start in the loop's namespace."""
        if self._plugins and self._timer is None:
            self._tick()

    async def close(self) -> None:
        """End what runs; may be called twice."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        measuring = tuple(self._measuring)
        for task in measuring:
            task.cancel()
        await asyncio.gather(*measuring, return_exceptions=True)

    def counters(self) -> Mapping[str, Mapping[Outcome, int]]:
        """What came of the measurements, by metric."""
        return {name: dict(counter) for name, counter in self._counters.items()}

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self._tick)
        self._schedule.keep(self._peers(), loop.time())
        for turn in self._schedule.withdrawn(loop.time()):
            self._counters[turn.metric][Outcome.WITHDRAWN] += 1
            self._withdraw(turn.peer, turn.metric)
        for turn in self._schedule.begin(loop.time()):
            task = loop.create_task(self._take_turn(turn), name=f"{turn.metric} to {turn.peer}")
            self._measuring.add(task)
            task.add_done_callback(self._measuring.discard)

    async def _take_turn(self, turn: Turn) -> None:
        plugin = self._plugins[turn.metric]
        try:
            async with asyncio.timeout(plugin.timeout_s) as limit:
                sample = await plugin.measure(self._own, turn.peer)
            statistics = _statistics(plugin, sample, measured_at_ms=self._now_ns() // NS_PER_MS)
        except TimeoutError as error:
            if limit.expired():
                reason = f"got nothing within {plugin.timeout_s:g} s, expected a value by then"
                self._on_failure(turn, Outcome.TIMED_OUT, reason)
            else:  # a time-out of its own
                self._on_failure(turn, Outcome.FAILED, _text(error))
        except Exception as error:  # noqa: BLE001  # a plug-in is code of others
            self._on_failure(turn, Outcome.FAILED, _text(error))
        else:
            self._on_success(turn, statistics)

    def _on_success(self, turn: Turn, statistics: ScalarStatistics) -> None:
        self._counters[turn.metric][Outcome.MEASURED] += 1
        if self._schedule.succeeded(turn, asyncio.get_running_loop().time()):
            self._give(turn.peer, turn.metric, statistics)

    def _on_failure(self, turn: Turn, outcome: Outcome, reason: str) -> None:
        self._counters[turn.metric][outcome] += 1
        # One that keeps failing says so once, not at each interval for ever.
        level = logging.WARNING if self._schedule.failed(turn) == 1 else logging.DEBUG
        logger.log(level, "plug-in %s, segment to %s: %s", turn.metric, turn.peer, reason)


def _statistics(plugin: MetricPlugin, sample: object, *, measured_at_ms: int) -> ScalarStatistics:
    if not isinstance(sample, Sample):
        raise TypeError(f"got {type(sample).__name__}, expected a Sample")
    return sample.to_statistics(plugin.metric, measured_at_ms=measured_at_ms)


def _text(error: Exception) -> str:
    """One line; an error of ours is meant for people, another one says what kind it is."""
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, InpathError) else f"{type(error).__name__}: {text}"
