"""A path with more records than one small datagram holds, on the real kernel path."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.payload import message_from_payload
from schemas.result import ResultStatus
from tests.overlay.capture import Interface, capturing
from tests.overlay.network import Network, eventually, network, points_of, start

pytestmark = pytest.mark.netns

MTU_BYTES = 576
POINTS = [f"p{number}" for number in range(1, 15)]
CHAIN = {
    "nodes": {name: {"point": True} for name in POINTS},
    "links": [{"a": a, "b": b, "delay_ms": 1} for a, b in pairwise(POINTS)],
}


@pytest.fixture(scope="module")
def chain() -> Iterator[Network]:
    with network(CHAIN) as net:
        for name in POINTS:
            for plan in net.lab.addressing.links_of(name):
                interface = plan.end_of(name).interface
                assert net.run(name, "ip", "link", "set", interface, "mtu", str(MTU_BYTES)).exit_code == 0
        start(net)
        yield net


def handed_over(net: Network) -> int:
    """Reports that points on the way have sent ahead, so far."""
    counters = [net.status(name)["packet_process"]["counters"] for name in POINTS]
    return sum(counter.get("handed_over", 0) for counter in counters)


def test_the_records_of_a_long_path_come_in_parts_and_no_datagram_is_cut(chain: Network, tmp_path: Path) -> None:
    assert chain.status("p1")["host"]["smallest_mtu_bytes"] == MTU_BYTES
    chain.await_answer(POINTS[0], POINTS[-1], POINTS, within_s=60)
    before = handed_over(chain)
    # Every second node sees every link.
    ends = [Interface(name, far) for name in POINTS[1::2] for far in neighbors(name)]
    with capturing(chain, ends, "udp port 49862 or ip[6:2] & 0x3fff != 0", tmp_path) as captures:
        result = chain.ask(POINTS[0], POINTS[-1])
        captures.await_packets()
    assert result.status is ResultStatus.COMPLETE
    assert points_of(result) == tuple(chain.address(name) for name in POINTS)
    assert all(metric.value is not None for metric in result.composed.values())

    frames = captures.frames()
    assert {interface for interface, _ in frames} == set(ends)
    assert all((frame["ip.flags.mf"], frame["ip.frag_offset"]) == ("0", "0") for _, frame in frames)
    assert {frame["ip.checksum.status"] + frame["udp.checksum.status"] for _, frame in frames} == {"11"}
    assert max(int(frame["ip.len"]) for _, frame in frames) <= MTU_BYTES
    parts = {message_from_payload(bytes.fromhex(frame["udp.payload"])).request.part for _, frame in frames}
    assert parts == set(range(max(parts) + 1)) and len(parts) > 1
    eventually(lambda: handed_over(chain) >= before + len(parts) - 1, "counted hand-overs", within_s=5)


def test_the_sum_of_many_segments_is_near_the_truth(chain: Network) -> None:
    result = chain.await_answer(POINTS[0], POINTS[-1], POINTS, within_s=60)
    truth = chain.lab.truth(POINTS[0], POINTS[-1])
    assert truth.hops == 13
    minima_ms = [float(segment.metrics["delay"]["minimum_ms"] or 0) for segment in result.segments]
    # The least delay of a segment is that of its link and a little of the machine's own.
    assert min(minima_ms) > 0.9
    assert max(minima_ms) < 2
    delay_ms = result.composed["delay"].value
    assert delay_ms is not None and truth.delay_ms is not None
    assert truth.delay_ms <= delay_ms < truth.delay_ms + 13


def neighbors(name: str) -> list[str]:
    index = POINTS.index(name)
    return [POINTS[near] for near in (index - 1, index + 1) if 0 <= near < len(POINTS)]
