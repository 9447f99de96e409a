"""STAMP packets and their TLVs, one by one: `stamp.py` feeds them to sessions that have begun."""

from __future__ import annotations

from prober.interfaces.load import UNKNOWN_LOAD
from prober.interfaces.report import InterfaceReport
from prober.path_mtu.codec import StampMtuCodec
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.probe_extension import Answers, ProbeExtension
from prober.stamp.tlv import FollowUp, tlvs_from_bytes, usable_tlvs
from prober.timestamp import ErrorEstimate
from schemas.errors import ProbeError
from tests.fuzz.stamp import KEY, Pair, resealed
from tests.fuzz.target import Target

_ANSWERS = Answers(
    previous=FollowUp(1, 2), arrived_tos=3, interfaces=InterfaceReport(egress=UNKNOWN_LOAD).to_value()
)
_ERROR = ErrorEstimate.from_int(1)


def one_input(data: bytes) -> None:
    """The first octet chooses: with a key, with a tag that is right, as an extension alone."""
    if not data:
        return
    control, rest = data[0], data[1:]
    key = KEY if control & 1 else None
    if control & 2:
        _extension(rest, key)
        return
    packet = resealed(rest, KEY) if control & 4 and key else rest
    _packet(packet, key)


def _packet(data: bytes, key: StampKey | None) -> None:
    for kind in (SenderPacket, ReflectorPacket):
        try:
            packet = kind.from_bytes(data, key)
        except ProbeError:
            continue
        again = kind.from_bytes(packet.to_bytes(key), key)
        assert again == packet
        _extension(packet.extension, key)
    try:
        StampMtuCodec(now_ns=lambda: 0, error=lambda: _ERROR, key_of=sole_key(key)).read("192.0.2.1", data)
    except ProbeError:
        return


def _extension(data: bytes, key: StampKey | None) -> None:
    tlvs, rest = tlvs_from_bytes(data)
    assert b"".join(tlv.to_bytes() for tlv in tlvs) + rest == data
    usable_tlvs(data, 1, key)
    extension = ProbeExtension(data, 1, key)
    extension.sender_follow_up()
    assert 0 <= extension.reply_dscp(0) <= 63
    assert len(extension.answered(_ANSWERS, 1)) == len(data)
    value = extension.interface_report()
    if value is not None:
        try:
            report = InterfaceReport.from_value(value)
        except ProbeError:
            return
        InterfaceReport.from_value(report.to_value())


def seeds() -> list[bytes]:
    """Probes and replies with and without a key, and their extensions alone."""
    made = []
    for number, key in enumerate((None, KEY)):
        pair = Pair(key)
        for packet in (pair.probes[-1], pair.replies[-1]):
            made += [bytes((number,)) + packet, bytes((number | 4,)) + packet]
            made.append(bytes((number | 2,)) + packet[112 if key else 44 :])
    return made


TARGET = Target(one_input=one_input, seeds=seeds, max_bytes=1500)
