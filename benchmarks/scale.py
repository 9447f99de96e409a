"""How does the overlay do in a network of many points?

    python -m benchmarks.scale FILE [--thin 100] [--pairs 500] [--rate 0.5] [--idle 20] [--json]

Brings a lab up whose routers are all measurement points (FILE: GraphML of the Topology Zoo, or TOML), waits until
every segment is measured, lets the network be for a while, in which the packets of each link are counted by what
they are for, and asks for random pairs: at first each request walks its path (`--max-age 0`), then the points may
tell what they know from each other. Printed are also the memory of each point (service and packet process, at the
end), and what a full mesh of measurements between all points would put on the links, on paper: n (n - 1) / 2
sessions of the same cost as the overlay's own, over the shortest paths.

A hundred points on one machine share its cores, and the times say as much of these as of the overlay: so the
points measure nothing that nobody asks for, and share less often.

The exit code is 0 when every pair was answered in full and no point takes more than 80 MB, 1 when not, 2 for a
wrong option. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.knowledge import LinkCount
from benchmarks.suite.memory import memory_bytes
from lab.build import blueprint_of, bring_up
from lab.network import Lab
from lab.points import point_files, point_pid
from lab.processes import descendants
from lab.routes import Routes, neighboring_points
from lab.state import STATE_DIRECTORY_VARIABLE
from lab.teardown import take_down
from lab.thinning import thinned
from lab.topology import Topology
from lab.topology_file import read_topology
from requestor.client import Client
from requestor.query import DEFAULT_METRICS, PathQuery
from schemas.errors import InpathError, NoAnswerError
from schemas.result import PathResult, ResultStatus

MAX_MEMORY_MB = 80.0
READY_S = 120.0
TIMEOUT_S = 10.0
SHARED_EVERY_S = 3.0
"""Times the number of points: what each takes in a second, and so its work, is then the same in any network."""
KNOWN_FOR = 3.0
"""How often knowledge may have been shared anew since what an answer rests on."""
AT_ONCE = 2
"""Requests under way at a time."""
LEAST_SAMPLES = 5
"""Of a segment, before it counts as measured."""
NOBODY = "0.0.0.0"
PURPOSES = ("probes", "sharing", "hellos", "other")


def shared_every_s(topology: Topology) -> float:
    """How often a point tells the others of itself."""
    return max(60.0, SHARED_EVERY_S * sum(node.point for node in topology.nodes))


def settings(rate_per_s: float, shared_s: float) -> dict[str, dict[str, object]]:
    """What all points leave out or do less often, so that many find room on one machine."""
    return {
        "probe": {"rate_per_s": rate_per_s},
        "bandwidth": {"enabled": False},
        "discovery": {"interval_s": 0},
        "http": {"enabled": False},
        "verify": {"interval_s": 0},
        "knowledge": {"refresh_s": shared_s, "lifetime_s": round(4 * shared_s)},
    }


@contextmanager
def running_lab(topology: Topology, rate_per_s: float) -> Iterator[Lab]:
    """The network with all its points, started; nothing of it stays."""
    name = f"s{os.getpid()}{secrets.token_hex(2)}"
    directory = Path(tempfile.mkdtemp(prefix="sc", dir="/tmp"))
    directory.chmod(0o755)  # the points' processes give up root
    os.environ[STATE_DIRECTORY_VARIABLE] = str(directory)
    try:
        chosen = settings(rate_per_s, shared_every_s(topology))
        yield bring_up(replace(topology, name=name), settings=chosen, progress=_progress)
    finally:
        take_down(name)
        shutil.rmtree(directory)


def _progress(stage: str, done: int, total: int) -> None:
    if done == total:
        print(f"{time.strftime('%T')} {stage}: {done}", file=sys.stderr, flush=True)


def await_measured(lab: Lab, wanted: Mapping[str, Sequence[str]]) -> None:
    """Return when every point has samples of every segment that ends at it.

    Raises:
        NoAnswerError: some never come.
    """
    deadline_s = time.monotonic() + READY_S
    waiting = set(wanted)
    while waiting:
        waiting = {node for node in waiting if not _is_measured(lab, node, wanted[node])}
        if waiting and time.monotonic() > deadline_s:
            raise NoAnswerError(f"not measured within {READY_S:g} s: segments of {', '.join(sorted(waiting))}")
        time.sleep(1.0 if waiting else 0.0)


def _is_measured(lab: Lab, node: str, neighbors: Sequence[str]) -> bool:
    with Client(point_files(lab.directory, node).control) as client:
        known = {one["address"]: one["last_60_s"] for one in client.status()["neighbors"]}
    counts = (
        known.get(lab.addressing.identities[name], {}).get("delay", {}).get("count", 0) for name in neighbors
    )
    return all(count >= LEAST_SAMPLES for count in counts)


def ask(lab: Lab, source: str, destination: str, max_age_s: float) -> PathResult | None:
    """One request; None when the point itself does not answer."""
    query = PathQuery(
        source=lab.addressing.identities[source],
        destination=lab.addressing.identities[destination],
        metrics=DEFAULT_METRICS,
        timeout_s=TIMEOUT_S,
        max_age_s=max_age_s,
    )
    try:
        with Client(point_files(lab.directory, source).control) as client:
            return client.path(query)
    except InpathError as error:
        print(f"{source} to {destination}: {error}", file=sys.stderr, flush=True)
        return None


def answers(lab: Lab, routes: Routes, pairs: Sequence[tuple[str, str]], max_age_s: float) -> dict[str, Any]:
    """Ask for all pairs; what came, and how long it took."""
    elapsed_ms, hops = [], []
    with ThreadPoolExecutor(AT_ONCE) as executor:
        for path, (result, took_ms) in zip(
            (routes.path(*pair) or () for pair in pairs),
            executor.map(lambda pair: _timed(lab, pair, max_age_s), pairs),
            strict=True,
        ):
            if result is not None and _is_complete(result, [lab.addressing.identities[node] for node in path]):
                elapsed_ms.append(took_ms)
                hops.append(len(path) - 1)
    print(f"{time.strftime('%T')} asked for {len(pairs)} pairs", file=sys.stderr, flush=True)
    return {
        "asked": len(pairs),
        "complete": len(hops),
        "segments": mean(hops),
        "most_segments": max(hops),
        "median_ms": median(elapsed_ms),
        "p99_ms": _quantile(elapsed_ms, 0.99),
    }


def _timed(lab: Lab, pair: tuple[str, str], max_age_s: float) -> tuple[PathResult | None, float]:
    began_s = time.monotonic()
    result = ask(lab, *pair, max_age_s)
    return result, (time.monotonic() - began_s) * 1000


def _is_complete(result: PathResult, path: Sequence[str]) -> bool:
    """Whether it tells of every segment of the path, and says so to whoever watches if not."""
    is_complete = result.status is ResultStatus.COMPLETE and [one.current for one in result.segments] == [
        *path[1:]
    ]
    if not is_complete:
        said = [(one.upstream, one.current, str(one.state), *_undefined(one.metrics)) for one in result.segments]
        print(f"{path[0]} to {path[-1]}: {result.status}, {said}", file=sys.stderr, flush=True)
    return is_complete


def _undefined(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    return (name for name, metric in metrics.items() if metric["value"] is None)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, round(share * len(values)) - 1)]


def memory_of_points(lab: Lab) -> dict[str, float]:
    """MB of the daemons, each with all its processes: as PSS, and as if it were alone on the machine."""
    megabytes = []
    proportional = []
    for node in lab.topology.nodes:
        pid = point_pid(lab.directory, lab.addressing, node.name) if node.point else None
        if pid is not None:
            family = {pid, *descendants(pid)}
            megabytes.append(memory_bytes(family) / 1e6)
            proportional.append(sum(map(_pss_bytes, family)) / 1e6)
    return {
        "points": len(megabytes),
        "median_mb": median(megabytes),
        "most_mb": max(megabytes),
        "median_pss_mb": median(proportional),
        "most_pss_mb": max(proportional),
    }


def _pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024


def link_rates(lab: Lab, idle_s: float) -> list[dict[str, float]]:
    """For each link, octets a second of each purpose, both ways together, while nobody asks."""
    with ExitStack() as stack:
        counts = [
            stack.enter_context(
                closing(LinkCount(lab.addressing.namespace(plan.a.node), plan.a.interface, NOBODY))
            )
            for plan in lab.addressing.links
        ]
        before = [Counter(count.octets) for count in counts]
        time.sleep(idle_s)
        return [
            {purpose: (count.octets[purpose] - old[purpose]) / idle_s for purpose in PURPOSES}
            for count, old in zip(counts, before, strict=True)
        ]


def crossings(topology: Topology, routes: Routes, pairs: Sequence[tuple[str, str]]) -> list[int]:
    """For each link, how many of the pairs have it on their way."""
    crossed: Counter[frozenset[str]] = Counter()
    for source, destination in pairs:
        crossed.update(frozenset(ends) for ends in pairwise(routes.path(source, destination) or ()))
    return [crossed[frozenset((link.a, link.b))] for link in topology.links]


def traffic(topology: Topology, routes: Routes, rates: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Measured load of the links, and that of a full mesh on paper."""
    points = [node.name for node in topology.nodes if node.point]
    neighbors = {
        tuple(sorted((point, near)))
        for point, others in neighboring_points(topology, routes).items()
        for near in others
    }
    own = crossings(topology, routes, [(a, b) for a, b in neighbors])
    probes = [rate["probes"] for rate in rates]
    per_session = sum(probes) / sum(own)
    mesh = crossings(topology, routes, list(combinations(points, 2)))
    return {
        "octets_per_s_of_a_session": per_session,
        "overlay_sessions": len(neighbors),
        "mesh_sessions": len(points) * (len(points) - 1) // 2,
        "probes": {"mean": mean(probes), "most": max(probes)},
        "sharing": {"mean": mean(r["sharing"] for r in rates), "most": max(r["sharing"] for r in rates)},
        "mesh": {"mean": mean(mesh) * per_session, "most": max(mesh) * per_session},
    }


