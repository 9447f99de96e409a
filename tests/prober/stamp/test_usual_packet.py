from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prober.interfaces.report import REPORT_OCTETS
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.probe_extension import Answers, ProbeExtension
from prober.stamp.tlv import FollowUp, SenderFollowUp, TlvType, sender_extension, usable_tlvs
from prober.stamp.usual_packet import UsualProbe, UsualReply
from prober.timestamp import ErrorEstimate

numbers = st.integers(0, 2**32 - 1)
stamps = st.integers(0, 2**64 - 1)
errors = st.builds(ErrorEstimate, st.booleans(), st.booleans(), st.integers(0, 63), st.integers(1, 255))
told = st.builds(SenderFollowUp, numbers, stamps, numbers, stamps)
reports = st.binary(min_size=REPORT_OCTETS, max_size=REPORT_OCTETS)
probes = st.builds(
    lambda sequence, timestamp, error, told, interfaces: SenderPacket(
        sequence, timestamp, error, extension=sender_extension(told, interfaces=interfaces)
    ),
    numbers,
    stamps,
    errors,
    told,
    st.just(b"") | reports,
)


def general_reply(packet: SenderPacket, answers: Answers, number: int, error: ErrorEstimate) -> bytes:
    return ReflectorPacket(
        sequence=number,
        timestamp=11,
        error=error,
        received=10,
        sender_sequence=packet.sequence,
        sender_timestamp=packet.timestamp,
        sender_error=packet.error,
        sender_ttl=254,
        extension=ProbeExtension(packet.extension).answered(answers, number),
    ).to_bytes()


@given(probes)
def test_a_usual_probe_is_read_as_by_the_general_way(packet: SenderPacket) -> None:
    usual = UsualProbe.from_bytes(packet.to_bytes())
    assert usual is not None
    extension = ProbeExtension(packet.extension)
    assert (usual.sequence, usual.timestamp, usual.estimate) == (packet.sequence, packet.timestamp, packet.error)
    assert (usual.told, usual.interfaces) == (extension.sender_follow_up(), extension.interface_report())


@given(probes, st.builds(FollowUp, numbers, stamps), reports, numbers, errors)
def test_a_usual_reply_is_written_and_read_as_by_the_general_way(
    packet: SenderPacket, previous: FollowUp, interfaces: bytes, number: int, error: ErrorEstimate
) -> None:
    usual = UsualProbe.from_bytes(packet.to_bytes())
    assert usual is not None
    data = usual.reply(
        number=number,
        timestamp=11,
        error=error.to_int(),
        received=10,
        ttl=254,
        previous=previous,
        interfaces=interfaces,
    )
    assert data == general_reply(packet, Answers(previous=previous, interfaces=interfaces), number, error)
    assert_read_alike(data)


def assert_read_alike(data: bytes) -> None:
    usual, packet = UsualReply.from_bytes(data), ReflectorPacket.from_bytes(data)
    assert usual is not None
    tlvs = {tlv.type: tlv.value for tlv in usable_tlvs(packet.extension, packet.sequence, None) or ()}
    assert usual.follow_up == FollowUp.from_value(tlvs[TlvType.FOLLOW_UP])
    assert usual.interfaces == tlvs.get(TlvType.INTERFACE_REPORT)
    for name in (
        "sequence",
        "timestamp",
        "error",
        "received",
        "sender_sequence",
        "sender_timestamp",
        "sender_ttl",
    ):
        assert getattr(usual, name) == getattr(packet, name)
    assert usual.ssid == packet.ssid


PROBE = SenderPacket(7, 8, ErrorEstimate.from_int(0x8F84), extension=sender_extension(SenderFollowUp(1, 2, 3, 4)))
LONG_PROBE = SenderPacket(
    7, 8, PROBE.error, extension=sender_extension(SenderFollowUp(1, 2, 3, 4), interfaces=bytes(REPORT_OCTETS))
)
LAYOUT_OF_PROBE = {12, 13, 14, 15, *range(44, 68), *range(92, 96)}
"""Octets of a probe that say what it is: error estimate and SSID, TLV 7, the heads of the other TLVs."""


@given(st.sampled_from([PROBE, LONG_PROBE]), st.data())
def test_what_is_not_usual_is_left_to_the_general_way(packet: SenderPacket, data: st.DataObject) -> None:
    octets = bytearray(packet.to_bytes())
    place = data.draw(
        st.sampled_from(sorted(place for place in LAYOUT_OF_PROBE - {12, 13} if place < len(octets)))
    )
    octets[place] ^= data.draw(st.integers(1, 255))
    assert UsualProbe.from_bytes(bytes(octets)) is None


@given(st.binary(max_size=200) | st.binary(min_size=92, max_size=92) | st.binary(min_size=120, max_size=120))
def test_any_octets_are_a_usual_packet_or_none(data: bytes) -> None:
    probe, reply = UsualProbe.from_bytes(data), UsualReply.from_bytes(data)
    if probe:
        assert SenderPacket.from_bytes(data).sequence == probe.sequence
    if reply:
        assert_read_alike(data)


def test_packets_of_other_sizes_and_with_a_corrupt_error_estimate_are_not_usual() -> None:
    for packet in (PROBE, LONG_PROBE):
        data = packet.to_bytes()
        assert UsualProbe.from_bytes(data) is not None
        assert UsualProbe.from_bytes(data[:-1]) is UsualProbe.from_bytes(data + b"\0") is None
        assert UsualProbe.from_bytes(data[:13] + b"\0" + data[14:]) is None
        reply = general_reply(packet, Answers(), 5, packet.error)
        assert UsualReply.from_bytes(reply) is not None
        assert UsualReply.from_bytes(reply[:-1]) is UsualReply.from_bytes(reply + b"\0") is None
        for corrupt in (13, 37):  # of the reflector, and of the sender
            assert UsualReply.from_bytes(reply[:corrupt] + b"\0" + reply[corrupt + 1 :]) is None
        for head in (15, 45, 65):
            assert UsualReply.from_bytes(reply[:head] + b"\x80" + reply[head + 1 :]) is None
