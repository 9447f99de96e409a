"""Processes of the point beside its service: modules of ours, each with a socket between it and the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys

BUFFER_BYTES = 1 << 20


class ChildProcess:
    """A module that runs as a program, with one end of a SOCK_SEQPACKET pair, whose number is its first argument.

    No thread waits for its end, unlike for those of asyncio: one that begins early would keep rights for good.

    Args:
        module: by its full name.
        descriptors: it inherits these, too, and finds their numbers as its further arguments.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, module: str, *descriptors: int) -> None:
        self.bridge, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        """The service's end, non-blocking; closing it asks the process to end."""
        with theirs:
            for end in (self.bridge, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self.bridge.setblocking(False)
            inherited = (theirs.fileno(), *descriptors)
            try:
                self._process = subprocess.Popen(
                    (sys.executable, "-m", module, *map(str, inherited)), pass_fds=inherited
                )
            except OSError:
                self.bridge.close()
                raise

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    async def wait(self) -> int:
        """Its return code, once it has ended."""
        if self._process.poll() is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            watched = os.pidfd_open(self.pid)  # readable from its end on (pidfd_open(2))
            loop.add_reader(watched, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(watched)
                os.close(watched)
        return self._process.wait()

    async def end(self, limit_s: float) -> bool:
        """Close the socket, which asks it to end, and kill it if it does not, or if there is no time for that.

        Returns:
            Whether it was killed.
        """
        self.bridge.close()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), limit_s)
        finally:
            if is_late := self.returncode is None:
                self._process.kill()
                self._process.wait()  # without the loop: whoever waits may have been canceled
        return is_late


def packet_process() -> ChildProcess:
    """A packet process, which waits for its setup when it has imported what it needs."""
    return ChildProcess("mp.packet_process")
