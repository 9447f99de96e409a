"""A point with all its services at work: neighbors to measure, HTTP questions to answer, results to store."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from benchmarks.noise_floor import forked
from benchmarks.suite.bench_network import BUSY, FAR, FEEDER, PEERS, BenchNetwork
from benchmarks.suite.handler import ROOT
from lab.namespaces import enter, inside, processes_inside, run_batch
from mp.keys.probe_keys import ProbeKeys
from prober.clock_state import ClockState
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import STAMP_PORT
from prober.stamp.reflector import Reflector
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from requestor.client import Client
from schemas.errors import HostError

NEIGHBORS = 20
HTTP_PER_S = 100.0
PEER_NETWORK = "10.255.250"
"""Above the busy point's identity, so that it is the one that sends probes."""
HTTP_TABLE = "[http]\nrate_per_s = 10000\nburst = 10000\n\n"
READY_LIMIT_S = 30.0
POLL_S = 0.2
WARM_UP_S = 1.5
"""The first HTTP question starts the process that answers."""


class BusyServices:
    """The busy point and what keeps it busy.

    Args:
        network: with the busy point running.
    """

    def __init__(self, network: BenchNetwork) -> None:
        self.point = network.point(BUSY)
        self._network = network
        self._answered = 0
        self._asked_s = 0.0

    @property
    def answered_per_s(self) -> float:
        """HTTP questions."""
        return self._answered / self._asked_s

    @property
    def summary(self) -> str:
        """What there was to do, and whether it was done."""
        return (
            f"{NEIGHBORS} neighbors; of {HTTP_PER_S:g} paths a second that are asked for over HTTP, "
            f"{self.answered_per_s:.0f} were answered and stored"
        )

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Questions come over HTTP inside."""
        socket = self._network.files(BUSY).control.with_name("http.sock")
        ends = (self._network.address(BUSY), self._network.address(FAR), f"{HTTP_PER_S:g}")
        command = [sys.executable, "-m", "benchmarks.suite.http_asker", str(socket), *ends]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        try:
            yield
        finally:
            process.terminate()
            answered, seconds = process.communicate()[0].split()
        self._asked_s += float(seconds)
        self._answered += int(answered)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing at the busy point and its neighbors runs inside."""
        pids = processes_inside([self._network.namespace(node) for node in (BUSY, PEERS)])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def await_neighbors(self) -> None:
        """Until it measures all of them.

        Raises:
            HostError: it does not.
        """
        self._await(
            lambda status: sum(one["state"] == "measured" for one in status["neighbors"]) >= NEIGHBORS,
            f"measure its {NEIGHBORS} neighbors",
        )

    def await_database(self) -> None:
        """Until it has taken what came so far: making its tables takes a process of its own for a second.

        Raises:
            HostError: it does not.
        """
        self._await(lambda status: (status["store"] or {}).get("spool_depth") == 0, "store its results")

    def _await(self, is_so: Callable[[dict[str, Any]], bool], what: str) -> None:
        deadline_s = time.monotonic() + READY_LIMIT_S
        with Client(self._network.files(BUSY).control) as client:
            while not is_so(client.status()):
                if time.monotonic() > deadline_s:
                    raise HostError(f"the busy point does not {what}")
                time.sleep(POLL_S)


@contextmanager
def busy_services(network: BenchNetwork, *beside: str) -> Iterator[BusyServices]:
    """Start the busy point, its neighbors and the point that it is asked for, and warm all up.

    Args:
        network: it is there.
        beside: points that start at the same time.
    """
    addresses = tuple(f"{PEER_NETWORK}.{number}" for number in range(1, NEIGHBORS + 1))
    _prepare(network, addresses)
    context = multiprocessing.get_context("fork")
    with ExitStack() as stack:
        keys = ProbeKeys(network.keyring(BUSY))
        stack.enter_context(forked(context, partial(serve_peers, network.namespace(PEERS), addresses, keys)))
        network.start(FEEDER, FAR, BUSY, *beside)
        busy = BusyServices(network)
        busy.await_neighbors()
        with BusyServices(network).asked():
            time.sleep(WARM_UP_S)
        busy.await_database()
        yield busy


def serve_peers(namespace: str, addresses: tuple[str, ...], keys: ProbeKeys) -> None:
    """Answer the probes to all neighbors, in a process of their own, until it is terminated."""
    enter(namespace)
    asyncio.run(_serve_peers(addresses, keys))


async def _serve_peers(addresses: tuple[str, ...], keys: ProbeKeys) -> None:
    for address in addresses:
        faults: Counter[ProbeFault] = Counter()
        reflector = Reflector(lambda _: None, key_of=keys.toward, faults=faults)
        answering = LoneReflector(reflector, ClockState(synchronized=True, error_ms=0.001), faults)
        UdpReflector(answering, address, STAMP_PORT, now_ns=time.time_ns).start()
    await asyncio.Event().wait()


def _prepare(network: BenchNetwork, addresses: tuple[str, ...]) -> None:
    """Addresses of the neighbors, the way to them, and their place in the configuration."""
    run_on_peers = [f"addr add {address}/32 dev lo" for address in addresses]
    inside(network.namespace(PEERS), partial(run_batch, "ip", run_on_peers))
    here, there = network.ends(BUSY, PEERS)
    ways = [f"route add {address}/32 via {there.address} dev {here.interface}" for address in addresses]
    inside(network.namespace(BUSY), partial(run_batch, "ip", ways))
    file = network.files(BUSY).configuration
    listed = ", ".join(f'"{address}"' for address in addresses)
    file.write_text(file.read_text().replace("neighbors = [", f"neighbors = [{listed}, ", 1))
    network.add_tables(BUSY, HTTP_TABLE)