def measure(topology: Topology, *, rate_per_s: float, pairs: int, idle_s: float, seed: int) -> dict[str, Any]:
    """All of it, in one lab."""
    blueprint = blueprint_of(topology)
    points = [node.name for node in topology.nodes if node.point]
    chance = random.Random(seed)
    chosen = [(one, other) for one, other in (chance.sample(points, 2) for _ in range(pairs))]
    began_s = time.monotonic()
    with running_lab(topology, rate_per_s) as lab:
        up_s = time.monotonic() - began_s
        await_measured(lab, neighboring_points(topology, blueprint.routes))
        measured_s = time.monotonic() - began_s
        print(f"{time.strftime('%T')} every segment is measured", file=sys.stderr, flush=True)
        rates = link_rates(lab, idle_s)
        walked = answers(lab, blueprint.routes, chosen, 0.0)
        known = answers(lab, blueprint.routes, chosen, KNOWN_FOR * shared_every_s(topology))
        memory = memory_of_points(lab)
    return {
        "points": len(points),
        "links": len(topology.links),
        "probes_per_s": rate_per_s,
        "up_s": up_s,
        "measured_s": measured_s,
        "answers": {"walked": walked, "known": known},
        "memory": memory,
        "traffic": traffic(topology, blueprint.routes, rates),
    }


