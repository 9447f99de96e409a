"""Extensions of STAMP packets: TLVs after the base packet (RFC 8972 section 4).

    0  Flags: U M I . . . . .     1
    1  Type                       1
    2  Length of the value        2
    4  Value

A time that is written into a packet is older than its departure. Two TLVs bring the true times afterwards:

    type 7    Follow-Up Telemetry (RFC 8972 section 4.7): the sender asks with zeros, the reflector fills in

      0  Sequence Number of the previous reflected packet   4
      4  its transmit timestamp, NTP                        8
     12  Timestamp Mode (2: software, local)                1
     13  reserved                                           3

    type 240  Sender Follow-Up (experimental range of RFC 8972): the sender tells, the reflector echoes it

      0  Sequence Number of an earlier probe                4
      4  its transmit timestamp (T1), NTP                   8
     12  Sequence Number of an answered probe               4
     16  receive timestamp (T4) of its reply, NTP           8

A timestamp of 0 means: not known. A reflector that does not know type 240 copies it with the U flag.

    type 4    Class of Service (RFC 8972 section 4.4)

      0  DSCP1: wanted in the reply 6 bits | DSCP2: as it arrived 6 | ECN: as it arrived 2 | RP 2 | reserved 16

    type 8    HMAC (RFC 8972 section 4.8): 16 octets, over the Sequence Number of the packet and all TLVs before;
              only Extra Padding may stand behind it
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from prober.interfaces.report import REPORT_OCTETS
from prober.stamp.authentication import TAG_BYTES, StampKey

TLV_HEAD_BYTES = 4
_TLV_HEAD = struct.Struct("!BBH")
_FOLLOW_UP = struct.Struct("!IQB3x")
_SENDER_FOLLOW_UP = struct.Struct("!IQIQ")
_CLASS_OF_SERVICE = struct.Struct("!H2x")
SOFTWARE_LOCAL = 2
"""Timestamp method (RFC 8972 section 4.3): taken by software on this host."""


class TlvFlag:
    """Flags of a TLV (RFC 8972 section 4): plain integers, as every packet is combed for them."""

    UNRECOGNIZED: Final = 0x80
    MALFORMED: Final = 0x40
    INTEGRITY: Final = 0x20


class TlvType(IntEnum):
    """TLVs that are understood here."""

    EXTRA_PADDING = 1
    TIMESTAMP_INFORMATION = 3
    CLASS_OF_SERVICE = 4
    FOLLOW_UP = 7
    HMAC = 8
    SENDER_FOLLOW_UP = 240
    INTERFACE_REPORT = 241


VALUE_BYTES: dict[int, int] = {
    TlvType.TIMESTAMP_INFORMATION: 4,
    TlvType.CLASS_OF_SERVICE: _CLASS_OF_SERVICE.size,
    TlvType.FOLLOW_UP: _FOLLOW_UP.size,
    TlvType.HMAC: TAG_BYTES,
    TlvType.SENDER_FOLLOW_UP: _SENDER_FOLLOW_UP.size,
    TlvType.INTERFACE_REPORT: REPORT_OCTETS,
}
"""Lengths of the values that have one length."""


class Tlv(NamedTuple):
    """One extension."""

    flags: int
    type: int
    value: bytes

    def to_bytes(self) -> bytes:
        """The TLV as it stands in a packet."""
        return _TLV_HEAD.pack(self.flags, self.type, len(self.value)) + self.value

    def is_whole(self) -> bool:
        """The value has the length that its type demands."""
        return VALUE_BYTES.get(self.type, len(self.value)) == len(self.value)


def tlvs_from_bytes(extension: bytes) -> tuple[tuple[Tlv, ...], bytes]:
    """Split what follows the base packet; the second value is the rest that holds no whole TLV."""
    tlvs = []
    start = 0
    while len(extension) - start >= TLV_HEAD_BYTES:
        flags, kind, length = _TLV_HEAD.unpack_from(extension, start)
        end = start + TLV_HEAD_BYTES + length
        if end > len(extension):
            break
        tlvs.append(Tlv(flags, kind, extension[start + TLV_HEAD_BYTES : end]))
        start = end
    return tuple(tlvs), extension[start:]


def is_intact(extension: bytes, sequence: int, key: StampKey) -> bool:
    """Whether the owner of the key wrote these TLVs into the packet of that number (RFC 8972 section 4.8).

    Without an HMAC TLV that is so for nothing but a single Extra Padding.
    """
    tlvs, rest = tlvs_from_bytes(extension)
    kinds = [tlv.type for tlv in tlvs]
    if rest:
        return False
    if TlvType.HMAC not in kinds:
        return kinds in ([], [TlvType.EXTRA_PADDING])
    place = kinds.index(TlvType.HMAC)
    if any(kind != TlvType.EXTRA_PADDING for kind in kinds[place + 1 :]):
        return False
    before = b"".join(tlv.to_bytes() for tlv in tlvs[:place])
    return key.verifies(sequence.to_bytes(4, "big") + before, tlvs[place].value)


def usable_tlvs(extension: bytes, sequence: int, key: StampKey | None) -> tuple[Tlv, ...] | None:
    """The TLVs of a reply that its reflector understood, up to a malformed one (RFC 8972 section 4).

    Args:
        extension: all octets behind the base packet of the reply.
        sequence: number of the reply.
        key: of the session, None in unauthenticated mode.

    Returns:
        None when their integrity is in doubt, here or at the reflector: then all are void.
    """
    if key and not is_intact(extension, sequence, key):
        return None
    usable = []
    for tlv in tlvs_from_bytes(extension)[0]:
        if tlv.flags & TlvFlag.INTEGRITY:
            return None
        if tlv.flags & TlvFlag.MALFORMED or not tlv.is_whole():
            break
        if not tlv.flags & TlvFlag.UNRECOGNIZED:
            usable.append(tlv)
    return tuple(usable)


class FollowUp(NamedTuple):
    """True transmit time of the previous reflected packet (RFC 8972 section 4.7)."""

    sequence: int = 0
    transmitted: int = 0
    """64-bit NTP, 0 when not known."""

    @classmethod
    def from_value(cls, value: bytes) -> FollowUp:
        """Decode the value of TLV 7, which has its length."""
        sequence, transmitted, _ = _FOLLOW_UP.unpack(value)
        return cls(sequence, transmitted)

    def to_value(self) -> bytes:
        """The value of TLV 7."""
        return _FOLLOW_UP.pack(self.sequence, self.transmitted, SOFTWARE_LOCAL if self.transmitted else 0)


class SenderFollowUp(NamedTuple):
    """True times at the sender, of two earlier probes (experimental TLV 240)."""

    sent_sequence: int = 0
    transmitted: int = 0
    answered_sequence: int = 0
    reply_received: int = 0

    @classmethod
    def from_value(cls, value: bytes) -> SenderFollowUp:
        """Decode the value of TLV 240, which has its length."""
        return cls._make(_SENDER_FOLLOW_UP.unpack(value))

    def to_value(self) -> bytes:
        """The value of TLV 240."""
        return _SENDER_FOLLOW_UP.pack(*self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOfService:
    """How packets are marked on the way out and back (RFC 8972 section 4.4)."""

    wanted_dscp: int
    """DSCP1: what the sender wants the reply to be marked with."""
    arrived_dscp: int = 0
    """DSCP2: how the probe arrived at the reflector."""
    arrived_ecn: int = 0
    refused: bool = False
    """RP: the reflector's policy is against DSCP1; the reply bears the mark of the probe."""

    @classmethod
    def from_value(cls, value: bytes) -> ClassOfService:
        """Decode the value of TLV 4, which has its length."""
        (bits,) = _CLASS_OF_SERVICE.unpack(value)
        return cls(
            wanted_dscp=bits >> 10, arrived_dscp=bits >> 4 & 0x3F, arrived_ecn=bits >> 2 & 3, refused=bits & 3 == 1
        )

    def to_value(self) -> bytes:
        """The value of TLV 4."""
        bits = self.wanted_dscp << 10 | self.arrived_dscp << 4 | self.arrived_ecn << 2 | self.refused
        return _CLASS_OF_SERVICE.pack(bits)


