"""Every metric of a path, each held against what the lab, the operator or the program knows."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from schemas.metrics import METRICS
from tests.namespaces import in_namespace
from tests.overlay.network import PROBES_PER_S, Network, eventually, network
from tests.overlay.network import start as start_all
from tests.overlay.point_configuration import configure

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MIDDLE_MBIT, MIDDLE_MTU = 10, 1400
DELAY_MS, WIDE_DELAY_MS, HALF_WIDTH_MS = 5, 6, 4
PROGRAM_VALUE = 7.0
CROSS_PACKETS_PER_S = 250
CROSS_PAYLOAD_BYTES = 1000
IP_UDP_BYTES, ETHERNET_BYTES = 28, 14
PROBE_BYTES = 208 + IP_UDP_BYTES + ETHERNET_BYTES
"""In the authenticated mode, as an interface counts them; besides there are searches, hellos, shared values."""
AB_MBIT, BC_MBIT = 20, 16
"""Of the links at the points."""
LEAST_PROBE_BYTES = 112 + IP_UDP_BYTES + ETHERNET_BYTES
"""Of those that carry no report besides."""
FASTEST_STREAM_MBIT = 25
"""Above all links; the slower the streams, the less they mind a busy machine."""
DEMANDED = "available-bandwidth"
UNASKED_S, ESTIMATE_S = 30.0, 20.0
"""The search for a path MTU that is less than the interface's, and the longest estimate (14 s)."""
POLL_S = 1.5
RETRIES = 2
STREAM_BYTES = 1280
TOLERANCE = 0.1

ROW = {
    "nodes": {"a": {"point": True}, "b": {"point": True}, "r": {}, "s": {}, "c": {"point": True}},
    "links": [
        {
            "a": "a",
            "b": "b",
            "delay_ms": DELAY_MS,
            "rate_mbit": AB_MBIT,
            "b_to_a": {"delay_ms": WIDE_DELAY_MS, "jitter_ms": HALF_WIDTH_MS},
        },
        {"a": "b", "b": "r", "delay_ms": 1, "rate_mbit": BC_MBIT},
        {"a": "r", "b": "s", "delay_ms": 1, "rate_mbit": MIDDLE_MBIT, "mtu": MIDDLE_MTU},
        {"a": "s", "b": "c", "delay_ms": 1, "rate_mbit": BC_MBIT},
    ],
}


class CrossTraffic:
    """Datagrams from b to c at a steady rate."""

    def __init__(self, net: Network) -> None:
        self._target = (net.address("c"), 9)
        with in_namespace(net.namespace("c")):
            self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(self._target)
        with in_namespace(net.namespace("b")):
            self._source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        self._source.close()
        self._sink.close()

    def _send(self) -> None:
        started_s, sent = time.monotonic(), 0
        while not self._stop.wait(1 / CROSS_PACKETS_PER_S):
            while sent < (time.monotonic() - started_s) * CROSS_PACKETS_PER_S:
                self._source.sendto(bytes(CROSS_PAYLOAD_BYTES), self._target)
                sent += 1


def mbit_s(*, extra_bytes: int = 0) -> float:
    """The cross traffic, over IP packets or with what a layer below adds to each."""
    return CROSS_PACKETS_PER_S * (CROSS_PAYLOAD_BYTES + IP_UDP_BYTES + extra_bytes) * 8e-6


@contextmanager
def crossed(net: Network) -> Iterator[None]:
    cross = CrossTraffic(net)
    try:
        yield
    finally:
        cross.end()


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    with network(ROW) as net:
        program = {
            "unit": "things",
            "composition": "sum",
            "command": ["/bin/echo", f'{{"value": {PROGRAM_VALUE}, "low": 6, "high": 8, "count": 3}}'],
            "interval_s": 2,
            "timeout_s": 1,
        }
        for node in ("a", "b", "c"):
            plugins: dict[str, Any] = {"commands": {"things-counted": program}}
            if node != "c":
                plugins["enabled"] = ["icmp-rtt"]
            configure(net, node, {"bandwidth": {"max_rate_mbit_s": FASTEST_STREAM_MBIT}, "plugins": plugins})
        with crossed(net):
            start_all(net)
            yield net


