"""Points of one area change the key that they share while they measure: nobody notices."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator

import pytest

from lab.points import point_files, point_pid
from mp.keys.directory import KeyDirectory
from prober.stamp.fault import ProbeFault
from schemas.keyring import HMAC_SECRET_BYTES, HmacKey, KeyIdentity, KeyState
from schemas.message import SegmentState
from tests.overlay.network import Network, eventually, network, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

NODES = ("a", "b", "c")
FIRST, SECOND = "lab", "next"
SAMPLES = 60
READ_AGAIN = "keys read again"
ROW = {
    "nodes": {name: {"point": True} for name in NODES},
    "links": [{"a": "a", "b": "b", "delay_ms": 2}, {"a": "b", "b": "c", "delay_ms": 3}],
}


def keys(net: Network, node: str) -> KeyDirectory:
    return KeyDirectory(point_files(net.lab.directory, node).keys)


def successor(net: Network) -> HmacKey:
    """Of the key that the lab's points share, accepted only."""
    areas = keys(net, "a").read()[FIRST].areas
    identity = KeyIdentity(id=SECOND, areas=areas, created_at_ms=1, state=KeyState.ACCEPTED)
    return HmacKey(identity, secrets.token_bytes(HMAC_SECRET_BYTES))


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    with network(ROW) as net:
        for node in NODES:
            configure(net, node, {"security": {"authentication": "required"}})
        start(net)
        for upstream, current in (("a", "b"), ("b", "c")):
            net.await_samples(upstream, current, SAMPLES)
        yield net


def reload(net: Network, node: str) -> None:
    log = point_files(net.lab.directory, node).log
    before = log.read_text().count(READ_AGAIN)
    pid = point_pid(net.lab.directory, net.lab.addressing, node)
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: log.read_text().count(READ_AGAIN) > before, READ_AGAIN, within_s=10)


def test_a_key_changes_while_probes_and_requests_go_on(row: Network) -> None:
    second = successor(row)
    steps: tuple[Callable[[KeyDirectory], object], ...] = (
        lambda directory: directory.add(second),
        lambda directory: directory.activate(SECOND),
        lambda directory: directory.retire(FIRST),
    )
    for step in steps:
        for node in NODES:
            step(keys(row, node))
            reload(row, node)
            result = row.ask("a", "c")
            assert [segment.state for segment in result.segments] == [SegmentState.MEASURED] * 2, result
    answer = eventually(lambda: row.ask("c", "a"), "an answer the other way", within_s=10)
    assert answer.segments
    assert [row.status(node)["probes"] for node in NODES] == [{}] * 3
    assert row.ask("a", "c").composed["loss"].value == 0


def test_a_probe_without_the_key_of_the_area_gets_no_answer(row: Network) -> None:
    before = row.status("c")["probes"].get(ProbeFault.NOT_AUTHENTICATED, 0)
    sent = row.inpath("a", "stamp", "send", row.address("c"), "--duration", "1")
    assert sent.exit_code != 0
    assert row.status("c")["probes"][ProbeFault.NOT_AUTHENTICATED] > before
