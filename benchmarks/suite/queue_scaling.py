"""What a second packet process is worth: the same packets, from one filled queue and from two.

The kernel spreads packets over queues by source and destination (`--queue-balance`), so they come from many
hosts. Each process has a core of its own while the queues drain, and the time counts until the last packet has its
verdict.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.suite.bench_network import FEEDER, QUIET, BenchNetwork, RunningPoint, bench_network
from benchmarks.suite.benchmark import Effort, Figures, Outcome, Progress
from benchmarks.suite.handler import DAEMON_QUEUE, stopped
from benchmarks.suite.message import CAPACITY_PORT, HEADLINE, MOST_SOURCES
from benchmarks.suite.packet_path import PRIORITY, send
from benchmarks.suite.ratio import Spread
from benchmarks.suite.workshop import Workshop
from schemas.errors import HostError

PROCESSES = 2
ROUNDS = {Effort.FULL: 11, Effort.SHORT: 5}
WAITING = 4_000
"""Packets when the clock starts: some 60 ms for one process, of the 200 after which it passes them unprocessed."""
STRANGERS_PER_S = 200.0
"""A quarter of what a point takes for a flood (`mp/flood_watch.py`)."""
TRIES = 3
_POLL_S = 0.0003
_LIMIT_S = 5.0


def run(effort: Effort, progress: Progress, workshop: Workshop) -> Outcome:
    """Drain one queue and two, in turns.

    Raises:
        HostError: packets were lost or passed unprocessed.
    """
    workshop.close()  # what else runs would take a core from one of the processes
    rates: dict[int, list[float]] = {1: [], PROCESSES: []}
    shares = []
    with bench_network() as network:
        network.add_tables(QUIET, f"[measurement]\nprocesses = {PROCESSES}\n")
        network.start(FEEDER, QUIET)
        point = network.point(QUIET)
        messages = network.messages(HEADLINE, MOST_SOURCES)
        network.count_arrivals(unlike_bytes=messages.packet_bytes)
        for queues in (1, PROCESSES):
            _acquaint(network, queues)
        for number in range(ROUNDS[effort]):
            progress("packets a second", number, ROUNDS[effort])
            for queues in (1, PROCESSES) if number % 2 else (PROCESSES, 1):
                took_s, largest = _drained(network, point, queues)
                rates[queues].append(WAITING / took_s)
                if queues > 1:
                    shares.append(largest / WAITING)
    share = max(shares)
    return Outcome(
        tables=(
            Figures(
                title="Packets a second, from filled queues",
                unit="packets/s",
                columns=(HEADLINE.label,),
                rows={
                    "1 process": (Spread.of(rates[1]),),
                    f"{PROCESSES} processes": (Spread.of(rates[PROCESSES]),),
                },
                is_logarithmic=False,
            ),
        ),
        ratios={"rate_two_queues_vs_one": Spread.of_ratio(rates[PROCESSES], rates[1])},
        notes=(
            f"of {PROCESSES} queues the fuller got {100 * share:.0f} %: {1 / share:.2f} times one is the limit",
            f"{os.cpu_count()} cores, one for each process",
        ),
    )


def _acquaint(network: BenchNetwork, queues: int) -> None:
    """Let the processes see all hosts, slowly: many strangers at once are a flood, in which most pass unseen."""
    network.intercept(DAEMON_QUEUE, queues=queues)
    frames = network.frames(HEADLINE, QUIET, CAPACITY_PORT, MOST_SOURCES)
    send(network, frames, MOST_SOURCES, STRANGERS_PER_S)
    network.await_empty()


def _drained(network: BenchNetwork, point: RunningPoint, queues: int) -> tuple[float, int]:
    """How long it took from the first verdict to the last, and how many packets the fullest queue held."""
    network.await_empty()
    network.intercept(DAEMON_QUEUE, queues=queues)
    frames = network.frames(HEADLINE, QUIET, CAPACITY_PORT, MOST_SOURCES)
    network.delivered()
    for _ in range(TRIES):  # the machine may have stood still, and the point passed packets meanwhile
        with _on_cores_of_their_own(point.packet_pids), ExitStack() as held:
            for pid in point.packet_pids:
                held.enter_context(stopped(pid))
            sent, _, waiting = send(network, frames, WAITING, 0)
            if waiting != WAITING:
                raise HostError(f"{waiting} of {sent} packets wait, expected all")
            largest = max(network.waiting_by_queue().values())
            began_s = time.monotonic()
            held.close()
            while network.waiting():
                if time.monotonic() > began_s + _LIMIT_S:
                    raise HostError(f"{network.waiting()} packets wait for a verdict and get none")
                time.sleep(_POLL_S)
            took_s = time.monotonic() - began_s
        network.await_empty()
        delivered, _ = network.delivered()
        if delivered == WAITING:
            return took_s, largest
    raise HostError(f"{delivered} of {WAITING} packets arrived as they should")


@contextmanager
def _on_cores_of_their_own(pids: tuple[int, ...]) -> Iterator[None]:
    """And no other program takes these away meanwhile."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < len(pids):
        raise HostError(f"{len(cores)} cores, expected one for each of {len(pids)} processes")
    before = [(os.sched_getaffinity(pid), os.sched_getscheduler(pid), os.sched_getparam(pid)) for pid in pids]
    for pid, core in zip(pids, reversed(cores), strict=False):
        os.sched_setaffinity(pid, {core})
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(PRIORITY))
    try:
        yield
    finally:
        for pid, (affinity, policy, parameters) in zip(pids, before, strict=True):
            os.sched_setscheduler(pid, policy, parameters)
            os.sched_setaffinity(pid, affinity)
