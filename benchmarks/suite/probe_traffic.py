"""What it costs to know the paths between all pairs of points: by the overlay, and by a full mesh of probes.

Measured in a small network, where both really run; computed for larger ones from the same kind of network, its
routes, and what was measured for one session and one answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.suite.area import Probing, area_document, probing
from benchmarks.suite.benchmark import Effort, Figures, Outcome, Progress
from benchmarks.suite.ratio import LEAST_ROUNDS, Spread
from benchmarks.suite.veth_lab import veth_lab
from benchmarks.suite.wire import Traffic, WireCounter
from benchmarks.suite.workshop import Workshop
from lab.network import Lab
from lab.points import point_files, start_points
from requestor.client import Client
from requestor.query import DEFAULT_METRICS, PathQuery
from schemas.errors import HostError
from schemas.result import ResultStatus

MEASURED_POINTS = {Effort.FULL: 10, Effort.SHORT: 5}
COMPUTED_POINTS = (10, 30, 100)
KNOWN_LIMIT_S = 60.0
COUNTED_S = 1.0
KNOWN_S = 1.0
"""Until a session has the ten samples by which it counts as measured."""
PACKETS_PER_S = 20.0
"""Of a session: ten probes and ten replies (`probe.rate_per_s`)."""
OVERLAY, MESH = "overlay", "full mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was measured of one way to probe."""

    per_s: Spread
    """Probe packets on all links together."""
    busiest_per_s: Spread
    frame_octets: float
    known_s: float
    """From the start of the last point until all pairs are known."""


def run(effort: Effort, progress: Progress, workshop: Workshop) -> Outcome:
    """Let the overlay run, then a full mesh in the same network.

    Raises:
        HostError: not all pairs become known.
    """
    workshop.close()  # its points would be in the way
    points = MEASURED_POINTS[effort]
    with veth_lab(area_document(points)) as lab:
        nodes = [node.name for node in lab.topology.nodes]
        progress("overlay", 0, 2)
        start_points(lab.directory, lab.addressing, nodes, lambda: None)
        known_s = _all_sessions_known(lab, nodes) + _ask_all(lab, nodes)
        answer_ms = _ask_all(lab, nodes) / (len(nodes) - 1) * 1e3
        overlay = _read(lab, known_s)
        progress("full mesh", 1, 2)
        for node in nodes:
            lab.stop_point(node)
            _know_all(lab, node, nodes)
        start_points(lab.directory, lab.addressing, nodes, lambda: None)
        mesh = _read(lab, _all_sessions_known(lab, nodes))
    return _outcome(points, overlay, mesh, answer_ms)


def _know_all(lab: Lab, node: str, nodes: Sequence[str]) -> None:
    """Make all others a point's neighbors."""
    others = ", ".join(f'"{lab.addressing.identities[one]}"' for one in nodes if one != node)
    file = point_files(lab.directory, node).configuration
    file.write_text(re.sub(r"^neighbors = .*$", f"neighbors = [{others}]", file.read_text(), flags=re.MULTILINE))


def _ask_all(lab: Lab, nodes: Sequence[str]) -> float:
    """Let all points ask at once, each for one after the other: seconds until all answers are there.

    Raises:
        HostError: an answer is not complete.
    """
    began_s = time.monotonic()

    def ask(source: str) -> None:
        with Client(point_files(lab.directory, source).control) as client:
            for destination in nodes:
                while destination != source and not _is_known(lab, client, source, destination):
                    if time.monotonic() - began_s > KNOWN_LIMIT_S:
                        raise HostError(f"the path from {source} to {destination} does not become known")

    with ThreadPoolExecutor(len(nodes)) as executor:
        list(executor.map(ask, nodes))
    return time.monotonic() - began_s


def _is_known(lab: Lab, client: Client, source: str, destination: str) -> bool:
    identities = lab.addressing.identities
    query = PathQuery(
        source=identities[source],
        destination=identities[destination],
        metrics=DEFAULT_METRICS,
        timeout_s=2.0,
        max_age_s=15.0,
    )
    return client.path(query).status is ResultStatus.COMPLETE


