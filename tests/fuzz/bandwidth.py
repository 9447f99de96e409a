"""Datagrams of the bandwidth test."""

from __future__ import annotations

from prober.bandwidth.packet import (
    MAGIC,
    Challenge,
    Refusal,
    StreamId,
    StreamProbe,
    StreamRefusal,
    StreamRequest,
    packet_from_bytes,
)
from prober.bandwidth.trend import StreamShape
from schemas.errors import ProbeError
from tests.fuzz.target import Target


def one_input(data: bytes) -> None:
    """A packet, as it is and behind the magic octets."""
    for octets in (data, MAGIC + data):
        try:
            packet = packet_from_bytes(octets)
        except ProbeError:
            continue
        assert packet_from_bytes(packet.to_bytes()) == packet


def seeds() -> list[bytes]:
    """One of each kind."""
    stream = StreamId(0x1122334455667788, 3)
    packets = (
        StreamRequest(stream, StreamShape(packets=100, packet_bytes=200, interval_ns=100_000)),
        Challenge(stream, bytes(range(16))),
        StreamRefusal(stream, Refusal.RATE, 1000),
        StreamProbe(stream, 7, 123_456_789, 200),
    )
    return [packet.to_bytes() for packet in packets]


TARGET = Target(one_input=one_input, seeds=seeds, words=(MAGIC,), max_bytes=1500)
