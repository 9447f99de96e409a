from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.clock_state import ClockState
from prober.path_mtu.codec import StampMtuCodec
from prober.segment import Event, Segment
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.datagram import Datagram
from prober.stamp.packet import MAX_PACKET_BYTES
from prober.stamp.reflector import Reflector
from prober.timestamp import NS_PER_S, ErrorEstimate
from schemas.errors import ProbeError

NOW_NS = 1_800_000_000 * NS_PER_S
KEY = StampKey(bytes(range(32)))
PEER = "10.0.0.1"


def codec(key: StampKey | None = None) -> StampMtuCodec:
    error = ErrorEstimate.of(60_000, synchronized=True)
    return StampMtuCodec(now_ns=lambda: NOW_NS, error=lambda: error, key_of=sole_key(key))


def reflected(data: bytes, key: StampKey | None, segment: Segment | None = None) -> bytes:
    reply = Reflector(lambda _: segment, key_of=sole_key(key), faults=Counter()).probe_received(
        Datagram(data, "10.0.0.1", 40_000, 255, NOW_NS),
        now_ns=NOW_NS,
        clock=ClockState(synchronized=True, error_ms=0.1),
    )
    assert reply is not None
    return reply.data


@given(st.integers(0, (1 << 32) - 1), st.integers(116, MAX_PACKET_BYTES), st.sampled_from([None, KEY]))
def test_a_probe_and_its_reply_have_the_size_that_is_searched_for(
    sequence: int, size: int, key: StampKey | None
) -> None:
    probe = codec(key).write(PEER, sequence, size)
    reply = reflected(probe, key)
    assert len(probe) == len(reply) == size
    assert codec(key).read(PEER, reply) == sequence


def test_the_probes_are_no_samples_of_the_segment() -> None:
    segment = Segment("10.0.0.1")
    reflected(codec().write(PEER, 5, 1400), None, segment)
    assert segment.events[Event.RECEIVED] == 0
    assert segment.hops is None


def test_replies_of_other_sessions_and_keys_are_none() -> None:
    reply = bytearray(reflected(codec().write(PEER, 5, 200), None))
    reply[14:16] = b"\0\0"
    assert codec().read(PEER, bytes(reply)) is None
    with pytest.raises(ProbeError):
        codec(KEY).read(PEER, reflected(codec().write(PEER, 5, 200), None))


@given(st.binary(max_size=200))
def test_any_octets_are_a_number_or_none_or_a_probe_error(data: bytes) -> None:
    try:
        number = codec().read(PEER, data)
    except ProbeError:
        return
    assert number is None or 0 <= number < 1 << 32
