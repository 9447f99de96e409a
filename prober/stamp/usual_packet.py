"""The probe and the reply that two points exchange all the time, each read and written as one fixed layout.

They are what `SenderPacket` and `ReflectorPacket` read and write with the TLVs of `prober.stamp.tlv`, in
unauthenticated mode and without an SSID: of octets that are usual here, both ways make the same. Whatever has any
other layout is left to the general way, which takes many times as long.

    Session-Sender                                       Session-Reflector

      0  base                      44                      0  base                       44
     44  TLV 7, zeros              20                     44  TLV 7                      20
     64  TLV 240                   28                     64  TLV 240, copied            28
     92  TLV 241, if it is told    28                     92  TLV 241, if it was told    28
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from prober.interfaces.report import REPORT_OCTETS
from prober.stamp.tlv import SOFTWARE_LOCAL, FollowUp, SenderFollowUp, TlvFlag, TlvType
from prober.timestamp import ErrorEstimate

_PROBE = struct.Struct("!IQHH28x20sIIQIQ")
_REPLY = struct.Struct("!IQHHQIQHHB3xIIQB3xI24s")
_SHORT_BYTES = _PROBE.size
_REPORT_AT = _SHORT_BYTES + 4
_LONG_BYTES = _REPORT_AT + REPORT_OCTETS
_TOLD_AT = 68
"""The value of TLV 240."""


def _head(flags: int, kind: TlvType, octets: int) -> int:
    return flags << 24 | kind << 16 | octets


_ASKS = _head(TlvFlag.UNRECOGNIZED, TlvType.FOLLOW_UP, 16).to_bytes(4, "big") + bytes(16)
_TELLS = _head(TlvFlag.UNRECOGNIZED, TlvType.SENDER_FOLLOW_UP, 24)
_REPORTS = _head(TlvFlag.UNRECOGNIZED, TlvType.INTERFACE_REPORT, REPORT_OCTETS).to_bytes(4, "big")
_FOLLOWS_UP = _head(0, TlvType.FOLLOW_UP, 16)
_COPIED = _head(0, TlvType.SENDER_FOLLOW_UP, 24)
_REPORTED = _head(0, TlvType.INTERFACE_REPORT, REPORT_OCTETS).to_bytes(4, "big")


class UsualProbe(NamedTuple):
    """A probe of a neighboring point, not decoded further than its answer needs at once."""

    data: bytes
    sequence: int
    timestamp: int
    """64 bits of the wire, as `estimate` says."""
    error: int
    """16 bits of the wire."""
    told_fields: tuple[int, int, int, int]

    @classmethod
    def from_bytes(cls, data: bytes) -> UsualProbe | None:
        """Decode a probe; None of any other layout, and of one that is corrupt."""
        octets = len(data)
        if octets != _SHORT_BYTES and (octets != _LONG_BYTES or data[_SHORT_BYTES:_REPORT_AT] != _REPORTS):
            return None
        sequence, timestamp, error, ssid, asks, head, sent, t1, answered, t4 = _PROBE.unpack_from(data)
        if asks != _ASKS or head != _TELLS or ssid or not error & 0xFF:
            return None
        return cls(data, sequence, timestamp, error, (sent, t1, answered, t4))

    @property
    def estimate(self) -> ErrorEstimate:
        """What the sender says of its clock."""
        return ErrorEstimate.from_int(self.error)

    @property
    def told(self) -> SenderFollowUp:
        """What the sender tells of earlier probes."""
        return SenderFollowUp(*self.told_fields)

    @property
    def interfaces(self) -> bytes | None:
        """What it tells of its interfaces: the value of TLV 241."""
        return self.data[_REPORT_AT:] or None

    def reply(
        self,
        *,
        number: int,
        timestamp: int,
        error: int,
        received: int,
        ttl: int,
        previous: FollowUp,
        interfaces: bytes,
    ) -> bytes:
        """Encode the answer; what is not copied from the probe is as in `ReflectorPacket` and `Answers`."""
        data = self.data
        base = _REPLY.pack(
            number,
            timestamp,
            error,
            0,
            received,
            self.sequence,
            self.timestamp,
            self.error,
            0,
            ttl,
            _FOLLOWS_UP,
            previous.sequence,
            previous.transmitted,
            SOFTWARE_LOCAL if previous.transmitted else 0,
            _COPIED,
            data[_TOLD_AT:_SHORT_BYTES],
        )
        return base if len(data) == _SHORT_BYTES else base + _REPORTED + interfaces


class UsualReply(NamedTuple):
    """The answer of a neighboring point. Timestamps are the 64 bits of the wire."""

    sequence: int
    timestamp: int
    error: ErrorEstimate
    received: int
    sender_sequence: int
    sender_timestamp: int
    sender_ttl: int
    follow_up: FollowUp
    interfaces: bytes | None
    """Value of TLV 241."""
    ssid: int = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> UsualReply | None:
        """Decode a reply; None of any other layout, and of one that is corrupt."""
        octets = len(data)
        if octets != _SHORT_BYTES and (octets != _LONG_BYTES or data[_SHORT_BYTES:_REPORT_AT] != _REPORTED):
            return None
        fields = _REPLY.unpack_from(data)
        sequence, t3, error, ssid, t2, sender_sequence, t1, sender_error, _, ttl = fields[:10]
        head, previous, transmitted, _, copied, _ = fields[10:]
        if head != _FOLLOWS_UP or copied != _COPIED or ssid or not (error & 0xFF and sender_error & 0xFF):
            return None
        return cls(
            sequence,
            t3,
            ErrorEstimate.from_int(error),
            t2,
            sender_sequence,
            t1,
            ttl,
            FollowUp(previous, transmitted),
            data[_REPORT_AT:] or None,
        )
