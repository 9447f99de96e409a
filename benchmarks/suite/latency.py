"""What a point adds to a packet's delay: alone, under half the load that it bears, and beside busy services."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.suite.bench_network import BUSY, QUIET, BenchNetwork, RunningPoint
from benchmarks.suite.benchmark import Effort, Figures, Outcome, Progress
from benchmarks.suite.busy_services import BusyServices
from benchmarks.suite.handler import (
    ALL_HANDLERS,
    C_APPEND,
    DAEMON_QUEUE,
    INPATH,
    KERNEL,
    Handler,
    handlers,
)
from benchmarks.suite.message import CAPACITY_PORT, HEADLINE, LATENCY_PORT, BenchMessages
from benchmarks.suite.packet_path import SENDER_CORE, PacketPath, turned
from benchmarks.suite.programs import probe_command, sender_command
from benchmarks.suite.ratio import Spread, quantile
from benchmarks.suite.workshop import Workshop
from schemas.errors import HostError

IDLE, WITH_SERVICES = "idle", "busy services"
PERMILLES = {"median": 500, "p99": 990, "p99.9": 999}
GAP_US = 600.0
"""Between two packets: longer than any handler needs for one."""
LOAD_LEAD_S = 0.3
"""Until a program that makes load is at work."""
LIMIT_S = 3.0
"""Of one reading: a handler that is too slow for all its packets is shown fewer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    names: tuple[str, ...]
    rounds: int
    packets: int
    """Of each handler in a round."""
    is_whole: bool
    """With half load, and with handlers on the processor on which the packets come in."""
    service_rounds: int
    service_packets: int


PLANS = {
    Effort.FULL: Plan(ALL_HANDLERS, 5, 800, is_whole=True, service_rounds=8, service_packets=1_500),
    Effort.SHORT: Plan((KERNEL, C_APPEND, INPATH), 5, 200, is_whole=False, service_rounds=5, service_packets=500),
}


@dataclass(frozen=True, slots=True)
class Delays:
    """One reading."""

    sent: int
    us: list[float]
    """Of those packets that arrived as they should, ascending."""


@dataclass(slots=True)
class _Readings:
    """Delays by handler and round, in microseconds, ascending."""

    rounds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    missed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Packets that did not arrive, or not as they should."""

    def add(self, name: str, found: Delays) -> None:
        """Note a round; of one in which most packets were missed, only that."""
        self.missed[name] += found.sent - len(found.us)
        if len(found.us) > found.sent / 2:
            self.rounds[name].append(found.us)

    def require(self, rounds: int, names: Sequence[str]) -> None:
        """Let no ratio rest on less than all rounds.

        Raises:
            HostError: of some round most packets were missed.
        """
        for name in names:
            if len(self.rounds[name]) < rounds:
                raise HostError(f"{name}: most packets of a round did not arrive as they should")

    def of(self, name: str, permille: int) -> list[float]:
        """A quantile of each round."""
        return [quantile(one, permille) for one in self.rounds[name]]

    def figures(self, title: str) -> Figures:
        """All handlers; p99.9 from the packets of all rounds together, since one round has too few."""
        rows = {}
        for name, rounds in self.rounds.items():
            pooled = sorted(delay for one in rounds for delay in one)
            last = quantile(pooled, 999)
            spreads = [Spread.of(self.of(name, permille)) for permille in (500, 990)]
            rows[name] = (*spreads, Spread(median=last, low=last, high=max(pooled)))
        return Figures(title=title, unit="us", columns=tuple(PERMILLES), rows=rows)


def run(effort: Effort, progress: Progress, workshop: Workshop) -> Outcome:
    """Measure all three.

    Raises:
        HostError: packets were lost, or arrived without what the handler adds.
    """
    plan = PLANS[effort]
    alone, near, loaded, services = _Readings(), _Readings(), _Readings(), _Readings()
    total = (1 + 2 * plan.is_whole) * plan.rounds + plan.service_rounds
    network, point = workshop.network, workshop.quiet
    with handlers(network, point, plan.names) as ready:
        path = PacketPath(network, HEADLINE)
        for one in ready:
            path.look_at(one)
        for number in range(plan.rounds):
            progress("one packet at a time", number, total)
            for one in turned(ready, number):
                alone.add(one.name, delays_us(network, path.messages, one, plan.packets))
        for number in range(plan.rounds if plan.is_whole else 0):
            progress("on one processor", plan.rounds + number, total)
            for one in (one for one in turned(ready, number) if one.name in (C_APPEND, INPATH)):
                with on_one_processor(one) as sender_core:
                    near.add(one.name, delays_us(network, path.messages, one, plan.packets, core=sender_core))
        for number in range(plan.rounds if plan.is_whole else 0):
            progress("half load", 2 * plan.rounds + number, total)
            for one in (one for one in turned(ready, number) if one.queue is not None):
                with half_load(network, path, one):
                    loaded.add(one.name, delays_us(network, path.messages, one, plan.packets))
    busy = workshop.busy
    for number in range(plan.service_rounds):
        progress("beside busy services", total - plan.service_rounds + number, total)
        _read_services(network, path.messages, point, busy, plan, services, is_first_busy=number % 2 == 1)
    alone.require(plan.rounds, (KERNEL, C_APPEND, INPATH))
    services.require(plan.service_rounds, (IDLE, WITH_SERVICES))
    return _outcome(alone, near, loaded, services, busy)


def _read_services(
    network: BenchNetwork,
    messages: BenchMessages,
    quiet: RunningPoint,
    busy: BusyServices,
    plan: Plan,
    readings: _Readings,
    *,
    is_first_busy: bool,
) -> None:
    """One round: the quiet point while the busy one is frozen, and the busy one at work."""
    for is_busy in (is_first_busy, not is_first_busy):
        node, point = (BUSY, busy.point) if is_busy else (QUIET, quiet)
        one = Handler(name=INPATH, queue=DAEMON_QUEUE, packet_pid=point.packet_pid, pids=(point.pid,))
        with busy.asked() if is_busy else busy.frozen():
            time.sleep(LOAD_LEAD_S)
            found = delays_us(network, messages, one, plan.service_packets, node)
        readings.add(WITH_SERVICES if is_busy else IDLE, found)


def delays_us(
    network: BenchNetwork,
    messages: BenchMessages,
    handler: Handler,
    packets: int,
    point: str = QUIET,
    *,
    core: int | None = None,
) -> Delays:
    """Delays of some packets, one at a time, from the link before the point to the link behind it.

    Args:
        core: on which they come in; None: wherever the scheduler puts their sender just then.

    Raises:
        HostError: they could not be sent.
    """
    network.intercept(handler.queue, point)
    frames = network.frames(messages.kind, point, LATENCY_PORT)
    sender = [] if core is None else ["taskset", "-c", str(core)]
    done = subprocess.run(
        [*sender, *probe_command(network, frames, packets, GAP_US, LIMIT_S, point)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise HostError(f"latency_probe: {done.stderr.strip()}")
    lines = [line.split() for line in done.stdout.splitlines()]
    wanted = messages.packet_bytes + (1 if handler.appends else 0)
    good = [int(ns) / 1e3 for ns, octets in lines if int(octets) >= wanted]
    return Delays(len(lines), sorted(good))


@contextmanager
def on_one_processor(handler: Handler) -> Iterator[int]:
    """The handler runs where the packets come in, as `measurement.processors` lets it; the core's number."""
    before = os.sched_getaffinity(handler.packet_pid)
    os.sched_setaffinity(handler.packet_pid, {SENDER_CORE})
    try:
        yield SENDER_CORE
    finally:
        os.sched_setaffinity(handler.packet_pid, before)


