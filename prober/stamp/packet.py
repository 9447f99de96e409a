"""STAMP test packets, unauthenticated and authenticated (RFC 8762 sections 4.2 and 4.3), with SSID (RFC 8972).

Unauthenticated, 44 octets:

    Session-Sender                                       Session-Reflector

      0  Sequence Number            4                      0  Sequence Number             4
      4  Timestamp (T1)             8                      4  Timestamp (T3)              8
     12  Error Estimate             2                     12  Error Estimate of T2, T3    2
     14  SSID, 0 without            2                     14  SSID, copied                2
     16  must be zero              28                     16  Receive Timestamp (T2)      8
     44  TLVs                                             24  Session-Sender Sequence     4
                                                          28  Session-Sender Timestamp    8
                                                          36  Session-Sender Error Est.   2
                                                          38  must be zero                2
                                                          40  Session-Sender TTL          1
                                                          41  must be zero                3
                                                          44  TLVs
Authenticated, 112 octets:

      0  Sequence Number            4                      0  Sequence Number             4
      4  must be zero              12                      4  must be zero               12
     16  Timestamp (T1)             8                     16  Timestamp (T3)              8
     24  Error Estimate             2                     24  Error Estimate of T2, T3    2
     26  SSID, 0 without            2                     26  SSID, copied                2
     28  must be zero              68                     28  must be zero                4
     96  HMAC of 0..95             16                     32  Receive Timestamp (T2)      8
    112  TLVs                                             40  must be zero                8
                                                          48  Session-Sender Sequence     4
                                                          52  must be zero               12
                                                          64  Session-Sender Timestamp    8
                                                          72  Session-Sender Error Est.   2
                                                          74  must be zero                6
                                                          80  Session-Sender TTL          1
                                                          81  must be zero               15
                                                          96  HMAC of 0..95              16
                                                         112  TLVs
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from prober.stamp.authentication import TAG_BYTES, StampKey
from prober.stamp.fault import ProbeFault
from prober.timestamp import ErrorEstimate
from schemas.errors import ProbeError

STAMP_PORT = 862
"""RFC 8762 section 4.1."""

BASE_BYTES = 44
"""Least size of an unauthenticated STAMP packet (RFC 8762 section 4.2)."""
AUTHENTICATED_BASE_BYTES = 112
"""Least size of an authenticated one."""
PROTECTED_BYTES = AUTHENTICATED_BASE_BYTES - TAG_BYTES
"""So many octets of it are under the tag that follows them."""
TWAMP_LIGHT_SENDER_BYTES = 14
"""Least size of a TWAMP-Light sender's packet, which a reflector answers too (RFC 8762 section 4.6)."""
TWAMP_LIGHT_REFLECTOR_BYTES = 38
"""Least size of a reply that is of use. One by RFC 5357 section 4.2.1 has 41 octets and ends with the TTL; some
reflectors leave out what follows the copy of the probe's 14 octets."""
MAX_PACKET_BYTES = 1472
"""What an Ethernet frame of 1500 octets holds: a larger packet would be answered with fragments."""
SENT_TTL = 255
"""Test packets leave with this TTL (RFC 4656 section 4.1.2)."""
_NEXT_USUAL_TTL = 128
SEQUENCE_MODULUS = 1 << 32

_SENDER_HEAD = struct.Struct("!IQH")
_SENDER_BASE = struct.Struct("!IQHH28x")
_SENDER_AUTHENTICATED = struct.Struct("!I12xQHH68x")
_REFLECTOR_BASE = struct.Struct("!IQHHQIQHHB3x")
_REFLECTOR_AUTHENTICATED = struct.Struct("!I12xQHH4xQ8xI12xQH6xB15x")
_ZEROS_OF_AUTHENTICATED = bytes(12)


def routers_crossed(ttl: int) -> int | None:
    """How many a packet has passed that arrived with this TTL; None when its sender did not begin at SENT_TTL.

    Senders of others begin at 64 or 128; no path has as many routers as would make those of a 255.
    """
    return SENT_TTL - ttl if ttl > _NEXT_USUAL_TTL else None


def probe_ssid(data: bytes, key: StampKey | None) -> int:
    """The SSID of a probe that was found right."""
    if key:
        return int.from_bytes(data[26:28], "big")
    return int.from_bytes(data[14:16], "big") if len(data) >= BASE_BYTES else 0