def table(outcome: Mapping[str, Any]) -> str:
    """The outcome for people."""
    up = f"{outcome['points']} points, {outcome['links']} links, {outcome['probes_per_s']:g} probes/s: up after"
    lines = [
        f"{up} {outcome['up_s']:.0f} s, every segment measured after {outcome['measured_s']:.0f} s",
        "kind    asked  complete  segments (most)  median ms    p99 ms",
    ]
    for kind, row in outcome["answers"].items():
        lines.append(
            f"{kind:6}  {row['asked']:5}  {row['complete']:8}  {row['segments']:8.1f} ({row['most_segments']:4})"
            f"  {row['median_ms']:9.1f}  {row['p99_ms']:8.1f}"
        )
    memory, load = outcome["memory"], outcome["traffic"]
    lines.append(
        f"memory of a point (PSS): median {memory['median_pss_mb']:.1f} MB, most {memory['most_pss_mb']:.1f} MB; "
        f"alone on its machine: {memory['median_mb']:.1f} and {memory['most_mb']:.1f} MB"
    )
    lines.append("octets/s on a link, both ways      mean      most")
    names = {
        "probes": f"probes, {load['overlay_sessions']} sessions",
        "sharing": "sharing",
        "mesh": f"full mesh, {load['mesh_sessions']} sessions",
    }
    lines += [f"{name:30}  {load[key]['mean']:8.0f}  {load[key]['most']:8.0f}" for key, name in names.items()]
    return "\n".join(lines)


def is_good(outcome: Mapping[str, Any]) -> bool:
    """Whether every pair was answered, and no point is too large."""
    complete = all(row["complete"] == row["asked"] for row in outcome["answers"].values())
    return complete and outcome["memory"]["most_pss_mb"] <= MAX_MEMORY_MB


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="The overlay in a network of many points.")
    parser.add_argument("file", help="topology: GraphML or TOML")
    parser.add_argument("--thin", type=int, help="so many nodes of it [all]")
    parser.add_argument("--pairs", type=int, default=500, help="of points that are asked for [500]")
    parser.add_argument("--rate", type=float, default=0.5, help="probes a second to each neighbor [0.5]")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds for which traffic is counted [20]")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of pairs [1]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the lab is taken down
    if not 1 <= options.pairs <= 10_000 or not 0.1 <= options.rate <= 10 or not 1 <= options.idle <= 600:
        parser.error("--pairs must lie between 1 and 10000, --rate between 0.1 and 10, --idle between 1 and 600")
    try:
        topology = read_topology(options.file)
        if options.thin is not None:
            topology = thinned(topology, options.thin)
        outcome = measure(
            topology, rate_per_s=options.rate, pairs=options.pairs, idle_s=options.idle, seed=options.seed
        )
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(outcome, indent=2) if options.json else table(outcome))
    return 0 if is_good(outcome) else 1


if __name__ == "__main__":
    sys.exit(main())
