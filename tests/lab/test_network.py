"""Labs in the kernel: what is configured is what packets meet."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import namespaces
from lab.build import bring_up
from lab.links import user_link_processes
from lab.network import Lab, describe, describe_labs, find_lab
from lab.points import point_pid
from lab.processes import kill_processes
from lab.state import lab_directory, lab_names
from lab.teardown import take_down
from lab.topology import Topology, topology_from_json
from schemas.errors import LabError, UsageError

pytestmark = pytest.mark.netns

INPATH = Path(sys.executable).parent / "inpath"


def chain(name: str) -> Topology:
    """h - r1 - r2, with 5 and 10 ms one way, 5 and 20 ms back."""
    return topology_from_json(
        {
            "name": name,
            "nodes": {"h": {"host": True}, "r1": {"point": True}, "r2": {}},
            "links": [
                {"a": "h", "b": "r1", "delay_ms": 5},
                {"a": "r1", "b": "r2", "delay_ms": 10, "b_to_a": {"delay_ms": 20}},
            ],
        }
    )


def ring(name: str) -> Topology:
    return topology_from_json(
        {
            "name": name,
            "routing": "ospf",
            "nodes": {"a": {}, "b": {}, "c": {}, "d": {}, "h": {"host": True}},
            "links": [
                {"a": "a", "b": "b", "delay_ms": 1},
                {"a": "b", "b": "c", "delay_ms": 1},
                {"a": "c", "b": "d", "delay_ms": 3},
                {"a": "d", "b": "a", "delay_ms": 3, "cost": 15},
                {"a": "c", "b": "h"},
                # d has a link of its own to the host, but is nearer to it by way of c.
                {"a": "d", "b": "h", "cost": 100, "delay_ms": 50},
            ],
        }
    )


def run_on(lab: Lab, node: str, *command: str) -> subprocess.CompletedProcess[str]:
    enter = ["ip", "netns", "exec", lab.addressing.namespace(node)]
    return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=20)


def ping_rtt_ms(lab: Lab, source: str, destination: str, count: int = 4) -> float | None:
    """The least round-trip time of some pings, in ms; None if all are lost."""
    address = lab.addressing.identities[destination]
    answer = run_on(lab, source, "ping", "-c", str(count), "-i", "0.05", "-W", "1", address).stdout
    found = re.search(r"= ([\d.]+)/", answer)
    return None if found is None else float(found.group(1))


def traces_of(name: str) -> list[str]:
    """What is left of a lab on this machine."""
    directory = lab_directory(name)
    left = [namespace for namespace in namespaces.existing() if namespace.startswith(f"inpath-{name}-")]
    left += [str(pid) for pid in user_link_processes(directory.links_control)]
    return left + ([str(directory.path)] if directory.path.exists() else [])


@pytest.fixture(scope="module")
def small_lab(state_directory: Path) -> Iterator[Lab]:
    name = f"t{state_directory.name[3:].lower().replace('_', 'x')}"
    yield bring_up(chain(name), start_points=False)
    take_down(name)


def test_a_ping_takes_what_the_links_on_both_ways_add_up_to(small_lab: Lab) -> None:
    truth = small_lab.truth("h", "r2")
    assert truth.path == ("h", "r1", "r2")
    assert (truth.hops, truth.delay_ms, truth.rtt_ms, truth.loss_ratio) == (2, 15, 40, 0)
    assert ping_rtt_ms(small_lab, "h", "r2") == pytest.approx(40, abs=4)


def test_packets_leave_from_the_address_of_the_node(small_lab: Lab) -> None:
    for destination in ("10.255.0.3", "10.0.0.6", "10.0.0.2"):
        answer = run_on(small_lab, "h", "ip", "-j", "route", "get", destination).stdout
        assert json.loads(answer)[0]["prefsrc"] == small_lab.addressing.identities["h"]


def test_routers_forward_and_hosts_do_not(small_lab: Lab) -> None:
    forwarding = {
        node: run_on(small_lab, node, "cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip()
        for node in ("h", "r1", "r2")
    }
    assert forwarding == {"h": "0", "r1": "1", "r2": "1"}


def test_no_node_speaks_ipv6(small_lab: Lab) -> None:
    assert run_on(small_lab, "r1", "ip", "-6", "addr").stdout == ""


def test_every_address_of_every_node_answers(small_lab: Lab) -> None:
    for node in describe(small_lab)["nodes"]:
        for interface in node["interfaces"]:
            address = interface["address"].partition("/")[0]
            assert run_on(small_lab, "h", "ping", "-c", "1", "-W", "1", address).returncode == 0


def test_a_change_of_one_direction_is_met_and_known_at_once(small_lab: Lab) -> None:
    small_lab.set_link("r1", "r2", {"delay_ms": 30.0}, one_way=True)
    try:
        again = find_lab(small_lab.name)
        assert again.truth("h", "r2").rtt_ms == 60
        assert again.truth("r2", "h").delay_ms == 25
        assert ping_rtt_ms(again, "h", "r2") == pytest.approx(60, abs=5)
    finally:
        small_lab.set_link("r1", "r2", {"delay_ms": 10.0}, one_way=True)


def test_a_change_from_the_other_end_means_the_other_direction(small_lab: Lab) -> None:
    link = small_lab.set_link("r2", "r1", {"loss_ratio": 1.0}, one_way=True)
    try:
        assert (link.a_to_b.loss_ratio, link.b_to_a.loss_ratio) == (0, 1)
        assert small_lab.truth("h", "r2").loss_ratio == 0
        assert small_lab.truth("r2", "h").loss_ratio == 1
        assert ping_rtt_ms(small_lab, "h", "r2", count=2) is None
    finally:
        small_lab.set_link("r1", "r2", {"loss_ratio": 0.0})


def test_a_link_that_is_down_breaks_a_static_route_until_it_is_up_again(small_lab: Lab) -> None:
    small_lab.set_link("r1", "r2", {"up": False})
    try:
        truth = small_lab.truth("h", "r2")
        assert (truth.loss_ratio, truth.delay_ms, truth.rtt_ms) == (1, None, None)
        assert ping_rtt_ms(small_lab, "h", "r2", count=2) is None
    finally:
        small_lab.set_link("r1", "r2", {"up": True})
    assert ping_rtt_ms(small_lab, "h", "r2") == pytest.approx(40, abs=4)


def test_a_changed_mtu_holds_for_both_ends_and_what_is_longer_is_refused(small_lab: Lab) -> None:
    link = small_lab.set_link("r2", "r1", {}, mtu_octets=1200)
    try:
        assert (link.mtu_octets, small_lab.truth("h", "r2").mtu_octets) == (1200, 1200)
        mtus = [mtu_of(small_lab, node, f"to-{other}") for node, other in (("r1", "r2"), ("r2", "r1"))]
        assert mtus == [1200, 1200]
        ping = ("ping", "-c", "1", "-W", "2", "-M", "do", small_lab.addressing.identities["r2"], "-s")
        assert run_on(small_lab, "h", *ping, "1172").returncode == 0
        assert "mtu = 1200" in run_on(small_lab, "h", *ping, "1173").stdout
    finally:
        small_lab.set_link("r1", "r2", {}, mtu_octets=1500)


def mtu_of(lab: Lab, node: str, interface: str) -> int:
    return int(json.loads(run_on(lab, node, "ip", "-j", "link", "show", interface).stdout)[0]["mtu"])


def test_a_wrong_change_leaves_the_link_as_it_was(small_lab: Lab) -> None:
    before = small_lab.topology
    with pytest.raises(UsageError, match="loss_ratio"):
        small_lab.set_link("r1", "r2", {"loss_ratio": 1.5})
    with pytest.raises(UsageError, match="mtu: got 9001"):
        small_lab.set_link("r1", "r2", {}, mtu_octets=9001)
    assert find_lab(small_lab.name).topology == before


def test_two_labs_stand_side_by_side_and_one_goes_alone(lab_name: Callable[[], str]) -> None:
    # One name begins like the other, and so do the names of their namespaces.
    first, second = (lab := lab_name()), f"{lab}-h"
    try:
        bring_up(chain(first), start_points=False)
        bring_up(chain(second), start_points=False)
        assert {first, second} <= {lab["name"] for lab in describe_labs()}
        with pytest.raises(UsageError, match=f"one of .*{first}, {second}"):
            find_lab(None)
        take_down(first)
        assert ping_rtt_ms(find_lab(second), "h", "r2") == pytest.approx(40, abs=4)
    finally:
        take_down(second)
    assert traces_of(first) == traces_of(second) == []


def test_a_lab_of_a_taken_name_is_refused_and_the_first_one_stays(small_lab: Lab) -> None:
    with pytest.raises(LabError, match="exists"):
        bring_up(chain(small_lab.name), start_points=False)
    assert small_lab.truth("h", "r2").complete


def test_a_crashed_lab_is_cleared_away(lab_name: Callable[[], str]) -> None:
    lab = bring_up(chain(lab_name()), start_points=False)
    namespace = lab.addressing.namespace("r1")
    stubborn = subprocess.Popen(
        ["ip", "netns", "exec", namespace, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
    )
    kill_processes(user_link_processes(lab.directory.links_control))
    (lab.directory.path / "state.json").write_text("{half")
    assert take_down(lab.name)
    assert stubborn.wait(timeout=5) == -signal.SIGKILL
    assert traces_of(lab.name) == []
    assert not take_down(lab.name)


def test_a_process_that_has_not_entered_its_namespace_yet_is_ended_too(
    lab_name: Callable[[], str], tmp_path: Path
) -> None:
    name = lab_name()
    namespaces.create([f"inpath-{name}-left"])
    (tmp_path / "netns").write_text("import time; time.sleep(60)")  # which this program runs in place of ip

    def entering(namespace: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", namespace], executable=sys.executable, cwd=tmp_path)

    ours, other = entering(f"inpath-{name}-left"), entering(f"inpath-{name}-l")
    assert take_down(name)
    assert (ours.wait(timeout=5), other.poll()) == (-signal.SIGTERM, None)
    other.kill()
    other.wait()


def test_namespaces_without_a_directory_are_cleared_away_too(lab_name: Callable[[], str]) -> None:
    name = lab_name()
    namespaces.create([f"inpath-{name}-left"])
    with pytest.raises(LabError, match=f"exists already; clear it away with: inpath lab down {name}"):
        topology = topology_from_json({"name": name, "nodes": {"left": {}}})
        bring_up(topology, start_points=False)
    assert take_down(name)
    assert traces_of(name) == []


def test_a_point_runs_in_its_namespace_and_can_be_killed_stopped_and_started_again(
    lab_name: Callable[[], str],
) -> None:
    lab = bring_up(chain(lab_name()))
    inside = [lab.addressing.namespace("r1")]

    def pid() -> int | None:
        return point_pid(lab.directory, lab.addressing, "r1")

    first = pid()
    assert first in namespaces.processes_inside(inside)
    with pytest.raises(LabError, match="runs already"):
        lab.start_point("r1")
    lab.kill_point("r1")
    assert pid() is None
    assert namespaces.processes_inside(inside) == set()
    lab.start_point("r1")
    assert pid() not in (None, first)
    lab.stop_point("r1")
    assert namespaces.processes_inside(inside) == set()


def test_a_point_that_cannot_start_leaves_nothing_and_its_reason_is_told(lab_name: Callable[[], str]) -> None:
    name = lab_name()
    with pytest.raises(LabError, match="the point on r1 does not start: .*"):
        bring_up(chain(name), database="nonsense://")
    assert traces_of(name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(
    lab_name: Callable[[], str], number: signal.Signals, tmp_path: Path
) -> None:
    name = lab_name()
    # OSPF takes seconds to settle: time to be interrupted in.
    file = tmp_path / "pair.toml"
    file.write_text('name = "x"\nrouting = "ospf"\n[nodes.a]\n[nodes.b]\n[[links]]\na = "a"\nb = "b"\n')
    command = [str(INPATH), "lab", "up", str(file), "--name", name, "--no-points"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (lab_directory(name).node("b") / "inpath.toml").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in complaint
    assert traces_of(name) == []


def test_ospf_leads_around_a_link_that_is_down(lab_name: Callable[[], str]) -> None:
    lab = bring_up(ring(lab_name()), start_points=False)
    assert lab.truth("a", "h").path == ("a", "b", "c", "h")
    assert lab.truth("d", "h").path == ("d", "c", "h")
    assert ping_rtt_ms(lab, "a", "h") == pytest.approx(4, abs=2)
    lab.set_link("b", "c", {"up": False})
    assert path_in_time(lab, "a", "h", ("a", "d", "c", "h"))
    assert lab.truth("a", "h").rtt_ms == 12
    assert ping_rtt_ms(lab, "a", "h") == pytest.approx(12, abs=3)
    lab.set_link("c", "h", {"up": False})
    assert path_in_time(lab, "a", "h", ("a", "d", "h"))


def path_in_time(lab: Lab, source: str, destination: str, path: tuple[str, ...]) -> bool:
    """Whether the route both ways becomes this one within some seconds."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        forth, back = lab.truth(source, destination), lab.truth(destination, source)
        if forth.path == path and back.path == path[::-1]:
            return True
        time.sleep(0.1)
    return False


def test_without_a_lab_the_way_to_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPATH_STATE_DIR", str(tmp_path))
    assert lab_names() == []
    with pytest.raises(UsageError, match="inpath lab up FILE"):
        find_lab(None)
