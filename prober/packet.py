"""STAMP test packets, unauthenticated mode (RFC 8762), with TLV extensions (RFC 8972).

Session-Sender packet, 44 octets:                    Session-Reflector packet, 44 octets:

      0  Sequence Number            4                      0  Sequence Number             4
      4  Timestamp (T1)             8                      4  Timestamp (T3)              8
     12  Error Estimate             2                     12  Error Estimate of T2, T3    2
     14  SSID, 0 without            2                     14  SSID, copied                2
     16  must be zero              28                     16  Receive Timestamp (T2)      8
     44  TLVs                                             24  Session-Sender Sequence     4
                                                          28  Session-Sender Timestamp    8
    TLV:                                                  36  Session-Sender Error Est.   2
      0  Flags: U M I . . . . .     1                     38  must be zero                2
      1  Type                       1                     40  Session-Sender TTL          1
      2  Length of the value        2                     41  must be zero                3
      4  Value                                            44  TLVs

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
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from prober.timestamp import ErrorEstimate
from schemas.errors import ProbeError

STAMP_PORT = 862
"""RFC 8762 section 4.1."""

BASE_BYTES = 44
"""Least size of a STAMP packet (RFC 8762 section 4.2)."""
TWAMP_LIGHT_SENDER_BYTES = 14
"""Least size of a TWAMP-Light sender's packet, which a reflector answers too (RFC 8762 section 4.6)."""
SENT_TTL = 255
"""Test packets leave with this TTL (RFC 4656 section 4.1.2)."""
SEQUENCE_MODULUS = 1 << 32

_SENDER_HEAD = struct.Struct("!IQH")
_SENDER_BASE = struct.Struct("!IQHH28x")
_REFLECTOR_BASE = struct.Struct("!IQHHQIQHHB3x")
_TLV_HEAD = struct.Struct("!BBH")
_FOLLOW_UP = struct.Struct("!IQB3x")
_SENDER_FOLLOW_UP = struct.Struct("!IQIQ")
_SOFTWARE_LOCAL = 2
"""Timestamp method (RFC 8972 section 4.3): taken by software on this host."""


class TlvFlag:
    """Flags of a TLV (RFC 8972 section 4): plain integers, as every packet is combed for them."""

    UNRECOGNIZED: Final = 0x80
    MALFORMED: Final = 0x40
    INTEGRITY: Final = 0x20


class TlvType(IntEnum):
    """TLVs that are understood here."""

    EXTRA_PADDING = 1
    FOLLOW_UP = 7
    SENDER_FOLLOW_UP = 240


@dataclass(frozen=True, slots=True)
class Tlv:
    """One extension."""

    flags: int
    type: int
    value: bytes

    def to_bytes(self) -> bytes:
        """The TLV as it stands in a packet."""
        return _TLV_HEAD.pack(self.flags, self.type, len(self.value)) + self.value

    @property
    def understood(self) -> bool:
        """No flag of the other end says that it could not use the TLV."""
        return not self.flags & (TlvFlag.UNRECOGNIZED | TlvFlag.MALFORMED | TlvFlag.INTEGRITY)


def tlvs_from_bytes(extension: bytes) -> tuple[tuple[Tlv, ...], bytes]:
    """Split what follows the base packet; the second value is the rest that holds no whole TLV."""
    tlvs = []
    start = 0
    while len(extension) - start >= _TLV_HEAD.size:
        flags, kind, length = _TLV_HEAD.unpack_from(extension, start)
        end = start + _TLV_HEAD.size + length
        if end > len(extension):
            break
        tlvs.append(Tlv(flags, kind, extension[start + _TLV_HEAD.size : end]))
        start = end
    return tuple(tlvs), extension[start:]


def is_padding(extension: bytes) -> bool:
    """Whether no STAMP sender wrote this: it sets U on every TLV (RFC 8972 section 4), and type 0 is reserved."""
    return len(extension) < _TLV_HEAD.size or not extension[0] & TlvFlag.UNRECOGNIZED or extension[1] == 0


@dataclass(frozen=True, slots=True)
class FollowUp:
    """True transmit time of the previous reflected packet (RFC 8972 section 4.7)."""

    sequence: int = 0
    transmitted: int = 0
    """64-bit NTP, 0 when not known."""

    @classmethod
    def from_value(cls, value: bytes) -> FollowUp:
        """Decode the value of TLV 7; raises ProbeError for a wrong length."""
        if len(value) != _FOLLOW_UP.size:
            raise ProbeError("a follow-up TLV has the wrong length")
        sequence, transmitted, _ = _FOLLOW_UP.unpack(value)
        return cls(sequence, transmitted)

    def to_value(self) -> bytes:
        """The value of TLV 7."""
        return _FOLLOW_UP.pack(self.sequence, self.transmitted, _SOFTWARE_LOCAL if self.transmitted else 0)


@dataclass(frozen=True, slots=True)
class SenderFollowUp:
    """True times at the sender, of two earlier probes (experimental TLV 240)."""

    sent_sequence: int = 0
    transmitted: int = 0
    answered_sequence: int = 0
    reply_received: int = 0

    @classmethod
    def from_value(cls, value: bytes) -> SenderFollowUp:
        """Decode the value of TLV 240; raises ProbeError for a wrong length."""
        if len(value) != _SENDER_FOLLOW_UP.size:
            raise ProbeError("a sender follow-up TLV has the wrong length")
        return cls(*_SENDER_FOLLOW_UP.unpack(value))

    def to_value(self) -> bytes:
        """The value of TLV 240."""
        return _SENDER_FOLLOW_UP.pack(
            self.sent_sequence, self.transmitted, self.answered_sequence, self.reply_received
        )


