from __future__ import annotations

import time

from mp.config import configuration_from_toml
from mp.host import HostState
from mp.keys.probe_keys import ProbeKeys
from mp.segments import QUIET_TURNS, Segments, Told
from prober.stamp.datagram import Datagram
from prober.stamp.packet import SenderPacket
from prober.timestamp import NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from schemas.keyring import NO_KEYS
from schemas.metrics import METRICS

OWN = "10.0.0.1"
PEERS = tuple(f"10.0.0.{number}" for number in range(10, 17))


def measured_segments() -> Segments:
    """Those of a point that was probed by all peers during the last second."""
    configuration = configuration_from_toml(f'[point]\naddress = "{OWN}"\n')
    assert configuration.point is not None
    host = HostState(addresses=(OWN,), smallest_mtu_bytes=1500)
    keys = ProbeKeys(NO_KEYS)
    segments = Segments(configuration, configuration.point, host, plugins=(), registry=METRICS, keys=keys)
    for number in range(12):
        for peer in PEERS:
            hear(segments, peer, number, time.time_ns() - (12 - number) * NS_PER_S // 10)
    return segments


def hear(segments: Segments, peer: str, number: int, at_ns: int) -> None:
    error = ErrorEstimate.from_int(0x8F84)
    data = SenderPacket(number, ntp_from_unix_ns(at_ns), error).to_bytes()
    segments.prober.probe_received(Datagram(data, peer, 5000, 255, at_ns + 1_000_000), at_ns + 1_000_000)


def computed_anew(segments: Segments, before: dict[str, Told]) -> set[str]:
    """In one turn; `before` is kept up."""
    known = dict(segments.known())
    assert known.keys() == set(PEERS)
    anew = {peer for peer, told in known.items() if told is not before.get(peer)}
    before.update(known)
    return anew


def test_of_the_segments_that_nobody_asks_for_each_is_told_anew_at_every_third_turn() -> None:
    segments, before = measured_segments(), dict[str, Told]()
    assert computed_anew(segments, before) == set(PEERS)
    for _ in range(3):
        turns = [computed_anew(segments, before) for _ in range(QUIET_TURNS)]
        assert set().union(*turns) == set(PEERS)
        assert max(map(len, turns)) <= -(-len(PEERS) // QUIET_TURNS)


def test_a_segment_that_a_request_asked_for_is_told_anew_at_every_turn() -> None:
    segments, before = measured_segments(), dict[str, Told]()
    computed_anew(segments, before)
    segments.asked(PEERS[3], ("delay",), hello=False)
    segments.asked(PEERS[5], ("delay",), hello=True)
    turns = [computed_anew(segments, before) for _ in range(QUIET_TURNS)]
    assert all(PEERS[3] in turn for turn in turns)
    assert not all(PEERS[5] in turn for turn in turns)


def test_what_is_told_is_what_the_segment_holds_then() -> None:
    segments = measured_segments()
    newest_ms, metrics = segments.known()[PEERS[0]]
    segment = segments.prober.segment(PEERS[0])
    assert segment is not None and segment.newest_sample_at_ns is not None
    assert newest_ms == segment.newest_sample_at_ns // 1_000_000
    assert {"delay", "hops"} <= metrics.keys()
