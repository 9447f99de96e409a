"""Points that end in every way: what others' traffic, the next request, and the kernel notice of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from mp.archive import INTERRUPTED
from mp.config import load_configuration
from mp.packet_link import HANG_LIMIT_MS, LOOK_S
from receiver.store.result_store import ResultStore
from schemas.errors import InpathError
from schemas.message import SegmentState
from schemas.result import PathResult, ResultStatus
from tests.overlay.network import Network, eventually, points_of
from tests.overlay.stream import Stream

pytestmark = pytest.mark.netns

ROUTER_ALERT = b"\x94\x04\x00\x00"
GONE_S = 2.0
CHAIN = "-N INPATH-49862"
LOST_IN_A_KILLED_QUEUE = 3
"""What waits for a verdict when its process is killed: at 100 packets/s, hardly ever one."""


@pytest.fixture
def passers_by(row: Network) -> Iterator[tuple[Stream, Stream]]:
    """Traffic over the whole row in the direction that loses nothing: ordinary, and some that points look at."""
    with (
        Stream(row, "h2", "h1") as plain,
        Stream(row, "h2", "h1", port=49862, options=ROUTER_ALERT, gap_s=0.01) as alerted,
    ):
        yield plain, alerted


def end(passers_by: tuple[Stream, Stream]) -> tuple[int, int]:
    """How many of each kind were lost."""
    for stream in passers_by:
        stream.end()
    plain, alerted = passers_by
    assert plain.sent > 200 and alerted.sent > 100
    assert (plain.refused, alerted.refused) == (0, 0)
    return len(plain.missing), len(alerted.missing)


def assert_one_rule(net: Network, node: str) -> None:
    rules = net.rules(node)
    assert net.jumps(node) == 1
    assert rules.count(CHAIN) == 1
    assert sum("NFQUEUE" in rule for rule in rules) == 1


def await_end(net: Network, node: str, *, since_s: float) -> None:
    eventually(lambda: not net.processes(node), f"no process on {node}", within_s=GONE_S)
    assert time.monotonic() - since_s < GONE_S


def test_a_killed_point_hurts_nobody_and_the_path_closes_over_it_until_it_is_back(
    row: Network, passers_by: tuple[Stream, Stream]
) -> None:
    row.lab.kill_point("p2")
    assert row.processes("p2") == set()
    first = row.inpath("p1", "request", "p1", "p3", "--json")
    assert first.exit_code == 5
    document = first.document()
    (segment,) = document["segments"]
    assert (document["status"], segment["state"]) == ("partial", "pending")
    assert (segment["upstream"], segment["current"]) == (row.address("p1"), row.address("p3"))
    assert "ask again" in first.stderr and len(first.stderr.splitlines()) == 1

    closed = row.await_answer("p1", "p3", ("p1", "p3"), within_s=10)
    assert closed.segments[0].state is SegmentState.MEASURED
    delay_ms, truth_ms = closed.composed["delay"].value, row.lab.truth("p1", "p3").delay_ms
    assert delay_ms == pytest.approx(truth_ms, abs=3)

    row.lab.start_point("p2")
    assert_one_rule(row, "p2")
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))
    plain_lost, alerted_lost = end(passers_by)
    assert plain_lost == 0
    assert alerted_lost <= LOST_IN_A_KILLED_QUEUE


def test_a_point_asked_to_end_does_so_at_once_takes_its_rules_along_and_loses_no_packet(
    row: Network, passers_by: tuple[Stream, Stream]
) -> None:
    started_s = time.monotonic()
    os.kill(row.status("p2")["pid"], signal.SIGTERM)
    await_end(row, "p2", since_s=started_s)
    assert (row.rules("p2"), row.queues("p2")) == ([], "")
    row.lab.start_point("p2")
    assert_one_rule(row, "p2")
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))
    assert end(passers_by) == (0, 0)


def test_without_its_service_the_packet_process_ends_too_and_nothing_stays(row: Network) -> None:
    status = row.status("p2")
    started_s = time.monotonic()
    os.kill(status["pid"], signal.SIGKILL)
    await_end(row, "p2", since_s=started_s)
    assert (row.rules("p2"), row.queues("p2")) == ([], "")
    row.lab.start_point("p2")
    assert_one_rule(row, "p2")
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))


def test_a_killed_packet_process_is_started_again_and_counted(row: Network) -> None:
    before = row.status("p2")["packet_process"]
    os.kill(before["pid"], signal.SIGKILL)

    def another() -> bool:
        now = row.status("p2")["packet_process"]
        return now["pid"] not in (None, before["pid"]) and now["restarts"] == before["restarts"] + 1

    eventually(another, "another packet process", within_s=10)
    row.await_answer("p1", "p3", ("p1", "p2", "p3"), within_s=10)
    shown = row.inpath("p2", "mp", "status", "--json")
    assert shown.exit_code == 0
    assert shown.document()["packet_process"]["restarts"] == before["restarts"] + 1
    assert_one_rule(row, "p2")
    assert len(row.queues("p2").splitlines()) == 1


def test_a_packet_process_that_hangs_is_replaced(row: Network, passers_by: tuple[Stream, Stream]) -> None:
    before = row.status("p2")["packet_process"]
    os.kill(before["pid"], signal.SIGSTOP)
    eventually(
        lambda: row.status("p2")["packet_process"]["restarts"] == before["restarts"] + 1,
        "another packet process in place of one that hangs",
        within_s=12,
    )
    row.await_answer("p1", "p3", ("p1", "p2", "p3"), within_s=10)
    assert_one_rule(row, "p2")
    plain_lost, _ = end(passers_by)
    assert plain_lost == 0


def test_a_request_that_meets_a_hung_packet_process_is_answered_all_the_same(row: Network) -> None:
    hung = row.status("p2")["packet_process"]["pid"]
    os.kill(hung, signal.SIGSTOP)  # the first copies wait in its queue for ever
    result = row.ask("p1", "p3", timeout_s=15.0)
    assert result.status in (ResultStatus.COMPLETE, ResultStatus.PARTIAL)
    assert points_of(result)[0] == row.address("p1") and points_of(result)[-1] == row.address("p3")
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))
    assert row.status("p2")["packet_process"]["pid"] != hung


def test_a_service_that_hangs_keeps_no_request_waiting(row: Network) -> None:
    status = row.status("p2")
    os.kill(status["pid"], signal.SIGSTOP)
    try:
        result = row.ask("p1", "p3")
    finally:
        os.kill(status["pid"], signal.SIGCONT)
    assert result.status is ResultStatus.COMPLETE
    assert points_of(result) == tuple(map(row.address, ("p1", "p2", "p3")))
    assert row.status("p2")["packet_process"]["pid"] == status["packet_process"]["pid"]


def test_a_point_that_stood_still_as_a_whole_goes_on_with_the_processes_that_it_had(row: Network) -> None:
    """As on a paused machine."""
    before = row.status("p2")
    pids = row.processes("p2")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep((HANG_LIMIT_MS + 1_500) / 1000)
    for pid in sorted(pids, key=lambda pid: pid != before["pid"]):
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.2)  # so that the service is awake before anybody says something
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))
    time.sleep(2 * LOOK_S)
    after = row.status("p2")
    assert after["packet_process"]["restarts"] == before["packet_process"]["restarts"]
    assert after["packet_process"]["pid"] == before["packet_process"]["pid"]


def test_a_hung_packet_process_leaves_no_rule_when_its_point_ends(row: Network) -> None:
    os.kill(row.status("p2")["packet_process"]["pid"], signal.SIGSTOP)
    began_s = time.monotonic()
    row.lab.stop_point("p2")
    await_end(row, "p2", since_s=began_s)
    assert row.rules("p2") == []
    row.lab.start_point("p2")
    assert_one_rule(row, "p2")


def test_packets_that_cost_much_and_come_in_a_flood_end_no_packet_process(row: Network) -> None:
    before = row.status("p2")["packet_process"]
    answer = row.run("p1", sys.executable, "-c", COSTLY_FLOOD, row.address("p1"), row.address("p3"))
    assert answer.exit_code == 0, answer.stderr
    after = row.status("p2")["packet_process"]
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))


COSTLY_FLOOD = """
import socket, sys, time
from schemas.payload import payload_from_xml
request = "<mr><hs>10.1.1.1</hs><hd>10.1.1.2</hd><id>" + "0" * 32 + "</id><ms>loss</ms>"
request += "<ct>1</ct><lt>1</lt><ma>1</ma></mr>"
record = '<mrp s="pending"><up>10.1.1.1</up><mp>10.1.1.1</mp><ts>{}</ts></mrp>'
records = "".join(map(record.format, range(1, 255)))
payload = payload_from_xml(f"<m>{request}{records}</m>".encode(), 1400)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes((148, 4, 0, 0)))
    sender.bind((sys.argv[1], 0))
    for _ in range(1600):  # eight seconds
        sender.sendto(payload, (sys.argv[2], 49862))
        time.sleep(0.005)
