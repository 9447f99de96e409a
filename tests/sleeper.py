"""Notices that the machine stood still: a process that only sleeps wakes late."""

from __future__ import annotations

import os
import subprocess
import sys
import time

_NAP_S = 0.01
LATE_S = 0.03
"""A virtual machine that is taken off its processor sleeps on for longer; the tests' own load delays by less."""

_SLEEPER = f"""
import os, time
while os.getppid() == {{parent}}:
    due = time.monotonic() + {_NAP_S}
    time.sleep({_NAP_S})
    woke = time.monotonic()
    if woke - due > {LATE_S}:
        print(woke, woke - due, flush=True)
"""


class Sleeper:
    """A process that does nothing but sleep, and tells of each time when it woke late."""

    def __init__(self) -> None:
        code = _SLEEPER.format(parent=os.getpid())
        self._process = subprocess.Popen([sys.executable, "-ISc", code], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._unread = b""
        self.stalls: list[tuple[float, float]] = []
        """When each ended, in seconds of the monotonic clock, and how long it was."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def longest_s(self, since_s: float) -> float:
        """How long the machine stood still at most since then, 0 when it did not."""
        self._read()
        return max((late_s for at_s, late_s in self.stalls if at_s - late_s > since_s - _NAP_S), default=0.0)

    def close(self) -> None:
        """End the process."""
        self._read()
        self._process.terminate()
        self._process.communicate()

    def _read(self) -> None:
        time.sleep(2 * _NAP_S)  # a stall that just ended is not told yet
        while True:
            try:
                piece = os.read(self._pipe, 65_536)
            except BlockingIOError:
                break
            if not piece:
                break
            self._unread += piece
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            at_s, late_s = map(float, line.split())
            self.stalls.append((at_s, late_s))
