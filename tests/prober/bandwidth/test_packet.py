from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.bandwidth.packet import (
    COOKIE_BYTES,
    MAGIC,
    PROBE_BYTES,
    REQUEST_BYTES,
    BandwidthPacket,
    Challenge,
    Refusal,
    StreamId,
    StreamProbe,
    StreamRefusal,
    StreamRequest,
    packet_from_bytes,
    stamp_probe,
)
from prober.bandwidth.trend import IP_UDP_BYTES, StreamShape
from schemas.errors import ProbeError

u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
streams = st.builds(StreamId, u64, u16)
cookies = st.binary(min_size=COOKIE_BYTES, max_size=COOKIE_BYTES)
least_bytes = PROBE_BYTES + IP_UDP_BYTES
shapes = st.builds(
    StreamShape, st.integers(2, 2**16 - 1), st.integers(least_bytes, 2**16 - 1), st.integers(1, 2**32 - 1)
)
requests = st.builds(StreamRequest, streams, shapes, cookies)
answers = st.builds(Challenge, streams, cookies) | st.builds(StreamRefusal, streams, st.sampled_from(Refusal), u32)
probes = st.builds(StreamProbe, streams, u32, u64, st.integers(least_bytes, 2000))


@given(requests | answers | probes)
def test_decoding_reverses_encoding(packet: BandwidthPacket) -> None:
    assert packet_from_bytes(packet.to_bytes()) == packet


@given(st.binary(max_size=100) | st.builds(MAGIC.__add__, st.binary(max_size=80)))
def test_any_bytes_are_a_packet_or_a_probe_error(data: bytes) -> None:
    try:
        packet = packet_from_bytes(data)
    except ProbeError as error:
        assert str(error)
    else:
        assert packet_from_bytes(packet.to_bytes()) == packet


@given(requests, answers)
def test_no_answer_is_larger_than_a_request(request: StreamRequest, answer: BandwidthPacket) -> None:
    assert len(answer.to_bytes()) <= len(request.to_bytes()) == REQUEST_BYTES


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no packet of the bandwidth test"),
        (b"ipb2" + bytes(60), "no packet of the bandwidth test"),
        (MAGIC + bytes([9]) + bytes(59), "unknown kind"),
        (MAGIC + bytes([1]) + bytes(58), "not 64 octets"),
        (MAGIC + bytes([1]) + bytes(59), "asks for no stream"),
        (MAGIC + bytes([2]) + bytes(30), "wrong length"),
        (MAGIC + bytes([3, 0]) + bytes(14), "unknown kind"),
        (MAGIC + bytes([4]) + bytes(22), "wrong length"),
    ],
)
def test_malformed_packets_are_told_apart(data: bytes, complaint: str) -> None:
    with pytest.raises(ProbeError, match=complaint):
        packet_from_bytes(data)


def test_a_request_is_the_octets_of_the_vector() -> None:
    request = StreamRequest(StreamId(0x0102030405060708, 7), StreamShape(100, 625, 400_000), bytes(range(16)))
    vector = "69706231 01000007 0102030405060708 0064 0271 00061a80 000102030405060708090a0b0c0d0e0f"
    assert request.to_bytes() == bytes.fromhex(vector).ljust(64, b"\0")


def test_a_probe_is_stamped_in_place() -> None:
    stream = StreamId(1, 2)
    data = bytearray(StreamProbe(stream, 0, 0, 200).to_bytes())
    stamp_probe(data, 99, 12345)
    assert packet_from_bytes(bytes(data)) == StreamProbe(stream, 99, 12345, 200)
    assert len(data) == 200 - IP_UDP_BYTES
