"""Does the interval of `available-bandwidth` hold the truth, and what does one estimate cost?

    python benchmarks/available_bandwidth.py [--runs 10] [--short] [--json] [--scenario 20/8] [--traffic cbr]

Three namespaces in a row; the router's egress has a rate (TBF, counted over IP packets by a size table of -14) and
carries cross traffic of 1500-octet packets from the router itself. Scenario 20/8 is a link of 20 Mbit/s with 8 of
cross traffic. The truth of each run is the link's rate less the cross traffic that was really sent meanwhile; both
are rates of IP packets. Load is the octets of the streams over the time of the estimate, as a share of the truth.
Needs root.

The exit code is 0 when in every scenario at least 8 of 10 runs hit and each took less than 15 s, 1 when not.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import multiprocessing
import os
import random
import secrets
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.context import ForkContext
from multiprocessing.sharedctypes import RawValue

from lab.namespaces import create, enter, inside, remove, run_batch
from prober.bandwidth.estimate import BandwidthOutcome
from prober.bandwidth.service import BandwidthService
from prober.bandwidth.settings import BandwidthSettings
from schemas.errors import InpathError

SCENARIOS = {"20/8": (20.0, 8.0), "10/3": (10.0, 3.0), "50/20": (50.0, 20.0)}
CROSS_PACKET_BYTES = 1500
IP_UDP_BYTES = 28
QUEUE_MS = 50
BURST_BYTES = 3000
SETTLE_S = 0.3
LONGEST_S = 15.0
NEEDED_RATIO = 0.8
UP, ROUTER_UP, ROUTER_DOWN, DOWN = "10.20.1.1", "10.20.1.2", "10.20.2.1", "10.20.2.2"
REAL_TIME_PRIORITY = 10
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One estimate; rates in Mbit/s at the IP layer."""

    scenario: str
    traffic: str
    truth_mbit_s: float
    low_mbit_s: float | None
    high_mbit_s: float | None
    end: str
    hit: bool
    seconds: float
    streams: int
    octets: int
    load_ratio: float
    counters: dict[str, int]
    """Of the measuring point."""


class CrossTraffic:
    """Packets that a process of its own sends into the link, counted in shared memory."""

    def __init__(self, context: ForkContext, namespace: str, rate_mbit_s: float, traffic: str) -> None:
        self._octets = RawValue(ctypes.c_uint64, 0)
        self.process = context.Process(
            target=self._send, args=(namespace, rate_mbit_s, traffic == "poisson"), daemon=True
        )

    @property
    def octets(self) -> int:
        """Sent so far, at the IP layer."""
        return int(self._octets.value)

    def _send(self, namespace: str, rate_mbit_s: float, poisson: bool) -> None:
        enter(namespace)
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
        with suppress(OSError):  # without it a busy machine makes the traffic burstier
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))
        draw = random.Random()
        door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        payload = bytes(CROSS_PACKET_BYTES - IP_UDP_BYTES)
        gap_s = CROSS_PACKET_BYTES * 8e-6 / rate_mbit_s
        due_s = time.monotonic()
        while True:
            due_s += draw.expovariate(1 / gap_s) if poisson else gap_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            with suppress(OSError):
                door.sendto(payload, (DOWN, 9))
                self._octets.value += CROSS_PACKET_BYTES


def answer_requests(namespace: str, settings: BandwidthSettings) -> None:
    """The upstream point, in a process of its own, until it is ended."""

    async def serve() -> None:
        service = BandwidthService(UP, settings=settings, is_neighbor=DOWN.__eq__, now_ns=time.time_ns)
        await service.start()
        await asyncio.Event().wait()

    enter(namespace)
    asyncio.run(serve())


@contextmanager
def network(rate_mbit_s: float) -> Iterator[tuple[str, str, str]]:
    """Upstream, router, downstream; the router's egress to the last one has the rate."""
    prefix = f"bw{os.getpid()}{secrets.token_hex(2)}"
    up, router, down = names = (f"{prefix}-up", f"{prefix}-router", f"{prefix}-down")
    limit_bytes = round(rate_mbit_s * 125 * QUEUE_MS)
    create(names)
    try:
        run_batch("ip", [f"link add name up0 netns {up} type veth peer name up0 netns {router}"])
        run_batch("ip", [f"link add name down0 netns {router} type veth peer name down0 netns {down}"])
        for name, commands in (
            (up, (f"address add {UP}/24 dev up0", "link set up0 up", f"route add default via {ROUTER_UP}")),
            (
                router,
                (
                    f"address add {ROUTER_UP}/24 dev up0",
                    f"address add {ROUTER_DOWN}/24 dev down0",
                    "link set up0 up",
                    "link set down0 up",
                ),
            ),
            (
                down,
                (f"address add {DOWN}/24 dev down0", "link set down0 up", f"route add default via {ROUTER_DOWN}"),
            ),
        ):
            inside(name, lambda commands=commands: run_batch("ip", commands))  # type: ignore[misc]
        shape = f"tbf rate {rate_mbit_s}mbit burst {BURST_BYTES} limit {limit_bytes}"
        inside(router, lambda: forward(shape))
        yield up, router, down
    finally:
        remove(names)


def forward(shape: str) -> None:
    """Make the router one."""
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as switch:
        switch.write("1")
    run_batch("tc", [f"qdisc add dev down0 root stab linklayer ethernet overhead -14 {shape}"])


