"""Other people's traffic: numbered datagrams at a steady pace, and which of them did not arrive."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Self

from tests.namespaces import in_namespace
from tests.overlay.network import Network

SO_RCVBUFFORCE = 33
LAST_ARRIVAL_S = 1.0
_NUMBER = struct.Struct("!I")


class Stream:
    """Datagrams from one node to another while the block lasts.

    Args:
        net: the network.
        source, destination: nodes.
        port: of UDP, at both ends.
        options: IP options of each datagram.
        gap_s: time between two of them.
    """

    def __init__(
        self,
        net: Network,
        source: str,
        destination: str,
        *,
        port: int = 40_000,
        options: bytes = b"",
        gap_s: float = 0.005,
    ) -> None:
        self.sent = 0
        self.refused = 0
        """How often the kernel did not take one, which is no loss of the network."""
        self._gap_s = gap_s
        self._target = (net.address(destination), port)
        with in_namespace(net.namespace(destination)):
            self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._receiver.bind(self._target)
        with in_namespace(net.namespace(source)):
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        self._sender.bind((net.address(source), port))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._arrived: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.end()

    def end(self) -> None:
        """Send no more, and count what has arrived; more than once does no harm."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        with self._receiver, self._sender:
            self._collect()

    @property
    def missing(self) -> list[int]:
        """Numbers of the datagrams that did not arrive; known after the end."""
        return sorted(set(range(self.sent)) - self._arrived)

    def _send(self) -> None:
        while not self._stop.wait(self._gap_s):
            try:
                self._sender.sendto(_NUMBER.pack(self.sent) + b"nothing of yours", self._target)
            except OSError:
                self.refused += 1
            else:
                self.sent += 1

    def _collect(self) -> None:
        """What has come, and what still comes until all are there or the last had time enough."""
        self._receiver.settimeout(LAST_ARRIVAL_S)
        while len(self._arrived) < self.sent:
            try:
                data = self._receiver.recv(2048)
            except TimeoutError:
                return
            assert data[_NUMBER.size :] == b"nothing of yours"
            self._arrived.add(*_NUMBER.unpack_from(data))