def sender_extension(told: SenderFollowUp) -> bytes:
    """The TLVs of one of our probes: ask for the reflector's times, tell the sender's."""
    unrecognized = TlvFlag.UNRECOGNIZED
    return (
        Tlv(unrecognized, TlvType.FOLLOW_UP, FollowUp().to_value()).to_bytes()
        + Tlv(unrecognized, TlvType.SENDER_FOLLOW_UP, told.to_value()).to_bytes()
    )


def reflected_extension(extension: bytes, previous: FollowUp) -> bytes:
    """The TLVs of a reply: known ones answered, unknown ones with U, a broken rest with M (RFC 8972 section 4)."""
    if is_padding(extension):
        return extension
    tlvs, rest = tlvs_from_bytes(extension)
    answered = b"".join(_reflected(tlv, previous).to_bytes() for tlv in tlvs)
    if rest:
        rest = bytes((rest[0] | TlvFlag.MALFORMED,)) + rest[1:]
    return answered + rest


def _reflected(tlv: Tlv, previous: FollowUp) -> Tlv:
    known = tlv.flags & ~TlvFlag.UNRECOGNIZED
    match tlv.type:
        case TlvType.EXTRA_PADDING:
            return replace(tlv, flags=known)
        case TlvType.FOLLOW_UP if len(tlv.value) == _FOLLOW_UP.size:
            return Tlv(known, tlv.type, previous.to_value())
        case TlvType.SENDER_FOLLOW_UP if len(tlv.value) == _SENDER_FOLLOW_UP.size:
            return replace(tlv, flags=known)
        case TlvType.FOLLOW_UP | TlvType.SENDER_FOLLOW_UP:
            return replace(tlv, flags=known | TlvFlag.MALFORMED)
        case _:
            return replace(tlv, flags=tlv.flags | TlvFlag.UNRECOGNIZED)


@dataclass(frozen=True, slots=True)
class SenderPacket:
    """What a Session-Sender sends. Timestamps are the 64 bits of the wire; `error` says their format."""

    sequence: int
    timestamp: int
    error: ErrorEstimate
    ssid: int = 0
    extension: bytes = b""
    """All octets after the base packet: TLVs, or the padding of a TWAMP-Light sender."""

    @classmethod
    def from_bytes(cls, data: bytes) -> SenderPacket:
        """Decode a probe of 14 octets or more; a shorter base (TWAMP-Light) has no SSID.

        Raises:
            ProbeError: too short, or its error estimate is corrupt.
        """
        if len(data) < TWAMP_LIGHT_SENDER_BYTES:
            raise ProbeError("a probe is shorter than 14 octets")
        sequence, timestamp, error = _SENDER_HEAD.unpack_from(data)
        ssid = int.from_bytes(data[14:16], "big") if len(data) >= BASE_BYTES else 0
        return cls(sequence, timestamp, ErrorEstimate.from_int(error), ssid, data[BASE_BYTES:])

    def to_bytes(self) -> bytes:
        """The packet as UDP payload."""
        base = _SENDER_BASE.pack(self.sequence, self.timestamp, self.error.to_int(), self.ssid)
        return base + self.extension

    def sender_follow_up(self) -> SenderFollowUp | None:
        """What the sender tells of earlier probes; None from a sender that does not know the TLV."""
        if is_padding(self.extension):
            return None
        for tlv in tlvs_from_bytes(self.extension)[0]:
            if tlv.type == TlvType.SENDER_FOLLOW_UP and len(tlv.value) == _SENDER_FOLLOW_UP.size:
                return SenderFollowUp.from_value(tlv.value)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectorPacket:
    """What a Session-Reflector answers. `error` belongs to T2 and T3, `sender_error` to the copied T1."""

    sequence: int
    timestamp: int
    error: ErrorEstimate
    received: int
    sender_sequence: int
    sender_timestamp: int
    sender_error: ErrorEstimate
    sender_ttl: int
    ssid: int = 0
    extension: bytes = b""

    @classmethod
    def from_bytes(cls, data: bytes) -> ReflectorPacket:
        """Decode a reply.

        Raises:
            ProbeError: too short, or an error estimate is corrupt.
        """
        if len(data) < BASE_BYTES:
            raise ProbeError("a reply is shorter than 44 octets")
        sequence, t3, error, ssid, t2, sender_sequence, t1, sender_error, _, ttl = _REFLECTOR_BASE.unpack_from(
            data
        )
        return cls(
            sequence=sequence,
            timestamp=t3,
            error=ErrorEstimate.from_int(error),
            received=t2,
            sender_sequence=sender_sequence,
            sender_timestamp=t1,
            sender_error=ErrorEstimate.from_int(sender_error),
            sender_ttl=ttl,
            ssid=ssid,
            extension=data[BASE_BYTES:],
        )

    def to_bytes(self) -> bytes:
        """The packet as UDP payload."""
        base = _REFLECTOR_BASE.pack(
            self.sequence,
            self.timestamp,
            self.error.to_int(),
            self.ssid,
            self.received,
            self.sender_sequence,
            self.sender_timestamp,
            self.sender_error.to_int(),
            0,
            self.sender_ttl,
        )
        return base + self.extension

    def follow_up(self) -> FollowUp | None:
        """What the reflector tells of its previous packet; None from one that gives no follow-up."""
        for tlv in tlvs_from_bytes(self.extension)[0]:
            if tlv.flags & TlvFlag.INTEGRITY:
                return None  # RFC 8972 section 4: discard all TLVs
            if tlv.type == TlvType.FOLLOW_UP and tlv.understood and len(tlv.value) == _FOLLOW_UP.size:
                return FollowUp.from_value(tlv.value)
        return None
