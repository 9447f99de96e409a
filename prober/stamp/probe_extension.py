"""What follows the base of a probe, and what a reflector makes of it (RFC 8972 section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from prober.interfaces.report import UNKNOWN_REPORT
from prober.stamp.authentication import StampKey
from prober.stamp.tlv import (
    SOFTWARE_LOCAL,
    TLV_HEAD_BYTES,
    ClassOfService,
    FollowUp,
    SenderFollowUp,
    Tlv,
    TlvFlag,
    TlvType,
    is_intact,
    tlvs_from_bytes,
)

NETWORK_CONTROL_DSCP = 48
"""CS6 and above are for routing protocols (RFC 4594 section 3.1): no stranger has us send such packets."""
_SOURCE_NTP, _SOURCE_FREE_RUNNING = 1, 5
"""Synchronization source (RFC 8972 section 4.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a reflector has to say in the TLVs of a reply."""

    previous: FollowUp = FollowUp()
    """Zeros from a stateless reflector (RFC 8972 section 4.7)."""
    arrived_tos: int = 0
    """The octet of DSCP and ECN in the probe's IP header."""
    synchronized: bool = False
    interfaces: bytes = UNKNOWN_REPORT
    """Value of TLV 241; zeros, "unknown", for a stranger."""


def is_padding(extension: bytes) -> bool:
    """Whether no STAMP sender wrote this: it sets U on every TLV (RFC 8972 section 4), and type 0 is reserved."""
    return len(extension) < TLV_HEAD_BYTES or not extension[0] & TlvFlag.UNRECOGNIZED or extension[1] == 0


class ProbeExtension:
    """All octets after the base packet, read once: TLVs, or the padding of a sender that knows none.

    Args:
        data: the octets.
        sequence: number of the probe.
        key: of this reflector, None in unauthenticated mode.
    """

    __slots__ = ("_data", "_key", "_rest", "_tlvs", "intact")

    def __init__(self, data: bytes, sequence: int = 0, key: StampKey | None = None) -> None:
        self._data = data
        self._key = key
        self._tlvs, self._rest = ((), b"") if is_padding(data) else tlvs_from_bytes(data)
        self.intact = not self._tlvs or key is None or is_intact(data, sequence, key)
        """Whether the TLVs may be used: without a key always."""

    def sender_follow_up(self) -> SenderFollowUp | None:
        """What the sender tells of earlier probes; None from a sender that does not know the TLV."""
        value = self._value(TlvType.SENDER_FOLLOW_UP)
        return None if value is None else SenderFollowUp.from_value(value)

    def interface_report(self) -> bytes | None:
        """What the sender tells of its interfaces: the value of TLV 241."""
        return self._value(TlvType.INTERFACE_REPORT)

    def reply_dscp(self, arrived_dscp: int) -> int:
        """How to mark the reply: as the sender wants, if the policy allows it, else as the probe arrived."""
        value = self._value(TlvType.CLASS_OF_SERVICE)
        if value is None:
            return arrived_dscp
        wanted = ClassOfService.from_value(value).wanted_dscp
        return wanted if wanted < NETWORK_CONTROL_DSCP else arrived_dscp

    def answered(self, answers: Answers, sequence: int = 0) -> bytes:
        """The octets after the base of the reply, as many as came.

        Known TLVs are answered, unknown ones get U. After a malformed one the rest is copied; if the integrity
        is in doubt, all are, with I.

        Args:
            answers: what the TLVs are filled with.
            sequence: number of the reply.
        """
        if not self.intact:
            return _flagged(self._tlvs, self._rest, TlvFlag.INTEGRITY)
        if not self._tlvs and not self._rest:
            return self._data
        done = b""
        stopped = False
        for tlv in self._tlvs:
            if self._key and tlv.type == TlvType.HMAC:
                tag = self._key.tag(sequence.to_bytes(4, "big") + done)
                done += Tlv(tlv.flags & ~TlvFlag.UNRECOGNIZED, tlv.type, tag).to_bytes()
                continue
            answer = tlv if stopped else _answer(tlv, answers)
            stopped = stopped or bool(answer.flags & TlvFlag.MALFORMED)
            done += answer.to_bytes()
        return done + (self._rest if stopped else _flagged((), self._rest, TlvFlag.MALFORMED))

    def _value(self, kind: TlvType) -> bytes | None:
        """The value of the first TLV of that type; none that stands behind a malformed one."""
        for tlv in self._tlvs if self.intact else ():
            if not tlv.is_whole():
                return None
            if tlv.type == kind:
                return tlv.value
        return None


def _flagged(tlvs: tuple[Tlv, ...], rest: bytes, flag: int) -> bytes:
    copies = b"".join(tlv._replace(flags=tlv.flags | flag).to_bytes() for tlv in tlvs)
    return copies + (bytes((rest[0] | flag,)) + rest[1:] if rest else b"")


def _answer(tlv: Tlv, answers: Answers) -> Tlv:
    known = tlv.flags & ~TlvFlag.UNRECOGNIZED
    if not tlv.is_whole():
        return tlv._replace(flags=known | TlvFlag.MALFORMED)
    match tlv.type:
        case TlvType.EXTRA_PADDING | TlvType.SENDER_FOLLOW_UP:
            return tlv._replace(flags=known)
        case TlvType.FOLLOW_UP:
            return Tlv(known, tlv.type, answers.previous.to_value())
        case TlvType.INTERFACE_REPORT:
            return Tlv(known, tlv.type, answers.interfaces)
        case TlvType.TIMESTAMP_INFORMATION:
            source = _SOURCE_NTP if answers.synchronized else _SOURCE_FREE_RUNNING
            return Tlv(known, tlv.type, bytes((source, SOFTWARE_LOCAL) * 2))
        case TlvType.CLASS_OF_SERVICE:
            return Tlv(known, tlv.type, _marking(tlv.value, answers.arrived_tos).to_value())
        case _:  # an HMAC TLV without a key to check it, and Location, Direct Measurement, Access Report
            return tlv._replace(flags=tlv.flags | TlvFlag.UNRECOGNIZED)


def _marking(value: bytes, arrived_tos: int) -> ClassOfService:
    wanted = ClassOfService.from_value(value).wanted_dscp
    return ClassOfService(
        wanted_dscp=wanted,
        arrived_dscp=arrived_tos >> 2,
        arrived_ecn=arrived_tos & 3,
        refused=wanted >= NETWORK_CONTROL_DSCP,
    )
