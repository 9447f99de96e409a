"""What a request is on a real network: the answer it brings, and what it looks like on every wire."""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from requestor.query import DEFAULT_METRICS
from schemas.message import Message
from schemas.payload import message_from_payload
from tests.overlay.capture import Captures, Interface, capturing
from tests.overlay.network import Answer, Network, eventually
from tests.overlay.stream import Stream

pytestmark = pytest.mark.netns

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/result.schema.json").read_text())
WAY = ("p1", "r1", "p2", "r2", "p3")
INTERFACES = tuple(
    interface for here, there in pairwise(WAY) for interface in (Interface(here, there), Interface(there, here))
)
"""In the order in which a request from p1 to p3 meets them."""
ROUTER_ALERT_FRAMES = "ip[20:4] == 94:04:00:00"


def answered(net: Network, node: str, *arguments: str) -> dict[str, Any]:
    """The JSON of a request that must be complete."""
    answer = net.inpath(node, "request", *arguments, "--json")
    assert (answer.exit_code, answer.stderr) == (0, "")
    document: dict[str, Any] = answer.document()
    Draft202012Validator(SCHEMA).validate(document)
    assert document["status"] == "complete"
    return document


def is_near(value: float, truth: float) -> bool:
    return abs(value - truth) < 0.3 + 0.01 * truth


def assert_agrees(row: Network, document: dict[str, Any]) -> None:
    """Path and loss are those of the lab; of the delays the caller says how near they are."""
    segments = [(segment["upstream"], segment["current"]) for segment in document["segments"]]
    assert segments == [(row.address(a), row.address(b)) for a, b in (("p1", "p2"), ("p2", "p3"))]
    composed = document["composed"]
    assert list(composed) == list(DEFAULT_METRICS)
    for metric in composed.values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    loss = composed["loss"]
    for segment, ends in zip(document["segments"], (("p1", "p2"), ("p2", "p3")), strict=True):
        counted = segment["metrics"]["loss"]
        expected = row.lab.truth(*ends).loss_ratio * counted["count"]
        # Four deviations of a binomial count: chance alone misses that once in ten thousand times.
        assert abs(counted["lost"] - expected) <= 4 * math.sqrt(expected) + 1
    assert loss["low"] > 0 or loss["value"] < 0.03
    assert loss["binding_segment"] == {"upstream": row.address("p1"), "current": row.address("p2")}


@pytest.mark.parametrize(
    ("asker", "destination"),
    [("p1", "p3"), ("h1", "p3"), ("p1", "h2"), ("p1", "an interface of p3")],
    ids=["at its source", "from a host, over TCP", "to a host behind p3", "to an interface of p3"],
)
def test_the_answer_agrees_with_what_the_lab_knows(row: Network, asker: str, destination: str) -> None:
    for upstream, current in (("p1", "p2"), ("p2", "p3")):
        row.await_samples(upstream, current, 150)
    target = row.link_address("p3", "r2") if destination.startswith("an interface") else destination
    truth = row.lab.truth("p1", "p3")
    assert truth.delay_ms is not None and truth.rtt_ms is not None
    delay_ms, rtt_ms = truth.delay_ms, truth.rtt_ms

    def near_answer() -> dict[str, Any] | None:
        # The machine may have been busy while it was measured; the window forgets that.
        document = answered(row, asker, "p1", target)
        assert_agrees(row, document)
        composed = document["composed"]
        near = is_near(composed["delay"]["value"], delay_ms) and is_near(composed["rtt"]["value"], rtt_ms)
        return document if near and all(metric["count"] >= 100 for metric in composed.values()) else None

    document = eventually(near_answer, f"delay near {delay_ms} and rtt near {rtt_ms} ms", within_s=25)
    expected = target if target[0].isdigit() else row.address(target)
    assert (document["source"], document["destination"]) == (row.address("p1"), expected)


def test_the_answer_for_people_shows_names_and_every_metric(row: Network) -> None:
    answer = row.inpath("p1", "request", "p1", "h2")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert "p1 -> h2" in answer.stdout and "complete" in answer.stdout
    assert re.search(r"2 +p2 +p3 ", answer.stdout)
    assert all(metric in answer.stdout for metric in DEFAULT_METRICS)


def test_only_the_metrics_asked_for_are_given(row: Network) -> None:
    document = answered(row, "p1", "p1", "p3", "--metrics", "rtt,loss")
    assert list(document["composed"]) == ["loss", "rtt"]
    assert all(list(segment["metrics"]) == ["loss", "rtt"] for segment in document["segments"])


