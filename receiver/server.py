"""Takes reports by TCP, with TLS where it is configured, and acknowledges each only when it is durable."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum

from receiver.admission import CONNECTION_OCTETS, HANDSHAKE_OCTETS, REPORT_OCTETS, Admission, AdmissionLimits
from receiver.connection import ReportConnection, ReportReceived
from schemas.errors import HostError, InpathError, MessageError
from schemas.message import Message

logger = logging.getLogger(__name__)

IDLE_LIMIT_S = 10.0
"""A report of 64 KiB needs 5 s at 100 kbit/s; who needs longer for one may come again."""
KEPT_LIMIT_S = 60.0
"""Between two reports of a connection that brought one that was wanted; it makes room when others come."""
HANDSHAKE_LIMIT_S = 5.0
READ_BYTES = 16_384
REFUSAL_AFTER_S = 0.02
REFUSAL_S_PER_OCTET = 2e-6
"""So long after its report comes a refusal, later for each octet, whatever the reason: that is found sooner."""
NOT_TAKEN = "not taken: no such request is open here, or the report does not fit it"
"""One text: whoever tries ids must not learn which of them are open (RFC 3552 section 3.3.1)."""
ACCEPT_AGAIN_AFTER_S = 1.0
"""When the host has no file descriptor or memory left."""
WARN_EVERY_S = 60.0
"""Of one kind of trouble: whoever wants to cause trouble must not fill the log."""
_WRITE_LIMIT_S = 5.0
_RECEIVE_BUFFER_BYTES = 65_536
_SEND_BUFFER_BYTES = 8_192
"""What the kernel holds for a connection: one report, and more answers than fit to it."""
_BACKLOG = 128

OnReport = Callable[[Message, bool], Awaitable[bool]]
"""(message, final): True when the report is durable, False when its request is unknown.

