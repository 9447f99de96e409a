"""The demonstration as a person runs it: to its end, interrupted, and kept."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.namespaces import existing, processes_inside, remove
from lab.processes import all_processes, arguments, end_processes
from lab.state import STATE_DIRECTORY_VARIABLE
from tests.overlay.network import INPATH, eventually, state_directory

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PREFIX = "inpath-demo-"
TRUTH = {"delay ms": "35.000", "loss %": "2.98", "rtt ms": "72.000"}
"""What the links of lab/scenarios/two_areas.toml add up to, by r11, r12, mp2, r23, r21 and r22."""
LIMIT_S = 120.0
"""It takes about 27 s on two cores with nothing else to do."""


def namespaces_of_demo() -> set[str]:
    return {name for name in existing() if name.startswith(PREFIX)}


@pytest.fixture
def place() -> Iterator[Path]:
    """A state directory while no other demonstration runs on this machine: they would all have the same name."""
    eventually(lambda: not namespaces_of_demo(), "the end of another demonstration", within_s=90)
    with state_directory() as path:
        try:
            yield path
        finally:
            left = namespaces_of_demo()
            end_processes(processes_inside(left) | links_processes(path))
            remove(left)


def links_processes(place: Path) -> set[int]:
    """Processes whose command line names the state directory."""
    return {pid for pid in all_processes() if any(str(place) in word for word in arguments(pid))}


def assert_nothing_stays(place: Path) -> None:
    assert namespaces_of_demo() == set()
    assert links_processes(place) == set()
    assert [path for path in place.rglob("*") if path.is_file() or path.is_socket()] == []
    assert not (place / "lab" / "demo").exists()


def begin(place: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab.demo", *options],
        cwd=ROOT,
        env={**os.environ, STATE_DIRECTORY_VARIABLE: str(place), "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests in the background may ignore Ctrl-C; the demonstration must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(demo: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return demo.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        demo.terminate()
        demo.communicate(timeout=30)
        raise


def assert_shows_the_answer(shown: str) -> None:
    """The composed metrics beside the truth, and the row as it was stored."""
    assert "mp1 -> mp3" in shown and "complete after" in shown
    table = shown.partition("Beside the truth that the lab knows")[2]
    for metric, truth in TRUTH.items():
        row = next(line for line in table.splitlines() if metric in line)
        composed, _, true_value, _ = (cell.strip() for cell in row.split("│")[2:6])
        assert true_value == truth, row
        assert float(composed) == pytest.approx(float(truth), rel=0.2, abs=4), row
    stored = table.partition("The stored row in ")[2]
    assert re.search(r"status +│ complete", stored)


def test_the_demonstration_runs_through_and_leaves_nothing(place: Path) -> None:
    demo = begin(place)
    shown, said = finish(demo)
    assert demo.returncode == 0, said
    assert "Traceback" not in said
    assert_shows_the_answer(shown)
    assert_nothing_stays(place)


def test_an_interrupted_demonstration_leaves_nothing(place: Path) -> None:
    demo = begin(place)
    assert demo.stderr is not None
    deadline_s = time.monotonic() + 60
    line = ""
    while "starting the measurement points" not in line and time.monotonic() < deadline_s:
        line = demo.stderr.readline()
        assert line, "it ended by itself"
    assert namespaces_of_demo()
    demo.send_signal(signal.SIGINT)
    _, said = finish(demo)
    assert demo.returncode == 130
    assert "demo: interrupted" in said and "Traceback" not in said
    assert_nothing_stays(place)


@pytest.mark.database
def test_a_kept_demonstration_takes_the_commands_that_it_names(place: Path) -> None:
    demo = begin(place, "--keep", "--database", "mysql")
    shown, said = finish(demo)
    assert demo.returncode == 0, said
    assert_shows_the_answer(shown)
    suggested = [shlex.split(line, comments=True) for line in shown.partition("Try:")[2].splitlines()]
    commands = [command for command in suggested if command]
    assert len(commands) > 5
    asked = run_suggested(next(c for c in commands if c[-4:] == ["inpath", "request", "mp1", "mp3"]), place)
    assert asked.returncode == 0, asked.stderr
    assert "complete after" in asked.stdout and re.search(r"2 +mp2 +mp3 ", asked.stdout)
    down = run_suggested(commands[-1], place)
    assert (down.returncode, down.stdout) == (0, "lab demo is down\n")
    assert_nothing_stays(place)


def run_suggested(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """A command as it was printed, in the directory where it was."""
    assert ROOT / command[0] == INPATH
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, STATE_DIRECTORY_VARIABLE: str(place), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
