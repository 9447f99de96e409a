"""Measurement datagrams made and judged by scapy, so that our codec is not its own judge."""

from __future__ import annotations

from scapy.compat import raw
from scapy.layers.inet import IP, UDP, IPOption
from scapy.packet import Raw

ROUTER_ALERT = b"\x94\x04\x00\x00"


def build_datagram(
    payload: bytes = b"<mr/>",
    *,
    source: str = "192.0.2.1",
    destination: str = "198.51.100.7",
    source_port: int = 40000,
    destination_port: int = 49862,
    ttl: int = 64,
    identification: int = 7,
    options: bytes = ROUTER_ALERT,
    flags: str = "DF",
    fragment_offset: int = 0,
    protocol: int = 17,
) -> bytes:
    """One IPv4 packet; `options` must fill whole words. The checksums are scapy's."""
    header = IP(
        src=source,
        dst=destination,
        ttl=ttl,
        id=identification,
        flags=flags,
        frag=fragment_offset,
        proto=protocol,
        options=[IPOption(options)] if options else [],
    )
    return bytes(raw(header / UDP(sport=source_port, dport=destination_port) / Raw(payload)))


def recomputed(data: bytes) -> bytes:
    """The same packet, all lengths and checksums computed anew by scapy."""
    packet = IP(data)
    for layer, fields in ((packet, ("len", "chksum")), (packet[UDP], ("len", "chksum"))):
        for name in fields:
            layer.delfieldval(name)
    return bytes(raw(packet))


def replaced(data: bytes, offset: int, octets: bytes) -> bytes:
    """`data` with other octets at one place; nothing else follows."""
    return data[:offset] + octets + data[offset + len(octets) :]
