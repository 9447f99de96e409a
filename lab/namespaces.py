"""Network namespaces: make, enter, configure, empty, remove.

Many namespaces are handled by few processes: one `ip -batch` makes them all, and a thread that has entered a
namespace configures it, since a thread has a network namespace of its own.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lab.processes import all_processes, arguments
from schemas.errors import HostError, LabError

NAMESPACE_DIRECTORY = Path("/run/netns")
"""Where iproute2 keeps the names."""

_CLONE_NEWNET = 0x40000000

Result = TypeVar("Result")


def existing() -> set[str]:
    """The names of all network namespaces of this machine."""
    try:
        return {entry.name for entry in NAMESPACE_DIRECTORY.iterdir()}
    except FileNotFoundError:
        return set()


def create(names: Sequence[str]) -> None:
    """Make network namespaces.

    Raises:
        HostError: the machine refuses; none or some of them exist then.
    """
    run_batch("ip", [f"netns add {name}" for name in names])


def remove(names: Iterable[str]) -> None:
    """Remove those of the namespaces that exist.

    Raises:
        HostError: the machine refuses.
    """
    run_batch("ip", [f"netns del {name}" for name in sorted(set(names) & existing())])


def inside(namespace: str, work: Callable[[], Result]) -> Result:
    """Do some work within a network namespace; a program started there stays there.

    Raises:
        LabError: there is no such namespace.
        HostError: this process may not enter it.
    """

    def enter_and_work() -> Result:
        enter(namespace)
        return work()

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(enter_and_work).result()


def enter(namespace: str) -> None:
    """Move the calling thread into a network namespace, for good.

    Raises:
        LabError: there is no such namespace.
        HostError: this process may not enter it.
    """
    try:
        descriptor = os.open(NAMESPACE_DIRECTORY / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LabError(f"there is no network namespace {namespace}") from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise HostError(f"cannot enter the network namespace {namespace}: {reason}")
    finally:
        os.close(descriptor)


def write_sysctls(values: Mapping[str, str]) -> None:
    """Set kernel parameters in the namespace that the calling thread is in.

    Args:
        values: paths below /proc/sys, and what to write; a path that the kernel lacks is left out.

    Raises:
        HostError: the kernel refuses a value.
    """
    for path, value in values.items():
        try:
            Path("/proc/sys", path).write_text(value)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError(f"cannot set {path} to {value}: {error.strerror}") from None


def run_batch(program: str, commands: Sequence[str]) -> None:
    """Run many `ip` or `tc` commands in one process, in the namespace of the calling thread.

    Raises:
        HostError: the first command that failed, with the reason; or the program is missing.
    """
    if not commands:
        return
    try:
        done = subprocess.run(
            [program, "-batch", "-"], input="\n".join(commands) + "\n", capture_output=True, text=True
        )
    except FileNotFoundError:
        raise HostError(f"the program {program} is missing: install iproute2") from None
    if done.returncode != 0:
        raise HostError(f"{program} refused: {_complaint(done.stderr, commands)}")


def _complaint(stderr: str, commands: Sequence[str]) -> str:
    """The reason, and the command if iproute2 tells its line (`Command failed -:3`)."""
    lines = stderr.strip().splitlines() or ["no reason given"]
    number = lines[-1].rpartition(":")[2]
    if lines[-1].startswith("Command failed") and number.isdigit() and int(number) <= len(commands):
        return f"{'; '.join(lines[:-1])} (at: {commands[int(number) - 1]})"
    return "; ".join(lines)


def processes_inside(names: Iterable[str]) -> set[int]:
    """The ids of all processes whose network namespace is one of these."""
    wanted = set()
    for name in names:
        with contextlib.suppress(OSError):
            wanted.add(os.stat(NAMESPACE_DIRECTORY / name).st_ino)
    # A name whose namespace was never mounted is a plain file; a process's namespace has never its number.
    return {pid for pid in all_processes() if _network_namespace(pid) in wanted}


def processes_entering(names: Iterable[str]) -> set[int]:
    """The ids of all `ip netns exec` that have not become the program yet which they start in one of these."""
    wanted = set(names)
    return {
        pid
        for pid in all_processes()
        if (words := arguments(pid))[1:3] == ["netns", "exec"] and wanted.intersection(words[3:4])
    }


def _network_namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:  # it has ended
        return None
