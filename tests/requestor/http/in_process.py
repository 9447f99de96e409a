"""The service inside the test's own process, so that a test can shorten its limits and look at its memory."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mp.http.listeners import open_listeners
from mp.http.process import HttpServer, server_config
from mp.http.settings import HttpSettings, http_settings
from requestor.dialogue import MAX_LINE_BYTES
from requestor.http.app import application
from requestor.http.callers import Doorkeeper, LocalPolicy
from requestor.http.desk import Desk
from requestor.http.history import Cursor, HistoryPage, HistoryQuery
from requestor.http.limits import RateLimit
from requestor.http.point import Point, Stream
from requestor.profile import BUILT_IN_PROFILES
from requestor.query import PathQuery
from schemas.metrics import METRICS
from schemas.rfc3339 import us_from_rfc3339
from tests.requestor.http.fake_point import FAR, NAMES, OWN, FakePoint, result_of

QUERY = PathQuery(source=OWN, destination=FAR, metrics=("delay", "loss"), timeout_s=5, max_age_s=5)
STORED = [result_of(QUERY, number) for number in range(1, 6)]


class MemoryHistory:
    """Five results; pages as the store makes them."""

    async def page(self, query: HistoryQuery) -> HistoryPage:
        begin = 0 if query.after is None else int(query.after.id, 16)
        found = STORED[begin : begin + query.limit]
        last = found[-1] if len(found) == query.limit else None
        following = None if last is None else Cursor(us_from_rfc3339(last.requested_at), last.id)
        return HistoryPage(results=found, next=following)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """A running service."""

    place: Path
    point: FakePoint
    desk: Desk
    doorkeeper: Doorkeeper
    loop: asyncio.AbstractEventLoop

    def open(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.place))
        return connection

    def request(self, method: str, target: str, body: bytes = b"", *headers: str) -> socket.socket:
        """A connection on which a request has been sent."""
        connection = self.open()
        lines = (f"{method} {target} HTTP/1.1", "Host: x", *headers)
        length = [f"Content-Length: {len(body)}"] if body else []
        connection.sendall("\r\n".join((*lines, *length, "", "")).encode() + body)
        return connection

    def get(self, target: str, *headers: str) -> bytes:
        """Head and body of the answer."""
        with self.request("GET", target, b"", "Connection: close", *headers) as connection:
            return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def until(condition: object, what: str, within_s: float = 5.0) -> None:
    """Wait until a callable gives something true."""
    assert callable(condition)
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


@contextmanager
def inside(folder: Path, *, policy: LocalPolicy | None = None, rate: RateLimit | None = None) -> Iterator[Inside]:
    """The service, answering from a fake point and five stored results."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    settings: HttpSettings = http_settings({}, folder / "s")
    point = FakePoint()
    doorkeeper = Doorkeeper(policy or LocalPolicy(users=frozenset((0,)), groups=frozenset()), {})
    held: list[Desk] = []

    async def connect() -> Stream:
        return await asyncio.open_unix_connection(str(folder / "s"), limit=MAX_LINE_BYTES)

    async def run() -> None:
        service = await point.serve(folder / "s")
        desk = Desk(
            point=Point(connect),
            history=MemoryHistory(),
            names=NAMES,
            registry=METRICS,
            profiles=BUILT_IN_PROFILES,
            rate=rate or RateLimit(10_000, 10_000),
            now_ms=lambda: 1_800_000_000_000,
        )
        held.append(desk)
        (listener,) = open_listeners(settings)
        server = HttpServer(server_config(settings, application(desk, doorkeeper, version="0"), listener))
        await server.start(listener)
        ready.set()
        await stop.wait()
        await server.close()
        await desk.close()
        await service.close()
        settings.socket.unlink()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(5)
    try:
        yield Inside(place=settings.socket, point=point, desk=held[0], doorkeeper=doorkeeper, loop=loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
