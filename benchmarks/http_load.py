"""Does asking a point over HTTP slow the packets that it handles?

    python -m benchmarks.http_load [--json] [--short] [--rounds 8] [--seconds 10] [--rate 200] [--ask paths]

Three points in a row, in namespaces joined by veth pairs without any delay of their own. The first one asks for
the path to the last one 40 times a second; each request is seen on the first one's link and on the last one's,
both stamped by the kernel of this machine, so by one clock. In between it crosses the middle point: its kernel
queue, its packet process, its verdict. While that goes on, programs ask the middle point's HTTP service `--rate`
times a second (loaded) or not at all (idle); the two take turns, a different one begins each round. The programs
run on the same cores as the points, at the usual priority, as programs of the point's own host do. They ask

    paths     for the path to the last point: HTTP, and all that a measurement costs the points and the database
    segments  for what the point measures to its neighbors: HTTP and the dialogue

`ratio` is the 99th percentile of the loaded half of a round to that of its idle half: the median over the rounds,
the least and the greatest. A packet that never comes counts as one that takes the whole half. The limit is 1.5 for
the median. The exit code is 0 within the limit, 1 above it or
when less than nine tenths of the rate were answered, 2 for a wrong option. Needs root, and a machine that has
nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.http_load_client import CLIENTS, ask_over_http, http_request, in_threads
from interceptor.packet import decode_packet
from lab.build import bring_up
from lab.namespaces import inside
from lab.network import Lab
from lab.points import point_files
from lab.state import STATE_DIRECTORY_VARIABLE
from lab.teardown import take_down
from lab.topology import topology_from_json
from mp.config import load_configuration
from mp.http.link import HttpLink
from requestor.client import Client
from requestor.query import PathQuery
from schemas.errors import HostError, InpathError
from schemas.message import Carrier
from schemas.metrics import METRICS
from schemas.payload import message_from_payload
from schemas.result import ResultStatus

RATIO_LIMIT = 1.5
LEAST_ANSWERED = 0.9
PACKETS_PER_S = 40
ASKERS = 8
SHORT_ROUNDS, SHORT_S = 4, 4.0
SETTLE_S = 0.5
WARM_UP_S = 3.0
"""The first question starts the service."""
READY_LIMIT_S = 30.0
TOPOLOGY = {
    "nodes": {name: {"point": True} for name in ("p1", "p2", "p3")},
    "links": [{"a": "p1", "b": "p2"}, {"a": "p2", "b": "p3"}],
}
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_ETH_P_IP = 0x0800
_ETHERNET_BYTES = 14
_TIMESPEC = struct.Struct("qq")
_UDP_WITH_OPTION = 0x46
"""First octet of an IPv4 header of 24 octets: one with router alert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """The packets of one half of a round, in microseconds from the first link to the last one."""

    packets: int
    """That left the first link."""
    missing: int
    """Of them, those that never came to the last one."""
    p50_us: float
    p99_us: float
    answered_per_s: float
    """Of the HTTP service."""


class Tap:
    """When requests pass an interface, by the kernel's stamp.

    Args:
        namespace: of the interface.
        interface: its name.
    """

    def __init__(self, namespace: str, interface: str) -> None:
        self._socket = inside(namespace, lambda: self._open(interface))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.seen: dict[tuple[str, int], int] = {}
        self._thread.start()

    def _open(self, interface: str) -> socket.socket:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL: what leaves, too
        tap.bind((interface, 0))
        tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        tap.settimeout(0.2)
        return tap

    def _read(self) -> None:
        while True:
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(65536, 256)
            except TimeoutError:
                continue
            except OSError:
                return
            if len(frame) < 64 or frame[_ETHERNET_BYTES] != _UDP_WITH_OPTION:
                continue
            with contextlib.suppress(InpathError):
                request = message_from_payload(decode_packet(frame[_ETHERNET_BYTES:]).payload).request
                seconds, ns = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
                self.seen.setdefault((request.id, request.copy), seconds * 10**9 + ns)

    def close(self) -> None:
        """Stop."""
        self._socket.close()
        self._thread.join()