def _all_sessions_known(lab: Lab, nodes: Sequence[str]) -> float:
    began_s = time.monotonic()

    def await_sessions(node: str) -> None:
        with Client(point_files(lab.directory, node).control) as client:
            while any(one["state"] != "measured" for one in client.status()["neighbors"]):
                if time.monotonic() - began_s > KNOWN_LIMIT_S:
                    raise HostError(f"the sessions of {node} do not become known")
                time.sleep(0.1)

    with ThreadPoolExecutor(len(nodes)) as executor:
        list(executor.map(await_sessions, nodes))
    return time.monotonic() - began_s


def _read(lab: Lab, known_s: float) -> Reading:
    """Count probes on all links, some times."""
    totals, busiest, octets, packets = [], [], 0, 0
    with ExitStack() as stack:
        wires = [
            stack.enter_context(WireCounter(lab.addressing.namespace(plan.a.node), plan.a.interface))
            for plan in lab.addressing.links
        ]
        for _ in range(LEAST_ROUNDS):
            for wire in wires:
                wire.taken(Traffic.PROBE)
            began_s = time.monotonic()
            time.sleep(COUNTED_S)
            counts = [wire.taken(Traffic.PROBE) for wire in wires]
            seconds = time.monotonic() - began_s
            totals.append(sum(count.packets for count in counts) / seconds)
            busiest.append(max(count.packets for count in counts) / seconds)
            octets += sum(count.octets for count in counts)
            packets += sum(count.packets for count in counts)
    return Reading(
        per_s=Spread.of(totals),
        busiest_per_s=Spread.of(busiest),
        frame_octets=octets / max(1, packets),
        known_s=known_s,
    )


def _outcome(points: int, overlay: Reading, mesh: Reading, answer_ms: float) -> Outcome:
    computed = {count: probing(count) for count in COMPUTED_POINTS}
    columns = (f"{points} points, measured", *(f"{count} points, computed" for count in COMPUTED_POINTS))
    traffic = {
        name: (reading.per_s, *(_exactly(PACKETS_PER_S * found[place].crossings) for found in computed.values()))
        for place, (name, reading) in enumerate(((OVERLAY, overlay), (MESH, mesh)))
    }
    busiest = {
        name: (
            reading.busiest_per_s,
            *(_exactly(PACKETS_PER_S * found[place].busiest) for found in computed.values()),
        )
        for place, (name, reading) in enumerate(((OVERLAY, overlay), (MESH, mesh)))
    }
    tables = (
        Figures(
            title="Probe packets a second on all links together", unit="packets/s", columns=columns, rows=traffic
        ),
        Figures(
            title="Probe packets a second on the busiest link", unit="packets/s", columns=columns, rows=busiest
        ),
        _time_to_know(columns, overlay, mesh, answer_ms, computed),
    )
    sessions = ", ".join(
        f"{count}: {ours.sessions} and {full.sessions}" for count, (ours, full) in computed.items()
    )
    notes = (
        f"sessions of overlay and full mesh by points: {sessions}",
        f"a probe's frame has {overlay.frame_octets:.0f} octets",
        f"an answer took {answer_ms:.1f} ms while all points of this one machine asked",
        "time to know all pairs, measured: one reading, from the start of the last point",
        "computed: 1 s until sessions are measured, and the overlay's answers, one after the other at each point",
        "full mesh, same traffic: probing so much more slowly that all links together carry what the overlay's do",
    )
    return Outcome(tables=tables, notes=notes)


def _time_to_know(
    columns: tuple[str, ...],
    overlay: Reading,
    mesh: Reading,
    answer_ms: float,
    computed: dict[int, tuple[Probing, Probing]],
) -> Figures:
    ours = (overlay.known_s, *(KNOWN_S + (count - 1) * answer_ms / 1e3 for count in computed))
    full = (mesh.known_s, *(KNOWN_S for _ in computed))
    slower = (None, *(KNOWN_S * all_pairs.crossings / own.crossings for own, all_pairs in computed.values()))
    rows = {OVERLAY: ours, MESH: full, f"{MESH}, same traffic": slower}
    return Figures(
        title="Time to know all pairs",
        unit="s",
        columns=columns,
        rows={
            name: tuple(None if value is None else _exactly(value) for value in values)
            for name, values in rows.items()
        },
    )


def _exactly(value: float) -> Spread:
    return Spread(median=value, low=value, high=value)