Seen = list[tuple[Interface, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """What passed the interfaces while one request was on its way; others may have been as well."""

    captures: Captures
    id: str

    def datagrams(self, display_filter: str) -> Seen:
        """The frames of this request."""
        seen = self.captures.frames(display_filter)
        return [(interface, frame) for interface, frame in seen if message_in(frame).request.id == self.id]


@pytest.fixture
def captured(row: Network, tmp_path: Path) -> CapturedRequest:
    with capturing(row, INTERFACES, "port 49862", tmp_path) as captures:
        document = answered(row, "p1", "p1", "p3", "--carrier", "router-alert")
        captures.await_packets()
    return CapturedRequest(captures, document["id"])


def request_seen_everywhere(frames: Seen) -> list[dict[str, str]]:
    """The frames of one copy that no link lost, in the order of the interfaces on its way."""
    copies: dict[int, dict[Interface, dict[str, str]]] = defaultdict(dict)
    for interface, frame in frames:
        copies[message_in(frame).request.copy][interface] = frame
    whole = next(seen for seen in copies.values() if len(seen) == len(INTERFACES))
    return [whole[interface] for interface in INTERFACES]


def message_in(frame: dict[str, str]) -> Message:
    return message_from_payload(bytes.fromhex(frame["udp.payload"]))


def test_on_every_wire_the_request_is_a_sound_router_alert_datagram(
    row: Network, captured: CapturedRequest
) -> None:
    datagrams = captured.datagrams("udp")
    alerted = captured.datagrams(f"udp and {ROUTER_ALERT_FRAMES}")
    assert len(alerted) == len(datagrams) >= len(INTERFACES)
    for _, frame in datagrams:
        # Status 1 is tshark's "good".
        assert (frame["ip.checksum.status"], frame["udp.checksum.status"]) == ("1", "1")
        assert (frame["ip.hdr_len"], frame["ip.flags.df"], frame["ip.flags.mf"]) == ("24", "1", "0")
        assert (frame["ip.frag_offset"], frame["ip.src"], frame["ip.dst"]) == (
            "0",
            row.address("p1"),
            row.address("p3"),
        )
    frames = request_seen_everywhere(datagrams)
    first = int(frames[0]["ip.ttl"])
    # Both ends of a link see the same; behind it each node, point or not, takes one.
    assert [first - int(frame["ip.ttl"]) for frame in frames] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [len(message_in(frame).records) for frame in frames] == [0, 0, 0, 0, 1, 1, 1, 1]
    lengths = [int(frame["ip.len"]) for frame in frames]
    assert len(set(lengths[:4])) == len(set(lengths[4:])) == 1
    assert lengths[4] > lengths[3]
    assert len({frame["udp.payload"] for frame in frames}) == 2


def test_the_report_goes_from_the_last_point_to_the_source_by_tcp(row: Network, captured: CapturedRequest) -> None:
    segments = captured.captures.frames("tcp")
    ends = {row.address("p1"), row.address("p3")}
    assert {frozenset((frame["ip.src"], frame["ip.dst"])) for _, frame in segments} == {frozenset(ends)}
    assert {frame["ip.hdr_len"] for _, frame in segments} == {"20"}
    # It may go over a connection that was opened for an earlier one.
    bringing = [
        (frame["ip.src"], frame["ip.dst"])
        for interface, frame in segments
        if interface == INTERFACES[0] and frame["tcp.len"] != "0" and frame["tcp.dstport"] == "49862"
    ]
    assert set(bringing) == {(row.address("p3"), row.address("p1"))}


def test_only_points_have_a_rule_and_a_queue(row: Network) -> None:
    for router in ("r1", "r2", "h1", "h2"):
        assert (row.rules(router), row.queues(router)) == ([], "")
    for point in ("p1", "p2", "p3"):
        assert len(row.queues(point).splitlines()) == 1
        assert row.jumps(point) == 1


def queued_packets(net: Network, node: str) -> int:
    """How many packets the node's rule has sent to the queue."""
    listed: Answer = net.run(node, "iptables", "-t", "mangle", "-nvxL", "INPATH-49862")
    found = re.search(r"^\s*(\d+)\s+\d+\s+NFQUEUE", listed.stdout, re.MULTILINE)
    assert found is not None, listed.stdout + listed.stderr
    return int(found.group(1))


QUIET_S = 3.5
"""A path that a test watched once a second is asked about for a while after that test; a lost request, sent again
0.7 s later, leaves gaps of up to 2.4 s between two."""


def settled(net: Network, node: str) -> int:
    """The same, when nobody asks any more."""
    while True:
        before = queued_packets(net, node)
        time.sleep(QUIET_S)
        if queued_packets(net, node) == before:
            return before


def test_other_traffic_is_not_queued_and_a_request_is(row: Network) -> None:
    before = settled(row, "p2")
    with (
        Stream(row, "h2", "h1") as plain,
        Stream(row, "h2", "h1", port=49862) as same_port,
        Stream(row, "h2", "h1", port=40_001, options=b"\x94\x04\x00\x00") as other_port,
    ):
        ping = row.run("h2", "ping", "-c", "10", "-i", "0.05", "-W", "2", row.address("h1"))
    assert ping.exit_code == 0
    for stream in (plain, same_port, other_port):
        assert stream.sent > 50
        assert stream.missing == []
    assert queued_packets(row, "p2") == before
    answered(row, "p1", "p1", "p3")
    assert queued_packets(row, "p2") > before
