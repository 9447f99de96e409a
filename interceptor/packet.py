"""IPv4 packets that carry a measurement message: router alert option or none, UDP, payload.

    0      IPv4 header (RFC 791), 24 octets with the router alert option alone
    20     options; among them 94 04 00 00 (RFC 2113), unless there is none at all
    4*IHL  UDP header (RFC 768), 8 octets
    +8     payload, up to the end of the packet

`decode_packet` promises that all lengths agree, so that `with_payload` may rely on them.
Whether the payload means anything is for others to say; its checksum is not verified here, but carried on
so that a corruption on the way is still seen at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from interceptor.checksum import internet_checksum, ones_complement_sum, updated_checksum
from schemas.errors import PacketError, UsageError
from schemas.message import Carrier

ROUTER_ALERT = bytes.fromhex("94040000")
"""Type 148, length 4, value 0: "router shall examine packet" (RFC 2113, section 2.1)."""

BARE_HEADER_BYTES = 20
HEADER_BYTES = BARE_HEADER_BYTES + len(ROUTER_ALERT)
UDP_HEADER_BYTES = 8
PROTOCOL_UDP = 17
END_OF_OPTIONS = 0
NO_OPERATION = 1

DONT_FRAGMENT = 0x4000
FRAGMENT_BITS = 0x3FFF
"""More-fragments flag and offset; both are zero in a packet that is whole (RFC 791, section 3.1)."""

MAXIMUM_PACKET_BYTES = 0xFFFF
MINIMUM_MTU_BYTES = 68
"""What every router must forward in one piece (RFC 791, section 3.2)."""

REWRITTEN_TAIL_BYTES = 64
"""How far before the end of a payload a record is usually inserted: the closing part of the message."""

_FIRST_FIELDS = Struct("!BxHxxHxB")
_WORD = Struct("!H")
_TWO_WORDS = Struct("!HH")


@dataclass(frozen=True, slots=True)
class MeasurementPacket:
    """One whole IPv4 packet with a UDP datagram, as `decode_packet` made it.

    The fields below the first three are read from the octets when asked for, so that the packet path pays
    only for those that it needs.
    """

    data: bytes
    """The whole packet as it arrived."""
    header_length: int
    """Octets of the IPv4 header with its options, 20 to 60."""
    payload: bytes
    """The UDP payload."""

    @property
    def carrier(self) -> Carrier:
        """How it travels."""
        return Carrier.UDP if self.header_length == BARE_HEADER_BYTES else Carrier.ROUTER_ALERT

    @property
    def header(self) -> bytes:
        """The IPv4 header with its options, as it arrived."""
        return self.data[: self.header_length]

    @property
    def source(self) -> str:
        """Source address, dotted."""
        return dotted(self.data[12:16])

    @property
    def destination(self) -> str:
        """Destination address, dotted."""
        return dotted(self.data[16:20])

    @property
    def source_port(self) -> int:
        """UDP source port."""
        return _word(self.data, self.header_length)

    @property
    def destination_port(self) -> int:
        """UDP destination port."""
        return _word(self.data, self.header_length + 2)

    @property
    def ttl(self) -> int:
        """Time to live, in hops, before this router's decrement."""
        return self.data[8]

    @property
    def identification(self) -> int:
        """The identification field of the IPv4 header."""
        return _word(self.data, 4)

    @property
    def dont_fragment(self) -> bool:
        """Whether routers must not fragment the packet."""
        return bool(_word(self.data, 6) & DONT_FRAGMENT)

    @property
    def udp_checksum(self) -> int:
        """The UDP checksum field; 0 says that the sender computed none (RFC 768)."""
        return _word(self.data, self.header_length + 6)


def dotted(address: bytes) -> str:
    """Four octets as a dotted IPv4 address."""
    return f"{address[0]}.{address[1]}.{address[2]}.{address[3]}"


def _word(data: bytes, offset: int) -> int:
    return data[offset] << 8 | data[offset + 1]


def maximum_payload(mtu_bytes: int) -> int:
    """Octets of UDP payload that fit, beside router alert, into one packet of `mtu_bytes` (1468 at 1500).

    Raises:
        UsageError: no IPv4 link has such an MTU.
    """
    if not MINIMUM_MTU_BYTES <= mtu_bytes <= MAXIMUM_PACKET_BYTES:
        raise UsageError("mtu_bytes", mtu_bytes, f"{MINIMUM_MTU_BYTES} to {MAXIMUM_PACKET_BYTES}")
    return mtu_bytes - HEADER_BYTES - UDP_HEADER_BYTES