@contextmanager
def half_load(network: BenchNetwork, path: PacketPath, handler: Handler) -> Iterator[None]:
    """Other packets keep the handler busy for half of its time, at Poisson times."""
    rate = 0.5e6 / path.cost_us(handler)
    frames = network.frames(path.messages.kind, QUIET, CAPACITY_PORT)
    network.intercept(handler.queue)
    process = subprocess.Popen(sender_command(network, frames, 0, rate, "asleep"), stdout=subprocess.DEVNULL)
    try:
        time.sleep(LOAD_LEAD_S)
        yield
    finally:
        process.terminate()
        process.wait()
        network.await_empty()


def _outcome(
    alone: _Readings, near: _Readings, loaded: _Readings, services: _Readings, busy: BusyServices
) -> Outcome:
    ours, appender = alone.of(INPATH, 500), alone.of(C_APPEND, 500)
    kernel = alone.of(KERNEL, 500)
    added, added_by_c = (
        [one - base for one, base in zip(found, kernel, strict=True)] for found in (ours, appender)
    )
    ratios = {
        "latency_vs_c_append": Spread.of_ratio(added, added_by_c),
        "latency_whole_vs_c_append": Spread.of_ratio(ours, appender),
        "p99_loaded_vs_idle": Spread.of_ratio(services.of(WITH_SERVICES, 990), services.of(IDLE, 990)),
    }
    missed = {
        f"{name}, {when}": count
        for when, readings in zip(
            ("alone", "one processor", "half load", "services"), (alone, near, loaded, services), strict=True
        )
        for name, count in readings.missed.items()
    }
    further = {
        "Delay over one point that runs where the packets come in": near,
        "Delay over one point that is busy half of its time": loaded,
    }
    tables = (
        alone.figures("Delay over one point, one packet at a time"),
        *(readings.figures(title) for title, readings in further.items() if readings.rounds),
        services.figures("Delay over one point beside its own services"),
    )
    notes = (
        f"busy services: {busy.summary}",
        "latency_vs_c_append: of what is added to kernel forwarding; latency_whole_...: of the whole delay",
        "high of p99.9 is the greatest delay",
        *(
            f"{name}: {count} packets came late, as they were, or not at all"
            for name, count in missed.items()
            if count
        ),
    )
    return Outcome(tables=tables, ratios=ratios, notes=notes)
