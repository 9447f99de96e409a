"""The commands, as a person and as a program uses them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lab.cli import lab
from lab.state import lab_directory
from lab.teardown import take_down
from schemas.errors import InpathError

INPATH = Path(sys.executable).parent / "inpath"

PAIR = """
name = "pair"
nodes = { left = {point = true}, right = {}, far = {host = true} }
[[links]]
a = "left"
b = "right"
delay_ms = 2
a_to_b = { loss_ratio = 0.5 }
[[links]]
a = "right"
b = "far"
delay_ms = 1
"""


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lab, arguments)


def asked(*arguments: str) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: str) -> InpathError:
    """The error of a command that must fail; `mp.cli` prints it as one line."""
    error = invoke(*arguments).exception
    assert isinstance(error, InpathError), error
    assert "\n" not in str(error)
    return error


@pytest.fixture(scope="module")
def pair(state_directory: Path) -> Iterator[str]:
    name = f"t{state_directory.name[3:].lower().replace('_', 'x')}"
    file = state_directory / "pair.toml"
    file.write_text(PAIR)
    result = invoke("up", str(file), "--name", name, "--no-points")
    assert result.exit_code == 0, result.exception
    assert f"lab {name} is up: 3 nodes, 2 links" in result.stdout
    yield name
    take_down(name)


@pytest.mark.netns
def test_the_list_tells_all_of_a_lab(pair: str) -> None:
    (listed,) = asked("list")
    assert (listed["name"], listed["routing"], listed["phase"]) == (pair, "static", "up")
    assert listed["link_kind"] in ("netem", "user-space")
    left = listed["nodes"][0]
    assert (left["name"], left["address"], left["point"], left["pid"]) == ("left", "10.255.0.1", True, None)
    assert left["namespace"] == f"inpath-{pair}-left"
    assert left["interfaces"] == [{"name": "to-right", "address": "10.0.0.1/30", "mac": "02:00:00:00:00:01"}]
    assert listed["links"][0]["a_to_b"]["loss_ratio"] == 0.5
    assert listed["links"][0]["mtu_octets"] == 1500
    table = invoke("list").stdout
    assert "left" in table and "10.255.0.1" in table and listed["link_kind"] in table
    assert "1500" in table


@pytest.mark.netns
def test_truth_needs_no_name_where_one_lab_is_up(pair: str) -> None:
    truth = asked("truth", "left", "far")
    assert truth["path"] == ["left", "right", "far"]
    assert (truth["delay_ms"], truth["rtt_ms"], truth["loss_ratio"], truth["hops"]) == (3, 6, 0.5, 2)
    assert (truth["capacity_mbit_s"], truth["mtu_octets"]) == (None, 1500)
    table = invoke("truth", "left", "far").stdout
    assert "left right far" in table and "no limit" in table and "1500 octets" in table


@pytest.mark.netns
def test_a_link_keeps_what_is_not_mentioned(pair: str) -> None:
    state = asked("link", "left", "right", "--delay-ms", "7", "--rate-mbit", "10", "--one-way")
    assert state["a_to_b"] == {
        "delay_ms": 7,
        "jitter_ms": 0,
        "loss_ratio": 0.5,
        "rate_mbit": 10,
        "drops_options": False,
        "up": True,
    }
    assert state["b_to_a"]["delay_ms"] == 2
    state = asked("link", "right", "left", "--delay-ms", "2", "--rate-mbit", "none")
    assert (state["a_to_b"]["delay_ms"], state["a_to_b"]["rate_mbit"]) == (2, None)
    assert asked("link", "left", "right", "--drops-options")["b_to_a"]["drops_options"] is True
    assert "drops" in invoke("link", "left", "right").stdout
    assert asked("link", "left", "right", "--passes-options")["a_to_b"]["drops_options"] is False
    assert asked("link", "left", "right", "--mtu", "1400")["mtu_octets"] == 1400
    assert asked("truth", "left", "far")["mtu_octets"] == 1400
    assert "1400" in invoke("link", "left", "right").stdout
    assert asked("link", "left", "right", "--down")["b_to_a"]["up"] is False
    assert asked("truth", "left", "far")["loss_ratio"] == 1
    assert asked("link", "left", "right", "--up")["b_to_a"]["up"] is True
    assert "down" not in invoke("link", "left", "right").stdout


@pytest.mark.netns
def test_exec_passes_streams_environment_and_exit_code_through(pair: str) -> None:
    shell = 'cat; echo "$INPATH_CONFIG" >&2; command -v inpath; exit 7'
    command = [str(INPATH), "lab", "exec", "--name", pair, "right", "--", "sh", "-c", shell]
    done = subprocess.run(command, input="through\n", capture_output=True, text=True)
    assert done.returncode == 7
    assert done.stdout == f"through\n{INPATH}\n"
    assert done.stderr.strip() == str(lab_directory(pair).configuration("right"))


@pytest.mark.netns
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("truth", "left", "rigth"), "B: got 'rigth', expected a node; did you mean right?"),
        (("link", "left", "far", "--up"), "link: got 'left far', expected a neighbor of left: right"),
        (("link", "left", "right", "--loss-ratio", "2"), "loss_ratio: got 2.0"),
        (("link", "left", "right", "--rate-mbit", "fast"), "--rate-mbit: got 'fast'"),
        (("link", "left", "right", "--down", "--one-way"), "--one-way: got '--up or --down'"),
        (("link", "left", "right", "--mtu", "1400", "--one-way"), "--one-way: got '--mtu', expected both ways"),
        (("link", "left", "right", "--mtu", "575"), "mtu: got 575, expected a whole number from 576 to 9000"),
        (("link", "left", "right", "--down", "--up"), "--up: got '--down too', expected one of the two"),
        (("list", "no-lab"), "lab: got 'no-lab', expected a lab that is up"),
        (("exec", "lft", "--", "true"), "NODE: got 'lft', expected a node; did you mean left?"),
        (("exec", "left", "no-such-program"), "COMMAND: got 'no-such-program'"),
        (("exec", "left", "--"), "COMMAND: got ''"),
        (("point", "right", "start"), "NODE: got 'right', expected a node with a measurement point: left"),
        (("truth", "--name", "no-lab", "a", "b"), "lab: got 'no-lab', expected a lab that is up"),
        (("down", "no-lab"), "lab: got 'no-lab', expected a lab that is up"),
        (("down", "../../etc"), "lab: got '../../etc', expected lower-case letters"),
    ],
)
def test_wrong_usage_is_one_line_with_exit_code_2(pair: str, arguments: tuple[str, ...], complaint: str) -> None:
    error = refused(*arguments)
    assert str(error).startswith(complaint)
    assert error.exit_code == 2


@pytest.mark.netns
def test_a_point_that_does_not_run_cannot_be_stopped(pair: str) -> None:
    for action in ("stop", "kill"):
        error = refused("point", "left", action)
        assert str(error) == "no point runs on left"
        assert error.exit_code == 1


@pytest.mark.netns
def test_down_clears_one_lab_and_all_clears_every(
    lab_name: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INPATH_STATE_DIR", str(tmp_path))
    file = tmp_path / "one.toml"
    file.write_text('name = "x"\n[nodes.a]\n')
    first, second, third = lab_name(), lab_name(), lab_name()
    for name in (first, second, third):
        assert invoke("up", str(file), "--name", name).exit_code == 0
    names = ", ".join(sorted((first, second, third)))
    for command in (("down",), ("truth", "a", "a"), ("link", "a", "b"), ("point", "a", "start")):
        error = refused(*command)
        assert str(error) == f"--name: got 'nothing', expected one of the labs that are up: {names}"
        assert error.exit_code == 2
    for narrowed in (("list", second), ("list", "--name", second)):
        assert [listed["name"] for listed in asked(*narrowed)] == [second]
    assert {listed["name"] for listed in asked("list")} == {first, second, third}
    assert invoke("down", first).stdout == f"lab {first} is down\n"
    assert invoke("down", "--all").exit_code == 0
    assert asked("list") == []
    assert "no lab is up" in invoke("list").stdout


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            'name = "x"\n[nodes.a]\npiont = true',
            "[nodes.a]: piont: got 'piont', expected a known key; did",
        ),
        ("<graphml/>", "got '<graphml>', expected <graphml> with a <graph>"),
        ("\ufeff<html/>", "got '<html>'"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "net"
    file.write_text(text)
    error = refused("up", str(file))
    assert complaint in str(error)
    assert str(error).startswith(str(file))
    assert error.exit_code == 2


def test_a_missing_file_and_wrong_options_are_named(tmp_path: Path) -> None:
    assert "No such file" in str(refused("up", str(tmp_path / "none.toml")))
    assert "Is a directory" in str(refused("up", str(tmp_path)))
    file = tmp_path / "net.toml"
    file.write_text(PAIR)
    assert str(refused("up", str(file), "--name", "A B")).startswith("--name: got 'A B'")
    assert "did you mean left" in str(refused("up", str(file), "--points", "lefft"))


def test_help_of_the_lab_imports_nothing_heavy() -> None:
    script = "import sys, lab.cli; print([m for m in ('rich', 'lab.build', 'lab.network') if m in sys.modules])"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("assignment", ["rate=1", "probe.rate", "probe.rate=", "probe.rate=1\nother=2"])
def test_a_setting_of_all_points_names_table_key_and_value(tmp_path: Path, assignment: str) -> None:
    file = tmp_path / "pair.toml"
    file.write_text(PAIR)
    result = invoke("up", str(file), "--set", assignment)
    assert isinstance(result.exception, InpathError)
    assert "expected TABLE.KEY=VALUE" in str(result.exception)


def test_no_fewer_nodes_can_be_left_than_parts_of_the_network(tmp_path: Path) -> None:
    file = tmp_path / "apart.toml"
    file.write_text('name = "apart"\nnodes = { a = {}, b = {}, c = {} }\n')
    result = invoke("up", str(file), "--thin", "2")
    assert isinstance(result.exception, InpathError)
    assert "at least 3" in str(result.exception)
