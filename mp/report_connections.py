"""Connections by which reports travel, kept for a while: a handshake costs as much time as the whole way back."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict

from mp import clock
from schemas import framing
from schemas.errors import MessageError

KEPT_S = 45.0
"""Less than the receiver keeps one open, so that seldom both end it at the same time."""
MAX_KEPT = 64
"""Of all askers together; the one that was used longest ago gives way."""
OPENING_REPEATS = 1
"""How often the kernel repeats the first segment of a connection that nobody answers."""
HANG_UP_S = 5.0
_READ_BYTES = 4096


class _Connection:
    """One that is open; it carries one report at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = framing.FrameReader(framing.ANSWER_KINDS)
        self.kept_since_ms = 0

    async def exchange(self, frame: bytes) -> framing.Frame:
        self._writer.write(frame)
        while data := await self._reader.read(_READ_BYTES):
            for answer in self._frames.receive(data):
                return answer
        raise MessageError("the connection closed without an answer")

    def close(self) -> None:
        self._writer.close()


class ReportConnections:
    """Connections from this point's address.

    Args:
        address: this point's address: the source of the connections.
        port: where the points that ask listen.
        tls: of the client's side; None: without.
    """

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._port = port
        self._tls = tls
        self._kept: OrderedDict[_Connection, str] = OrderedDict()
        """Those that carry nothing now, by the time of their last use, with their askers."""

    def __len__(self) -> int:
        return len(self._kept)

    async def exchange(self, asker: str, frame: bytes) -> framing.Frame:
        """Bring one report, and its answer back.

        Raises:
            OSError: the asker cannot be reached.
            MessageError: what came back is no answer.
        """
        kept = self._take(asker)
        if kept is not None:
            try:
                return await self._use(kept, asker, frame)
            except (OSError, MessageError):
                pass  # it was closed at the other end meanwhile: only a new one tells whether the asker is there
        return await self._use(await self._open(asker), asker, frame)

    def close(self) -> None:
        """End what is kept."""
        while self._kept:
            self._kept.popitem()[0].close()

    async def _use(self, connection: _Connection, asker: str, frame: bytes) -> framing.Frame:
        try:
            answer = await connection.exchange(frame)
        except BaseException:
            connection.close()
            raise
        if isinstance(answer, framing.Acknowledgement):
            self._keep(connection, asker)
        else:
            connection.close()
        return answer

    def _take(self, asker: str) -> _Connection | None:
        self._drop_old()
        found = next((connection for connection, other in reversed(self._kept.items()) if other == asker), None)
        if found is not None:
            del self._kept[found]
        return found

    def _keep(self, connection: _Connection, asker: str) -> None:
        connection.kept_since_ms = clock.monotonic_ms()
        self._kept[connection] = asker
        self._drop_old()

    def _drop_old(self) -> None:
        oldest_ms = clock.monotonic_ms() - KEPT_S * 1000
        while self._kept:
            connection = next(iter(self._kept))
            if len(self._kept) <= MAX_KEPT and connection.kept_since_ms >= oldest_ms:
                return
            del self._kept[connection]
            connection.close()

    async def _open(self, asker: str) -> _Connection:
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, OPENING_REPEATS)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.bind((self._address, 0))
            await asyncio.get_running_loop().sock_connect(opened, (asker, self._port))
            streams = await asyncio.open_connection(
                sock=opened,
                ssl=self._tls,
                server_hostname=None if self._tls is None else asker,  # the certificate must name the address
                ssl_shutdown_timeout=None if self._tls is None else HANG_UP_S,
            )
        except BaseException:
            opened.close()
            raise
        return _Connection(*streams)
