"""Points that share a key, and one that has another."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from prober.stamp.fault import ProbeFault
from schemas.message import SegmentState
from schemas.result import PathResult, ResultStatus
from tests.overlay.network import Network, eventually, network, points_of, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

SAMPLES = 120
ROW = {
    "nodes": {name: {"point": True} for name in ("a", "b", "c", "d")},
    "links": [
        {"a": "a", "b": "b", "delay_ms": 2},
        {"a": "b", "b": "c", "delay_ms": 3},
        {"a": "c", "b": "d", "delay_ms": 4},
    ],
}


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    """a, b and c share a key; d has another."""
    with network(ROW) as net:
        for node, digits in {"a": "5e", "b": "5e", "c": "5e", "d": "d5"}.items():
            key = net.lab.directory.node(node) / "stamp.key"
            key.write_text(digits * 32 + "\n")
            key.chmod(0o600)
            configure(net, node, {"probe": {"key_file": str(key)}})
        start(net)
        for upstream, current in (("a", "b"), ("b", "c")):
            net.await_samples(upstream, current, SAMPLES)
        yield net


def test_points_that_share_a_key_give_complete_and_true_answers(row: Network) -> None:
    truth = row.lab.truth("a", "c")

    def true_answer() -> PathResult | None:
        # The machine may have been busy while it was measured; the window forgets that.
        result = row.await_answer("a", "c", ("a", "b", "c"))
        delay, rtt = result.composed["delay"].value, result.composed["rtt"].value
        near = delay == pytest.approx(truth.delay_ms, abs=0.5) and rtt == pytest.approx(truth.rtt_ms, abs=1)
        return result if near else None

    result = eventually(true_answer, f"delay near {truth.delay_ms} and rtt near {truth.rtt_ms} ms", within_s=30)
    assert result.composed["loss"].value == 0


def test_the_path_mtu_is_found_with_the_key_too(row: Network) -> None:
    mtu = row.inpath("a", "request", "a", "c", "--metrics", "mtu", "--json")
    assert mtu.exit_code == 0, mtu.stderr
    assert mtu.document()["composed"]["mtu"]["value"] == 1500


def test_a_direct_measurement_with_the_key_agrees_in_what_it_finds(row: Network) -> None:
    check = row.inpath("a", "verify", "a", "c", "--duration", "2", "--json")
    assert check.exit_code in (0, 4), check.stderr
    delay = check.document()["metrics"]["delay"]
    assert delay["direct"]["value"] == pytest.approx(row.lab.truth("a", "c").delay_ms, abs=0.5)


def test_the_segment_to_a_point_with_another_key_stays_pending_and_the_fault_is_named(row: Network) -> None:
    answer = row.inpath("a", "request", "a", "d", "--json")
    assert answer.exit_code == 5
    states = [segment["state"] for segment in answer.document()["segments"]]
    assert states == [SegmentState.MEASURED, SegmentState.MEASURED, SegmentState.PENDING]
    time.sleep(1)  # the sender goes on asking
    result = row.ask("a", "d")
    assert result.status is ResultStatus.PARTIAL
    assert points_of(result) == tuple(map(row.address, "abcd"))
    assert result.segments[-1].state is SegmentState.PENDING
    faults = [row.status(node)["probes"] for node in ("c", "d")]
    counted = [one.get(ProbeFault.WRONG_TAG, 0) for one in faults]
    assert max(counted) > 20, faults
    assert row.status("a")["probes"] == row.status("b")["probes"] == {}


def test_a_key_that_others_may_read_is_refused_in_one_line(row: Network) -> None:
    row.lab.stop_point("d")
    key = row.lab.directory.node("d") / "stamp.key"
    key.chmod(0o644)
    refused = row.inpath("d", "mp", "run", "--config", str(row.configuration("d")))
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"inpath: key file: got '{key} with mode 0644', expected")
