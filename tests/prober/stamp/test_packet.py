from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.authentication import StampKey
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import (
    AUTHENTICATED_BASE_BYTES,
    BASE_BYTES,
    MAX_PACKET_BYTES,
    ReflectorPacket,
    SenderPacket,
    probe_ssid,
)
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError

KEY = StampKey(bytes(range(32)))
T1_NS = 1_700_000_000_123_456_789
ONE_MS = ErrorEstimate.from_int(0x8F84)
SENDER = SenderPacket(7, ntp_from_unix_ns(T1_NS), ONE_MS)
SENDER_VECTOR = bytes.fromhex("00000007e8fe6f801f9add378f84") + bytes(30)
SENDER_AUTHENTICATED_VECTOR = (
    bytes.fromhex("00000007")
    + bytes(12)
    + bytes.fromhex("e8fe6f801f9add378f84")
    + bytes(70)
    + bytes.fromhex("f19492e116ffcbf8e05e3cc38e4ce573")
)
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
REFLECTOR_AUTHENTICATED_VECTOR = (
    bytes.fromhex("00000003")
    + bytes(12)
    + bytes.fromhex("e8fe6f801fa7f8a88f840000")
    + bytes(4)
    + bytes.fromhex("e8fe6f801fa4b1cc")
    + bytes(8)
    + bytes.fromhex("00000007")
    + bytes(12)
    + bytes.fromhex("e8fe6f801f9add378f84")
    + bytes(6)
    + bytes.fromhex("fe")
    + bytes(15)
    + bytes.fromhex("552df197a913eb37877022a3eb5f87a7")
)

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
errors = st.integers(0, 0xFFFF).filter(lambda value: value & 0xFF).map(ErrorEstimate.from_int)
keys = st.sampled_from([None, KEY])
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


def fault(data: bytes, key: StampKey | None, packet: type[SenderPacket] | type[ReflectorPacket]) -> str:
    with pytest.raises(ProbeError) as refused:
        packet.from_bytes(data, key)
    return str(refused.value)


def test_packets_are_the_octets_of_the_vectors_in_both_modes() -> None:
    assert SENDER.to_bytes() == SENDER_VECTOR
    assert REFLECTOR.to_bytes() == REFLECTOR_VECTOR
    assert len(SENDER_VECTOR) == len(REFLECTOR_VECTOR) == BASE_BYTES
    assert SENDER.to_bytes(KEY) == SENDER_AUTHENTICATED_VECTOR
    assert REFLECTOR.to_bytes(KEY) == REFLECTOR_AUTHENTICATED_VECTOR
    assert len(SENDER_AUTHENTICATED_VECTOR) == len(REFLECTOR_AUTHENTICATED_VECTOR) == AUTHENTICATED_BASE_BYTES


def test_the_octets_of_the_vectors_are_packets_in_both_modes() -> None:
    assert SenderPacket.from_bytes(SENDER_VECTOR) == SENDER
    assert SenderPacket.from_bytes(SENDER_AUTHENTICATED_VECTOR, KEY) == SENDER
    assert ReflectorPacket.from_bytes(REFLECTOR_VECTOR) == REFLECTOR
    assert ReflectorPacket.from_bytes(REFLECTOR_AUTHENTICATED_VECTOR, KEY) == REFLECTOR


@given(senders, keys)
def test_decoding_a_probe_reverses_encoding(packet: SenderPacket, key: StampKey | None) -> None:
    data = packet.to_bytes(key)
    if key or data[4:16] != bytes(12):
        assert SenderPacket.from_bytes(data, key) == packet
        assert probe_ssid(data, key) == packet.ssid


@given(reflectors, keys)
def test_decoding_a_reply_reverses_encoding(packet: ReflectorPacket, key: StampKey | None) -> None:
    assert ReflectorPacket.from_bytes(packet.to_bytes(key), key) == packet


