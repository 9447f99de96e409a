"""Points that nobody told of each other: how they meet, follow the routes, fall asleep and wake."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.points import point_files
from mp.daemon import HOUSEKEEPING_S
from prober.segment import Role
from prober.stamp.packet import STAMP_PORT
from requestor.query import DEFAULT_METRICS
from schemas.message import MEASUREMENT_PORT, SegmentState
from schemas.result import ResultStatus
from tests.overlay.capture import Captures, Interface, capturing
from tests.overlay.network import PROBES_PER_S, Network, eventually, network, points_of, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

HELLO_S = 1
MEET_S = 6.0
"""First hellos, one retry, and the samples without which a segment is not measured."""
SLEEP_AFTER_S = 2.0
QUIET_S = 1.5
"""At 40 probes a second, silence for so long is no chance."""
MOST_SILENCE_S = 4.5
"""While the other end takes over: 2 s to notice that nobody probes (prober.neighbor), and a busy machine."""
FRESH_S = 5.0
"""Younger samples are given whatever age is accepted (processor.segment_table)."""

ROW = {
    "nodes": {"a": {"point": True}, "r": {}, "b": {"point": True}, "s": {}, "c": {"point": True}},
    "links": [
        {"a": "a", "b": "r", "delay_ms": 2},
        {"a": "r", "b": "b", "delay_ms": 2},
        {"a": "b", "b": "s", "delay_ms": 3},
        {"a": "s", "b": "c", "delay_ms": 3},
    ],
}
TWO_WAYS = {
    "routing": "ospf",
    "nodes": {name: {"point": True} for name in ("a", "m", "n", "b")},
    "links": [
        {"a": "a", "b": "m", "delay_ms": 2},
        {"a": "m", "b": "b", "delay_ms": 2},
        {"a": "a", "b": "n", "delay_ms": 5, "cost": 20},
        {"a": "n", "b": "b", "delay_ms": 5, "cost": 20},
    ],
}


def seek(net: Network, **destinations: Sequence[str]) -> None:
    """Configure points that know no neighbor, but whereto they are to look for them."""
    for node, sought in destinations.items():
        discovery = {"destinations": [net.address(name) for name in sought], "interval_s": HELLO_S}
        configure(net, node, {"probe": {"neighbors": []}, "discovery": discovery})


def neighbor_of(net: Network, node: str, neighbor: str) -> dict[str, Any] | None:
    """What a point says of one of its neighbors."""
    listed: list[dict[str, Any]] = net.status(node)["neighbors"]
    return next((one for one in listed if one["address"] == net.address(neighbor)), None)


def roles(net: Network, one: str, other: str) -> set[str]:
    """What the two ends of a segment say that they are."""
    ends = (neighbor_of(net, one, other), neighbor_of(net, other, one))
    return {end["role"] for end in ends if end is not None}


def streams(captures: Captures) -> Counter[tuple[Interface, str, str]]:
    """Packets to reflectors, by where they were seen, their source and its port."""
    return Counter(
        (interface, frame["ip.src"], frame["udp.srcport"])
        for interface, frame in captures.frames(f"udp.dstport == {STAMP_PORT}")
    )


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    with network(ROW) as net:
        seek(net, a=["c"], b=["a", "c"], c=["a"])
        yield net


@pytest.fixture
def strangers(row: Network) -> Iterator[Network]:
    """The row with its points just started; b first, or a and c would meet past it."""
    for node in ("b", "a", "c"):
        row.lab.start_point(node)
    yield row
    for node in ("a", "b", "c"):
        row.lab.stop_point(node)


def test_points_without_neighbors_find_each_other_and_measure_each_segment_once(
    strangers: Network, tmp_path: Path
) -> None:
    def are_measured() -> bool:
        ends = (neighbor_of(strangers, "b", "a"), neighbor_of(strangers, "c", "b"))
        return all(end is not None and end["last_60_s"].keys() >= set(DEFAULT_METRICS) for end in ends)

    eventually(are_measured, "segments that are measured", within_s=MEET_S)
    time.sleep(HOUSEKEEPING_S)  # until then the packet processes do not know
    first = strangers.ask("a", "c")
    assert first.status is ResultStatus.COMPLETE
    assert points_of(first) == tuple(map(strangers.address, "abc"))

    for pair in ("ab", "bc"):
        assert roles(strangers, *pair) == {Role.SENDER, Role.REFLECTOR}
    wires = [Interface("b", "r"), Interface("b", "s")]
    with capturing(strangers, wires, f"udp port {STAMP_PORT}", tmp_path) as captures:
        time.sleep(QUIET_S)
    # Besides sessions there are a few probes of the path MTU, each from a port of its own.
    sessions = [stream for stream, packets in streams(captures).items() if packets > QUIET_S * PROBES_PER_S / 4]
    assert [interface for interface, _, _ in sorted(sessions, key=str)] == wires
    met = {node: {one["address"] for one in strangers.status(node)["neighbors"]} for node in "abc"}
    assert met == {
        "a": {strangers.address("b")},
        "b": {strangers.address("a"), strangers.address("c")},
        "c": {strangers.address("b")},
    }
    assert strangers.status("a")["discovery"] == {strangers.address("c"): strangers.address("b")}


@pytest.fixture
def sleepy(row: Network) -> Iterator[Network]:
    """The row with points that soon fall asleep."""
    for node in ("a", "b", "c"):
        # What was asked for is kept for others to hear, too.
        configure(row, node, {"probe": {"sleep_after_s": SLEEP_AFTER_S}, "knowledge": {"enabled": False}})
    start(row)
    yield row
    for node in ("a", "b", "c"):
        row.lab.stop_point(node)


@pytest.mark.slow
def test_a_segment_that_nobody_asks_for_sleeps_and_the_next_request_wakes_it(
    sleepy: Network, tmp_path: Path
) -> None:
    def complete() -> bool:
        return sleepy.ask("a", "c").status is ResultStatus.COMPLETE

    eventually(complete, "a complete answer", within_s=MEET_S)
    # Hellos go on, but nobody asks for a value.
    eventually(
        lambda: all(roles(sleepy, *pair) == {Role.ASLEEP} for pair in ("ab", "bc")),
        "all ends asleep",
        within_s=5 * SLEEP_AFTER_S,
    )
    wires = [Interface("b", "r"), Interface("b", "s")]
    with capturing(sleepy, wires, f"udp port {STAMP_PORT} or udp port {MEASUREMENT_PORT}", tmp_path) as captures:
        time.sleep(QUIET_S)
    assert captures.frames(f"udp.port == {STAMP_PORT}") == []
    assert captures.frames(f"udp.port == {MEASUREMENT_PORT}"), "hellos go on"

    time.sleep(FRESH_S - QUIET_S)
    woken = sleepy.inpath("a", "request", "a", "c", "--max-age", "1", "--json")
    assert woken.exit_code == 5
    assert {segment["state"] for segment in woken.document()["segments"]} == {SegmentState.PENDING}

    def again() -> bool:
        return sleepy.inpath("a", "request", "a", "c", "--max-age", "1", "--json").exit_code == 0

    eventually(again, "a complete answer of woken segments", within_s=MEET_S)
    assert all(roles(sleepy, *pair) == {Role.SENDER, Role.REFLECTOR} for pair in ("ab", "bc"))


@pytest.mark.slow
def test_a_segment_that_is_asked_for_again_and_again_stays_awake(sleepy: Network) -> None:
    eventually(lambda: sleepy.ask("a", "c").status is ResultStatus.COMPLETE, "a complete answer", within_s=MEET_S)
    until_s = time.monotonic() + 2.5 * SLEEP_AFTER_S
    while time.monotonic() < until_s:
        assert sleepy.ask("a", "c").status is ResultStatus.COMPLETE
        # Whoever probed because it met the other sleeps; whoever is asked goes on in its place.
        for node, upstream in (("b", "a"), ("c", "b")):
            end = neighbor_of(sleepy, node, upstream)
            assert end is not None and end["newest_sample_age_s"] < MOST_SILENCE_S
        time.sleep(0.3)


@pytest.mark.slow
def test_when_a_link_breaks_the_neighbor_on_the_new_way_is_found_and_requests_follow() -> None:
    with network(TWO_WAYS) as net:
        seek(net, a=["b"], m=["a", "b"], n=["a", "b"], b=["a"])
        start(net)
        net.await_answer("a", "b", ("a", "m", "b"), within_s=MEET_S)
        far, before, now = (net.address(name) for name in ("b", "m", "n"))
        assert net.status("a")["discovery"][far] == before

        net.lab.set_link("m", "b", {"up": False})
        eventually(lambda: net.status("a")["discovery"][far] == now, "the neighbor on the other way", within_s=15)
        net.await_answer("a", "b", ("a", "n", "b"), within_s=MEET_S)
        log = point_files(net.lab.directory, "a").log.read_text()
        assert f'the neighbor toward {far} is {now}, before it was {before}"\n' in log
