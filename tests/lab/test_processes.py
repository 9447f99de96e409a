import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.processes import (
    all_processes,
    arguments,
    descendants,
    end_processes,
    is_alive,
    kill_processes,
    start_process,
)
from schemas.errors import HostError

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


def test_a_process_is_started_in_a_session_of_its_own_and_speaks_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid = start_process(["sh", "-c", "echo out; echo err >&2; exec sleep 60"], log)
    try:
        deadline = time.monotonic() + 5
        while log.read_text() != "out\nerr\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert log.read_text() == "out\nerr\n"
        assert os.getsid(pid) == pid
        assert pid in all_processes()
        assert pid in descendants(os.getpid())
    finally:
        end_processes([pid])
    assert not is_alive(pid)
    os.waitpid(pid, 0)
    assert arguments(pid) == []


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="the program no-such-program is missing"):
        start_process(["no-such-program"], tmp_path / "log")


def test_who_does_not_end_when_asked_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end_processes([process.pid], wait_s=0.05)
        assert process.wait() == -signal.SIGKILL


def test_a_process_that_has_ended_needs_no_killing() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    kill_processes([process.pid])
    assert not is_alive(process.pid)