A MessageError refuses the report; any other InpathError (such as StoreError) closes the connection without an
answer, so that the sender tries again.
"""
IsOpen = Callable[[str], bool]
"""Whether a report of the request of that id may be wanted."""


class Trouble(StrEnum):
    """What is counted besides the reports that were taken."""

    UNKNOWN = "unknown"
    """Of no request that is open."""
    REFUSED = "refused"
    MALFORMED = "malformed"
    NOT_KEPT = "not-kept"
    """It could not be made durable."""
    TURNED_AWAY = "turned-away"
    """Too many connections."""
    DISPLACED = "displaced"
    """It made room for a peer that had fewer."""
    BROKEN_OFF = "broken-off"
    """Too slow, without a certificate, or gone."""
    NO_RESOURCES = "no-resources"
    FAILED = "failed"


class ReportServer:
    """Listens for reports until it is closed.

    Args:
        address: local IPv4 address.
        port: TCP port; 0 lets the kernel choose, then `port` says which.
        on_report: takes each report; reports of one connection come one after the other.
        is_open: asked before a report is decoded; without it, all are.
        limits: of connections and octets.
        idle_limit_s: for one report.
        tls: of the server's side; None: without.
    """

    def __init__(
        self,
        address: str,
        port: int,
        on_report: OnReport,
        *,
        is_open: IsOpen = lambda _: True,
        limits: AdmissionLimits | None = None,
        idle_limit_s: float = IDLE_LIMIT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.port = port
        self.counters: Counter[str] = Counter()
        """Reports taken, and each `Trouble`."""
        self._on_report = on_report
        self._is_open = is_open
        self._idle_limit_s = idle_limit_s
        self._tls = tls
        self._admission = Admission(limits)
        self._open: dict[asyncio.Task[None], str] = {}
        """The connections by age, with their peers."""
        self._resting: dict[asyncio.Task[None], None] = {}
        """Connections that brought what was wanted and carry nothing now, by the time of that."""
        self._warn_at_s: dict[Trouble, float] = {}
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            HostError: the port is in use or the address is not of this host.
        """
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            listener.bind((self.address, self.port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise HostError(f"TCP port {self.port} on {self.address}: {_reason(error)}") from error
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener), name="report connections")

    async def close(self) -> None:
        """Stop listening and end all connections at once; what was not acknowledged comes again."""
        tasks = [*self._open, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        """Take every connection that comes: one that has shaken no hands yet counts as any other."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, (peer, _) = await loop.sock_accept(listener)
            except OSError as error:
                self._note(Trouble.NO_RESOURCES, "anybody", error)
                await asyncio.sleep(ACCEPT_AGAIN_AFTER_S)
                continue
            self._admit(connection, peer)

    def _admit(self, connection: socket.socket, peer: str) -> None:
        if self._admission.is_full and self._resting:
            resting = next(iter(self._resting))
            resting.cancel()
            self._left(resting)
        refusal = self._admission.refusal(peer)
        if refusal is not None:
            self._note(Trouble.TURNED_AWAY, peer, refusal)
            connection.close()
            return
        greediest = self._admission.greediest(peer)
        if greediest is not None:
            self._note(Trouble.DISPLACED, greediest, f"made room for {peer}")
            oldest = next(task for task, other in self._open.items() if other == greediest)
            oldest.cancel()
            self._left(oldest)
        task = asyncio.create_task(self._serve(connection, peer), name=f"reports from {peer}")
        self._open[task] = peer
        self._admission.opened(peer)
        task.add_done_callback(self._left)
        task.add_done_callback(lambda _: connection.close())  # where no transport has come to own it

    def _left(self, task: asyncio.Task[None]) -> None:
        """Its place is free: it has ended, or will at once."""
        peer = self._open.pop(task, None)
        self._resting.pop(task, None)
        if peer is not None:
            self._admission.closed(peer)

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        """One connection to its end."""
        try:
            reader, writer = await self._streams(connection, peer)
            try:
                await self._converse(reader, writer, peer)
                await _hang_up(writer)
            finally:
                writer.transport.abort()  # what waits to be sent would hold up the end
        except (OSError, TimeoutError) as error:
            self._note(Trouble.BROKEN_OFF, peer, error or "too slow")
        except Exception:
            self.counters[Trouble.FAILED] += 1
            logger.exception("reports from %s: failed", peer)

    async def _streams(
        self, connection: socket.socket, peer: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await self._wait(peer, CONNECTION_OCTETS + (HANDSHAKE_OCTETS if self._tls else 0))
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        limit_s = HANDSHAKE_LIMIT_S if self._tls else None
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._tls,
            ssl_handshake_timeout=limit_s,
            ssl_shutdown_timeout=limit_s,
        )
        transport.set_write_buffer_limits(0)  # who takes no answers sends no further reports
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        connection = ReportConnection()
        try:
            await self._take_reports(connection, reader, writer, peer)
        except MessageError as error:
            self._note(Trouble.MALFORMED, peer, error)
            await _send(writer, connection.refuse(str(error)))
        except InpathError as error:
            self._note(Trouble.NOT_KEPT, peer, error)

    async def _take_reports(
        self, connection: ReportConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> None:
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + self._idle_limit_s
        while True:
            # The limit is for a whole report, not for each octet of it.
            is_beginning = connection.is_between_reports
            data = await self._read(reader, deadline_s, is_resting=is_beginning and connection.has_acknowledged)
            if not data:
                connection.end()
                return
            octets = len(data)
            for report in connection.receive(data):
                await _send(writer, await self._answer(connection, report, peer))
                octets += len(report.xml) + REPORT_OCTETS
                is_beginning = True
            if connection.is_between_reports and connection.has_acknowledged:
                deadline_s = clock() + KEPT_LIMIT_S
            elif is_beginning:
                deadline_s = clock() + self._idle_limit_s
            deadline_s += await self._wait(peer, octets)

    async def _read(self, reader: asyncio.StreamReader, deadline_s: float, *, is_resting: bool) -> bytes:
        task = asyncio.current_task()
        assert task is not None  # this is called by one
        if is_resting:
            self._resting[task] = None
        try:
            async with asyncio.timeout_at(deadline_s):
                return await reader.read(READ_BYTES)
        finally:
            self._resting.pop(task, None)

    async def _wait(self, peer: str, octets: int) -> float:
        """Count what came, and read nothing for as long as that is too much; how long, in seconds."""
        wait_s = self._admission.wait_s(peer, octets, asyncio.get_running_loop().time())
        if wait_s:
            await asyncio.sleep(wait_s)
        return wait_s

    async def _answer(self, connection: ReportConnection, report: ReportReceived, peer: str) -> bytes:
        clock = asyncio.get_running_loop().time
        refuse_at_s = clock() + REFUSAL_AFTER_S + REFUSAL_S_PER_OCTET * len(report.xml)
        try:
            message = await self._taken(report)
        except MessageError as error:
            self._note(Trouble.REFUSED, peer, f"{report.identifier}: {error}")
        else:
            if message is not None:
                self.counters["taken"] += 1
                return connection.acknowledge(message)
            self._note(Trouble.UNKNOWN, peer, report.identifier)
        await asyncio.sleep(refuse_at_s - clock())
        return connection.refuse(NOT_TAKEN)

    async def _taken(self, report: ReportReceived) -> Message | None:
        """The message, once it is durable; None when its request is not open here."""
        if report.identifier is None or not self._is_open(report.identifier):
            return None
        message = report.message()
        request = message.request
        logger.debug("%s: < report part %d, final %s", request.id, request.part, report.final)
        return message if await self._on_report(message, report.final) else None

    def _note(self, trouble: Trouble, peer: str, reason: object) -> None:
        """Count it, and tell of it now and then."""
        self.counters[trouble] += 1
        now_s = asyncio.get_running_loop().time()
        level = logging.DEBUG
        if now_s >= self._warn_at_s.get(trouble, 0.0):
            self._warn_at_s[trouble] = now_s + WARN_EVERY_S
            level = logging.WARNING
        logger.log(level, "reports from %s: %s, %d so far: %s", peer, trouble, self.counters[trouble], reason)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(_WRITE_LIMIT_S):
        await writer.drain()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """End the connection in order, for as long as the peer takes what was sent."""
    writer.close()
    async with asyncio.timeout(_WRITE_LIMIT_S):
        await writer.wait_closed()


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "in use by another program"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this host has no such address"
    return error.strerror or str(error)
