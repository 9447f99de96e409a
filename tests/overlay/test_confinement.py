"""What the processes of a running point may still do, as the kernel tells."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from mp.config import load_configuration
from mp.privileges import NETWORK, OTHER_USER, Capability, HeldPrivileges
from tests.overlay.network import Network, eventually, network, start
from tests.requestor.http.serving import UnixConnection, reply_of

pytestmark = pytest.mark.netns

PAIR = {
    "nodes": {"a": {"point": True}, "b": {"point": True}},
    "links": [{"a": "a", "b": "b", "delay_ms": 1}],
}


@pytest.fixture(scope="module")
def pair() -> Iterator[Network]:
    with network(PAIR) as net:
        start(net)
        net.await_answer("a", "b", ("a", "b"))
        yield net


def bits(capabilities: frozenset[Capability]) -> int:
    return sum(1 << one for one in capabilities)


def threads(pid: int) -> list[HeldPrivileges]:
    """Of all threads of a process."""
    return [HeldPrivileges.of(f"{pid}/task/{one.name}") for one in Path(f"/proc/{pid}/task").iterdir()]


def users(pid: int) -> set[str]:
    """Real, effective, saved and file-system user."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return set(next(line for line in lines if line.startswith("Uid:")).split()[1:])


def real_time_limit(pid: int) -> int:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Max realtime priority")).split()[3])


def assert_confined(pid: int, kept: int) -> None:
    found = threads(pid)
    assert found
    for held in found:
        assert (held.effective, held.permitted, held.bounding) == (kept, kept, 0)
        assert held.ambient & ~kept == 0
        assert held.no_new_privileges
        assert held.is_filtered


def http_process(net: Network, node: str) -> int:
    """The HTTP process of a point, which starts when somebody comes."""
    path = load_configuration(net.configuration(node)).http.socket
    assert reply_of(UnixConnection(path), "GET", "/v1/segments", None, {}).status == 200
    pid: int = eventually(lambda: net.status(node)["http"]["pid"], "the HTTP process", within_s=10)
    return pid


def test_the_packet_process_keeps_two_capabilities_and_hands_none_on(pair: Network) -> None:
    pid = pair.status("b")["packet_process"]["pid"]
    assert_confined(pid, bits(NETWORK))
    assert {held.ambient for held in threads(pid)} == {0}


def test_the_service_keeps_what_sockets_and_its_children_take(pair: Network) -> None:
    pair.await_answer("b", "a", ("b", "a"))  # it is kept, by other threads
    pid = pair.status("b")["pid"]
    assert len(threads(pid)) > 1  # those of the spool and the database have no more than the first
    real_time = () if real_time_limit(pid) else (Capability.SYS_NICE,)
    assert_confined(pid, bits(NETWORK | OTHER_USER | {*real_time}))


def test_the_http_process_has_no_capability_and_is_not_root(pair: Network) -> None:
    path = load_configuration(pair.configuration("b")).http.socket
    assert reply_of(UnixConnection(path), "GET", "/v1/segments", None, {}).status == 200
    pid: int = eventually(lambda: pair.status("b")["http"]["pid"], "the HTTP process", within_s=10)
    assert_confined(pid, 0)
    assert users(pid) == {str(pwd.getpwnam("nobody").pw_uid)}


def test_a_confined_point_still_takes_its_rule_along(pair: Network) -> None:
    assert pair.jumps("b") == 1
    pair.lab.stop_point("b")
    assert (pair.rules("b"), pair.queues("b")) == ([], "")
    pair.lab.start_point("b")
    assert pair.jumps("b") == 1