@given(st.binary(max_size=200), keys)
def test_any_bytes_decode_or_raise_a_probe_error_of_a_known_kind(data: bytes, key: StampKey | None) -> None:
    decoded = 0
    for packet in (SenderPacket, ReflectorPacket):
        try:
            packet.from_bytes(data, key)
            decoded += 1
        except ProbeError as error:
            assert str(error) in list(ProbeFault)
    assert decoded == 0 or len(data) >= 14


@pytest.mark.parametrize("size", [14, 15, 20, 43])
def test_a_twamp_light_probe_has_no_ssid_and_no_extension(size: int) -> None:
    packet = SenderPacket.from_bytes((SENDER_VECTOR[:14] + b"\xff" * 30)[:size])
    assert packet == SENDER


@pytest.mark.parametrize(("size", "ttl"), [(38, 0), (40, 0), (41, 254), (42, 254), (43, 254)])
def test_a_twamp_light_reply_may_end_with_the_ttl_or_before_it(size: int, ttl: int) -> None:
    assert ReflectorPacket.from_bytes(REFLECTOR_VECTOR[:size]) == replace(REFLECTOR, sender_ttl=ttl)


def test_packets_of_a_wrong_size_are_refused() -> None:
    assert fault(SENDER_VECTOR[:13], None, SenderPacket) == "probe-too-short"
    assert fault(REFLECTOR_VECTOR[:37], None, ReflectorPacket) == "reply-too-short"
    for key in (None, KEY):
        for packet in (SENDER, REFLECTOR):
            longest = replace(packet, extension=bytes(MAX_PACKET_BYTES - len(packet.to_bytes(key)))).to_bytes(key)
            assert type(packet).from_bytes(longest, key).sequence == packet.sequence
            assert fault(longest + b"\0", key, type(packet)) == "packet-too-long"


def test_a_zero_multiplier_is_corrupt_wherever_it_stands() -> None:
    for place, packet in ((13, SenderPacket), (13, ReflectorPacket), (37, ReflectorPacket)):
        data = bytearray(SENDER_VECTOR if packet is SenderPacket else REFLECTOR_VECTOR)
        data[place] = 0
        assert fault(bytes(data), None, packet) == "error-multiplier-zero"


def test_with_a_key_only_packets_with_its_tag_are_taken() -> None:
    other = StampKey(bytes(32))
    for packet, vector in (
        (SenderPacket, SENDER_AUTHENTICATED_VECTOR),
        (ReflectorPacket, REFLECTOR_AUTHENTICATED_VECTOR),
    ):
        assert fault(vector, other, packet) == "wrong-authentication"
        assert fault(vector[:111], KEY, packet) == "not-authenticated"
        assert fault(SENDER_VECTOR, KEY, packet) == "not-authenticated"
        assert fault(SENDER_VECTOR + bytes(100), KEY, packet) == "wrong-authentication"


@given(st.integers(0, AUTHENTICATED_BASE_BYTES * 8 - 1))
def test_no_bit_of_an_authenticated_packet_can_be_changed(bit: int) -> None:
    for packet, vector in (
        (SenderPacket, SENDER_AUTHENTICATED_VECTOR),
        (ReflectorPacket, REFLECTOR_AUTHENTICATED_VECTOR),
    ):
        data = bytearray(vector)
        data[bit // 8] ^= 1 << bit % 8
        assert fault(bytes(data), KEY, packet) == "wrong-authentication"


def test_must_be_zero_octets_may_hold_anything_that_is_authenticated() -> None:
    protected = bytearray(SENDER_AUTHENTICATED_VECTOR[:96])
    protected[4:16] = b"\xaa" * 12
    protected[28:96] = b"\x55" * 68
    assert SenderPacket.from_bytes(bytes(protected) + KEY.tag(bytes(protected)), KEY) == SENDER


def test_without_a_key_authenticated_packets_are_refused_as_what_they_are() -> None:
    assert fault(SENDER_AUTHENTICATED_VECTOR, None, SenderPacket) == "unexpectedly-authenticated"
    assert fault(REFLECTOR_AUTHENTICATED_VECTOR, None, ReflectorPacket) == "unexpectedly-authenticated"
