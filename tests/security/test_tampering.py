"""Points that share a key, one that has none, and an attacker on a router between them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.points import point_files, point_pid
from schemas.authentication import Standing
from schemas.payload import xml_from_payload
from schemas.result import Flag, PathResult, ResultStatus
from tests.overlay.attacker import Change, attacker
from tests.overlay.network import Network, eventually, network, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

ROW = {
    "nodes": {
        "a": {"point": True},
        "b": {"point": True},
        "r": {},
        "c": {"point": True},
        "stranger": {"point": True},
    },
    "links": [
        {"a": "a", "b": "b", "delay_ms": 1},
        {"a": "b", "b": "r", "delay_ms": 1},
        {"a": "r", "b": "c", "delay_ms": 1},
        {"a": "r", "b": "stranger", "delay_ms": 1},
    ],
}
"""The attacker is on r. All share a key but the stranger, who holds none and extends what he cannot check."""


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    with network(ROW) as net:
        configure(net, "stranger", {"security": {"authentication": "off"}})
        configure(net, "c", {"security": {"authentication": "required"}})
        start(net)
        net.await_answer("a", "c", ("a", "b", "c"))
        yield net


def ask(row: Network, destination: str) -> PathResult:
    return row.ask("a", destination, timeout_s=3.0)


def changed(pattern: bytes, by: bytes) -> Change:
    def change(xml: bytes) -> bytes:
        after, count = re.subn(pattern, by, xml, count=1)
        assert count, xml
        return after

    return change


def without_its_record(xml: bytes) -> bytes:
    return re.sub(rb"<mrp>.*</mrp>", b"", xml)


ATTACKS = {
    "a loss that vanished": changed(rb'<loss n="\d+"', b'<loss n="9999999"'),
    "another point in its place": changed(rb"<mp>[0-9.]+</mp>", b"<mp>10.9.9.9</mp>"),
    "another request": changed(rb"<ma>\d+</ma>", b"<ma>3600000</ma>"),
    "the tag removed": changed(rb'<a k="lab" t="[^"]*"/></mrp>', b"</mrp>"),
}


def test_an_answer_of_points_that_share_a_key_is_authentic(row: Network) -> None:
    result = ask(row, "c")
    assert (result.status, result.authenticity) == (ResultStatus.COMPLETE, Standing.AUTHENTIC)


@pytest.mark.parametrize("change", ATTACKS.values(), ids=ATTACKS)
def test_a_point_adds_nothing_to_what_was_changed_and_nothing_false_is_answered(
    row: Network, change: Change
) -> None:
    with attacker(row, "r", change) as sent:
        result = ask(row, "c")
    assert sent
    assert result.status is ResultStatus.FAILED
    assert result.segments == ()


@pytest.mark.parametrize(
    ("name", "standing"),
    [("a loss that vanished", Standing.FORGED), ("the tag removed", Standing.UNSIGNED)],
)
def test_the_source_names_the_first_bad_record_and_marks_the_result(
    row: Network, name: str, standing: Standing
) -> None:
    with attacker(row, "r", ATTACKS[name]):
        result = eventually(lambda: answered(row), "an answer by the stranger", within_s=20)
    assert result.segments[0].authenticity is standing
    assert f"the record of {row.address('b')} has" in result.warnings[0]
    assert all(Flag.UNVERIFIED in metric.flags for metric in result.composed.values())


def answered(row: Network) -> PathResult | None:
    result = ask(row, "stranger")
    return result if result.segments else None


def test_records_of_another_request_do_not_fit_in(row: Network) -> None:
    kept: list[bytes] = []

    def splice(xml: bytes) -> bytes:
        record = re.search(rb"<mrp>.*</mrp>", xml)
        assert record is not None
        kept.append(record.group())
        return xml.replace(record.group(), kept[0])

    with attacker(row, "r", splice):
        assert ask(row, "c").status is ResultStatus.COMPLETE  # spliced into itself: nothing changed
        kept[1:] = []
        assert ask(row, "c").status is ResultStatus.FAILED


def test_a_message_cut_back_hides_a_point_and_gives_no_false_value(row: Network) -> None:
    """Nobody can tell it from a path around that point: but then the whole way is measured by the next one."""
    with attacker(row, "r", without_its_record) as sent:
        result = eventually(lambda: cut_back(row), "an answer without b", within_s=30)
    assert sent
    truth = row.lab.truth("a", "c")
    delay = result.composed["delay"].value
    assert truth.delay_ms is not None
    if delay is not None:
        assert delay == pytest.approx(truth.delay_ms, abs=1)


def cut_back(row: Network) -> PathResult | None:
    result = ask(row, "c")
    ends = [(segment.upstream, segment.current) for segment in result.segments]
    return result if ends == [(row.address("a"), row.address("c"))] else None


def test_a_request_that_was_replayed_changes_no_answer(row: Network) -> None:
    with attacker(row, "r", lambda xml: xml) as sent:
        assert ask(row, "c").status is ResultStatus.COMPLETE
    replayed = xml_from_payload(sent[0])
    with attacker(row, "r", lambda xml: replayed):
        result = ask(row, "c")
    # What was replayed is of the first question, which has its answer; the second one gains nothing by it.
    assert (result.status, result.segments) == (ResultStatus.FAILED, ())


def test_keys_are_changed_one_point_after_the_other_and_every_answer_stays_authentic(row: Network) -> None:
    points = ("a", "b", "c")

    def at_each(*step: str) -> None:
        for point in points:
            done = row.inpath(point, "keys", *step)
            assert done.exit_code == 0, done.stderr
            reload(point)

    def reload(point: str) -> None:
        pid = point_pid(row.lab.directory, row.lab.addressing, point)
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        for _ in range(3):
            result = ask(row, "c")
            assert (result.status, result.authenticity) == (ResultStatus.COMPLETE, Standing.AUTHENTIC)

    assert row.inpath("a", "keys", "rotate", "lab", "next").exit_code == 0
    made = (keys_of(row, "a") / "next.key").read_bytes()
    for point in points:
        file = keys_of(row, point) / "next.key"
        file.write_bytes(made)
        file.chmod(0o600)
        reload(point)
    at_each("activate", "next")
    at_each("retire", "lab")
    assert {path.name for point in points for path in keys_of(row, point).iterdir()} == {"next.key"}


def keys_of(row: Network, point: str) -> Path:
    return point_files(row.lab.directory, point).keys
