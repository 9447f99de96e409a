"""The whole request: from the question of a program to the composed answer, beside what a user does instead."""

from __future__ import annotations

import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.suite.benchmark import Effort, Figures, Outcome, Progress
from benchmarks.suite.delayed_lab import delayed_lab
from benchmarks.suite.ratio import Spread
from benchmarks.suite.wire import IRTT_PORT, Traffic, WireCounter
from benchmarks.suite.workshop import Workshop
from lab.network import Lab
from lab.points import point_files, start_points
from requestor.client import Client
from requestor.query import DEFAULT_MAX_AGE_S, DEFAULT_METRICS, PathQuery
from schemas.errors import HostError
from schemas.result import ResultStatus

DELAY_MS = 1.0
"""Of each link, each way: ten points are 20 ms away and back."""
HEADLINE_POINTS = 10
READY_LIMIT_S = 40.0
SETTLE_S = 0.5
"""After an answer, for what is still on the wire."""
TOOLS_AT_ONCE = 5
WALK_S = 0.0
"""Of age at most: the request must go the whole way, whatever the points have told each other."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    lengths: tuple[int, ...]
    """Points that append a record."""
    rounds: int
    questions: int
    """Of each length in a round."""
    has_tools: bool


PLANS = {
    Effort.FULL: Plan((1, 5, 10, 20), rounds=5, questions=10, has_tools=True),
    Effort.SHORT: Plan((HEADLINE_POINTS,), rounds=5, questions=6, has_tools=False),
}
INPATH = "inpath request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What a user does who knows nothing of us."""

    name: str
    command: tuple[str, ...]
    """The destination's address is added at its end."""
    traffic: Traffic


TOOLS = (
    Tool(name="ping -c 10", command=("ping", "-n", "-q", "-c", "10"), traffic=Traffic.ICMP),
    Tool(name="mtr -c 10", command=("mtr", "-n", "-r", "-c", "10"), traffic=Traffic.ICMP),
    Tool(
        name="irtt, 100 packets",
        command=("irtt", "client", "-Q", "-i", "10ms", "-d", "1s"),
        traffic=Traffic.IRTT,
    ),
)


def run(effort: Effort, progress: Progress, workshop: Workshop) -> Outcome:
    """Ask over paths of several lengths in turns, then let the other tools have the same path.

    Raises:
        HostError: a path does not become complete, or a tool fails.
    """
    workshop.close()  # its points would be in the way
    plan = PLANS[effort]
    total = plan.rounds + (len(TOOLS) if plan.has_tools else 0) + 1
    with row_of_points(max(plan.lengths) + 1) as lab:
        progress("points start", 0, total)
        nodes = [node.name for node in lab.topology.nodes]
        start_points(lab.directory, lab.addressing, nodes, lambda: None)
        asker = Asker(lab)
        asker.await_paths([nodes[length] for length in plan.lengths])
        await_rest(lab, nodes)
        walked, known, trips = (defaultdict[int, list[float]](list) for _ in range(3))
        for number in range(plan.rounds):
            progress("questions", number + 1, total)
            for length in plan.lengths if number % 2 == 0 else reversed(plan.lengths):
                trips[length].append(asker.round_trip_ms(nodes[length]))
                for answers, max_age_s in ((walked, WALK_S), (known, DEFAULT_MAX_AGE_S)):
                    readings = (asker.answer_ms(nodes[length], max_age_s) for _ in range(plan.questions))
                    answers[length].append(median(readings))
        costs = [asker.cost_of_request(nodes[HEADLINE_POINTS])] if plan.has_tools else []
        for number, tool in enumerate(TOOLS if plan.has_tools else ()):
            progress(tool.name, 1 + plan.rounds + number, total)
            costs.append(asker.cost_of_tool(tool, nodes[HEADLINE_POINTS]))
    return _outcome(walked, known, trips, costs)


def await_rest(lab: Lab, nodes: Sequence[str]) -> None:
    """Until the points have found the MTU of each segment, and loaded what the database needs.

    Raises:
        HostError: one of them does not.
    """
    deadline_s = time.monotonic() + READY_LIMIT_S
    for node in nodes:
        with Client(point_files(lab.directory, node).control) as client:
            while not _is_at_rest(client.status()):
                if time.monotonic() > deadline_s:
                    raise HostError(f"the point {node} does not come to rest")
                time.sleep(0.2)
    time.sleep(SETTLE_S)


def _is_at_rest(status: Mapping[str, Any]) -> bool:
    stored = status["store"] is None or status["store"]["spool_depth"] == 0
    return stored and all("mtu" in neighbor["last_60_s"] for neighbor in status["neighbors"])


