from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.stamp import (
    STAMPSessionReflectorTestUnauthenticated,
    STAMPSessionSenderTestUnauthenticated,
)

from prober.packet import (
    BASE_BYTES,
    FollowUp,
    ReflectorPacket,
    SenderFollowUp,
    SenderPacket,
    Tlv,
    TlvFlag,
    reflected_extension,
    sender_extension,
    tlvs_from_bytes,
)
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError

T1_NS = 1_700_000_000_123_456_789
ONE_MS = ErrorEstimate.from_int(0x8F84)
SENDER = SenderPacket(7, ntp_from_unix_ns(T1_NS), ONE_MS)
SENDER_VECTOR = bytes.fromhex("00000007e8fe6f801f9add378f84") + bytes(30)
REFLECTOR = ReflectorPacket(
    sequence=3,
    timestamp=ntp_from_unix_ns(T1_NS + 200_000),
    error=ONE_MS,
    received=ntp_from_unix_ns(T1_NS + 150_000),
    sender_sequence=7,
    sender_timestamp=SENDER.timestamp,
    sender_error=ONE_MS,
    sender_ttl=254,
)
REFLECTOR_VECTOR = bytes.fromhex(
    "00000003e8fe6f801fa7f8a88f840000e8fe6f801fa4b1cc00000007e8fe6f801f9add378f840000fe000000"
)

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
errors = st.integers(0, 0xFFFF).filter(lambda value: value & 0xFF).map(ErrorEstimate.from_int)
senders = st.builds(SenderPacket, u32, u64, errors, st.integers(0, 0xFFFF), st.binary(max_size=100))
reflectors = st.builds(
    ReflectorPacket,
    sequence=u32,
    timestamp=u64,
    error=errors,
    received=u64,
    sender_sequence=u32,
    sender_timestamp=u64,
    sender_error=errors,
    sender_ttl=st.integers(0, 255),
    ssid=st.integers(0, 0xFFFF),
    extension=st.binary(max_size=100),
)


def test_packets_are_the_octets_of_the_vectors() -> None:
    assert SENDER.to_bytes() == SENDER_VECTOR
    assert REFLECTOR.to_bytes() == REFLECTOR_VECTOR
    assert len(SENDER_VECTOR) == len(REFLECTOR_VECTOR) == BASE_BYTES


@given(senders)
def test_decoding_a_probe_reverses_encoding(packet: SenderPacket) -> None:
    assert SenderPacket.from_bytes(packet.to_bytes()) == packet


@given(reflectors)
def test_decoding_a_reply_reverses_encoding(packet: ReflectorPacket) -> None:
    assert ReflectorPacket.from_bytes(packet.to_bytes()) == packet


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_probe_error(data: bytes) -> None:
    decoded = 0
    for decode in (SenderPacket.from_bytes, ReflectorPacket.from_bytes):
        try:
            packet = decode(data)
        except ProbeError:
            continue
        assert packet.extension == data[BASE_BYTES:]
        decoded += 1
    assert decoded == 0 or len(data) >= 14


@pytest.mark.parametrize("size", [14, 15, 20, 43])
def test_a_twamp_light_probe_has_no_ssid_and_no_extension(size: int) -> None:
    packet = SenderPacket.from_bytes((SENDER_VECTOR[:14] + b"\xff" * 30)[:size])
    assert packet == SENDER


def test_too_short_packets_are_refused() -> None:
    with pytest.raises(ProbeError, match="14 octets"):
        SenderPacket.from_bytes(SENDER_VECTOR[:13])
    with pytest.raises(ProbeError, match="44 octets"):
        ReflectorPacket.from_bytes(REFLECTOR_VECTOR[:43])