@contextmanager
def chain() -> Iterator[Lab]:
    """Three points that run; nothing of it stays."""
    name = f"t{os.getpid()}{secrets.token_hex(2)}"
    folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))
    folder.chmod(0o755)
    os.environ[STATE_DIRECTORY_VARIABLE] = str(folder)
    try:
        yield bring_up(topology_from_json({"name": name, **TOPOLOGY}))
    finally:
        take_down(name)
        shutil.rmtree(folder)


@contextmanager
def http_service(lab: Lab, node: str, path: Path) -> Iterator[None]:
    """The HTTP service of a point on a socket of its own, which may be asked without a bound."""
    configuration = load_configuration(lab.directory.configuration(node))
    unbounded = replace(configuration.http, socket=path, rate_per_s=1e4, burst=10_000)
    link = HttpLink(replace(configuration, http=unbounded), METRICS)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await link.start(stack)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


class Worker:
    """Does one kind of work in a process of its own, since the taps share no interpreter.

    Args:
        context: forks, so before there are threads.
        work: takes seconds, gives a count.
    """

    def __init__(self, context: ForkContext, work: Callable[[float], int]) -> None:
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=self._work, args=(theirs, work), daemon=True)
        self._process.start()

    @staticmethod
    def _work(pipe: Connection[Any, Any], work: Callable[[float], int]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while seconds := pipe.recv():
            pipe.send(work(seconds))

    def begin(self, seconds: float) -> None:
        """Start; `finish` waits."""
        self._ours.send(seconds)

    def finish(self) -> int:
        """What the work gave."""
        return int(self._ours.recv())

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def ask_for_paths(service: Path, query: PathQuery, seconds: float) -> int:
    """The packets that are looked at: requests of the first point, from some programs at even times."""
    asked, began_s = [0] * ASKERS, time.monotonic()

    def ask(number: int) -> None:
        due_s = began_s + number / PACKETS_PER_S
        with Client(service) as client:
            while due_s < began_s + seconds:
                time.sleep(max(0.0, due_s - time.monotonic()))
                client.path(query)
                asked[number] += 1
                # Whoever waited long for an answer does not catch up: the packets must meet the load.
                due_s = max(due_s + ASKERS / PACKETS_PER_S, time.monotonic())

    in_threads(ask, ASKERS)
    return sum(asked)


def half(asker: Worker, taps: tuple[Tap, Tap], load: Worker | None, seconds: float) -> Half:
    """One half of a round, loaded if there is a load."""
    for tap in taps:
        tap.seen.clear()
    if load is not None:
        load.begin(seconds)
    asker.begin(seconds)
    asker.finish()
    answered = 0 if load is None else load.finish()
    time.sleep(SETTLE_S)
    first, last = taps
    delays_us = [(last.seen[key] - at_ns) / 1e3 for key, at_ns in first.seen.items() if key in last.seen]
    if len(delays_us) < PACKETS_PER_S:
        raise HostError(f"{len(delays_us)} packets crossed the chain, expected about {PACKETS_PER_S * seconds:g}")
    missing = len(first.seen) - len(delays_us)
    cuts = quantiles([*delays_us, *[seconds * 1e6] * missing], n=100, method="inclusive")
    return Half(
        packets=len(first.seen),
        missing=missing,
        p50_us=cuts[49],
        p99_us=cuts[98],
        answered_per_s=answered / seconds,
    )


def query_between(lab: Lab, source: str, destination: str) -> PathQuery:
    """The usual metrics between two points, in packets that the taps know.

    With data of no age, so that no point on the way answers by itself; and with router alert, since a point whose
    first question another carrier has brought through goes on with that one.
    """
    identities = lab.addressing.identities
    return PathQuery(
        source=identities[source],
        destination=identities[destination],
        metrics=("delay", "loss", "jitter", "rtt"),
        timeout_s=5.0,
        max_age_s=0.0,
        carrier=Carrier.ROUTER_ALERT,
    )


def await_path(lab: Lab, source: str) -> None:
    """Until the path to the last point is complete."""
    deadline_s = time.monotonic() + READY_LIMIT_S
    with Client(point_files(lab.directory, source).control) as client:
        while client.path(query_between(lab, source, "p3")).status is not ResultStatus.COMPLETE:
            if time.monotonic() > deadline_s:
                raise HostError("the path did not become complete")
            time.sleep(0.5)


def tap_on(lab: Lab, node: str, neighbor: str) -> Tap:
    """On the node's interface toward the neighbor."""
    plan = next(plan for plan in lab.addressing.links_of(node) if plan.far_end_of(node).node == neighbor)
    return Tap(lab.addressing.namespace(node), plan.end_of(node).interface)


def measure(rounds: int, seconds: float, rate_per_s: float, *, asks_for_paths: bool) -> list[dict[str, Half]]:
    """All rounds: `idle` and `loaded` of each."""
    context = multiprocessing.get_context("fork")
    with ExitStack() as stack:
        lab = stack.enter_context(chain())
        for source in ("p1", "p2"):
            await_path(lab, source)
        settings = load_configuration(lab.directory.configuration("p2")).http
        path = settings.socket.with_name("load.sock")
        asked, service = query_between(lab, "p1", "p3"), point_files(lab.directory, "p1").control
        ends = {"source": lab.addressing.identities["p2"], "destination": asked.destination}
        request = http_request({**ends, "max_age_s": asked.max_age_s} if asks_for_paths else None)
        asker = Worker(context, lambda time_s: ask_for_paths(service, asked, time_s))
        load = Worker(context, lambda time_s: ask_over_http(path, request, rate_per_s, time_s))
        for worker in (asker, load):
            stack.callback(worker.close)
        stack.enter_context(http_service(lab, "p2", path))
        taps = tap_on(lab, "p1", "p2"), tap_on(lab, "p3", "p2")
        for tap in taps:
            stack.callback(tap.close)
        load.begin(WARM_UP_S)
        load.finish()
        loads = {"idle": None, "loaded": load}
        found = []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            order = list(loads) if number % 2 == 0 else list(reversed(loads))
            found.append({name: half(asker, taps, loads[name], seconds) for name in order})
        return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="In-path latency of a point whose HTTP service is asked.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROUNDS} rounds of two times {SHORT_S:g} s")
    parser.add_argument("--rounds", type=int, default=8, help="how many [8]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half of a round [10]")
    parser.add_argument("--rate", type=float, default=200.0, help="HTTP questions a second [200]")
    parser.add_argument("--ask", choices=("paths", "segments"), default="paths", help="for what [paths]")
    options = parser.parse_args()
    if not 1 <= options.rounds <= 100 or not 2 <= options.seconds <= 600 or not CLIENTS <= options.rate <= 1000:
        parser.error(
            "--rounds must lie between 1 and 100, --seconds between 2 and 600, --rate between 24 and 1000"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and take the network away
    rounds, seconds = (SHORT_ROUNDS, SHORT_S) if options.short else (options.rounds, options.seconds)
    try:
        found = measure(rounds, seconds, options.rate, asks_for_paths=options.ask == "paths")
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    ratios = [one["loaded"].p99_us / one["idle"].p99_us for one in found]
    ratio = {"median": median(ratios), "low": min(ratios), "high": max(ratios), "limit": RATIO_LIMIT}
    answered = median(one["loaded"].answered_per_s for one in found)
    if options.json:
        shown = [{name: asdict(part) for name, part in one.items()} for one in found]
        print(json.dumps({"ratio": ratio, "answered_per_s": answered, "rounds": shown}, indent=2))
    else:
        print("half     packets  missing   p50 us   p99 us  answered/s")
        for one in found:
            for name, part in one.items():
                times = f"{part.p50_us:7.0f}  {part.p99_us:7.0f}"
                print(f"{name:7}  {part.packets:7}  {part.missing:7}  {times}  {part.answered_per_s:10.0f}")
        print("p99 loaded / idle: median {median:.2f}, {low:.2f} to {high:.2f}, limit {limit:g}".format(**ratio))
    return 0 if ratio["median"] <= RATIO_LIMIT and answered >= LEAST_ANSWERED * options.rate else 1


if __name__ == "__main__":
    sys.exit(main())