def decode_packet(data: bytes) -> MeasurementPacket:
    """Read one whole IPv4 packet.

    Raises:
        PacketError: it is no unfragmented UDP datagram, has options but not router alert with value 0, or its
            lengths disagree (among other reasons because the queue handed over its beginning only).
    """
    if len(data) < BARE_HEADER_BYTES + UDP_HEADER_BYTES:
        raise PacketError(f"packet of {len(data)} octets is too short for IPv4 and UDP")
    version_and_length, total_length, fragment, protocol = _FIRST_FIELDS.unpack_from(data)
    header_length = (version_and_length & 0x0F) * 4
    if version_and_length >> 4 != 4:
        raise PacketError(f"IP version {version_and_length >> 4}, expected 4")
    if total_length != len(data):
        raise PacketError(f"total length {total_length}, but {len(data)} octets are here")
    if fragment & FRAGMENT_BITS:
        raise PacketError("packet is a fragment")
    if protocol != PROTOCOL_UDP:
        raise PacketError(f"protocol {protocol}, expected {PROTOCOL_UDP}")
    if not BARE_HEADER_BYTES <= header_length <= total_length - UDP_HEADER_BYTES:
        raise PacketError(f"header length {header_length} is none of IPv4, or leaves no room for UDP")
    _check_udp_length(data, header_length)
    if header_length != BARE_HEADER_BYTES:
        _check_router_alert(data[BARE_HEADER_BYTES:header_length])
    return MeasurementPacket(data, header_length, data[header_length + UDP_HEADER_BYTES :])


def _check_udp_length(data: bytes, header_length: int) -> None:
    udp_length = _word(data, header_length + 4)
    if udp_length != len(data) - header_length:
        raise PacketError(f"UDP length {udp_length}, expected {len(data) - header_length}")


def _check_router_alert(options: bytes) -> None:
    if options == ROUTER_ALERT:
        return
    if ROUTER_ALERT not in _options(options):
        raise PacketError("no router alert option with value 0")


def _options(options: bytes) -> list[bytes]:
    """Each option of a header, without padding (RFC 791, section 3.1)."""
    found = []
    position = 0
    while position < len(options) and options[position] != END_OF_OPTIONS:
        if options[position] == NO_OPERATION:
            position += 1
            continue
        length = options[position + 1] if position + 1 < len(options) else 0
        if not 2 <= length <= len(options) - position:
            raise PacketError(f"IPv4 option {options[position]} has no usable length")
        found.append(options[position : position + length])
        position += length
    return found


def with_payload(packet: MeasurementPacket, payload: bytes) -> bytes:
    """The whole packet with another payload; lengths and both checksums follow, all else stays.

    The UDP checksum is updated by the difference, whatever the difference is, so a payload that was corrupted
    on its way here remains one with a wrong checksum. A sender that computed none gets a full one.

    Raises:
        PacketError: the packet would pass 65535 octets.
    """
    data, start = packet.data, packet.header_length
    total_length = start + UDP_HEADER_BYTES + len(payload)
    if total_length > MAXIMUM_PACKET_BYTES:
        raise PacketError(f"packet would have {total_length} octets, more than {MAXIMUM_PACKET_BYTES}")
    header_checksum = updated_checksum(_word(data, 10), removed=_word(data, 2), added=total_length)
    return b"".join(
        (
            data[:2],
            _WORD.pack(total_length),
            data[4:10],
            _WORD.pack(header_checksum),
            data[12 : start + 4],
            _TWO_WORDS.pack(total_length - start, _udp_checksum(packet, payload)),
            payload,
        )
    )


def _udp_checksum(packet: MeasurementPacket, payload: bytes) -> int:
    old = packet.udp_checksum
    new = _updated_udp_checksum(old, packet.payload, payload) if old else _full_udp_checksum(packet, payload)
    # RFC 768: zero on the wire means "none", so a computed zero is sent as all ones, which is equivalent.
    return new or 0xFFFF


def _updated_udp_checksum(checksum: int, old: bytes, new: bytes) -> int:
    kept = max(0, len(old) - REWRITTEN_TAIL_BYTES) & ~1  # an even start keeps the words aligned
    if not new.startswith(old[:kept]):
        kept = 0
    checksum = updated_checksum(
        checksum, removed=ones_complement_sum(old[kept:]), added=ones_complement_sum(new[kept:])
    )
    # The length counts twice: in the UDP header and in the pseudo header (RFC 768).
    removed, added = 2 * (UDP_HEADER_BYTES + len(old)), 2 * (UDP_HEADER_BYTES + len(new))
    return updated_checksum(checksum, removed=removed % 0xFFFF, added=added % 0xFFFF)


def _full_udp_checksum(packet: MeasurementPacket, payload: bytes) -> int:
    length = _WORD.pack(UDP_HEADER_BYTES + len(payload))
    pseudo_header = packet.data[12:20] + bytes((0, PROTOCOL_UDP)) + length
    ports = packet.data[packet.header_length : packet.header_length + 4]
    return internet_checksum(pseudo_header + ports + length + payload)
