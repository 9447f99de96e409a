from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.interfaces.report import REPORT_OCTETS
from prober.stamp.authentication import StampKey
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.probe_extension import Answers, ProbeExtension
from prober.stamp.tlv import (
    ClassOfService,
    FollowUp,
    SenderFollowUp,
    TlvType,
    padding_tlv,
    sender_extension,
    usable_tlvs,
)
from prober.stamp.usual_packet import UsualProbe, UsualReply, usual_probe
from prober.timestamp import ErrorEstimate

numbers = st.integers(0, 2**32 - 1)
stamps = st.integers(0, 2**64 - 1)
errors = st.builds(ErrorEstimate, st.booleans(), st.booleans(), st.integers(0, 63), st.integers(1, 255))
told = st.builds(SenderFollowUp, numbers, stamps, numbers, stamps)
reports = st.binary(min_size=REPORT_OCTETS, max_size=REPORT_OCTETS)
KEY = StampKey(bytes(range(32)), accepted=[bytes(32)])
OTHER = StampKey(bytes(32), accepted=[bytes(range(32))])
"""The same secrets while they change."""
STRANGE = StampKey(bytes([1]) * 32)
MODES = pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
Packet = Callable[[StampKey | None], SenderPacket]
"""A probe of either mode, in which the TLVs differ."""


def usual_packet(
    sequence: int, timestamp: int, error: ErrorEstimate, told: SenderFollowUp, interfaces: bytes
) -> Packet:
    def packet(key: StampKey | None) -> SenderPacket:
        extension = sender_extension(told, interfaces=interfaces, sequence=sequence, key=key)
        return SenderPacket(sequence, timestamp, error, extension=extension)

    return packet


probes = st.builds(usual_packet, numbers, stamps, errors, told, st.just(b"") | reports)


def general_reply(
    packet: SenderPacket, answers: Answers, number: int, error: ErrorEstimate, key: StampKey | None
) -> bytes:
    return ReflectorPacket(
        sequence=number,
        timestamp=11,
        error=error,
        received=10,
        sender_sequence=packet.sequence,
        sender_timestamp=packet.timestamp,
        sender_error=packet.error,
        sender_ttl=254,
        extension=ProbeExtension(packet.extension, packet.sequence, key).answered(answers, number),
    ).to_bytes(key)


@MODES
@given(numbers, stamps, errors, told, st.just(b"") | reports)
def test_a_usual_probe_is_written_as_by_the_general_way(
    key: StampKey | None,
    sequence: int,
    timestamp: int,
    error: ErrorEstimate,
    told: SenderFollowUp,
    interfaces: bytes,
) -> None:
    data = usual_probe(
        sequence=sequence, timestamp=timestamp, error=error.to_int(), told=told, interfaces=interfaces, key=key
    )
    assert data == usual_packet(sequence, timestamp, error, told, interfaces)(key).to_bytes(key)


@MODES
@given(probe=probes)
def test_a_usual_probe_is_read_as_by_the_general_way(key: StampKey | None, probe: Packet) -> None:
    packet = probe(key)
    usual = UsualProbe.from_bytes(packet.to_bytes(key), key)
    assert usual is not None
    extension = ProbeExtension(packet.extension, packet.sequence, key)
    assert (usual.sequence, usual.timestamp, usual.estimate) == (packet.sequence, packet.timestamp, packet.error)
    assert (usual.told, usual.interfaces) == (extension.sender_follow_up(), extension.interface_report())


@MODES
@given(
    probe=probes,
    previous=st.builds(FollowUp, numbers, stamps),
    interfaces=reports,
    number=numbers,
    error=errors,
)
def test_a_usual_reply_is_written_and_read_as_by_the_general_way(
    key: StampKey | None,
    probe: Packet,
    previous: FollowUp,
    interfaces: bytes,
    number: int,
    error: ErrorEstimate,
) -> None:
    packet = probe(key)
    usual = UsualProbe.from_bytes(packet.to_bytes(key), key)
    assert usual is not None
    data = usual.reply(
        number=number,
        timestamp=11,
        error=error.to_int(),
        received=10,
        ttl=254,
        previous=previous,
        interfaces=interfaces,
        key=key,
    )
    assert data == general_reply(packet, Answers(previous=previous, interfaces=interfaces), number, error, key)
    assert_read_alike(data, key)


def assert_read_alike(data: bytes, key: StampKey | None) -> None:
    usual, packet = UsualReply.from_bytes(data, key), ReflectorPacket.from_bytes(data, key)
    assert usual is not None
    tlvs = {tlv.type: tlv.value for tlv in usable_tlvs(packet.extension, packet.sequence, key) or ()}
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


TOLD, ERROR = SenderFollowUp(1, 2, 3, 4), ErrorEstimate.from_int(0x8F84)
ZERO = replace(ERROR, multiplier=0)
PROBE = usual_packet(7, 8, ERROR, TOLD, b"")
LONG_PROBE = usual_packet(7, 8, ERROR, TOLD, bytes(REPORT_OCTETS))
LAYOUT_OF_PROBE = (14, 15, *range(44, 68), *range(92, 96))
"""Octets of a probe that say what it is: SSID, TLV 7, the heads of the other TLVs."""


