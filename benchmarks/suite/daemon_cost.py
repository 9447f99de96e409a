"""What a daemon costs its host: time to start, processor time at rest and at work, memory."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.suite.bench_network import BUSY, QUIET, SPARE, BenchNetwork
from benchmarks.suite.benchmark import Effort, Figures, Outcome, Progress
from benchmarks.suite.busy_services import BusyServices
from benchmarks.suite.handler import cpu_ns
from benchmarks.suite.memory import memory_bytes
from benchmarks.suite.ratio import Spread
from benchmarks.suite.workshop import Workshop
from lab.namespaces import processes_inside

MB = 1e6
SETTLE_S = 1.0
AT_REST, BUSIEST = "1 neighbor", "all services"

_Readings = dict[str, list[float]]
"""By what was read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    starts: int
    readings: int
    seconds: float
    """Of each reading of processor time."""
    has_rest: bool
    """Whether a point at rest is watched, too."""


PLANS = {
    Effort.FULL: Plan(starts=7, readings=5, seconds=3.0, has_rest=True),
    Effort.SHORT: Plan(starts=0, readings=5, seconds=0.3, has_rest=False),
}


def run(effort: Effort, progress: Progress, workshop: Workshop) -> Outcome:
    """Start a point some times; then watch one at rest, and one with all its services at work.

    Raises:
        HostError: a point does not start.
    """
    plan = PLANS[effort]
    readings: dict[str, _Readings] = {}
    total = plan.starts + (1 + plan.has_rest) * plan.readings
    network, starts = workshop.network, []
    for number in range(plan.starts):
        progress("start", number, total)
        starts.append(_start_s(network))
    if plan.has_rest:
        assert workshop.quiet.pid  # it runs from now on, if it did not before
        time.sleep(SETTLE_S)
        readings[AT_REST] = _watched(
            network, QUIET, plan, lambda done: progress("at rest", plan.starts + done, total)
        )
    with workshop.busy.asked():
        time.sleep(SETTLE_S)
        before = total - plan.readings
        readings[BUSIEST] = _watched(network, BUSY, plan, lambda done: progress("at work", before + done, total))
    return _outcome(starts, readings, workshop.busy)


def _start_s(network: BenchNetwork) -> float:
    """From the command to an answer of the service."""
    began_s = time.monotonic()
    network.lab.start_point(SPARE)
    took_s = time.monotonic() - began_s
    network.lab.stop_point(SPARE)
    return took_s


def _watched(network: BenchNetwork, node: str, plan: Plan, tell: Callable[[int], None]) -> _Readings:
    readings: _Readings = defaultdict(list)
    for number in range(plan.readings):
        tell(number)
        pids = processes_inside([network.namespace(node)])
        before_ns, began_s = sum(map(cpu_ns, pids)), time.monotonic()
        time.sleep(plan.seconds)
        spent_ns, seconds = sum(map(cpu_ns, pids)) - before_ns, time.monotonic() - began_s
        readings["processor time"].append(spent_ns / 1e7 / seconds)
        readings["memory"].append(memory_bytes(pids) / MB)
    return readings


def _outcome(starts: list[float], readings: Mapping[str, _Readings], busy: BusyServices) -> Outcome:
    rows = {
        what: {name: (Spread.of(found[what]),) for name, found in readings.items()}
        for what in ("processor time", "memory")
    }
    tables = (
        *([_start_figures(starts)] if starts else []),
        Figures(title="Processor time", unit="% of a core", columns=("daemon",), rows=rows["processor time"]),
        Figures(title="Memory", unit="MB", columns=("daemon",), rows=rows["memory"]),
    )
    notes = (
        f"all services: {busy.summary}",
        "memory: of all processes of the daemon, HTTP's included; a page of a file that several map counts once",
        "processor time includes the receivers' side of veth, which a network card leaves to the other host",
    )
    return Outcome(tables=tables, ratios={"memory_mb": Spread.of(readings[BUSIEST]["memory"])}, notes=notes)


def _start_figures(seconds: list[float]) -> Figures:
    rows = {"inpath mp run": (Spread.of(seconds),)}
    return Figures(title="From the command to the first answer", unit="s", columns=("start",), rows=rows)
