"""How little delay can be told? One-way delay over a veth pair, beside other tools.

    python -m benchmarks.noise_floor [--json] [--short] [--rounds 5] [--seconds 10]

Two namespaces, 100 packets a second, one tool at a time; the tools take turns in each round, and a different one
begins each time. A number is the median over the rounds, with the least and the greatest round. What is compared:

    inpath    T2 - T1 and T4 - T3 of STAMP, all four taken by the kernel: from the packet's entry into the egress
              queue of one end (SCHED) to its arrival from the device at the other (RX). No process is part of it.
              Sender and reflector are processes of their own; Poisson times.
    irtt      send and receive delay: from before the sender's system call to after the receiver's, both read by
              the processes, so waking the receiver is part of it. Periodic.
    ping      rtt: from before the sender's system call to the kernel's receive stamp of the reply, which the other
              kernel writes by itself; the delay of one way is half of that, whatever the two ways are. Periodic.
    owping    not in Debian, and not compared.

The delay of a veth pair is all the hosts' doing, so the lowest number adds least to a path's own delay. `ratios`
are ours to the lowest of the others, by direction and quantile: the limit is 1.1. The exit code is 0 when all are
within it, 1 when one is not, 2 for a wrong option. Needs root, and the Debian packages irtt and iputils-ping.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.context import ForkContext
from statistics import median

from lab.namespaces import create, enter, inside, remove, run_batch
from prober.clock_state import ClockState
from prober.stamp.direct import DirectSession
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import STAMP_PORT
from prober.stamp.reflector import Reflector
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from schemas.errors import HostError, InpathError
from schemas.metrics import DistributionStatistics

RATIO_LIMIT = 1.1
RATE_PER_S = 100
GAP_S = 1 / RATE_PER_S
NEAR, FAR = "10.79.0.1", "10.79.0.2"
IRTT_PORT = 2112
SETTLE_S = 0.5
SHORT_ROUNDS, SHORT_S = 2, 3.0
FORWARD, BACKWARD, ROUND_TRIP = "forward", "backward", "round trip"
OURS = "inpath"
CLOCK = ClockState(synchronized=True, error_ms=0.001)
_PING_TIME = re.compile(r"time=([0-9.]+) ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """One round of one tool in one direction, in microseconds."""

    tool: str
    direction: str
    count: int
    median_us: float
    p99_us: float

    @classmethod
    def of(cls, tool: str, direction: str, delays_us: Sequence[float]) -> Delays:
        """Quantiles are values that were measured (RFC 2330 section 11.3)."""
        ordered = sorted(delays_us)
        if not ordered:
            raise HostError(f"{tool} measured nothing")
        middle, high = (ordered[-(-permille * len(ordered) // 1000) - 1] for permille in (500, 990))
        return cls(tool=tool, direction=direction, count=len(ordered), median_us=middle, p99_us=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One number over the rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a round."""
        return cls(median=median(values), least=min(values), greatest=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tool in one direction, over all rounds."""

    tool: str
    direction: str
    packets: int
    median_us: Spread
    p99_us: Spread


@contextmanager
def veth_pair(label: str, left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Two namespaces with these addresses at the ends of a veth pair; gone afterwards."""
    names = tuple(f"{label}{os.getpid()}{secrets.token_hex(2)}{end}" for end in "ab")
    create(names)
    try:
        run_batch("ip", [f"link add veth0 netns {names[0]} type veth peer name veth0 netns {names[1]}"])
        for name, addresses in zip(names, (left, right), strict=True):
            commands = [f"address add {address}/24 dev veth0" for address in addresses]
            inside(name, partial(run_batch, "ip", [*commands, "link set lo up", "link set veth0 up"]))
        yield names[0], names[1]
    finally:
        remove(names)


@contextmanager
def forked(context: ForkContext, work: Callable[[], None]) -> Iterator[None]:
    """A process that is ended afterwards."""
    process = context.Process(target=work, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def reflect(namespace: str) -> None:
    """Answer STAMP probes until terminated."""

    async def answer() -> None:
        faults: Counter[ProbeFault] = Counter()
        answering = LoneReflector(Reflector(lambda _: None, faults=faults), CLOCK, faults)
        UdpReflector(answering, FAR, STAMP_PORT, now_ns=time.time_ns).start()
        await asyncio.Event().wait()

    enter(namespace)
    asyncio.run(answer())


@dataclass(frozen=True, slots=True)
class Bench:
    """What all tools need."""

    context: ForkContext
    near: str
    """Namespace of the senders."""
    seconds: float

    def inpath(self) -> list[Delays]:
        """A session of ours, in a process of its own."""
        results = self.context.SimpleQueue()
        process = self.context.Process(target=lambda: results.put(self._stamp()), daemon=True)
        process.start()
        process.join()
        if process.exitcode:
            raise HostError("the STAMP session failed")
        found: list[Delays] = results.get()
        return found

    def irtt(self) -> list[Delays]:
        """Its JSON has all delays in nanoseconds."""
        lines = self._run(
            "irtt", "client", "-i", f"{GAP_S * 1000:g}ms", "-d", f"{self.seconds:g}s", "-q", "-o", "-", FAR
        )
        trips = [trip["delay"] for trip in json.loads(lines[lines.index("{") :])["round_trips"]]
        whole = [delay for delay in trips if "rtt" in delay]
        names = {FORWARD: "send", BACKWARD: "receive", ROUND_TRIP: "rtt"}
        return [
            Delays.of("irtt", direction, [delay[name] / 1e3 for delay in whole])
            for direction, name in names.items()
        ]

    def ping(self) -> list[Delays]:
        """It prints whole microseconds."""
        count = round(self.seconds * RATE_PER_S)
        lines = self._run("ping", "-n", "-i", f"{GAP_S:g}", "-c", str(count), FAR)
        trips_us = [float(one) * 1e3 for one in _PING_TIME.findall(lines)]
        halves_us = [trip / 2 for trip in trips_us]
        return [
            Delays.of("ping", FORWARD, halves_us),
            Delays.of("ping", BACKWARD, halves_us),
            Delays.of("ping", ROUND_TRIP, trips_us),
        ]

    def _run(self, *command: str) -> str:
        done = inside(self.near, lambda: subprocess.run(command, capture_output=True, text=True, check=False))
        if done.returncode:
            raise HostError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _stamp(self) -> list[Delays]:
        enter(self.near)
        session = DirectSession(
            FAR, clock=CLOCK, now_ns=time.time_ns, random_source=random.Random(), rate_per_s=RATE_PER_S
        )
        segment = asyncio.run(session.run(duration_s=self.seconds))
        ways = {FORWARD: segment.outbound_statistics, BACKWARD: segment.statistics}
        found = []
        for direction, statistics in ways.items():
            told = statistics(("distribution",), now_ns=time.time_ns(), clock=CLOCK).get("distribution")
            if not isinstance(told, DistributionStatistics):
                raise HostError("the STAMP session measured nothing")
            found.append(
                Delays(
                    tool=OURS,
                    direction=direction,
                    count=told.count,
                    median_us=told.p50_ms * 1e3,
                    p99_us=told.p99_ms * 1e3,
                )
            )
        return found


def measure(rounds: int, seconds: float) -> list[Delays]:
    """All rounds of all tools."""
    context = multiprocessing.get_context("fork")
    found: list[Delays] = []
    with veth_pair("floor", (NEAR,), (FAR,)) as (near, far), ExitStack() as stack:
        stack.enter_context(forked(context, lambda: reflect(far)))
        command = ("irtt", "server", "-b", f"{FAR}:{IRTT_PORT}", "-i", f"{GAP_S * 1000:g}ms")
        server = inside(far, lambda: subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(server.wait)
        stack.callback(server.terminate)
        time.sleep(SETTLE_S)
        bench = Bench(context, near, seconds)
        tools = [bench.inpath, bench.irtt, bench.ping]
        for number in range(rounds):
            for place in range(len(tools)):
                tool = tools[(number + place) % len(tools)]
                print(f"round {number + 1} of {rounds}: {tool.__name__}", file=sys.stderr, flush=True)
                found += tool()
    return found


def rows_of(found: Sequence[Delays]) -> list[Row]:
    """One row per tool and direction."""
    groups: dict[tuple[str, str], list[Delays]] = {}
    for one in sorted(found, key=lambda one: ((FORWARD, BACKWARD, ROUND_TRIP).index(one.direction), one.tool)):
        groups.setdefault((one.tool, one.direction), []).append(one)
    return [
        Row(
            tool=tool,
            direction=direction,
            packets=sum(one.count for one in group),
            median_us=Spread.of([one.median_us for one in group]),
            p99_us=Spread.of([one.p99_us for one in group]),
        )
        for (tool, direction), group in groups.items()
    ]


def ratios_of(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Ours to the lowest of the others."""
    ratios: dict[str, dict[str, float]] = {}
    for direction in (FORWARD, BACKWARD):
        here = [row for row in rows if row.direction == direction]
        (ours,) = (row for row in here if row.tool == OURS)
        others = [row for row in here if row.tool != OURS]
        ratios[direction] = {
            "median": ours.median_us.median / min(row.median_us.median for row in others),
            "p99": ours.p99_us.median / min(row.p99_us.median for row in others),
        }
    return ratios


def table(rows: Sequence[Row], ratios: dict[str, dict[str, float]]) -> str:
    """The rows for people."""
    lines = ["direction   tool    packets   median us (least to greatest)      p99 us (least to greatest)"]
    lines += [
        f"{row.direction:10}  {row.tool:6}  {row.packets:7}  {_cell(row.median_us)}  {_cell(row.p99_us)}"
        + (" rtt / 2" if row.tool == "ping" and row.direction != ROUND_TRIP else "")
        for row in rows
    ]
    for direction, by_quantile in ratios.items():
        told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in by_quantile.items())
        lines.append(f"{direction}: ours to the lowest other, {told}")
    return "\n".join([*lines, f"limit: {RATIO_LIMIT:g} each; owping is not in Debian and was not compared"])


def _cell(spread: Spread) -> str:
    return f"{spread.median:9.1f} ({spread.least:7.1f} to {spread.greatest:7.1f})"


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="Noise floor of one-way delay, beside irtt and ping.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROUNDS} rounds of {SHORT_S:g} s each tool")
    parser.add_argument("--rounds", type=int, default=5, help="how often each tool has its turn [5]")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a turn, 2 to 50 [10]")
    options = parser.parse_args()
    if not 1 <= options.rounds <= 100:
        parser.error("--rounds must lie between 1 and 100")
    if not 2 <= options.seconds <= 50:
        parser.error("--seconds must lie between 2 and 50")
    rounds, seconds = (SHORT_ROUNDS, SHORT_S) if options.short else (options.rounds, options.seconds)
    try:
        for program in ("irtt", "ping"):
            if shutil.which(program) is None:
                raise HostError(f"the program {program} is missing")
        rows = rows_of(measure(rounds, seconds))
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    ratios = ratios_of(rows)
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "ratios": ratios}, indent=2))
    else:
        print(table(rows, ratios))
    good = all(ratio <= RATIO_LIMIT for by_quantile in ratios.values() for ratio in by_quantile.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