def all_of(net: Network, source: str, destination: str) -> dict[str, Any]:
    """The answer to a question for all metrics of a point's registry."""
    answer = net.inpath(source, "request", source, destination, "--metrics", "all", "--json")
    assert answer.exit_code in (0, 5), answer.stderr
    document: dict[str, Any] = answer.document()
    assert set(document["metrics"]) == {*METRICS, "icmp-rtt", "things-counted"}
    return document


def unsupported(document: dict[str, Any]) -> set[tuple[int, str]]:
    """(segment, metric) of what a point could not give."""
    return {
        (number, name)
        for number, segment in enumerate(document["segments"])
        for name, metric in segment["metrics"].items()
        if metric["value"] is None
    }


def values(document: dict[str, Any], metric: str) -> list[float]:
    return [segment["metrics"][metric]["value"] for segment in document["segments"]]


LACKING = {(1, "icmp-rtt")}
"""Which c does not know."""
ON_DEMAND = {(0, DEMANDED), (1, DEMANDED)}


@pytest.fixture(scope="module")
def whole(row: Network) -> dict[str, Any]:
    """The first answer to a question for everything that holds all that is measured unasked."""
    plain = ",".join((*(name for name in METRICS if name != DEMANDED), "icmp-rtt", "things-counted"))

    def unasked() -> bool:
        answer = row.inpath("a", "request", "a", "c", "--metrics", plain, "--json")
        return answer.exit_code in (0, 5) and unsupported(answer.document()) == LACKING

    eventually(unasked, "all that is measured unasked", within_s=UNASKED_S)
    return all_of(row, "a", "c")


def test_what_probes_tell_is_true(row: Network, whole: dict[str, Any]) -> None:
    truth = row.lab.truth("a", "c")
    composed = whole["composed"]
    assert truth.delay_ms is not None and truth.rtt_ms is not None
    least_ms = sum(segment["metrics"]["delay"]["minimum_ms"] for segment in whole["segments"])
    # The lab's truth is propagation; each link with a rate takes the time for the bits of a probe besides.
    bits_ms = sum(LEAST_PROBE_BYTES * 8e-3 / mbit for mbit in (AB_MBIT, BC_MBIT, MIDDLE_MBIT, BC_MBIT))
    assert least_ms == pytest.approx(truth.delay_ms + bits_ms, abs=0.3)
    # On the mean packets wait behind the cross traffic too.
    assert -0.1 < composed["delay"]["value"] - truth.delay_ms < 2
    assert -1 < composed["rtt"]["value"] - truth.rtt_ms < 2
    assert (values(whole, "hops"), composed["hops"]["value"]) == ([1, 3], truth.hops)
    for metric in ("loss", "reordering", "duplication"):
        assert values(whole, metric) == [0, 0]
    assert composed["loss"]["value"] == 0
    assert composed["reordering"]["value"] is composed["duplication"]["value"] is None, "listed, not composed"
    constant = whole["segments"][0]["metrics"]["distribution"]
    assert constant["p50_ms"] == pytest.approx(DELAY_MS, abs=0.4)


def test_the_narrow_link_between_two_routers_is_the_paths_mtu(row: Network, whole: dict[str, Any]) -> None:
    assert values(whole, "mtu") == [1500, MIDDLE_MTU]
    assert whole["composed"]["mtu"]["value"] == row.lab.truth("a", "c").mtu_octets == MIDDLE_MTU


def test_capacity_and_utilization_are_those_of_the_points_interfaces(whole: dict[str, Any]) -> None:
    assert (values(whole, "capacity"), whole["composed"]["capacity"]["value"]) == ([AB_MBIT, BC_MBIT], BC_MBIT)
    idle, used = values(whole, "utilization")
    probes_mbit_s = PROBES_PER_S * PROBE_BYTES * 8e-6
    assert 0.8 * probes_mbit_s < idle * AB_MBIT < 1.5 * probes_mbit_s
    assert mbit_s() * 0.97 < used * BC_MBIT < mbit_s() * 1.03 + 1.2 * probes_mbit_s
    assert whole["composed"]["utilization"]["value"] == used


def ask_for_bandwidth(net: Network) -> dict[str, Any]:
    answer = net.inpath("a", "request", "a", "c", "--metrics", DEMANDED, "--json")
    document: dict[str, Any] = answer.document()
    assert (answer.exit_code, document["status"]) in ((0, "complete"), (5, "partial"))
    return document


