"""Drives a `KnowledgeExchange` on an asyncio loop: one UDP socket and one timer."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable

from prober.knowledge.exchange import KnowledgeExchange
from schemas.errors import HostError

_LONGEST_SLEEP_S = 1.0
_BUFFER_BYTES = 1 << 18
"""A new neighbor's copy of everything comes in one go."""

logger = logging.getLogger(__name__)


class UdpKnowledge(asyncio.DatagramProtocol):
    """A running exchange.

    Args:
        exchange: decides; its own address is the local address of all datagrams.
        port: on which this point and its peers listen, and from which they send.
        now_ms: a clock that never steps.
        wall_ms: milliseconds since the Unix epoch.
        on_news: called when others have said something new.
    """

    def __init__(
        self,
        exchange: KnowledgeExchange,
        *,
        port: int,
        now_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        on_news: Callable[[], None],
    ) -> None:
        self.exchange = exchange
        self._on_news = on_news
        self._port = port
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self._socket: socket.socket | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Take the socket, in the network namespace of the calling thread.

        Raises:
            HostError: the port is in use, or the address is not one of this machine.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._socket.bind((self.exchange.own, self._port))
        except OSError as error:
            self._socket.close()
            reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise HostError(f"no knowledge on {self.exchange.own} port {self._port}: {reason}") from error

    async def start(self) -> None:
        """Open the socket if `open` did not, and run until `close`.

        Raises:
            HostError: as `open`.
        """
        if self._socket is None:
            self.open()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        self.wake()

    async def close(self) -> None:
        """Say farewell, stop, and give the port back; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._send(self.exchange.farewell(self._wall_ms()))
            self._transport.close()
            self._transport = None
            await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop
        elif self._socket is not None:
            self._socket.close()

    def wake(self) -> None:
        """Send what is due, and plan the next time."""
        if self._transport is None:
            return
        self._send(self.exchange.due(self._now_ms()))
        self._arm()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Take one; see asyncio."""
        host, port = address[:2]
        if port != self._port:
            self.exchange.counters["refused-port"] += 1
            return
        changes = self.exchange.database.changes
        self._send(self.exchange.receive(data, host, self._now_ms()))
        if self.exchange.database.changes != changes:
            self._on_news()
        self._arm()

    def error_received(self, error: Exception) -> None:
        """A peer that runs nothing here answers with ICMP; it is asked again at the pace of silent peers."""
        logger.debug("knowledge: %s", error)

    def _send(self, datagrams: Iterable[tuple[bytes, str]]) -> None:
        if self._transport is not None:
            for data, peer in datagrams:
                self._transport.sendto(data, (peer, self._port))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wakeup_ms = self.exchange.next_wakeup_ms()
        sleep_s = _LONGEST_SLEEP_S if wakeup_ms is None else (wakeup_ms - self._now_ms()) / 1000
        self._timer = asyncio.get_running_loop().call_later(min(max(0.001, sleep_s), _LONGEST_SLEEP_S), self.wake)