@given(st.sampled_from([PROBE, LONG_PROBE]), st.data())
def test_what_is_not_usual_is_left_to_the_general_way(probe: Packet, data: st.DataObject) -> None:
    octets = bytearray(probe(None).to_bytes())
    place = data.draw(st.sampled_from([place for place in LAYOUT_OF_PROBE if place < len(octets)]))
    octets[place] ^= data.draw(st.integers(1, 255))
    assert UsualProbe.from_bytes(bytes(octets)) is None


@given(st.sampled_from([PROBE, LONG_PROBE]), st.data())
def test_an_authenticated_packet_of_which_any_bit_is_another_is_not_usual(
    probe: Packet, data: st.DataObject
) -> None:
    packet = probe(KEY)
    reply = general_reply(packet, Answers(), 5, ERROR, KEY)
    place, bit = data.draw(st.integers(0, len(reply) - 1)), 1 << data.draw(st.integers(0, 7))
    assert UsualProbe.from_bytes(changed(packet.to_bytes(KEY), place, bit), KEY) is None
    assert UsualReply.from_bytes(changed(reply, place, bit), KEY) is None


def changed(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes((data[place] ^ bit,)) + data[place + 1 :]


@given(probes)
def test_an_ssid_or_other_tlvs_under_right_tags_are_not_usual(probe: Packet) -> None:
    packet = probe(KEY)
    unsealed = probe(None).extension
    marked = sender_extension(
        TOLD, class_of_service=ClassOfService(wanted_dscp=0), sequence=packet.sequence, key=KEY
    )
    for other in (
        replace(packet, ssid=1),
        replace(packet, extension=unsealed),
        replace(packet, extension=unsealed + bytes(20)),
        replace(packet, extension=marked),
        replace(packet, extension=packet.extension + padding_tlv(28, b"noise")),
    ):
        assert UsualProbe.from_bytes(other.to_bytes(KEY), KEY) is None


def test_the_mode_and_the_secrets_decide_which_packets_are_usual() -> None:
    for probe in (PROBE, LONG_PROBE):
        packet = probe(KEY)
        sealed, plain = packet.to_bytes(KEY), probe(None).to_bytes()
        reply, plain_reply = (general_reply(probe(key), Answers(), 5, ERROR, key) for key in (KEY, None))
        assert UsualProbe.from_bytes(sealed, OTHER) and UsualReply.from_bytes(reply, OTHER)
        assert UsualProbe.from_bytes(sealed, STRANGE) is None
        assert UsualReply.from_bytes(reply, STRANGE) is None
        assert UsualProbe.from_bytes(sealed) is None
        assert UsualReply.from_bytes(reply) is None
        assert UsualProbe.from_bytes(plain, KEY) is None
        assert UsualReply.from_bytes(plain_reply, KEY) is None


@given(
    st.binary(max_size=250)
    | st.sampled_from((92, 120, 180, 208)).flatmap(lambda n: st.binary(min_size=n, max_size=n))
)
def test_any_octets_are_a_usual_packet_or_none(data: bytes) -> None:
    probe, reply = UsualProbe.from_bytes(data), UsualReply.from_bytes(data)
    if probe:
        assert SenderPacket.from_bytes(data).sequence == probe.sequence
    if reply:
        assert_read_alike(data, None)
    assert UsualProbe.from_bytes(data, KEY) is None
    assert UsualReply.from_bytes(data, KEY) is None


@MODES
def test_packets_of_other_sizes_and_with_a_corrupt_error_estimate_are_not_usual(key: StampKey | None) -> None:
    for probe in (PROBE, LONG_PROBE):
        packet = probe(key)
        data = packet.to_bytes(key)
        assert UsualProbe.from_bytes(data, key) is not None
        for other in (data[:-1], data + b"\0", b""):
            assert UsualProbe.from_bytes(other, key) is None
            assert UsualReply.from_bytes(other, key) is None
        corrupt = replace(packet, error=ZERO).to_bytes(key)
        assert UsualProbe.from_bytes(corrupt, key) is None
        reply = general_reply(packet, Answers(), 5, ERROR, key)
        assert UsualReply.from_bytes(reply, key) is not None
        assert UsualReply.from_bytes(reply[:-1], key) is UsualReply.from_bytes(reply + b"\0", key) is None
        for one in (
            general_reply(packet, Answers(), 5, ZERO, key),
            general_reply(replace(packet, error=ZERO), Answers(), 5, ERROR, key),
        ):
            assert UsualReply.from_bytes(one, key) is None


def test_replies_with_flagged_tlvs_are_not_usual() -> None:
    for probe in (PROBE, LONG_PROBE):
        reply = general_reply(probe(None), Answers(), 5, ERROR, None)
        for head in (15, 44, 64, *([92] if len(reply) > 92 else [])):
            assert UsualReply.from_bytes(reply[:head] + b"\x80" + reply[head + 1 :]) is None
