"""Three hosts in a row, a - r - b: a sends, r intercepts, b receives."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from interceptor.firewall import InterceptionRule, RuleBackend
from interceptor.nfqueue import QUEUE_LENGTH, SOCKET_BUFFER_BYTES, KernelQueue
from interceptor.packet import decode_packet, with_payload
from interceptor.packet_queue import InterceptedPacket, PacketHandler, Shortcut, no_shortcut
from tests.interceptor.datagram import ROUTER_ALERT
from tests.namespaces import Namespace, Namespaces, in_namespace

PORT = 49862
IP_MTU_DISCOVER = 10
IP_PMTUDISC_DO = 2
ARRIVAL_TIMEOUT_S = 2.0
SILENCE_S = 0.05


class Network:
    """The row, with a raw UDP socket on b that sees whole packets."""

    def __init__(self, namespaces: Namespaces) -> None:
        self.a, self.r, self.b = namespaces.chain("a", "r", "b")
        self._stack = ExitStack()
        with in_namespace(self.b.name):
            self._receiver = self._stack.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
            )
        # Somebody listens, so that no ICMP error goes back.
        self._stack.enter_context(measurement_socket(self.b, port=PORT))

    @property
    def source(self) -> str:
        return self.a.addresses[0]

    @property
    def destination(self) -> str:
        return self.b.addresses[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def clean(self) -> None:
        """Take out all rules and throw away what has arrived since somebody looked."""
        self.r.run("nft", "flush", "ruleset")
        while _readable(self._receiver, 0):
            self._receiver.recv(65535)

    def send(
        self,
        payload: bytes,
        *,
        options: bytes = ROUTER_ALERT,
        port: int = PORT,
        source_port: int = 0,
        destination: str | None = None,
    ) -> None:
        """One datagram with DF from an ordinary socket on a, to b unless told otherwise."""
        with measurement_socket(self.a, options=options, port=source_port) as sender:
            sender.sendto(payload, (destination or self.destination, port))

    def send_raw(self, *packets: bytes) -> None:
        """Whole IPv4 packets from a."""
        with (
            in_namespace(self.a.name),
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
        ):
            for packet in packets:
                sender.sendto(packet, (self.destination, 0))

    def received(self, count: int) -> list[bytes]:
        """The next packets on b: `count` of them, and none more."""
        packets: list[bytes] = []
        while len(packets) < count and _readable(self._receiver, ARRIVAL_TIMEOUT_S):
            packets.append(self._receiver.recv(65535))
        assert len(packets) == count, f"{len(packets)} packets came, expected {count}"
        assert not _readable(self._receiver, SILENCE_S), "another packet came"
        return packets

    @contextmanager
    def intercepted(
        self,
        handler: PacketHandler,
        backend: RuleBackend,
        rule: InterceptionRule,
        *,
        length: int = QUEUE_LENGTH,
        socket_buffer_bytes: int = SOCKET_BUFFER_BYTES,
        shortcut: Shortcut = no_shortcut,
    ) -> Iterator[KernelQueue]:
        """Rule and queue hold on r."""
        with intercepted_at(
            *(self.r, handler, backend, rule),
            length=length,
            socket_buffer_bytes=socket_buffer_bytes,
            shortcut=shortcut,
        ) as queue:
            yield queue


def measurement_socket(namespace: Namespace, *, options: bytes = ROUTER_ALERT, port: int = 0) -> socket.socket:
    """An ordinary UDP socket that sends with DF and options."""
    with in_namespace(namespace.name):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
    made.settimeout(ARRIVAL_TIMEOUT_S)
    made.bind((namespace.addresses[0], port))
    return made


@contextmanager
def intercepted_at(
    router: Namespace,
    handler: PacketHandler,
    backend: RuleBackend,
    rule: InterceptionRule,
    *,
    length: int = QUEUE_LENGTH,
    socket_buffer_bytes: int = SOCKET_BUFFER_BYTES,
    shortcut: Shortcut = no_shortcut,
) -> Iterator[KernelQueue]:
    """Rule and queue hold on a router; the rule goes first."""
    with in_namespace(router.name):
        queue = KernelQueue(
            *(rule.queue_number, handler),
            length=length,
            socket_buffer_bytes=socket_buffer_bytes,
            shortcut=shortcut,
        )
    with queue:
        with in_namespace(router.name):
            backend.install(rule)
        try:
            yield queue
        finally:
            with in_namespace(router.name):
                backend.remove(rule)


def _readable(source: socket.socket | KernelQueue, timeout_s: float) -> bool:
    return bool(select.select([source], [], [], timeout_s)[0])


def process(queue: KernelQueue, *, handled: int) -> None:
    """Run the queue until its handler has seen `handled` packets in all."""
    while queue.counters().handled < handled and _readable(queue, ARRIVAL_TIMEOUT_S):
        queue.process_pending()
    assert queue.counters().handled == handled


def grow(packet: InterceptedPacket) -> None:
    """A handler that adds to the payload."""
    decoded = decode_packet(packet.payload)
    packet.accept_with(with_payload(decoded, decoded.payload + b"<mrp/>"))