def estimates(net: Network) -> dict[str, Any] | None:
    """The answer that holds the available bandwidth of both segments; None when the machine was too busy."""
    until_s = time.monotonic() + ESTIMATE_S
    while time.monotonic() < until_s:
        document = ask_for_bandwidth(net)
        if document["status"] == "complete":
            return document
        time.sleep(POLL_S)
    return None


@pytest.mark.timeout(240)
def test_available_bandwidth_is_told_on_demand_and_its_interval_holds_the_truth(
    row: Network, whole: dict[str, Any]
) -> None:
    assert unsupported(whole) == LACKING | ON_DEMAND
    after = estimates(row)
    for _ in range(RETRIES):
        if after is None:
            for node in ("b", "c"):  # a point that has failed waits for a minute before it tries again
                row.lab.stop_point(node)
                row.lab.start_point(node)
            row.await_answer("a", "c", ("a", "b", "c"))
            after = estimates(row)
    assert after is not None
    assert after["composed"][DEMANDED]["value"] == min(values(after, DEMANDED))
    # The lab's rate counts Ethernet frames; what is told counts IP packets.
    left = MIDDLE_MBIT - mbit_s(extra_bytes=ETHERNET_BYTES)
    truths = [mbit * STREAM_BYTES / (STREAM_BYTES + ETHERNET_BYTES) for mbit in (AB_MBIT, left)]
    for segment, truth in zip(after["segments"], truths, strict=True):
        told = segment["metrics"][DEMANDED]
        assert told["low"] * (1 - TOLERANCE) < truth < told["high"] * (1 + TOLERANCE)


def test_plug_ins_are_metrics_like_others_and_a_point_without_one_says_so(
    row: Network, whole: dict[str, Any]
) -> None:
    assert whole["status"] == "partial"
    assert values(whole, "things-counted") == [PROGRAM_VALUE, PROGRAM_VALUE]
    assert whole["composed"]["things-counted"]["value"] == 2 * PROGRAM_VALUE
    assert [metric for metric, one in whole["composed"].items() if "partial" in one["flags"]] == [
        DEMANDED,
        "icmp-rtt",
    ]
    assert f"segment {row.address('b')} -> {row.address('c')} cannot give icmp-rtt" in whole["warnings"]
    echoed, lacking = (segment["metrics"]["icmp-rtt"] for segment in whole["segments"])
    truth = row.lab.truth("a", "b")
    assert truth.rtt_ms is not None
    # Five echoes over a way back of this spread.
    assert echoed["value"] == pytest.approx(truth.rtt_ms, abs=4 * HALF_WIDTH_MS / math.sqrt(3 * 5))
    assert (lacking["value"], lacking["count"]) == (None, 0)


def test_a_wide_way_back_has_the_distribution_and_the_reordering_that_its_jitter_makes(
    row: Network, whole: dict[str, Any]
) -> None:
    assert whole["status"] == "partial", "by now there are samples enough"
    wide = row.inpath("b", "request", "b", "a", "--metrics", "delay,jitter,distribution,reordering", "--json")
    assert wide.exit_code == 0, wide.stderr
    (segment,) = wide.document()["segments"]
    distribution, reordering = (segment["metrics"][name] for name in ("distribution", "reordering"))
    n = distribution["count"]
    assert n >= 300
    for share, field in ((0.5, "p50_ms"), (0.95, "p95_ms")):
        truth = WIDE_DELAY_MS + HALF_WIDTH_MS * (2 * share - 1)
        spread = 2 * HALF_WIDTH_MS * math.sqrt(share * (1 - share) / n)
        assert distribution[field] == pytest.approx(truth, abs=4 * spread + 0.4)
    # A packet is overtaken by those of Poisson gaps that leave later and arrive sooner: of a delay x above the
    # least one, rate * x^2 / (4 * half width) of them; to first order in that, the mean is rate * half width / 3.
    expected = PROBES_PER_S * HALF_WIDTH_MS / 1000 / 3 * n
    assert reordering["value"] * n == pytest.approx(expected, abs=4 * math.sqrt(expected) + 0.05 * expected)
