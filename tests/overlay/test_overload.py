"""A point that is overloaded, starved or short of something: others' traffic goes on, and so does the point."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.points import point_files
from mp.stall import STALL_MS
from schemas.errors import InpathError
from schemas.result import ResultStatus
from tests.interceptor.datagram import build_datagram
from tests.namespaces import in_namespace
from tests.overlay.network import Network, eventually, network, start
from tests.overlay.stream import Stream

pytestmark = pytest.mark.netns

ROUTER_ALERT = b"\x94\x04\x00\x00"
MEASUREMENT_PORT = 49862
QUEUE_LENGTH = 8192
ROW = {
    "nodes": {"h1": {"host": True}, "a": {"point": True}, "b": {"point": True}, "h2": {"host": True}},
    "links": [
        {"a": "h1", "b": "a", "delay_ms": 1},
        {"a": "a", "b": "b", "delay_ms": 1},
        {"a": "b", "b": "h2", "delay_ms": 1},
    ],
}
UNLIMITED = "rate_per_s = 10000\nburst = 10000\n"
DISK_BYTES = 2 << 20
SOURCES = 100
"""More than enough for all of them together to get past the limit for each."""
NONE_LEFT = 3
"""File descriptors that are always open."""


@pytest.fixture(scope="module")
def line() -> Iterator[Network]:
    """Two points between two hosts; the second keeps what it must not lose on a small disk of its own."""
    with network(ROW) as net, disk(net, "b"):
        configuration = net.configuration("b")
        text = configuration.read_text()
        small = disk_of(net, "b")
        text = re.sub(r"(?m)^state_dir = .*$", f'state_dir = "{small}"', text)
        text = re.sub(r"(?m)^url = .*$", f'url = "sqlite:///{small}/results.db"', text)
        configuration.write_text(text.replace("[point]\n", f"[measurement]\n{UNLIMITED}\n[point]\n", 1))
        start(net)
        net.await_answer("a", "b", ("a", "b"))
        yield net


@pytest.fixture
def undisturbed(line: Network) -> Iterator[None]:
    """What passes by meanwhile loses nothing, and afterwards the point measures and is the same process."""
    pid = line.status("b")["pid"]
    with Stream(line, "h2", "h1") as plain:
        yield
        line.await_answer("a", "b", ("a", "b"), within_s=15)
        line.await_answer("b", "a", ("b", "a"), within_s=15)
        eventually(lambda: plain.sent > 100, "some traffic", within_s=5)
    assert plain.missing == []
    assert line.status("b")["pid"] == pid


def disk_of(net: Network, node: str) -> Path:
    return point_files(net.lab.directory, node).directory / "disk"


@contextmanager
def disk(net: Network, node: str) -> Iterator[None]:
    """A file system of DISK_BYTES."""
    path = disk_of(net, node)
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def told_once(net: Network, node: str, words: str) -> Iterator[None]:
    """The log of the point gets one line with these words meanwhile."""
    log = point_files(net.lab.directory, node).log
    before = len(log.read_text().splitlines())

    def told() -> list[str]:
        return [line for line in log.read_text().splitlines()[before:] if re.search(words, line)]

    yield
    eventually(told, f"a line of the log with {words!r}", within_s=10)
    assert len(told()) == 1


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def changed(net: Network, node: str, *commands: str) -> None:
    for command in commands:
        answer = net.run(node, *command.split())
        assert answer.exit_code == 0, answer.stderr


@contextmanager
def counted(net: Network, node: str, destination: str) -> Iterator[Callable[[], tuple[int, int]]]:
    """How many packets to the measurement port of a destination have come to a node, and how many have left it."""
    match = f"-d {net.address(destination)}/32 -p udp -m udp --dport {MEASUREMENT_PORT}"
    rules = ("-t raw {} PREROUTING", "-t mangle {} POSTROUTING")
    changed(net, node, *(f"iptables {rule.format('-A')} {match}" for rule in rules))

    def counts() -> tuple[int, int]:
        listed = (net.run(node, *f"iptables {rule.format('-vS')}".split()).stdout for rule in rules)
        came, left = (int(re.findall(rf"{match} -c (\d+)", text)[0]) for text in listed)
        return came, left

    try:
        yield counts
    finally:
        changed(net, node, *(f"iptables {rule.format('-D')} {match}" for rule in rules))


def test_a_full_queue_lets_the_rest_pass_and_loses_nothing(line: Network, undisturbed: None) -> None:
    process = line.status("b")["packet_process"]
    with in_namespace(line.namespace("h2")):
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    packets = [
        build_datagram(b"not for you", source=f"198.18.0.{number}", destination=line.address("h1"))
        for number in range(SOURCES)
    ]
    with sender, counted(line, "b", "h1") as counts:
        with told_once(line, "b", "packet process did not run"), stopped(process["pid"]):
            began_s = time.monotonic()
            for number in range(QUEUE_LENGTH + 2000):
                sender.sendto(packets[number % SOURCES], (line.address("h1"), 0))
                if number % 100 == 99:
                    time.sleep(0.01)
            eventually(lambda: time.monotonic() - began_s > 1.5 * STALL_MS / 1000, "a stall", within_s=5)
            came, left = counts()
            assert came > QUEUE_LENGTH + 1000
            assert left == came - QUEUE_LENGTH
        eventually(lambda: counts() == (came, came), "the rest, which has waited", within_s=5)
    after = line.status("b")["packet_process"]
    assert (after["pid"], after["restarts"]) == (process["pid"], process["restarts"])


def test_a_service_that_stalls_goes_on_where_it_was(line: Network, undisturbed: None) -> None:
    status = line.status("b")
    with (
        Stream(line, "h2", "h1", port=MEASUREMENT_PORT, options=ROUTER_ALERT, gap_s=0.01) as alerted,
        told_once(line, "b", "service process did not run"),
        stopped(status["pid"]),
    ):
        time.sleep(2.0)
    assert alerted.missing == []
    process = line.status("b")["packet_process"]
    assert process["pid"] == status["packet_process"]["pid"]


def test_a_full_disk_fails_requests_until_there_is_room_again(line: Network, undisturbed: None) -> None:
    ballast = disk_of(line, "b") / "ballast"
    with told_once(line, "b", "full"):
        _fill(ballast)

        def refused() -> str | None:
            try:
                line.ask("b", "a")
            except InpathError as error:
                return str(error)
            return None

        refusal = eventually(refused, "a refusal", within_s=10)
        assert "full" in refusal
        for _ in range(3):
            assert refused()
        ballast.unlink()
        assert line.ask("b", "a").status is ResultStatus.COMPLETE


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 1024, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_point_out_of_file_descriptors_lives_on_and_answers_when_there_are_some(
    line: Network, undisturbed: None
) -> None:
    pid = line.status("b")["pid"]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with told_once(line, "b", "mp.daemon .*Too many open files"), told_once(line, "b", "out of system resource"):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (NONE_LEFT, hard))
        try:
            with pytest.raises(InpathError, match="no answer"):
                line.status("b")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert line.status("b")["pid"] == pid


def test_an_interface_comes_and_goes(line: Network, undisturbed: None) -> None:
    with told_once(line, "b", "host changed: addresses .*10.254.9.9"):
        changed(
            line,
            "b",
            "ip link add spare type veth peer name other",
            "ip address add 10.254.9.9/32 dev spare",
            "ip link set spare up",
        )
        eventually(lambda: "10.254.9.9" in line.status("b")["host"]["addresses"], "the address", within_s=5)
    with told_once(line, "b", "host changed"):
        changed(line, "b", "ip link delete spare")
        eventually(lambda: "10.254.9.9" not in line.status("b")["host"]["addresses"], "its end", within_s=5)


def test_a_smaller_mtu_is_noticed_before_a_message_could_be_too_long(line: Network, undisturbed: None) -> None:
    interface = line.interface("b", "h2")

    def mtu() -> int:
        return int(line.status("b")["host"]["smallest_mtu_bytes"])

    usual = mtu()
    with told_once(line, "b", "smallest MTU 900"):
        changed(line, "b", f"ip link set {interface} mtu 900")
        eventually(lambda: mtu() == 900, "the smaller MTU", within_s=5)
        line.await_answer("a", "b", ("a", "b"))
    with told_once(line, "b", f"smallest MTU {usual}"):
        changed(line, "b", f"ip link set {interface} mtu {usual}")
        eventually(lambda: mtu() == usual, "the usual MTU", within_s=5)
