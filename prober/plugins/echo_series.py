"""A few ICMP echo requests and what their replies tell. Pure: bytes and times in, round-trip times out.

    octet  0 type | 1 code | 2 checksum | 4 identifier | 6 sequence number | 8 data    (RFC 792)

The data is a secret of the series, so only who saw a request can answer it.
"""

from __future__ import annotations

import struct
from typing import Final

from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.errors import ProbeError

ECHO_REPLY: Final = 0
_ECHO_REQUEST = 8
_HEADER = struct.Struct("!BBHHH")
_LEAST_IPV4_HEADER_BYTES = 20
GREATEST_ROUND_TRIP_NS = 60 * NS_PER_S
"""More comes from a step of the clock."""


class EchoSeries:
    """Requests of one measurement.

    Args:
        identifier: 16 bits.
        cookie: data of all requests.
    """

    def __init__(self, *, identifier: int, cookie: bytes) -> None:
        self._identifier = identifier
        self._cookie = cookie
        self._sent_at_ns: list[int] = []
        self._round_trips_ns: dict[int, int] = {}

    @property
    def sent(self) -> int:
        """How many requests there are."""
        return len(self._sent_at_ns)

    @property
    def is_answered(self) -> bool:
        """Each request has its reply."""
        return len(self._round_trips_ns) == self.sent

    def round_trips_ms(self) -> list[float]:
        """In the order of the requests, those without a reply left out."""
        return [round_trip_ns / NS_PER_MS for _, round_trip_ns in sorted(self._round_trips_ns.items())]

    def request(self) -> bytes:
        """The next request; `leaves` follows when it is sent."""
        sequence = self.sent
        unchecked = _HEADER.pack(_ECHO_REQUEST, 0, 0, self._identifier, sequence) + self._cookie
        return _HEADER.pack(_ECHO_REQUEST, 0, _checksum(unchecked), self._identifier, sequence) + self._cookie

    def leaves(self, now_ns: int) -> None:
        """The request is sent now."""
        self._sent_at_ns.append(now_ns)

    def reply(self, packet: bytes, received_at_ns: int) -> None:
        """Take an IPv4 packet in, as a raw socket gives it; a second reply to the same request changes nothing.

        Raises:
            ProbeError: it answers no request of this series.
        """
        message = _payload(packet)
        if len(message) < _HEADER.size:
            raise ProbeError(f"echo reply: got {len(message)} octets, expected a header of {_HEADER.size}")
        kind, code, _, identifier, sequence = _HEADER.unpack_from(message)
        if (kind, code, identifier) != (ECHO_REPLY, 0, self._identifier) or _checksum(message):
            raise ProbeError("echo reply: got a message of others, or a damaged one")
        if message[_HEADER.size :] != self._cookie or sequence >= self.sent:
            raise ProbeError("echo reply: got one to a request that was never sent")
        round_trip_ns = received_at_ns - self._sent_at_ns[sequence]
        if not 0 <= round_trip_ns <= GREATEST_ROUND_TRIP_NS:
            raise ProbeError("echo reply: the clock was set while it was under way")
        self._round_trips_ns.setdefault(sequence, round_trip_ns)


def _payload(packet: bytes) -> bytes:
    header_bytes = (packet[0] & 0x0F) * 4 if packet else 0
    if header_bytes < _LEAST_IPV4_HEADER_BYTES or packet[0] >> 4 != 4:
        raise ProbeError("echo reply: got no IPv4 packet")
    return packet[header_bytes:]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that holds its own right one."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
