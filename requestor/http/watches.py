"""Paths that are asked about again and again, and what of them has changed, for as many as want to hear it."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from requestor.http.change import changes
from requestor.http.problems import problem_of, too_many
from requestor.query import PathQuery
from schemas.errors import InpathError
from schemas.result import PathResult
from schemas.verdict import Verdict

logger = logging.getLogger(__name__)

LEAST_INTERVAL_S, MOST_INTERVAL_S, DEFAULT_INTERVAL_S = 0.5, 3600.0, 5.0
MAX_WATCHES = 32
MAX_SUBSCRIBERS = 64
MAX_SUBSCRIBERS_OF_ONE = 16
RING = 64
"""Events that a subscriber who comes again can still get."""
LINGER_S = 30.0
"""A watch goes on so long without a subscriber, so that who comes again misses nothing."""
ALIVE_S = 15.0
"""A silent stream says that it lives: proxies cut silent ones, and a vanished client is noticed."""
_ALIVE = b": alive\n\n"
_RETRY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchKey:
    """What is watched; whoever asks for the same shares the watch."""

    query: PathQuery
    interval_s: float
    profile: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look at the path."""

    result: PathResult
    verdict: Verdict | None


Look = Callable[[WatchKey], Awaitable[Sight]]


@dataclass(frozen=True, slots=True)
class _Event:
    number: int
    text: bytes


class Watch:
    """Asks about one path every interval, and keeps the last events.

    Args:
        look: asks once.
    """

    def __init__(self, key: WatchKey, look: Look) -> None:
        self.key = key
        self.name = secrets.token_hex(4)
        """Part of the ids of its events, which mean nothing in another watch."""
        self.subscribers = 0
        self.left_at_s = asyncio.get_running_loop().time()
        self._look = look
        self._ring: deque[_Event] = deque(maxlen=RING)
        self._news = asyncio.Event()
        self._told: Sight | None = None
        self._trouble: str | None = None

    async def run(self) -> None:
        """Look until nobody has listened for LINGER_S."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while self.subscribers or loop.time() - self.left_at_s < LINGER_S:
            await self._look_once()
            due_s = max(due_s + self.key.interval_s, loop.time())
            await asyncio.sleep(due_s - loop.time())

    async def events(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """The stream of one subscriber: what it missed, or the newest; then what comes."""
        position = self._position(last_event_id)
        while True:
            news = self._news
            for event in [event for event in self._ring if event.number > position]:
                position = event.number
                yield event.text
            try:
                await asyncio.wait_for(news.wait(), ALIVE_S)
            except TimeoutError:
                yield _ALIVE

    def _position(self, last_event_id: str | None) -> int:
        """The number of the event that the subscriber had last."""
        newest = self._ring[-1].number if self._ring else 0
        name, _, number = (last_event_id or "").rpartition("-")
        known = name == self.name and number.isascii() and number.isdigit() and len(number) < 10
        return int(number) if known and int(number) <= newest else newest - 1

    async def _look_once(self) -> None:
        try:
            sight = await self._look(self.key)
        except InpathError as error:
            self._tell_trouble(problem_of(error).to_bytes())
            return
        except Exception:  # a watch that ended in silence would leave its subscribers waiting
            logger.exception("a watched path could not be asked about")
            self._tell_trouble(b"{}")
            return
        self._trouble = None
        told = self._told
        found = changes(told.result if told else None, sight.result, _word(told), _word(sight))
        if found:
            self._told = sight
            verdict = None if sight.verdict is None else sight.verdict.to_json()
            document = {"changes": found, "result": sight.result.to_json(), "verdict": verdict}
            self._tell("path", json.dumps(document, separators=(",", ":")).encode())

    def _tell_trouble(self, problem: bytes) -> None:
        """Once for as long as it stays the same; the next answer is told in any case."""
        if problem.decode() != self._trouble:
            self._tell("problem", problem)
        self._trouble, self._told = problem.decode(), None

    def _tell(self, name: str, data: bytes) -> None:
        number = self._ring[-1].number + 1 if self._ring else 1
        head = f"id: {self.name}-{number}\nevent: {name}\ndata: ".encode()
        self._ring.append(_Event(number, head + data + b"\n\n"))
        self._news.set()
        self._news = asyncio.Event()


class Watches:
    """All watches of the service.

    Args:
        look: asks about a path once.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._watches: dict[WatchKey, tuple[Watch, asyncio.Task[None]]] = {}
        self._subscribers: Counter[str] = Counter()

    @property
    def subscribers(self) -> int:
        """How many listen now."""
        return self._subscribers.total()

    def check_room(self, key: WatchKey, caller: str) -> None:
        """Whether one more may listen.

        Raises:
            RefusedError: too many do, or too many paths are watched.
        """
        if self._subscribers[caller] >= MAX_SUBSCRIBERS_OF_ONE:
            raise too_many(f"events: this caller listens {MAX_SUBSCRIBERS_OF_ONE} times already", _RETRY_S)
        if self.subscribers >= MAX_SUBSCRIBERS:
            raise too_many(f"events: {MAX_SUBSCRIBERS} subscribers listen already", _RETRY_S)
        if key not in self._watches and len(self._watches) >= MAX_WATCHES:
            raise too_many(f"events: {MAX_WATCHES} paths are watched already", _RETRY_S)

    async def subscribe(
        self, key: WatchKey, caller: str, last_event_id: str | None
    ) -> AsyncGenerator[bytes, None]:
        """The stream of one subscriber; `check_room` comes before."""
        watch = self._watch(key)
        watch.subscribers += 1
        self._subscribers[caller] += 1
        try:
            async for text in watch.events(last_event_id):
                yield text
        finally:
            watch.subscribers -= 1
            watch.left_at_s = asyncio.get_running_loop().time()
            self._subscribers[caller] -= 1
            if not self._subscribers[caller]:
                del self._subscribers[caller]

    async def close(self) -> None:
        """End all watches."""
        tasks = [task for _, task in self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, key: WatchKey) -> Watch:
        if key in self._watches:
            return self._watches[key][0]
        watch = Watch(key, self._look)
        task = asyncio.create_task(watch.run(), name="watch")
        task.add_done_callback(lambda _: self._watches.pop(key, None))
        self._watches[key] = watch, task
        return watch


def _word(sight: Sight | None) -> str | None:
    return None if sight is None or sight.verdict is None else str(sight.verdict.answer)
