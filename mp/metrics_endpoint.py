"""The endpoint that Prometheus reads: just enough of HTTP/1.1 (RFC 9112) for one GET on each connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Any

from mp import clock
from mp.exposition import exposition
from mp.settings import MetricsSettings
from schemas.errors import HostError

logger = logging.getLogger(__name__)

PATH = "/metrics"
MAX_HEAD_BYTES = 8192
"""Prometheus sends some 300 octets."""
MAX_CLIENTS = 8
CLIENT_LIMIT_S = 5.0
"""How long a client may take to ask, and to read."""
KEPT_MS = 1000
"""A state is read at most once in this time, however many ask: the daemon has other work."""

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client."""

    status: HTTPStatus
    content_type: str
    body: bytes

    def to_bytes(self, *, with_body: bool = True) -> bytes:
        """As it is sent; the connection ends after it."""
        allowed = "Allow: GET, HEAD\r\n" if self.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n"
            f"{allowed}Connection: close\r\n\r\n"
        )
        return head.encode() + (self.body if with_body else b"")


@dataclass(frozen=True, slots=True)
class Scrape:
    """A request for the metrics."""

    accept: str
    """The formats that the client takes."""


def request_from_head(head: bytes) -> Scrape | Answer:
    """Read a request line and headers; what is no request for the metrics has its answer already."""
    request_line, _, headers = head.decode("latin-1").partition("\r\n")
    words = request_line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return _refusal(HTTPStatus.BAD_REQUEST)
    method, target, _ = words
    if method not in ("GET", "HEAD"):
        return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
    if target.partition("?")[0] != PATH:
        return _refusal(HTTPStatus.NOT_FOUND)
    return Scrape(accept=_header(headers, "accept"))


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(status, _TEXT, f"{status.phrase}; the metrics are at {PATH}\n".encode())


def _header(headers: str, name: str) -> str:
    for line in headers.split("\r\n"):
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return ""


class MetricsEndpoint:
    """Serves the state of the point while it runs.

    Args:
        settings: where, and for whom.
        status: the document of `mp/status.py`, as of now.
    """

    def __init__(self, settings: MetricsSettings, status: Callable[[], Mapping[str, Any]]) -> None:
        self._settings = settings
        self._status = status
        self._clients: set[asyncio.Task[None]] = set()
        self._read_at_ms: int | None = None
        self._newest: Mapping[str, Any] = {}

    async def start(self, stack: AsyncExitStack) -> None:
        """Listen, if the configuration says where; `stack` ends it.

        Raises:
            HostError: the port is in use, or the address is not one of this host.
        """
        settings = self._settings
        if settings.listen is None:
            return
        try:
            server = await asyncio.start_server(self._accept, settings.listen, settings.port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            raise HostError(
                f"metrics tcp {settings.listen}:{settings.port}: {error.strerror or error}, "
                "expected a free port on an own address"
            ) from error
        stack.push_async_callback(self._hang_up)
        stack.callback(server.close)

    async def _hang_up(self) -> None:
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio runs this callback as a task
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        try:
            if self._is_allowed(writer.get_extra_info("peername")) and len(self._clients) <= MAX_CLIENTS:
                async with asyncio.timeout(CLIENT_LIMIT_S):
                    await self._converse(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            logger.debug("a reader of the metrics left")
        finally:
            writer.close()

    def _is_allowed(self, peer: tuple[str, int] | None) -> bool:
        """None is a peer that has gone already."""
        return peer is not None and any(IPv4Address(peer[0]) in network for network in self._settings.allow)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        with contextlib.suppress(asyncio.LimitOverrunError):  # too long: answered as no request at all
            head = await reader.readuntil(b"\r\n\r\n")
        answer = request_from_head(head)
        if isinstance(answer, Scrape):
            answer = await self._answer(answer)
        writer.write(answer.to_bytes(with_body=not head.startswith(b"HEAD ")))
        await writer.drain()

    async def _answer(self, scrape: Scrape) -> Answer:
        state = self._state_for_now()
        # Writing out many neighbors takes milliseconds that probes and requests need.
        content_type, body = await asyncio.to_thread(exposition, state, accept=scrape.accept)
        return Answer(HTTPStatus.OK, content_type, body)

    def _state_for_now(self) -> Mapping[str, Any]:
        now_ms = clock.monotonic_ms()
        if self._read_at_ms is None or now_ms - self._read_at_ms >= KEPT_MS:
            self._newest, self._read_at_ms = self._status(), now_ms
        return self._newest
