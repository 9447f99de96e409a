"""Who may fail and be tried again: a test beside which the machine stood still, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sleeper import Sleeper

ROOT = Path(__file__).parents[1]
CONFTEST = """
from tests.second_tries import SecondTries

def pytest_configure(config):
    config.pluginmanager.register(SecondTries())
"""
FAILS_ONCE = """
import os, signal, subprocess, time
from pathlib import Path

tries = Path(__file__).with_name("tries")

def test_it():
    first = not tries.exists()
    tries.touch()
    if first:
        {stall}
    assert not first
"""
STALL = """
        children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout
        sleeper = int(children.split()[0])
        os.kill(sleeper, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(sleeper, signal.SIGCONT)
"""


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    one = Sleeper()
    yield one
    one.close()


def stop(sleeper: Sleeper, seconds: float) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(sleeper.pid, signal.SIGCONT)


def test_a_sleeper_tells_how_long_it_was_held_up_and_when(sleeper: Sleeper) -> None:
    time.sleep(0.2)
    began_s = time.monotonic()
    stop(sleeper, 0.25)
    assert 0.2 < sleeper.longest_s(began_s) < 0.5
    stop(sleeper, 0.15)
    assert sleeper.longest_s(began_s) > 0.2
    assert len(sleeper.stalls) >= 2


def test_what_was_before_does_not_count(sleeper: Sleeper) -> None:
    time.sleep(0.2)
    stop(sleeper, 1.0)
    time.sleep(0.2)
    assert sleeper.longest_s(time.monotonic()) < 1.0 <= sleeper.longest_s(0) + 0.1


@pytest.mark.parametrize(("stall", "passes"), [(STALL.strip(), True), ("pass", False)], ids=["stood still", "ran"])
def test_a_test_is_tried_again_only_when_the_machine_stood_still(tmp_path: Path, stall: str, passes: bool) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(FAILS_ONCE.format(stall=stall))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ("1 passed, 1 rerun" in done.stdout, "1 failed" in done.stdout) == (passes, not passes), done.stdout
