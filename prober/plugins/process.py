"""Runs a program to its end: nothing on its input, a bounded output, and nothing of it left afterwards.

The program leads a process group of its own, which is ended before the leader is collected: until then no other
group can have its number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Final

from schemas.errors import HostError

MOST_OUTPUT_BYTES: Final = 65_536
"""On the standard output, and again on the standard error output."""
ENVIRONMENT: Final = MappingProxyType(
    {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
)
"""All that a program gets: what the daemon was started with is none of its business."""
KILL_WAIT_S: Final = 1.0
"""How long the kernel may take to clear away a killed process; later the loop collects it whenever it ends."""
_READ_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedProgram:
    """What a program left."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    output: bytes
    complaint: bytes
    """From its standard error output."""
    is_cut: bool
    """It wrote more than MOST_OUTPUT_BYTES and was killed for it."""


async def run_program(command: Sequence[str]) -> FinishedProgram:
    """Run a program in `/`; when this is cancelled, its process group is killed.

    Raises:
        HostError: it cannot be started.
    """
    process = _start(command)
    exited = _watch(process)
    overflow: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert process.stdout is not None and process.stderr is not None  # both are pipes
    output, complaint = _Intake(process.stdout, overflow), _Intake(process.stderr, overflow)
    try:
        await _ended(process, exited, overflow)
    finally:
        output.close()
        complaint.close()
    if not exited.done():
        raise HostError(f"{command[0]}: still there after SIGKILL, expected an end")
    return FinishedProgram(
        exit_code=exited.result(),
        output=bytes(output.data),
        complaint=bytes(complaint.data),
        is_cut=overflow.done(),
    )


async def _ended(
    process: subprocess.Popen[bytes], exited: asyncio.Future[int], overflow: asyncio.Future[None]
) -> None:
    """Wait until the program ends, or end it: when it writes too much, or when this is cancelled."""
    try:
        await asyncio.wait((exited, overflow), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not exited.done():
            _kill_group(process)
            await asyncio.wait((exited,), timeout=KILL_WAIT_S)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(ENVIRONMENT),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise HostError(f"{command[0]}: cannot be started ({reason}), expected an executable program") from error


def _watch(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """The exit code, once the program has ended and been collected."""
    loop = asyncio.get_running_loop()
    exited: asyncio.Future[int] = loop.create_future()
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        with process:  # collects it and closes its pipes
            _kill_group(process)
        raise HostError(f"processes: cannot be watched ({error.strerror})") from error

    def collect() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        _kill_group(process)  # what it left behind
        exited.set_result(process.wait())

    loop.add_reader(descriptor, collect)
    return exited


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone, or it became another user
        os.killpg(process.pid, signal.SIGKILL)


class _Intake:
    """Reads one pipe as far as MOST_OUTPUT_BYTES.

    Args:
        overflow: gets a result when there is more.
    """

    def __init__(self, pipe: IO[bytes], overflow: asyncio.Future[None]) -> None:
        self._pipe = pipe
        self._overflow = overflow
        self.data = bytearray()
        os.set_blocking(pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(pipe, self._on_readable)

    def close(self) -> None:
        """Take what is left in the pipe, and close it."""
        while self._read():
            pass
        asyncio.get_running_loop().remove_reader(self._pipe)
        self._pipe.close()

    def _on_readable(self) -> None:
        if not self._read():
            asyncio.get_running_loop().remove_reader(self._pipe)

    def _read(self) -> bool:
        """Whether there may be more to read."""
        try:
            data = os.read(self._pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        self.data += data
        if len(self.data) <= MOST_OUTPUT_BYTES:
            return bool(data)
        del self.data[MOST_OUTPUT_BYTES:]
        if not self._overflow.done():
            self._overflow.set_result(None)
        return False
