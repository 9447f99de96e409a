"""One HTTP connection: who is at its other end, and how long it may take to say what it wants."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from asyncio.trsock import TransportSocket
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from requestor.http.callers import Peer
from requestor.http.problems import MEDIA_TYPE, Problem

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
HEAD_LIMIT_S = 10.0
"""From the first octet, or from the connection, to the end of the header."""
SEND_BUFFER_BYTES = 1 << 16
"""What the kernel holds for a client that does not read."""

_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python 3.11 does not name it
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid (unix(7))
_GROUP_BYTES = 4
_MOST_GROUPS = 256
"""More than Python lets the kernel tell; a user of more groups is known by the primary one."""


def peer_of(connection: socket.socket | TransportSocket) -> Peer | None:
    """Who opened a Unix socket, as the kernel noted it then; None for another kind of socket."""
    if connection.family != socket.AF_UNIX:
        return None
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(data)
    groups = b""
    with contextlib.suppress(OSError):
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GROUP_BYTES)
    return Peer(uid=uid, groups=frozenset((gid, *struct.unpack(f"{len(groups) // _GROUP_BYTES}I", groups))))


class Connection:
    """What the application may know and do of a connection."""

    __slots__ = ("_transport", "peer")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        opened = transport.get_extra_info("socket")
        self.peer = None if opened is None else peer_of(opened)

    def cut(self) -> None:
        """Drop it at once, with what was not sent yet."""
        self._transport.abort()


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a bound on connections, on the time for a header, and on what waits to be sent."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the peer; refuse one connection too many."""
        super().connection_made(transport)
        opened = transport.get_extra_info("socket")
        if opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.app_state = {**self.app_state, "connection": Connection(transport)}
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(
                Problem(
                    kind="too-many",
                    status=HTTPStatus.SERVICE_UNAVAILABLE,
                    detail=f"connections: {MAX_CONNECTIONS} are open already, try again later",
                )
            )
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Keep the time of the header."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with something that is no HTTP, in the form of all problems."""
        self._refuse(Problem(kind="malformed", status=HTTPStatus.BAD_REQUEST, detail=f"request: {msg}"))

    def _refuse(self, problem: Problem) -> None:
        body = problem.to_bytes()
        self.transport.write(
            f"HTTP/1.1 {problem.status} {problem.status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_LIMIT_S, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        logger.debug("a client did not say what it wants within %g s", HEAD_LIMIT_S)
        self.transport.abort()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
