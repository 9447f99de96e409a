"""Answer questions over a Unix socket and, when configured, over TCP: see `dialogue.py` for the lines."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from requestor.dialogue import MAX_LINE_BYTES, document_from_line, error_document, line_from_document
from schemas.errors import HostError, InpathError, MessageError, UsageError

logger = logging.getLogger(__name__)

MAX_CLIENTS = 128
IDLE_S = 60.0
"""How long a client may stay silent between two questions."""

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Service:
    """Serves questions one after the other on each connection.

    Args:
        answer: gives the answer document of a question; what it raises as InpathError goes to the client.
        allow: prefixes from which TCP clients may ask.
    """

    def __init__(self, answer: Answer, allow: Sequence[IPv4Network]) -> None:
        self._answer = answer
        self._allow = tuple(allow)
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()

    async def listen_unix(self, path: Path) -> None:
        """Listen for local clients; only the owner and the group may connect.

        Raises:
            HostError: the path cannot be bound, or another program listens there.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_socket():
                if _is_served(path):
                    raise HostError(f"service socket {path}: in use by another program, expected one of its own")
                path.unlink()
            self._servers.append(await asyncio.start_unix_server(self._accept, path, limit=MAX_LINE_BYTES))
            path.chmod(0o660)
        except OSError as error:
            raise HostError(f"service socket {path}: {error.strerror or error}") from error

    async def listen_tcp(self, address: str, port: int) -> None:
        """Listen for clients elsewhere.

        Raises:
            HostError: the port is in use or the address is not one of this host.
        """
        try:
            self._servers.append(await asyncio.start_server(self._accept, address, port, limit=MAX_LINE_BYTES))
        except OSError as error:
            reason = error.strerror or str(error)
            raise HostError(
                f"service tcp {address}:{port}: {reason}, expected a free port on an own address"
            ) from error

    async def close(self) -> None:
        """Stop listening and cut every client."""
        for server in self._servers:
            server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio runs this callback as a task
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        try:
            if len(self._clients) > MAX_CLIENTS:
                raise HostError(f"service: {MAX_CLIENTS} clients are connected already, try again later")
            self._check_peer(writer)
            await self._converse(reader, writer)
        except InpathError as error:
            with contextlib.suppress(OSError):
                writer.write(line_from_document(error_document(error)))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.CancelledError):
            logger.debug("a client of the service left")
        finally:
            writer.close()

    def _check_peer(self, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if not isinstance(peer, tuple):
            return
        if not any(IPv4Address(peer[0]) in network for network in self._allow):
            raise UsageError(
                "service.allow", peer[0], "an address inside the prefixes that this point allows to ask"
            )

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not `wait_for`, which may swallow a cancellation before Python 3.12.
        while line := await self._next(reader):
            writer.write(line_from_document(await self._reply(line)))
            async with asyncio.timeout(IDLE_S):
                await writer.drain()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(IDLE_S):
            return await _line(reader)

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            return await self._answer(document_from_line(line))
        except InpathError as error:
            return error_document(error)
        except Exception:  # one question must neither end the service nor stay without an answer
            logger.exception("a question failed")
            return error_document(HostError("service: the question failed; the point's log says why"))


def _is_served(path: Path) -> bool:
    """Whether somebody listens there; the socket that a killed daemon left behind refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.setblocking(False)
        # EAGAIN: somebody listens, and more clients wait than fit (unix(7)).
        return door.connect_ex(str(path)) in (0, errno.EAGAIN)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise MessageError(f"line: longer than {MAX_LINE_BYTES} octets") from error
