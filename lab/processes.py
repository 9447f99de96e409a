"""Processes of this machine that belong to a lab: start, find, end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from schemas.errors import HostError

TERM_WAIT_S = 3.0
"""How long a process may take to end by itself before it is killed."""

KILL_WAIT_S = 2.0
"""How long the kernel may take to clear away a killed process."""

POLL_S = 0.02


def start_process(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a process that outlives this one, in a session of its own; its output goes to the log.

    Returns:
        Its process id.

    Raises:
        HostError: the program is missing.
    """
    program = shutil.which(command[0])
    if program is None:
        raise HostError(f"the program {command[0]} is missing")
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        program,
        list(command),
        os.environ if environment is None else environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        # A caller that ignores Ctrl-C must not make its daemons deaf to it too.
        setsigdef=[signal.SIGINT, signal.SIGTERM],
    )


def all_processes() -> list[int]:
    """The ids of all processes."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def arguments(pid: int) -> list[str]:
    """A process's command line; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        return []


def descendants(pid: int) -> set[int]:
    """The ids of a process's children, their children, and so on."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        for children in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it has ended
                new = [int(child) for child in children.read_text().split()]
                todo.extend(new)
                found.update(new)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie that only waits to be collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def end_processes(pids: Iterable[int], *, wait_s: float = TERM_WAIT_S) -> None:
    """End processes: politely, and after a wait without asking."""
    remaining = _signal_and_wait(set(pids), signal.SIGTERM, wait_s)
    _signal_and_wait(remaining, signal.SIGKILL, KILL_WAIT_S)


def kill_processes(pids: Iterable[int]) -> None:
    """Kill processes without asking."""
    _signal_and_wait(set(pids), signal.SIGKILL, KILL_WAIT_S)


def _signal_and_wait(pids: set[int], number: signal.Signals, wait_s: float) -> set[int]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline = time.monotonic() + wait_s
    while (pids := {pid for pid in pids if is_alive(pid)}) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return pids
