"""What stands in the packets' way: the point as shipped, its peers, or nothing but the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.bench_network import QUIET, BenchNetwork, RunningPoint
from benchmarks.suite.programs import compiled
from schemas.errors import HostError

ROOT = Path(__file__).parents[2]
DAEMON_QUEUE = 4986
"""The daemon's default."""
FIRST_PEER_QUEUE = 7001

KERNEL = "kernel forwarding"
C_ACCEPT = "C, accept"
C_APPEND = "C, append 150 octets"
PYTHON_ACCEPT = "Python, accept"
INPATH = "inpath"
LXML = "Python, lxml rebuild"
SCAPY = "Python, scapy append"
_PYTHON_KINDS = {PYTHON_ACCEPT: "accept", LXML: "lxml", SCAPY: "scapy"}
_C_KINDS = {C_ACCEPT: "accept", C_APPEND: "append"}
ALL_HANDLERS = (KERNEL, C_ACCEPT, C_APPEND, PYTHON_ACCEPT, INPATH, LXML, SCAPY)
APPENDS = (C_APPEND, INPATH, LXML, SCAPY)
"""Those whose packets leave with more than they came with, and so with another length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One of them, ready to be given packets.

    All bind their queue with the same length and the same socket buffer.
    """

    name: str
    queue: int | None
    """None: the kernel forwards."""
    packet_pid: int
    """The process that gives verdicts; 0 for the kernel."""
    pids: tuple[int, ...]
    """All processes whose time counts."""

    @property
    def appends(self) -> bool:
        """Whether packets leave with more than they came with."""
        return self.name in APPENDS

    def cpu_ns(self) -> int:
        """Processor time of all its processes so far."""
        return sum(cpu_ns(pid) for pid in self.pids)


def cpu_ns(pid: int) -> int:
    """Processor time of all threads of a process, by its own clock (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2)


@contextmanager
def handlers(network: BenchNetwork, point: RunningPoint, names: Sequence[str]) -> Iterator[list[Handler]]:
    """Start those that are named; they end with the context.

    Args:
        network: that of the benchmarks, in which all stand at the quiet point.
        point: that point's daemon.
        names: of `ALL_HANDLERS`.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_handler(network, point, name)) for name in names]


@contextmanager
def _handler(network: BenchNetwork, point: RunningPoint, name: str) -> Iterator[Handler]:
    if name == KERNEL:
        yield Handler(name=name, queue=None, packet_pid=0, pids=())
        return
    if name == INPATH:
        pids = (point.packet_pid, point.pid)
        yield Handler(name=name, queue=DAEMON_QUEUE, packet_pid=point.packet_pid, pids=pids)
        return
    queue = FIRST_PEER_QUEUE + ALL_HANDLERS.index(name)
    namespace = network.namespace(QUIET)
    if name in _C_KINDS:
        command = [str(compiled("queue_peer")), namespace, str(queue), _C_KINDS[name]]
    else:
        peer = [sys.executable, "-m", "benchmarks.suite.python_peer", _PYTHON_KINDS[name], str(queue)]
        command = ["ip", "netns", "exec", namespace, *peer]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None  # a pipe was asked for
        if process.stdout.readline().strip() != b"ready":
            raise HostError(f"{name}: did not start")
        yield Handler(name=name, queue=queue, packet_pid=process.pid, pids=(process.pid,))
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process holds still inside."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
