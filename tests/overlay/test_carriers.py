"""Routers that drop IP options, and one that lets no request through at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.message import Carrier
from schemas.result import PathResult, ResultStatus
from tests.overlay.network import Network, eventually, network, points_of, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

ROW = {
    "nodes": {"a": {"point": True}, "r": {}, "b": {"point": True}, "c": {"point": True}, "h": {"host": True}},
    "links": [
        {"a": "a", "b": "r", "delay_ms": 1},
        {"a": "r", "b": "b", "delay_ms": 1},
        {"a": "b", "b": "c", "delay_ms": 1},
        {"a": "c", "b": "h", "delay_ms": 1},
    ],
}
POINTS = ("a", "b", "c")


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    with network(ROW) as net:
        for point in POINTS:
            configure(net, point, {"discovery": {"interval_s": 5}})
        start(net)
        net.await_answer("a", "c", POINTS)
        yield net


@pytest.fixture
def without_options(row: Network) -> Iterator[Network]:
    """The link between a and r loses what has IP options."""
    row.lab.set_link("a", "r", {"drops_options": True}, one_way=False)
    yield row
    row.lab.set_link("a", "r", {"drops_options": False}, one_way=False)


@contextmanager
def no_request_passes(row: Network) -> Iterator[None]:
    """The router r forwards no datagram to the measurement port but those between a and b themselves."""
    rules = [
        (
            "FORWARD",
            "-p",
            "udp",
            "--dport",
            "49862",
            "-s",
            row.address("a"),
            "-d",
            row.address("b"),
            "-j",
            "ACCEPT",
        ),
        ("FORWARD", "-p", "udp", "--dport", "49862", "-j", "DROP"),
    ]
    for rule in rules:
        assert row.run("r", "iptables", "-A", *rule).exit_code == 0
    try:
        yield
    finally:
        for rule in rules:
            row.run("r", "iptables", "-D", *rule)


def asked(row: Network, *arguments: str, destination: str = "c") -> PathResult:
    answer = row.inpath("a", "request", "a", destination, "--max-age", "0", *arguments, "--json")
    assert answer.exit_code in (0, 3, 5), answer.stderr
    return PathResult.from_json(answer.document())


@pytest.mark.parametrize("destination", ["c", "h"], ids=["a point", "a host behind one"])
@pytest.mark.parametrize("carrier", [Carrier.ROUTER_ALERT, Carrier.UDP])
def test_a_request_goes_as_it_was_asked_to_and_its_answer_says_how(
    row: Network, carrier: Carrier, destination: str
) -> None:
    result = asked(row, "--carrier", carrier, destination=destination)
    assert (result.status, result.carrier) == (ResultStatus.COMPLETE, carrier)
    assert points_of(result) == tuple(row.address(point) for point in POINTS)


def relays(row: Network, point: str) -> int:
    return int(row.status(point)["packet_process"]["counters"].get("relayed", 0))


@pytest.mark.parametrize("destination", ["c", "h"], ids=["a point", "a host behind one"])
def test_a_request_is_relayed_from_each_point_to_the_next(row: Network, destination: str) -> None:
    def relayed() -> PathResult | None:
        # Each point first has to find out which one is the next.
        result = asked(row, "--carrier", "relay", "--timeout", "3", destination=destination)
        return result if result.status is ResultStatus.COMPLETE else None

    result = eventually(relayed, "an answer to a request that was relayed", within_s=40)
    assert result.carrier is Carrier.RELAY
    assert points_of(result) == tuple(row.address(point) for point in POINTS)
    counters = eventually(lambda: relays(row, "b"), "the point b to tell of relays", within_s=5)
    assert counters >= 1


def test_where_options_are_dropped_a_plain_datagram_comes_through_and_is_remembered(
    without_options: Network,
) -> None:
    row = without_options
    lost = asked(row, "--carrier", "router-alert", "--timeout", "1.5")
    assert (lost.status, lost.carrier) == (ResultStatus.FAILED, None)
    first = asked(row)
    assert (first.status, first.carrier) == (ResultStatus.COMPLETE, Carrier.UDP)
    again = asked(row)
    assert again.carrier is Carrier.UDP
    assert again.elapsed_ms is not None and first.elapsed_ms is not None
    assert again.elapsed_ms < 600, "the carrier that came through last time is the first"


def test_where_no_request_passes_a_relay_does(row: Network) -> None:
    eventually(lambda: asked(row, "--carrier", "relay", "--timeout", "3").carrier, "a relayed answer", within_s=40)
    with no_request_passes(row):
        result = asked(row)
    assert (result.status, result.carrier) == (ResultStatus.COMPLETE, Carrier.RELAY)


def test_an_unknown_carrier_is_named(row: Network) -> None:
    answer = row.inpath("a", "request", "a", "c", "--carrier", "pigeon")
    assert answer.exit_code == 2
    assert "carrier: got 'pigeon', expected one of router-alert, udp, relay" in answer.stderr