"""
"""Seven hundred octets that inflate to 254 records, 200 times a second: far more than one core can decode."""


def test_without_the_last_point_the_destination_itself_says_that_nobody_answers(row: Network) -> None:
    row.lab.kill_point("p3")
    answer = row.inpath("p1", "request", "p1", "p3")
    assert answer.exit_code == 3
    assert answer.stderr == f"inpath: destination {row.address('p3')}: no measurement point listens there\n"
    assert answer.elapsed_s < 3
    row.lab.start_point("p3")
    assert points_of(row.await_answer("p1", "p3", ("p1", "p2", "p3")))[-1] == row.address("p3")


def test_a_source_that_was_killed_answers_again_and_keeps_what_it_knew(row: Network) -> None:
    last = row.ask("p1", "p3")
    assert last.status is ResultStatus.COMPLETE
    row.lab.kill_point("p1")
    answer = row.inpath("h1", "request", "p1", "p3")
    assert answer.exit_code == 1
    assert "connection refused" in answer.stderr and len(answer.stderr.splitlines()) == 1
    row.lab.start_point("p1")
    assert_one_rule(row, "p1")
    row.await_answer("p1", "p3", ("p1", "p2", "p3"))
    assert row.stored("p1", last.id) == last


def test_a_request_that_waits_when_its_source_is_killed_has_failed_afterwards_and_says_why(row: Network) -> None:
    hung = row.status("p3")["packet_process"]["pid"]
    os.kill(hung, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as asker:
        asking = asker.submit(row.ask, "p1", "p3", timeout_s=20.0)
        (waiting,) = eventually(
            lambda: [one for one in latest(row, "p1") if one.status is ResultStatus.PENDING],
            "a stored request",
            within_s=2,
        )
        row.lab.kill_point("p1")
        assert isinstance(asking.exception(timeout=5), InpathError)
    os.kill(hung, signal.SIGCONT)
    row.lab.start_point("p1")

    def failed() -> bool:
        stored = row.stored("p1", waiting.id)
        return stored is not None and stored.status is ResultStatus.FAILED and stored.warnings == (INTERRUPTED,)

    eventually(failed, "a failed result with the reason", within_s=5)


def latest(net: Network, node: str) -> Sequence[PathResult]:
    with closing(ResultStore(load_configuration(net.configuration(node)).store_url)) as store:
        return store.latest(20)
