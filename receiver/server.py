"""Takes reports by TCP and acknowledges each only when it is durable."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable

from receiver.connection import ReportConnection, ReportReceived
from schemas.errors import HostError, InpathError, MessageError
from schemas.message import Message

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""A source has few requests open at once; more connections than this are somebody else's."""
IDLE_LIMIT_S = 10.0
"""A report of 64 KiB needs 5 s at 100 kbit/s; who needs longer for one may come again."""
READ_BYTES = 16_384
_WRITE_LIMIT_S = 5.0
UNKNOWN_REQUEST = "no such request is open here"

OnReport = Callable[[Message, bool], Awaitable[bool]]
"""(message, final): True when the report is durable, False when its request is unknown.

A MessageError refuses the report; any other InpathError (such as StoreError) closes the connection without an
answer, so that the sender tries again.
"""


class ReportServer:
    """Listens for reports until it is closed.

    Args:
        address: local IPv4 address.
        port: TCP port; 0 lets the kernel choose, then `port` says which.
        on_report: takes each report; reports of one connection come one after the other.
    """

    def __init__(
        self,
        address: str,
        port: int,
        on_report: OnReport,
        *,
        max_connections: int = MAX_CONNECTIONS,
        idle_limit_s: float = IDLE_LIMIT_S,
    ) -> None:
        self.address = address
        self.port = port
        self._on_report = on_report
        self._max_connections = max_connections
        self._idle_limit_s = idle_limit_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            HostError: the port is in use or the address is not of this host.
        """
        try:
            self._server = await asyncio.start_server(self._accept, self.address, self.port, limit=READ_BYTES)
        except OSError as error:
            raise HostError(f"TCP port {self.port} on {self.address}: {_reason(error)}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all connections at once; what was not acknowledged comes again."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._max_connections:
            logger.warning("report connection from %s closed: %d are open", _peer(writer), len(self._tasks))
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to its end."""
        connection = ReportConnection()
        try:
            await self._take_reports(connection, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # what waits to be sent would hold up the end
            raise
        except MessageError as error:
            logger.warning("report from %s refused: %s", _peer(writer), error)
            await self._send_last(writer, connection.refuse(str(error)))
        except InpathError as error:
            logger.warning("report from %s not taken: %s", _peer(writer), error)
        except (OSError, TimeoutError) as error:
            logger.info("report connection from %s ended: %s", _peer(writer), error or "too slow")
        except Exception:
            logger.exception("report connection from %s failed", _peer(writer))
        finally:
            writer.close()

    async def _take_reports(
        self, connection: ReportConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + self._idle_limit_s
        while True:
            # The limit is for a whole report, not for each octet of it.
            async with asyncio.timeout_at(deadline_s):
                data = await reader.read(READ_BYTES)
            if not data:
                connection.end()
                return
            for report in connection.receive(data):
                await self._send(writer, await self._answer(connection, report))
                deadline_s = clock() + self._idle_limit_s

    async def _answer(self, connection: ReportConnection, report: ReportReceived) -> bytes:
        request = report.message.request
        try:
            is_taken = await self._on_report(report.message, report.final)
        except MessageError as error:
            logger.warning("%s: report refused: %s", request.id, error)
            return connection.refuse(str(error))
        if not is_taken:
            logger.info("%s: report refused: %s", request.id, UNKNOWN_REQUEST)
            return connection.refuse(UNKNOWN_REQUEST)
        logger.debug("%s: < report part %d, final %s", request.id, request.part, report.final)
        return connection.acknowledge(report.message)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(_WRITE_LIMIT_S):
            await writer.drain()

    async def _send_last(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        try:
            await self._send(writer, data)
        except (OSError, TimeoutError) as error:
            logger.info("refusal to %s not sent: %s", _peer(writer), error or "too slow")


def _peer(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if peer else "somebody gone"


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "in use by another program"
    if error.errno in (errno.EADDRNOTAVAIL, None):  # None: asyncio of Python 3.13
        return "this host has no such address"
    return error.strerror or str(error)