def base_bytes(key: StampKey | None) -> int:
    """Size of a packet without extension."""
    return AUTHENTICATED_BASE_BYTES if key else BASE_BYTES


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
    def from_bytes(cls, data: bytes, key: StampKey | None = None) -> SenderPacket:
        """Decode a probe; without a key of 14 octets or more, of which a shorter base (TWAMP-Light) has no SSID.

        Raises:
            ProbeError: of the wrong size, mode or key, or its error estimate is corrupt; the text is a ProbeFault.
        """
        _check_size(data, ProbeFault.PROBE_TOO_SHORT, TWAMP_LIGHT_SENDER_BYTES)
        if key:
            _authenticate(data, key)
            sequence, timestamp, error, _ = _SENDER_AUTHENTICATED.unpack_from(data)
        else:
            _refuse_authenticated(data)
            sequence, timestamp, error = _SENDER_HEAD.unpack_from(data)
        return cls(
            sequence, timestamp, ErrorEstimate.from_int(error), probe_ssid(data, key), data[base_bytes(key) :]
        )

    def to_bytes(self, key: StampKey | None = None) -> bytes:
        """The packet as UDP payload."""
        fields = (self.sequence, self.timestamp, self.error.to_int(), self.ssid)
        base = _sealed(_SENDER_AUTHENTICATED.pack(*fields), key) if key else _SENDER_BASE.pack(*fields)
        return base + self.extension


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
    """With which the probe arrived; 0 when the reflector does not tell."""
    ssid: int = 0
    extension: bytes = b""

    @classmethod
    def from_bytes(cls, data: bytes, key: StampKey | None = None) -> ReflectorPacket:
        """Decode a reply; without a key of 38 octets or more, as a TWAMP-Light reflector may send.

        Raises:
            ProbeError: of the wrong size, mode or key, or an error estimate is corrupt; the text is a ProbeFault.
        """
        _check_size(data, ProbeFault.REPLY_TOO_SHORT, TWAMP_LIGHT_REFLECTOR_BYTES)
        if key:
            _authenticate(data, key)
            fields = _REFLECTOR_AUTHENTICATED.unpack_from(data)
            sequence, t3, error, ssid, t2, sender_sequence, t1, sender_error, ttl = fields
        else:
            _refuse_authenticated(data)
            fields = _REFLECTOR_BASE.unpack_from(data.ljust(BASE_BYTES, b"\0"))
            sequence, t3, error, ssid, t2, sender_sequence, t1, sender_error, _, ttl = fields
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
            extension=data[base_bytes(key) :],
        )

    def to_bytes(self, key: StampKey | None = None) -> bytes:
        """The packet as UDP payload."""
        own = (self.sequence, self.timestamp, self.error.to_int(), self.ssid, self.received)
        copied = (self.sender_sequence, self.sender_timestamp, self.sender_error.to_int())
        if key:
            base = _sealed(_REFLECTOR_AUTHENTICATED.pack(*own, *copied, self.sender_ttl), key)
        else:
            base = _REFLECTOR_BASE.pack(*own, *copied, 0, self.sender_ttl)
        return base + self.extension


def _check_size(data: bytes, too_short: ProbeFault, least_bytes: int) -> None:
    if len(data) < least_bytes:
        raise ProbeError(too_short)
    if len(data) > MAX_PACKET_BYTES:
        raise ProbeError(ProbeFault.TOO_LONG)


def _sealed(protected: bytes, key: StampKey) -> bytes:
    return protected + key.tag(protected)


def _authenticate(data: bytes, key: StampKey) -> None:
    """Check what came as it came, its must-be-zero octets too, before anything else of it is believed."""
    if len(data) < AUTHENTICATED_BASE_BYTES:
        raise ProbeError(ProbeFault.NOT_AUTHENTICATED)
    if not key.verifies(data[:PROTECTED_BYTES], data[PROTECTED_BYTES:AUTHENTICATED_BASE_BYTES]):
        raise ProbeError(ProbeFault.WRONG_TAG)


def _refuse_authenticated(data: bytes) -> None:
    """The timestamp and the error estimate would be zero, which no unauthenticated packet has."""
    if len(data) >= AUTHENTICATED_BASE_BYTES and data[4:16] == _ZEROS_OF_AUTHENTICATED:
        raise ProbeError(ProbeFault.AUTHENTICATED)