def sender_extension(
    told: SenderFollowUp,
    *,
    interfaces: bytes = b"",
    class_of_service: ClassOfService | None = None,
    sequence: int = 0,
    key: StampKey | None = None,
) -> bytes:
    """The TLVs of one of our probes: ask for the reflector's times, tell the sender's; with a key, sealed."""
    extension = _TELLING + told.to_value()
    if interfaces:
        extension += _REPORTING + interfaces
    if class_of_service:
        extension += _asking(TlvType.CLASS_OF_SERVICE) + class_of_service.to_value()
    if key:
        tag = key.tag(sequence.to_bytes(4, "big") + extension)
        extension += _asking(TlvType.HMAC) + tag
    return extension


def _asking(kind: TlvType) -> bytes:
    """The head of a TLV in a probe, whose value has one length."""
    return _TLV_HEAD.pack(TlvFlag.UNRECOGNIZED, kind, VALUE_BYTES[kind])


_TELLING: Final = _asking(TlvType.FOLLOW_UP) + FollowUp().to_value() + _asking(TlvType.SENDER_FOLLOW_UP)
_REPORTING: Final = _asking(TlvType.INTERFACE_REPORT)


def padding_tlv(size_bytes: int, content: bytes) -> bytes:
    """An Extra Padding TLV of `size_bytes` in all, which are TLV_HEAD_BYTES or more (RFC 8972 section 4.1).

    Args:
        size_bytes: with its head.
        content: what the padding repeats; pseudorandom, so that no link compresses it.
    """
    length = size_bytes - TLV_HEAD_BYTES
    value = (content * (length // len(content) + 1))[:length]
    return Tlv(TlvFlag.UNRECOGNIZED, TlvType.EXTRA_PADDING, value).to_bytes()