@contextmanager
def row_of_points(count: int) -> Iterator[Lab]:
    """Points in a row whose links take time; none runs yet."""
    names = [f"p{number}" for number in range(count)]
    links = [{"a": one, "b": other, "delay_ms": DELAY_MS} for one, other in zip(names, names[1:], strict=False)]
    with delayed_lab({"nodes": {name: {"point": True} for name in names}, "links": links}) as lab:
        yield lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one way of asking costs."""

    name: str
    seconds: Spread
    packets: Spread
    octets: Spread
    """At the first link, both ways."""


class Asker:
    """The first point of the row, and what is asked there.

    Args:
        lab: with all points running.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._source = lab.topology.nodes[0].name
        self._client = Client(point_files(lab.directory, self._source).control)
        self._namespace = lab.addressing.namespace(self._source)
        (plan,) = lab.addressing.links_of(self._source)
        self._interface = plan.end_of(self._source).interface

    def await_paths(self, destinations: Sequence[str]) -> None:
        """Until all segments are measured."""
        deadline_s = time.monotonic() + READY_LIMIT_S
        for destination in destinations:
            while self._status(destination) is not ResultStatus.COMPLETE:
                if time.monotonic() > deadline_s:
                    raise HostError(f"the path to {destination} does not become complete")
                time.sleep(0.3)

    def answer_ms(self, destination: str, max_age_s: float = WALK_S) -> float:
        """From the question to the answer, which must be complete."""
        began_ns = time.perf_counter_ns()
        status = self._status(destination, max_age_s)
        took_ns = time.perf_counter_ns() - began_ns
        if status is not ResultStatus.COMPLETE:
            raise HostError(f"the path to {destination} was {status}, expected complete")
        return took_ns / 1e6

    def round_trip_ms(self, destination: str) -> float:
        """The path's own: the median of some pings."""
        text = self._run("ping", "-n", "-c", "10", "-i", "0.02", self._address(destination))
        return median(float(found) for found in re.findall(r"time=([\d.]+) ms", text))

    def cost_of_request(self, destination: str) -> Cost:
        """One question at a time, with all that it puts on the wire."""
        seconds, counts = [], []
        with WireCounter(self._namespace, self._interface) as wire:
            for _ in range(TOOLS_AT_ONCE):
                time.sleep(SETTLE_S)
                wire.taken(Traffic.REQUEST)
                seconds.append(self.answer_ms(destination) / 1e3)
                time.sleep(SETTLE_S)
                counts.append(wire.taken(Traffic.REQUEST))
        packets, octets = (Spread.of(getattr(one, name) for one in counts) for name in ("packets", "octets"))
        return Cost(name=INPATH, seconds=Spread.of(seconds), packets=packets, octets=octets)

    def cost_of_tool(self, tool: Tool, destination: str) -> Cost:
        """Some at once, since each takes its seconds; packets and octets are the mean of all."""
        address = self._address(destination)
        with self._irtt_server(destination), WireCounter(self._namespace, self._interface) as wire:
            with ThreadPoolExecutor(TOOLS_AT_ONCE) as executor:
                seconds = list(executor.map(lambda _: self._timed_s(tool, address), range(TOOLS_AT_ONCE)))
            count = wire.taken(tool.traffic)
        packets, octets = (Spread.of([one / TOOLS_AT_ONCE]) for one in (count.packets, count.octets))
        return Cost(name=tool.name, seconds=Spread.of(seconds), packets=packets, octets=octets)

    @contextmanager
    def _irtt_server(self, destination: str) -> Iterator[None]:
        address = f"{self._address(destination)}:{IRTT_PORT}"
        enter = ("ip", "netns", "exec", self._lab.addressing.namespace(destination))
        process = subprocess.Popen([*enter, "irtt", "server", "-b", address], stdout=subprocess.DEVNULL)
        try:
            time.sleep(SETTLE_S)
            yield
        finally:
            process.terminate()
            process.wait()

    def _timed_s(self, tool: Tool, address: str) -> float:
        began_s = time.monotonic()
        self._run(*tool.command, address)
        return time.monotonic() - began_s

    def _status(self, destination: str, max_age_s: float = WALK_S) -> ResultStatus:
        query = PathQuery(
            source=self._address(self._source),
            destination=self._address(destination),
            metrics=DEFAULT_METRICS,
            timeout_s=5.0,
            max_age_s=max_age_s,
        )
        return self._client.path(query).status

    def _address(self, node: str) -> str:
        return self._lab.addressing.identities[node]

    def _run(self, *command: str) -> str:
        enter = ("ip", "netns", "exec", self._namespace)
        done = subprocess.run([*enter, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HostError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def _outcome(
    walked: Mapping[int, list[float]],
    known: Mapping[int, list[float]],
    trips: Mapping[int, list[float]],
    costs: Sequence[Cost],
) -> Outcome:
    over = {
        length: [answer - trip for answer, trip in zip(walked[length], trips[length], strict=True)]
        for length in walked
    }
    columns = tuple(f"{length} points" if length > 1 else "1 point" for length in walked)
    rows: dict[str, Any] = {
        "round-trip time of the path": tuple(Spread.of(trips[length]) for length in walked),
        "answer, whole way": tuple(Spread.of(walked[length]) for length in walked),
        "answer less round-trip time": tuple(Spread.of(over[length]) for length in walked),
        "answer, at most 15 s old": tuple(Spread.of(known[length]) for length in walked),
    }
    tables = (
        Figures(title="From question to answer", unit="ms", columns=columns, rows=rows),
        *(
            Figures(
                title=f"To know a path over {HEADLINE_POINTS} points: {what}",
                unit=unit,
                columns=(unit,),
                rows={cost.name: (getattr(cost, what),) for cost in costs},
            )
            for what, unit in (("seconds", "s"), ("packets", "packets"), ("octets", "octets"))
            if costs
        ),
    )
    notes = (
        f"each link takes {DELAY_MS:g} ms each way; packets and octets are those at the first link, both ways",
        "inpath answers at once since its points measure all the time: 20 packets a second on each link",
        "an answer that may be 15 s old comes from what the points of the area tell each other, if they have",
        f"of the other tools {TOOLS_AT_ONCE} run at once; packets and octets of each are the mean",
    )
    ratios = {"answer_10_points_over_rtt_ms": Spread.of(over[HEADLINE_POINTS])}
    return Outcome(tables=tables, ratios=ratios, notes=notes)
