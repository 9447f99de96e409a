"""A service that gives prepared answers, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from requestor.service import Service

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Desk:
    """Answers paths with what is given to it, and notes what it was asked."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        """By what is asked."""
        self.asked: list[dict[str, Any]] = []
        self.delay_s = 0.0
        """Before the next answer; then 0 again."""

    async def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        delay_s, self.delay_s = self.delay_s, 0.0
        await asyncio.sleep(delay_s)
        if question["ask"] == "status":
            return {"status": {"point": {"address": "10.0.0.1"}}}
        return self.answers[question["ask"]]


@contextmanager
def serving(path: Path, answer: Answer) -> Iterator[None]:
    """The service listens on a Unix socket until the block ends, and cuts its clients then."""
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        running.append((asyncio.get_running_loop(), stop))
        service = Service(answer, ())
        await service.listen_unix(path)
        ready.set()
        await stop.wait()
        await service.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(5)
        yield
    finally:
        loop, stop = running[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
