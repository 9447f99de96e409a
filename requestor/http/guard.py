"""What comes before and after every request: who asks, how often, how much, how long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from requestor.http.callers import Caller, Doorkeeper
from requestor.http.connection import Connection
from requestor.http.limits import RateLimit
from requestor.http.problems import MEDIA_TYPE, Problem, RefusedError, refused, too_many

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 16
BODY_LIMIT_S = 10.0
SEND_LIMIT_S = 10.0
"""A client that takes nothing for so long is cut."""
OPEN_PATHS = frozenset(("/healthz", "/readyz", "/openapi.json"))
"""For programs that watch the service, and for those that want to know how to ask: nobody needs to be known."""
_STRANGER = "anybody"


class Guard:
    """Lets a request through to the application when it may pass.

    Args:
        app: the application.
        doorkeeper: says who asks.
        rate: bounds how often; its names are those of callers, or addresses of those who are not known.
        now_ms: milliseconds since the Unix epoch.
    """

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, rate: RateLimit, now_ms: Callable[[], int]) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._rate = rate
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        connection: Connection = scope["state"]["connection"]
        timed_send = _TimedSend(connection, send, self._now_ms)
        try:
            scope["state"]["caller"] = self._admit(scope, connection)
            body = await _body(scope, receive)
            await self._app(scope, _replay(body, receive), timed_send)
        except RefusedError as error:
            await _send_problem(error.problem, timed_send)
        except ConnectionAbortedError:
            logger.debug("a client of the HTTP service went away or takes nothing")
            await asyncio.sleep(0)  # uvicorn must see that the connection is lost before this request ends

    def _admit(self, scope: Scope, connection: Connection) -> Caller | None:
        host, _ = scope["client"] or (_STRANGER, 0)
        try:
            caller = None if scope["path"] in OPEN_PATHS else self._caller(scope, connection)
        except RefusedError:
            self._bound(host)
            raise
        self._bound(host if caller is None else caller.name)
        return caller

    def _caller(self, scope: Scope, connection: Connection) -> Caller:
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        authorization = found[0].decode("latin-1") if found else None
        return self._doorkeeper.caller_of(connection.peer, authorization, self._now_ms())

    def _bound(self, name: str) -> None:
        wait_s = self._rate.wait_s(name, asyncio.get_running_loop().time())
        if wait_s:
            raise too_many(f"rate: {name} asks too often, try again in {wait_s:.1f} s", wait_s)


class _TimedSend:
    """Sends to the client, which has SEND_LIMIT_S for each piece; adds the date (RFC 9110 section 6.6.1)."""

    def __init__(self, connection: Connection, send: Send, now_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._send = send
        self._now_ms = now_ms

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            date = formatdate(self._now_ms() / 1000, usegmt=True).encode()
            added = [(b"date", date), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                await self._send(message)
        except TimeoutError:
            self._connection.cut()
            raise ConnectionAbortedError("the client does not read") from None


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body: it is small, and a slow one must hold nothing but this connection."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if int(declared) > MAX_BODY_BYTES:  # h11 lets digits alone pass
        raise _too_large(f"{int(declared)} octets")
    body = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BODY_LIMIT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionAbortedError("the client went away")
                body += bytes(message.get("body", b""))
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large("more")
                if not message.get("more_body", False):
                    return body
    raise refused(
        "too-slow",
        HTTPStatus.REQUEST_TIMEOUT,
        f"body: not whole within {BODY_LIMIT_S:g} s",
        headers=(("Connection", "close"),),
    )


def _too_large(came: str) -> RefusedError:
    return refused(
        "too-large",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"body: got {came}, expected at most {MAX_BODY_BYTES} octets",
        field="body",
        value=came,
        expected=f"at most {MAX_BODY_BYTES} octets",
        headers=(("Connection", "close"),),
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, then what the connection says."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return first.pop() if first else await receive()

    return next_message


async def _send_problem(problem: Problem, send: Send) -> None:
    body = problem.to_bytes()
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **dict(problem.headers)}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(problem.status), "headers": raw})
    await send({"type": "http.response.body", "body": body})
