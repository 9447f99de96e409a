"""Bodies and parameters of questions over HTTP, from the guard inwards."""

from __future__ import annotations

import asyncio
import atexit
import json
from types import SimpleNamespace
from typing import Any

from requestor.http.app import application
from requestor.http.callers import Doorkeeper, LocalPolicy, Peer
from requestor.http.desk import Desk
from requestor.http.history import HistoryPage, HistoryQuery
from requestor.http.limits import RateLimit
from requestor.http.point import Point, Stream
from requestor.profile import BUILT_IN_PROFILES
from schemas.metrics import METRICS
from tests.fuzz import dialogue
from tests.fuzz.target import Target

_BODIES = ("/v1/paths", "/v1/batches")
_PARAMETERS = ("/v1/verdict", "/v1/history")
_EXPECTED = {200, 400, 401, 403, 404, 413, 422, 429, 502, 503}
"""What the document of the service names, but for what its own failure and slow points would give."""


class _NoHistory:
    async def page(self, query: HistoryQuery) -> HistoryPage:
        return HistoryPage(results=[], next=None)


async def _nobody() -> Stream:
    raise ConnectionRefusedError(111, "nobody listens")


def _application() -> Any:
    desk = Desk(
        point=Point(_nobody),
        history=_NoHistory(),
        names={"far": "192.0.2.77"},
        registry=METRICS,
        profiles=BUILT_IN_PROFILES,
        rate=RateLimit(10**9, 10**9),
        now_ms=lambda: 1_800_000_000_000,
    )
    policy = LocalPolicy(users=frozenset((0,)), groups=frozenset())
    return application(desk, Doorkeeper(policy, {}), version="0")


_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)
_CONNECTION = SimpleNamespace(peer=Peer(uid=0, groups=frozenset()), cut=lambda: None)
_APPLICATION = _application()


def one_input(data: bytes) -> None:
    """The first octet chooses the question; the rest is its body or its parameters."""
    if not data:
        return
    choice, rest = data[0] % 4, data[1:]
    if choice < 2:
        status = _LOOP.run_until_complete(_ask("POST", _BODIES[choice], b"", rest))
    else:
        status = _LOOP.run_until_complete(_ask("GET", _PARAMETERS[choice - 2], rest, b""))
    assert status in _EXPECTED, status


async def _ask(method: str, path: str, query: bytes, body: bytes) -> int:
    """Ask the application (ASGI) and read its answer to the end."""
    statuses = []
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return pieces.pop() if pieces else await _LOOP.create_future()  # this client never goes away

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
        "server": None,
        "state": {"connection": _CONNECTION},
    }
    await _APPLICATION(scope, receive, send)
    return int(statuses[0])


def seeds() -> list[bytes]:
    """One of each."""
    path = {"source": "10.0.0.1", "destination": "far", "metrics": ["delay"], "timeout_s": 1, "profile": "voice"}
    batch = {"pairs": [{"source": "10.0.0.1", "destination": "far"}] * 2, "max_age_s": 3}
    return [
        b"\0" + json.dumps(path).encode(),
        b"\1" + json.dumps(batch).encode(),
        b"\2source=10.0.0.1&destination=far&profile=voice&timeout_s=2",
        b"\3source=10.0.0.1&from=2026-01-31T12:00:00Z&to=2026-02-01T00:00:00.5Z&metric=delay&limit=5&cursor=1-a",
    ]


WORDS = [
    *dialogue.WORDS,
    b"&profile=",
    b"&limit=",
    b"&from=",
    b"&cursor=",
    b"%00",
    b"%ff",
    b'"pairs"',
    b'"profile"',
]
TARGET = Target(one_input=one_input, seeds=seeds, words=WORDS, max_bytes=2048)
