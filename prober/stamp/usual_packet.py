"""The probe and the reply that two points exchange all the time, each read and written as one fixed layout.

They are what `SenderPacket` and `ReflectorPacket` read and write with the TLVs of `prober.stamp.tlv`, without an
SSID: of octets that are usual here, both ways make the same. Whatever has another layout or a wrong tag is left to
the general way, which takes many times as long.

    Session-Sender                                       Session-Reflector

      0  base                      44                      0  base                       44
     44  TLV 7, zeros              20                     44  TLV 7                      20
     64  TLV 240                   28                     64  TLV 240, copied            28
     92  TLV 241, if it is told    28                     92  TLV 241, if it was told    28

In authenticated mode the base has 112 octets, and TLV 8 (20) stands behind the others.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from prober.interfaces.report import REPORT_OCTETS
from prober.stamp.authentication import TAG_BYTES, StampKey
from prober.stamp.packet import AUTHENTICATED_BASE_BYTES, PROTECTED_BYTES
from prober.stamp.tlv import SOFTWARE_LOCAL, FollowUp, SenderFollowUp, TlvFlag, TlvType
from prober.timestamp import ErrorEstimate

_SEQUENCE_BYTES = 4
_HEAD_BYTES = 4


class _Layout(NamedTuple):
    """The packets of one mode, without TLV 8."""

    probe: struct.Struct
    reply: struct.Struct
    short: int
    """Octets without TLV 241."""
    report_at: int
    """The value of TLV 241."""
    long: int
    seal: int
    """Octets of TLV 8."""


def _layout(probe_base: str, reply_base: str, *, seal: int) -> _Layout:
    probe = struct.Struct(f"!{probe_base}20sI24s")
    reply = struct.Struct(f"!{reply_base}IIQB3xI24s")
    report_at = probe.size + _HEAD_BYTES
    return _Layout(probe, reply, probe.size, report_at, report_at + REPORT_OCTETS, seal)


_PLAIN = _layout("IQHH28x", "IQHHQIQH2xB3x", seal=0)
_SEALED = _layout("I12xQHH84x", "I12xQHH4xQ8xI12xQH6xB31x", seal=_HEAD_BYTES + TAG_BYTES)
"""The tags of the bases are left out as if they had to be zero."""


def _head(flags: int, kind: TlvType, octets: int) -> int:
    return flags << 24 | kind << 16 | octets


def _head_bytes(flags: int, kind: TlvType, octets: int) -> bytes:
    return _head(flags, kind, octets).to_bytes(_HEAD_BYTES, "big")


_ASKS = _head_bytes(TlvFlag.UNRECOGNIZED, TlvType.FOLLOW_UP, 16) + bytes(16)
_TELLS = _head(TlvFlag.UNRECOGNIZED, TlvType.SENDER_FOLLOW_UP, 24)
_REPORTS = _head_bytes(TlvFlag.UNRECOGNIZED, TlvType.INTERFACE_REPORT, REPORT_OCTETS)
_SEALS = _head_bytes(TlvFlag.UNRECOGNIZED, TlvType.HMAC, TAG_BYTES)
_FOLLOWS_UP = _head(0, TlvType.FOLLOW_UP, 16)
_COPIED = _head(0, TlvType.SENDER_FOLLOW_UP, 24)
_REPORTED = _head_bytes(0, TlvType.INTERFACE_REPORT, REPORT_OCTETS)
_ANSWERS_SEAL = _head_bytes(0, TlvType.HMAC, TAG_BYTES)


class UsualProbe(NamedTuple):
    """A probe of a neighboring point, not decoded further than its answer needs at once."""

    sequence: int
    timestamp: int
    """64 bits of the wire, as `estimate` says."""
    error: int
    """16 bits of the wire."""
    told_value: bytes
    """Of TLV 240."""
    interfaces: bytes | None
    """What it tells of its interfaces: the value of TLV 241."""

    @classmethod
    def from_bytes(cls, data: bytes, key: StampKey | None = None) -> UsualProbe | None:
        """Decode a probe; None of any other layout, and of one that is corrupt or has a wrong tag."""
        layout = _SEALED if key else _PLAIN
        end = len(data) - layout.seal
        if end != layout.short and (end != layout.long or data[layout.short : layout.report_at] != _REPORTS):
            return None
        sequence, timestamp, error, ssid, asks, head, told_value = layout.probe.unpack_from(data)
        if asks != _ASKS or head != _TELLS or ssid or not error & 0xFF:
            return None
        if key and not _is_sealed(data, end, _SEALS, key):
            return None
        return cls(sequence, timestamp, error, told_value, data[layout.report_at : end] or None)

    @property
    def estimate(self) -> ErrorEstimate:
        """What the sender says of its clock."""
        return ErrorEstimate.from_int(self.error)

    @property
    def told(self) -> SenderFollowUp:
        """What the sender tells of earlier probes."""
        return SenderFollowUp.from_value(self.told_value)

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
        key: StampKey | None = None,
    ) -> bytes:
        """Encode the answer; what is not copied from the probe is as in `ReflectorPacket` and `Answers`."""
        data = (_SEALED if key else _PLAIN).reply.pack(
            number,
            timestamp,
            error,
            0,
            received,
            self.sequence,
            self.timestamp,
            self.error,
            ttl,
            _FOLLOWS_UP,
            previous.sequence,
            previous.transmitted,
            SOFTWARE_LOCAL if previous.transmitted else 0,
            _COPIED,
            self.told_value,
        )
        if self.interfaces:
            data += _REPORTED + interfaces
        return _sealed(data, _ANSWERS_SEAL, key) if key else data


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
    def from_bytes(cls, data: bytes, key: StampKey | None = None) -> UsualReply | None:
        """Decode a reply; None of any other layout, and of one that is corrupt or has a wrong tag."""
        layout = _SEALED if key else _PLAIN
        end = len(data) - layout.seal
        if end != layout.short and (end != layout.long or data[layout.short : layout.report_at] != _REPORTED):
            return None
        fields = layout.reply.unpack_from(data)
        sequence, t3, error, ssid, t2, sender_sequence, t1, sender_error, ttl = fields[:9]
        head, previous, transmitted, _, copied, _ = fields[9:]
        if head != _FOLLOWS_UP or copied != _COPIED or ssid or not (error & 0xFF and sender_error & 0xFF):
            return None
        if key and not _is_sealed(data, end, _ANSWERS_SEAL, key):
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
            data[layout.report_at : end] or None,
        )


def usual_probe(
    *,
    sequence: int,
    timestamp: int,
    error: int,
    told: SenderFollowUp,
    interfaces: bytes,
    key: StampKey | None = None,
) -> bytes:
    """Encode a probe without mark and padding, as `SenderPacket` does with the TLVs of `sender_extension`."""
    layout = _SEALED if key else _PLAIN
    data = layout.probe.pack(sequence, timestamp, error, 0, _ASKS, _TELLS, told.to_value())
    if interfaces:
        data += _REPORTS + interfaces
    return _sealed(data, _SEALS, key) if key else data


def _is_sealed(data: bytes, end: int, head: bytes, key: StampKey) -> bool:
    """Whether the base has its tag, and the TLVs, which end at `end`, have theirs."""
    tag_at = end + _HEAD_BYTES
    return (
        data[end:tag_at] == head
        and key.verifies(data[:PROTECTED_BYTES], data[PROTECTED_BYTES:AUTHENTICATED_BASE_BYTES])
        and key.verifies(data[:_SEQUENCE_BYTES] + data[AUTHENTICATED_BASE_BYTES:end], data[tag_at:])
    )


def _sealed(data: bytes, head: bytes, key: StampKey) -> bytes:
    """A packet of which the tags are missing, with them; `head` is that of TLV 8."""
    protected, tlvs = data[:PROTECTED_BYTES], data[AUTHENTICATED_BASE_BYTES:]
    return protected + key.tag(protected) + tlvs + head + key.tag(data[:_SEQUENCE_BYTES] + tlvs)
