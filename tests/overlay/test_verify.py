"""Composed paths held against direct measurements: where both agree, and where they must not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mp.config import load_configuration
from prober.stamp.packet import STAMP_PORT
from receiver.store.result_store import ResultStore
from schemas.closure import ClosureCheck
from tests.overlay.network import Answer, Network, eventually, network, start

pytestmark = pytest.mark.netns

DURATION_S = 2
SAMPLES = 120
AROUND_MS = 30

TWO_WAYS = {
    "nodes": {"a": {"point": True}, "m": {"point": True}, "c": {"point": True}, "n": {}, "h": {"host": True}},
    "links": [
        {"a": "a", "b": "m", "delay_ms": 3},
        {"a": "m", "b": "c", "delay_ms": 4},
        {"a": "a", "b": "n", "delay_ms": AROUND_MS / 2, "cost": 100},
        {"a": "n", "b": "c", "delay_ms": AROUND_MS / 2, "cost": 100},
        {"a": "c", "b": "h", "delay_ms": 1},
    ],
}


@pytest.fixture(scope="module")
def honest() -> Iterator[Network]:
    with network(TWO_WAYS) as net:
        start(net)
        for upstream, current in (("a", "m"), ("m", "c")):
            net.await_samples(upstream, current, SAMPLES)
        yield net


def verified(net: Network, destination: str, *options: str) -> Answer:
    return net.inpath("a", "verify", "a", destination, "--duration", str(DURATION_S), *options)


@contextmanager
def rule(net: Network, node: str, add: str, remove: str) -> Iterator[None]:
    """A rule on a node while the block lasts."""
    assert net.run(node, *add.split()).exit_code == 0
    try:
        yield
    finally:
        assert net.run(node, *remove.split()).exit_code == 0


def verdicts(document: dict[str, Any]) -> dict[str, bool | None]:
    return {name: metric["agrees"] for name, metric in document["metrics"].items()}


def test_on_an_honest_network_both_agree_and_the_check_is_kept_and_shown(honest: Network) -> None:
    truth = honest.lab.truth("a", "c")

    def agreeing() -> dict[str, Any] | None:
        # A busy machine delays packets of one second and not of another, of one measurement or of both.
        answer = verified(honest, "c", "--json")
        document: dict[str, Any] = answer.document()
        assert answer.exit_code == {"agrees": 0, "differs": 4}[document["verdict"]]
        is_calm = document["metrics"]["delay"]["direct"]["value"] == pytest.approx(truth.delay_ms, abs=0.5)
        return document if answer.exit_code == 0 and is_calm else None

    document = eventually(agreeing, "a check that agrees", within_s=30)
    assert verdicts(document) == {"delay": True, "loss": True, "jitter": True, "rtt": True}
    assert (document["source"], document["destination"]) == (honest.address("a"), honest.address("c"))
    for measured in ("direct", "composed"):
        assert document["metrics"]["delay"][measured]["value"] == pytest.approx(truth.delay_ms, abs=0.5)
        assert document["metrics"]["rtt"][measured]["value"] == pytest.approx(truth.rtt_ms, abs=1)

    shown = honest.inpath("a", "mp", "status", "--json")
    assert shown.exit_code == 0
    assert shown.document()["verification"] == document
    check = ClosureCheck.from_json(document)
    store = ResultStore(load_configuration(honest.configuration("a")).store_url)
    try:
        assert check in store.latest_checks(limit=10)
    finally:
        store.close()
    request = honest.stored("a", check.request_id)
    assert request is not None and str(request.status) == "complete"


def test_losses_that_only_whole_paths_suffer_are_found(honest: Network) -> None:
    a, c = honest.address("a"), honest.address("c")
    match = (
        f"FORWARD -s {a} -d {c} -p udp --dport {STAMP_PORT} -m statistic --mode random --probability 0.2 -j DROP"
    )
    with rule(honest, "m", f"iptables -A {match}", f"iptables -D {match}"):
        answer = verified(honest, "c", "--rate", "50", "--json")
    assert answer.exit_code == 4
    document = answer.document()
    assert document["verdict"] == "differs"
    assert verdicts(document)["loss"] is False
    loss = document["metrics"]["loss"]
    assert loss["composed"]["value"] == 0
    assert 0.05 < loss["direct"]["value"] < 0.4


def test_probes_that_go_another_way_than_requests_are_found(honest: Network) -> None:
    way = f"ip route add {honest.address('c')}/32 via {honest.link_address('n', 'a')} table 100"
    chosen = f"ipproto udp dport {STAMP_PORT} to {honest.address('c')} lookup 100"

    def around() -> Answer | None:
        answer = verified(honest, "c")
        delay = honest.status("a")["verification"]["metrics"]["delay"]
        is_calm = delay["composed"]["value"] == pytest.approx(7, abs=0.5)
        return answer if is_calm and delay["direct"]["value"] == pytest.approx(AROUND_MS, abs=1) else None

    with (
        rule(honest, "a", way, way.replace("add", "del")),
        rule(honest, "a", f"ip rule add {chosen}", f"ip rule del {chosen}"),
    ):
        # What a busy machine delays is in the composed values of a minute.
        answer = eventually(around, "a check while the machine delays nothing", within_s=90)
    assert answer.exit_code == 4
    assert answer.stderr == f"inpath: measuring directly for {DURATION_S} s\n"
    assert "a -> c" in answer.stdout and "differs" in answer.stdout
    assert all(metric in answer.stdout for metric in ("delay", "loss", "jitter", "rtt"))
    document = honest.status("a")["verification"]
    assert verdicts(document)["delay"] is False
    delay = document["metrics"]["delay"]
    assert delay["direct"]["value"] == pytest.approx(AROUND_MS, abs=1)
    assert delay["composed"]["value"] == pytest.approx(7, abs=0.5)


def test_a_host_without_a_reflector_is_told_and_nothing_is_kept_of_it(honest: Network) -> None:
    before = honest.status("a")["verification"]
    answer = verified(honest, "h", "--json")
    assert answer.exit_code == 3
    assert answer.stdout == ""
    expected = f"inpath: destination {honest.address('h')}: no STAMP reflector answers on UDP port {STAMP_PORT}"
    assert answer.stderr.splitlines()[-1] == expected
    assert honest.status("a")["verification"] == before