def measure(scenario: str, traffic: str, runs: int, settings: BandwidthSettings) -> Iterator[Run]:
    """All runs of one scenario, each a new estimate with what the network has come to be."""
    rate_mbit_s, cross_mbit_s = SCENARIOS[scenario]
    context = multiprocessing.get_context("fork")
    with network(rate_mbit_s) as (up, router, down), ExitStack() as stack:
        cross = CrossTraffic(context, router, cross_mbit_s, traffic)
        upstream = context.Process(target=answer_requests, args=(up, settings), daemon=True)
        for process in (cross.process, upstream):
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
        for _ in range(runs):
            time.sleep(SETTLE_S)
            service = BandwidthService(DOWN, settings=settings, is_neighbor=lambda _: False, now_ns=time.time_ns)
            inside(down, service.open)
            outcome, cross_rate, counters = asyncio.run(estimate(service, cross))
            yield run_of(scenario, traffic, outcome, rate_mbit_s - cross_rate, counters)


async def estimate(
    service: BandwidthService, cross: CrossTraffic
) -> tuple[BandwidthOutcome, float, dict[str, int]]:
    """One estimate, and the cross traffic of its time in Mbit/s."""
    await service.start()
    try:
        octets, began_s = cross.octets, time.monotonic()
        outcome = await service.measure(UP)
        cross_rate = (cross.octets - octets) * 8e-6 / (time.monotonic() - began_s)
        return outcome, cross_rate, dict(service.counters())
    finally:
        await service.close()


def run_of(scenario: str, traffic: str, outcome: BandwidthOutcome, truth: float, counters: dict[str, int]) -> Run:
    """One row."""
    low, high = outcome.interval.low_mbit_s, outcome.interval.high_mbit_s
    seconds = outcome.duration_ns / 1e9
    return Run(
        scenario=scenario,
        traffic=traffic,
        truth_mbit_s=truth,
        low_mbit_s=low,
        high_mbit_s=high,
        end=outcome.end.value,
        hit=low is not None and high is not None and low <= truth <= high,
        seconds=seconds,
        streams=outcome.streams,
        octets=outcome.octets,
        load_ratio=outcome.octets * 8e-6 / seconds / truth,
        counters=counters,
    )


def line(run: Run) -> str:
    """One run for people."""
    ends = [" -   " if end is None else f"{end:5.2f}" for end in (run.low_mbit_s, run.high_mbit_s)]
    return (
        f"{run.scenario:>6} {run.traffic:7}  {run.truth_mbit_s:5.2f}  [{ends[0]}, {ends[1]}]"
        f"  {'hit ' if run.hit else 'MISS'}  {run.seconds:4.1f}  {run.streams:3}  {run.octets / 1e6:5.2f}"
        f"  {run.load_ratio:4.2f}  {run.end}  {streams_by_verdict(run)}"
    )


def streams_by_verdict(run: Run) -> str:
    """Such as "increasing 12, no-trend 9", and what else the measuring point counted."""
    return ", ".join(f"{name.removeprefix('stream-')} {count}" for name, count in sorted(run.counters.items()))


def summary(scenario: str, runs: list[Run]) -> str:
    """Hits, and how wide the intervals are: one that holds everything would always hit."""
    widths = [
        (run.high_mbit_s - run.low_mbit_s) / run.truth_mbit_s
        for run in runs
        if run.low_mbit_s is not None and run.high_mbit_s is not None
    ]
    width = f"{statistics.mean(widths):.2f} of the truth wide" if widths else "without an interval"
    return f"{scenario}: {sum(run.hit for run in runs)} of {len(runs)} hit, on the average {width}"


def is_good(runs: list[Run]) -> bool:
    """Whether the runs of one scenario are within the limits."""
    return sum(run.hit for run in runs) >= NEEDED_RATIO * len(runs) and all(r.seconds < LONGEST_S for r in runs)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="Accuracy and cost of the available-bandwidth estimate.")
    parser.add_argument("--runs", type=int, default=10, help="estimates per scenario [10]")
    parser.add_argument("--short", action="store_true", help="two runs of the first scenario only")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="one scenario; all are the default")
    parser.add_argument("--seconds", type=float, default=14.0, help="at most, of one estimate [14]")
    parser.add_argument("--traffic", choices=("poisson", "cbr"), default="poisson", help="cross traffic [poisson]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if not 1 <= options.runs <= 1000:
        parser.error("--runs must lie between 1 and 1000")
    if not 1 <= options.seconds <= 600:
        parser.error("--seconds must lie between 1 and 600")
    settings = BandwidthSettings(max_estimate_s=options.seconds)
    runs_each = 2 if options.short else options.runs
    scenarios = ["20/8"] if options.short else options.scenario or list(SCENARIOS)
    rows: dict[str, list[Run]] = {scenario: [] for scenario in scenarios}
    out = sys.stderr if options.json else sys.stdout
    print("  link/cross        truth  [low, high]    verdict   s  streams  MB  load  end", file=out)
    try:
        for scenario in scenarios:
            for run in measure(scenario, options.traffic, runs_each, settings):
                rows[scenario].append(run)
                print(line(run), file=out, flush=True)
            print(summary(scenario, rows[scenario]), file=out)
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps([asdict(run) for runs in rows.values() for run in runs], indent=2))
    return 0 if all(is_good(runs) for runs in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
