"""What is usually done with a packet queue in Python, as a program that stands in for the point.

    python -m benchmarks.suite.python_peer accept|lxml|scapy QUEUE

accept  gives the verdict, looks at nothing
lxml    parses the message into a tree, adds a record, serializes it, and builds the packet by hand
scapy   dissects the packet, inserts the record as text, lets scapy build lengths and checksums anew

None of them checks what it gets, none is authenticated.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any

from netfilterqueue import NetfilterQueue

QUEUE_LENGTH = 8192
BUFFER_BYTES = 16 << 20
SO_RCVBUFFORCE = 33
COPIED_BYTES = 4016
HEAD = {"up": "10.255.0.1", "mp": "10.255.0.2", "ts": "1767268800123", "ag": "81"}
METRICS = {
    "delay": {"n": "598", "v": "2.0180", "l": "2.0040", "s2": "0.000211", "s3": "0.000012", "eu": "0.001"}
    | {"ec": "0.001", "y": "1"},
    "loss": {"n": "600", "k": "0", "w": "1000", "r": "0", "x": "0"},
    "jitter": {"n": "598", "v": "0.1410", "i": "0.0214", "m": "-0.0001", "il": "-0.0911", "ih": "0.1102"}
    | {"j": "0.0219", "a": "0.0131", "s2": "0.000211", "s3": "0.000012"},
    "rtt": {"n": "597", "v": "4.0710", "l": "4.0110", "s2": "0.00044", "s3": "0.00003"},
}
"""What a record tells, if it is asked for."""
_LENGTHS = Struct("!HH")

Take = Callable[[Any], None]


def accept(packet: Any) -> None:
    """The least that can be done."""
    packet.accept()


def lxml_rebuild() -> Take:
    """As a program does it that thinks in trees."""
    from lxml import etree

    from schemas.payload import payload_from_xml, xml_from_payload

    def take(packet: Any) -> None:
        data = packet.get_payload()
        start = (data[0] & 15) * 4
        root = etree.fromstring(xml_from_payload(data[start + 8 :]))
        _add_record(etree, root)
        payload = payload_from_xml(etree.tostring(root), 1468)
        if payload is not None:
            packet.set_payload(rebuilt(data, start, payload))
        packet.accept()

    return take


def _add_record(etree: Any, root: Any) -> None:
    record = etree.SubElement(root, "mrp")
    for name, text in HEAD.items():
        etree.SubElement(record, name).text = text
    for name in root.findtext("mr/ms").split():
        etree.SubElement(record, name, METRICS[name])


def record_text(metrics: list[str]) -> str:
    """The same record, as text."""
    head = "".join(f"<{name}>{text}</{name}>" for name, text in HEAD.items())
    elements = (
        f"<{name} {' '.join(f'{key}={value!r}' for key, value in METRICS[name].items())}/>" for name in metrics
    )
    return f"<mrp>{head}{''.join(elements)}</mrp>"


def rebuilt(data: bytes, start: int, payload: bytes) -> bytes:
    """The packet with another payload, lengths and checksums computed anew."""
    udp_length = 8 + len(payload)
    head = bytearray(data[:start])
    head[2:4] = (start + udp_length).to_bytes(2)
    head[10:12] = bytes(2)
    head[10:12] = checksum(bytes(head)).to_bytes(2)
    ports = data[start : start + 4]
    pseudo = data[12:20] + _LENGTHS.pack(17, udp_length)
    total = checksum(pseudo + ports + _LENGTHS.pack(udp_length, 0) + payload)
    return b"".join((head, ports, _LENGTHS.pack(udp_length, total), payload))


def checksum(data: bytes) -> int:
    """RFC 1071 by one division of a long number, the fastest way without a C extension."""
    if len(data) % 2:
        data += b"\0"
    return 0xFFFF - int.from_bytes(data) % 0xFFFF


def scapy_append() -> Take:
    """The recipe that is found first when one looks for how to change packets in Python."""
    from scapy.layers.inet import IP, UDP
    from scapy.packet import Raw

    from schemas.payload import payload_from_xml, xml_from_payload

    def take(packet: Any) -> None:
        ip = IP(packet.get_payload())
        xml = xml_from_payload(bytes(ip[Raw].load))
        asked = xml[xml.index(b"<ms>") + 4 : xml.index(b"</ms>")].decode().split()
        payload = payload_from_xml(xml.removesuffix(b"</m>") + record_text(asked).encode() + b"</m>", 1468)
        if payload is not None:
            ip[Raw].load = payload
            for layer, fields in ((ip, ("len", "chksum")), (ip[UDP], ("len", "chksum"))):
                for name in fields:
                    layer.delfieldval(name)
            packet.set_payload(bytes(ip))
        packet.accept()

    return take


def serve(number: int, take: Take) -> None:
    """Bind the queue, say so, and give verdicts until terminated."""
    queue = NetfilterQueue()
    netlink = socket.socket(fileno=queue.get_fd())
    netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    size = netlink.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    netlink.detach()
    queue.bind(number, take, QUEUE_LENGTH, range=COPIED_BYTES, sock_len=size)
    print("ready", flush=True)
    queue.run()


def main() -> None:
    """Run one of them."""
    kind, number = sys.argv[1], int(sys.argv[2])
    makers: dict[str, Callable[[], Take]] = {"accept": lambda: accept, "lxml": lxml_rebuild, "scapy": scapy_append}
    serve(number, makers[kind]())


if __name__ == "__main__":
    main()
