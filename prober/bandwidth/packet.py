"""The datagrams of the bandwidth test: a receiver asks for a stream, the sender obeys, doubts or refuses.

    octet  0       4      5      6       8              16          20         24
           | magic | kind | code | number | session id  | ...

    request    packets (2) | packet octets (2) | interval ns (4) | cookie (16) | zeros up to 64 octets
    challenge  cookie (16)
    refusal    limit (4); `code` is the reason
    probe      sequence (4) | sent at, ns on the sender's monotonic clock (8) | zeros up to the packet's size

All numbers are big-endian. A request is as long as the longest answer to one, so whoever forges its source has
nothing sent there that is larger. The cookie proves that the receiver gets what is sent to its address.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from prober.bandwidth.trend import IP_UDP_BYTES, StreamShape
from schemas.errors import ProbeError

MAGIC = b"ipb1"
REQUEST_BYTES = 64
COOKIE_BYTES = 16
NO_COOKIE = bytes(COOKIE_BYTES)
_HEAD = struct.Struct("!4sBBHQ")
_REQUEST = struct.Struct("!HHI16s")
_LIMIT = struct.Struct("!I")
_PROBE = struct.Struct("!IQ")
PROBE_BYTES = _HEAD.size + _PROBE.size
"""The least payload of a packet of a stream."""


class Kind(IntEnum):
    """The fifth octet."""

    REQUEST = 1
    CHALLENGE = 2
    REFUSAL = 3
    PROBE = 4


class Refusal(IntEnum):
    """Why no stream is sent."""

    NO_NEIGHBOR = 1
    """No neighbor of the upstream point."""
    RATE = 2
    """Faster than this point sends; limit in kbit/s."""
    LENGTH = 3
    """Too many or too few packets in one stream, or it lasts too long; limit in packets."""
    NEIGHBOR_BUDGET = 4
    """This neighbor's octets of the hour are used up."""
    BUDGET = 5
    """The octets of the hour are used up."""
    BUSY = 6
    """Another stream is under way."""
    INTERVAL = 7
    """Packets closer than this point can send; limit in ns."""
    PACKET_BYTES = 8
    """A packet size beyond this point's limits; limit in octets."""


@dataclass(frozen=True, slots=True)
class StreamId:
    """Names one stream of one estimate."""

    session: int
    """Random, 64 bits."""
    number: int
    """From 0; grows with every stream that is asked for."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """Send me this stream."""

    stream: StreamId
    shape: StreamShape
    cookie: bytes = NO_COOKIE
    KIND: ClassVar = Kind.REQUEST

    def to_bytes(self) -> bytes:
        """As UDP payload."""
        shape = self.shape
        body = _REQUEST.pack(shape.packets, shape.packet_bytes, shape.interval_ns, self.cookie)
        return (_head(self.KIND, self.stream) + body).ljust(REQUEST_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class Challenge:
    """Ask again with this cookie."""

    stream: StreamId
    cookie: bytes
    KIND: ClassVar = Kind.CHALLENGE

    def to_bytes(self) -> bytes:
        """As UDP payload."""
        return _head(self.KIND, self.stream) + self.cookie


@dataclass(frozen=True, slots=True)
class StreamRefusal:
    """No stream, and why."""

    stream: StreamId
    reason: Refusal
    limit: int = 0
    KIND: ClassVar = Kind.REFUSAL

    def to_bytes(self) -> bytes:
        """As UDP payload."""
        return _head(self.KIND, self.stream, self.reason) + _LIMIT.pack(self.limit)


@dataclass(frozen=True, slots=True)
class StreamProbe:
    """One packet of a stream."""

    stream: StreamId
    sequence: int
    sent_at_ns: int
    packet_bytes: int
    """At the IP layer."""
    KIND: ClassVar = Kind.PROBE

    def to_bytes(self) -> bytes:
        """As UDP payload."""
        head = _head(self.KIND, self.stream) + _PROBE.pack(self.sequence, self.sent_at_ns)
        return head.ljust(self.packet_bytes - IP_UDP_BYTES, b"\0")


BandwidthPacket = StreamRequest | Challenge | StreamRefusal | StreamProbe


def packet_from_bytes(data: bytes) -> BandwidthPacket:
    """Decode a UDP payload.

    Raises:
        ProbeError: no packet of the bandwidth test.
    """
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        raise ProbeError("no packet of the bandwidth test")
    _, kind, code, number, session = _HEAD.unpack_from(data)
    stream, body = StreamId(session, number), data[_HEAD.size :]
    match kind:
        case Kind.REQUEST:
            return _request(stream, body)
        case Kind.CHALLENGE if len(body) == COOKIE_BYTES:
            return Challenge(stream, body)
        case Kind.REFUSAL if len(body) == _LIMIT.size and code in set(Refusal):
            return StreamRefusal(stream, Refusal(code), *_LIMIT.unpack(body))
        case Kind.PROBE if len(body) >= _PROBE.size:
            sequence, sent_at_ns = _PROBE.unpack_from(body)
            return StreamProbe(stream, sequence, sent_at_ns, len(data) + IP_UDP_BYTES)
    raise ProbeError("a bandwidth packet of unknown kind or wrong length")


def stamp_probe(buffer: bytearray, sequence: int, sent_at_ns: int) -> None:
    """Write number and time into the bytes of a probe, between two packets of a stream."""
    _PROBE.pack_into(buffer, _HEAD.size, sequence, sent_at_ns)


def _request(stream: StreamId, body: bytes) -> StreamRequest:
    if len(body) != REQUEST_BYTES - _HEAD.size:
        raise ProbeError("a stream request is not 64 octets long")
    packets, packet_bytes, interval_ns, cookie = _REQUEST.unpack_from(body)
    if packets < 2 or packet_bytes < PROBE_BYTES + IP_UDP_BYTES or interval_ns == 0:
        raise ProbeError("a stream request asks for no stream")
    return StreamRequest(stream, StreamShape(packets, packet_bytes, interval_ns), cookie)


def _head(kind: Kind, stream: StreamId, code: int = 0) -> bytes:
    return _HEAD.pack(MAGIC, kind, code, stream.number, stream.session)