def test_scapy_reads_our_packets_alike() -> None:
    sender = STAMPSessionSenderTestUnauthenticated(
        SENDER.to_bytes() + sender_extension(SenderFollowUp(1, 2, 3, 4))
    )
    assert (sender.seq, sender.ssid, sender.err_estimate.multiplier, sender.err_estimate.scale) == (7, 0, 0x84, 15)
    assert [tlv.type for tlv in sender.tlv_objects] == [7, 240]
    assert [len(tlv.value if isinstance(tlv.value, bytes) else b"") for tlv in sender.tlv_objects] == [16, 24]
    reply = STAMPSessionReflectorTestUnauthenticated(REFLECTOR.to_bytes())
    assert (reply.seq, reply.seq_sender, reply.ttl_sender) == (3, 7, 254)
    assert reply.ts_rx == pytest.approx(REFLECTOR.received / 2**32, rel=1e-9) or reply.ts_rx == REFLECTOR.received


@given(st.lists(st.builds(Tlv, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20)), max_size=5))
def test_tlvs_survive_the_wire(tlvs: list[Tlv]) -> None:
    assert tlvs_from_bytes(b"".join(tlv.to_bytes() for tlv in tlvs)) == (tuple(tlvs), b"")


@given(st.binary(max_size=80), st.builds(FollowUp, u32, u64))
def test_a_reflected_extension_has_the_size_of_the_senders(extension: bytes, previous: FollowUp) -> None:
    assert len(reflected_extension(extension, previous)) == len(extension)


def test_a_reflector_fills_the_follow_up_in_and_echoes_the_senders() -> None:
    told = SenderFollowUp(1, 2, 3, 4)
    probe = SenderPacket(7, 1, ONE_MS, extension=sender_extension(told))
    assert probe.sender_follow_up() == told
    answer = reflected_extension(probe.extension, FollowUp(9, 10))
    reply = ReflectorPacket.from_bytes(REFLECTOR.to_bytes() + answer)
    assert reply.follow_up() == FollowUp(9, 10)
    follow_up, echo = tlvs_from_bytes(answer)[0]
    assert (follow_up.flags, follow_up.value[12]) == (0, 2)
    assert (echo.flags, SenderFollowUp.from_value(echo.value)) == (0, told)


def test_a_reflector_without_extensions_gives_no_follow_up() -> None:
    copied = REFLECTOR.to_bytes() + sender_extension(SenderFollowUp())
    assert ReflectorPacket.from_bytes(copied).follow_up() is None
    assert REFLECTOR.follow_up() is None


def test_an_unknown_tlv_comes_back_unrecognized_and_a_broken_one_malformed() -> None:
    unknown = Tlv(TlvFlag.UNRECOGNIZED, 199, b"abc")
    padding = Tlv(TlvFlag.UNRECOGNIZED, 1, b"xyz")
    wrong_size = Tlv(TlvFlag.UNRECOGNIZED, 7, b"short")
    broken = b"\x80\x07\x00\x10half"
    extension = unknown.to_bytes() + padding.to_bytes() + wrong_size.to_bytes() + broken
    tlvs, rest = tlvs_from_bytes(reflected_extension(extension, FollowUp()))
    assert tlvs == (unknown, Tlv(0, 1, b"xyz"), Tlv(TlvFlag.MALFORMED, 7, b"short"))
    assert rest == bytes([0xC0]) + broken[1:]


def test_an_integrity_flag_voids_all_tlvs() -> None:
    extension = Tlv(TlvFlag.INTEGRITY, 1, b"").to_bytes() + Tlv(0, 7, FollowUp(1, 2).to_value()).to_bytes()
    assert ReflectorPacket.from_bytes(REFLECTOR.to_bytes() + extension).follow_up() is None


@pytest.mark.parametrize("padding", [bytes(40), b"\x12\x34" * 20, b"abc"])
def test_padding_of_a_sender_without_extensions_is_returned_unchanged(padding: bytes) -> None:
    assert reflected_extension(padding, FollowUp(1, 2)) == padding
    assert SenderPacket(1, 2, ONE_MS, extension=padding).sender_follow_up() is None


def test_follow_ups_of_a_wrong_length_are_refused() -> None:
    with pytest.raises(ProbeError, match="wrong length"):
        FollowUp.from_value(bytes(15))
    with pytest.raises(ProbeError, match="wrong length"):
        SenderFollowUp.from_value(bytes(25))
