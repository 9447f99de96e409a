"""IPv4/UDP packets from the kernel's queue."""

from __future__ import annotations

from interceptor.packet import REWRITTEN_TAIL_BYTES, ROUTER_ALERT, decode_packet, with_payload
from schemas.errors import PacketError
from tests.fuzz.target import Target

_PAYLOADS = (b"", b"x", b"<m>" + bytes(REWRITTEN_TAIL_BYTES))
_HEADER = bytes.fromhex("46000024000740004011000 0c0000201c6336407".replace(" ", ""))


def one_input(data: bytes) -> None:
    """A packet, once as it is and once with its length fields set right, so that what lies behind is reached."""
    _decode(data)
    if len(data) >= 28:
        header_bytes = (data[0] & 0x0F) * 4
        fixed = data[:2] + len(data).to_bytes(2, "big") + data[4:]
        udp_length = max(0, len(data) - header_bytes).to_bytes(2, "big")
        _decode(fixed[: header_bytes + 4] + udp_length + fixed[header_bytes + 6 :])


def _decode(data: bytes) -> None:
    try:
        packet = decode_packet(data)
    except PacketError:
        return
    for payload in (*_PAYLOADS, packet.payload + b"more"):
        changed = decode_packet(with_payload(packet, payload))
        assert changed.payload == payload
        assert (changed.source, changed.destination, changed.ttl) == (
            packet.source,
            packet.destination,
            packet.ttl,
        )
        assert (changed.source_port, changed.destination_port) == (packet.source_port, packet.destination_port)
        assert (changed.udp_checksum == 0) <= (packet.udp_checksum == 0)


def seeds() -> list[bytes]:
    """With router alert alone, among other options, and without a payload."""
    made = []
    for options in (ROUTER_ALERT, b"\x01\x01\x07\x04" + ROUTER_ALERT + bytes(2), ROUTER_ALERT + bytes(12)):
        options += bytes(-len(options) % 4)
        for payload in (b"", b"<m/>", bytes(70)):
            head = bytes((0x45 + len(options) // 4,)) + _HEADER[1:] + options
            udp = bytes.fromhex("9c40c2c6") + (8 + len(payload)).to_bytes(2, "big") + b"\x12\x34"
            packet = head + udp + payload
            made.append(packet[:2] + len(packet).to_bytes(2, "big") + packet[4:])
    return made


TARGET = Target(one_input=one_input, seeds=seeds, words=(ROUTER_ALERT,), max_bytes=1500)
