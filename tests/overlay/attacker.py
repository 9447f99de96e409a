"""Somebody on a router of the path, who changes the requests that cross it."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from interceptor.nfqueue import KernelQueue
from interceptor.packet import decode_packet, with_payload
from interceptor.packet_queue import InterceptedPacket
from schemas.payload import payload_from_xml, xml_from_payload
from tests.namespaces import in_namespace
from tests.overlay.network import Network

QUEUE = 77
ROOM_BYTES = 1468
RULE = (*("-t", "mangle"), "{}", *("FORWARD", "-p", "udp", "--dport", "49862"))
TARGET = ("-j", "NFQUEUE", "--queue-num", str(QUEUE))
_TURN_S = 0.05

Change = Callable[[bytes], bytes]
"""The XML of a request as it came, and as it goes on."""


@contextmanager
def attacker(net: Network, node: str, change: Change) -> Iterator[list[bytes]]:
    """Change all requests that the node forwards while the block lasts; gives what it put on the wire."""
    sent: list[bytes] = []

    def handle(packet: InterceptedPacket) -> None:
        datagram = decode_packet(packet.payload)
        changed = payload_from_xml(change(xml_from_payload(datagram.payload)), ROOM_BYTES)
        assert changed is not None
        sent.append(changed)
        packet.accept_with(with_payload(datagram, changed))

    stop = threading.Event()
    with in_namespace(net.namespace(node)):
        queue = KernelQueue(QUEUE, handle)
    thread = threading.Thread(target=_serve, args=(queue, stop))
    thread.start()
    try:
        _rule(net, node, "-A")
        yield sent
    finally:
        _rule(net, node, "-D")
        stop.set()
        thread.join()
        queue.close()


def _serve(queue: KernelQueue, stop: threading.Event) -> None:
    while not stop.is_set():
        if select.select([queue.fileno()], [], [], _TURN_S)[0]:
            queue.process_pending()


def _rule(net: Network, node: str, action: str) -> None:
    done = net.run(node, "iptables", *(word.format(action) for word in RULE), *TARGET)
    assert done.exit_code == 0, done.stderr
