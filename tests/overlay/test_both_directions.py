"""One question about both directions, where the way back is another one than the way out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.overlay.network import Answer, Network, eventually, network, start

pytestmark = pytest.mark.netns

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/result.schema.json").read_text())
OUT, BACK = ("a", "m", "b"), ("b", "n", "a")
SAMPLES = 150
FIRST_GAP_MS = 700
"""After which a request is sent again (requestor.retransmission)."""

DIAMOND = {
    "nodes": {
        **{name: {"point": True} for name in ("a", "m", "n", "b")},
        "h": {"host": True},
    },
    "links": [
        {"a": "a", "b": "m", "delay_ms": 3, "b_to_a": {"delay_ms": 9}},
        {"a": "m", "b": "b", "delay_ms": 4, "a_to_b": {"loss_ratio": 0.03}},
        {
            "a": "a",
            "b": "n",
            "delay_ms": 6,
            "cost": 20,
            "a_to_b": {"delay_ms": 15},
            "b_to_a": {"loss_ratio": 0.05},
        },
        {"a": "n", "b": "b", "delay_ms": 12, "cost": 20, "a_to_b": {"delay_ms": 2}},
        {"a": "b", "b": "h", "delay_ms": 1},
    ],
}
"""Packets from a to b go by m, those from b to a by n, and each link is another one in its two directions."""


@pytest.fixture(scope="module")
def diamond() -> Iterator[Network]:
    with network(DIAMOND) as net:
        way = net.run(
            "b", *f"ip route replace {net.address('a')}/32 via {net.link_address('n', 'b')}".split(), "src",
            net.address("b"),
        )  # fmt: skip
        assert way.exit_code == 0, way.stderr
        start(net)
        for upstream, current in (*pairwise(OUT), *pairwise(BACK)):
            net.await_samples(upstream, current, SAMPLES)
        yield net


def asked(net: Network, destination: str) -> tuple[Answer, dict[str, Any], dict[str, Any]]:
    answer = net.inpath("a", "request", "a", destination, "--both-directions", "--json")
    document = answer.document()
    assert list(document) == ["forward", "return"]
    for one in document.values():
        Draft202012Validator(SCHEMA).validate(one)
    return answer, document["forward"], document["return"]


def answered(net: Network, destination: str) -> tuple[dict[str, Any], dict[str, Any]]:
    answer, forward, back = asked(net, destination)
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert (forward["status"], back["status"]) == ("complete", "complete")
    return forward, back


def delays_agree(net: Network, document: dict[str, Any], way: tuple[str, ...]) -> bool:
    """Whether each segment's delay and their sum are those of the lab; the ways and the losses must be."""
    segments = document["segments"]
    assert [(one["upstream"], one["current"]) for one in segments] == [
        (net.address(upstream), net.address(current)) for upstream, current in pairwise(way)
    ]
    truths = [net.lab.truth(*ends) for ends in pairwise(way)]
    for segment, truth in zip(segments, truths, strict=True):
        counted = segment["metrics"]["loss"]
        expected = truth.loss_ratio * counted["count"]
        # Four deviations of a binomial count: chance alone misses that once in ten thousand times.
        assert abs(counted["lost"] - expected) <= 4 * math.sqrt(expected) + 1
    whole = net.lab.truth(way[0], way[-1])
    assert whole.path == way
    values = [
        *(segment["metrics"]["delay"]["value"] for segment in segments),
        document["composed"]["delay"]["value"],
    ]
    expected_ms = [truth.delay_ms for truth in (*truths, whole)]
    return all(
        abs(value - truth_ms) < 0.3 + 0.01 * truth_ms
        for value, truth_ms in zip(values, expected_ms, strict=True)
        if truth_ms is not None
    )


@pytest.mark.parametrize("destination", ["b", "h"], ids=["a point", "a host behind the last point"])
def test_each_direction_agrees_with_what_the_lab_knows_of_it(diamond: Network, destination: str) -> None:
    def near() -> tuple[dict[str, Any], dict[str, Any]] | None:
        # The machine may have been busy while it was measured; the window forgets that.
        forward, back = answered(diamond, destination)
        agree = delays_agree(diamond, forward, OUT) and delays_agree(diamond, back, BACK)
        return (forward, back) if agree else None

    forward, back = eventually(near, "delays near those of the lab", within_s=25)
    a, b = diamond.address("a"), diamond.address("b")
    assert (forward["source"], forward["destination"]) == (a, diamond.address(destination))
    assert (back["source"], back["destination"]) == (b, a)
    assert forward["id"] != back["id"]


def test_both_answers_are_kept_as_results_of_their_own(diamond: Network) -> None:
    for document in answered(diamond, "b"):
        kept = diamond.stored("a", document["id"])
        assert kept is not None
        assert kept.to_json() == document


def test_the_answer_for_people_shows_both_ways(diamond: Network) -> None:
    answer = diamond.inpath("a", "request", "a", "b", "--both-directions")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.index("a -> b") < answer.stdout.index("b -> a")
    assert answer.stdout.count("complete") == 2


@pytest.fixture
def first_request_for_the_way_back_is_lost(diamond: Network) -> Iterator[list[str]]:
    """The rule in n that drops it, and nothing after it."""
    match = f"FORWARD -s {diamond.address('b')} -d {diamond.address('a')} -p udp --dport 49862".split()
    rule = [*match, *["-m", "statistic", "--mode", "nth", "--every", "1000", "--packet", "0", "-j", "DROP"]]
    assert diamond.run("n", "iptables", "-A", *rule).exit_code == 0
    yield rule
    assert diamond.run("n", "iptables", "-D", *rule).exit_code == 0


@pytest.mark.usefixtures("first_request_for_the_way_back_is_lost")
def test_a_request_for_the_way_back_that_is_lost_is_sent_again(diamond: Network) -> None:
    forward, back = answered(diamond, "b")
    listed = diamond.run("n", "iptables", "-nvxL", "FORWARD").stdout.splitlines()
    (dropped,) = (int(line.split()[0]) for line in listed if "DROP" in line and "statistic" in line)
    assert dropped == 1
    assert back["elapsed_ms"] > FIRST_GAP_MS
    assert forward["elapsed_ms"] < back["elapsed_ms"]


def test_a_way_back_over_which_nothing_comes_is_told_and_the_way_out_is_given(diamond: Network) -> None:
    rule = f"FORWARD -s {diamond.address('b')} -d {diamond.address('a')} -p udp --dport 49862 -j DROP".split()
    assert diamond.run("n", "iptables", "-A", *rule).exit_code == 0
    try:
        answer = diamond.inpath("a", "request", "a", "b", "--both-directions", "--timeout", "3", "--json")
    finally:
        assert diamond.run("n", "iptables", "-D", *rule).exit_code == 0
    assert answer.exit_code == 3
    assert answer.stderr == "inpath: no answer within 3 s\n"
    document = answer.document()
    assert (document["forward"]["status"], document["return"]["status"]) == ("complete", "failed")
