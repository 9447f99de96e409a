"""A lab with measurement points, and what people at its nodes do and see."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.build import bring_up
from lab.namespaces import processes_inside
from lab.network import Lab
from lab.points import point_files, point_pid, start_points
from lab.state import STATE_DIRECTORY_VARIABLE
from lab.teardown import take_down
from lab.topology import Topology, topology_from_json
from mp.config import load_configuration
from receiver.store.result_store import ResultStore
from requestor.client import Client
from requestor.query import DEFAULT_MAX_AGE_S, DEFAULT_METRICS, PathQuery
from schemas.errors import InpathError
from schemas.result import PathResult, ResultStatus

INPATH = Path(sys.executable).parent / "inpath"
COMMAND_LIMIT_S = 30.0
POLL_S = 0.1
STORED_S = 0.5
"""An answer is told before it is a row."""
PROBES_PER_S = 40
"""Four times the default, so that a segment has 100 samples after 3 s."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command gave back."""

    exit_code: int
    stdout: str
    stderr: str
    elapsed_s: float

    def document(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.stdout)


class Network:
    """A lab that is up."""

    def __init__(self, lab: Lab, state_directory: Path) -> None:
        self.lab = lab
        self.state_directory = state_directory

    def address(self, node: str) -> str:
        return self.lab.addressing.identities[node]

    def namespace(self, node: str) -> str:
        return self.lab.addressing.namespace(node)

    def interface(self, node: str, neighbor: str) -> str:
        """The interface of `node` on its link to `neighbor`."""
        return next(
            plan.end_of(node).interface
            for plan in self.lab.addressing.links_of(node)
            if plan.far_end_of(node).node == neighbor
        )

    def link_address(self, node: str, neighbor: str) -> str:
        """The address of that interface."""
        return next(
            plan.end_of(node).address
            for plan in self.lab.addressing.links_of(node)
            if plan.far_end_of(node).node == neighbor
        )

    def configuration(self, node: str) -> Path:
        return self.lab.directory.configuration(node)

    def run(self, node: str, *command: str) -> Answer:
        """A program on a node, with the node's configuration at hand, run to its end."""
        environment = {
            **os.environ,
            STATE_DIRECTORY_VARIABLE: str(self.state_directory),
            "INPATH_CONFIG": str(self.configuration(node)),
            "COLUMNS": "200",
        }
        started_s = time.monotonic()
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace(node), *command],
            capture_output=True,
            text=True,
            env=environment,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        elapsed_s = time.monotonic() - started_s
        return Answer(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr, elapsed_s=elapsed_s)

    def inpath(self, node: str, *arguments: str) -> Answer:
        """The command `inpath` on a node."""
        return self.run(node, str(INPATH), *arguments)

    def ask(
        self,
        source: str,
        destination: str,
        *,
        timeout_s: float = 5.0,
        metrics: tuple[str, ...] = DEFAULT_METRICS,
        max_age_s: float = DEFAULT_MAX_AGE_S,
    ) -> PathResult:
        """Ask the point at `source`, as a program on its host does."""
        query = PathQuery(
            source=self.address(source),
            destination=self.address(destination),
            metrics=metrics,
            timeout_s=timeout_s,
            max_age_s=max_age_s,
        )
        with Client(point_files(self.lab.directory, source).control) as client:
            return client.path(query)

    def status(self, node: str) -> dict[str, Any]:
        """What the point on a node says of itself."""
        with Client(point_files(self.lab.directory, node).control) as client:
            return client.status()

    def stored(self, node: str, identifier: str) -> PathResult | None:
        """What the database of the point on a node holds of a request; an answer may be under way to it."""
        with closing(ResultStore(load_configuration(self.configuration(node)).store_url)) as store:
            until_s = time.monotonic() + STORED_S
            while True:
                result = store.get(identifier)
                is_answer = result is not None and result.status is not ResultStatus.PENDING
                if is_answer or time.monotonic() > until_s:
                    return result
                time.sleep(0.02)

    def samples(self, upstream: str, current: str) -> int:
        """Delays that `current` has of the segment from `upstream`."""
        for neighbor in self.status(current)["neighbors"]:
            if neighbor["address"] == self.address(upstream):
                return int(neighbor["last_60_s"].get("delay", {"count": 0})["count"])
        return 0

    def is_running(self, node: str) -> bool:
        """Whether the point's daemon lives."""
        return point_pid(self.lab.directory, self.lab.addressing, node) is not None

    def processes(self, node: str) -> set[int]:
        """Ids of all processes in the node's namespace."""
        return processes_inside([self.namespace(node)])

    def rules(self, node: str) -> list[str]:
        """The rules of the node's table `mangle`, without the policies of its chains."""
        listed = self.run(node, "iptables", "-t", "mangle", "-S").stdout
        return [line for line in listed.splitlines() if not line.startswith("-P ")]

    def jumps(self, node: str) -> int:
        """How many rules send packets on to a point's chain."""
        return sum(rule.startswith("-A PREROUTING") for rule in self.rules(node))

    def queues(self, node: str) -> str:
        """The packet queues that the kernel lists on the node."""
        return self.run(node, "cat", "/proc/self/net/netfilter/nfnetlink_queue").stdout

    def await_answer(
        self, source: str, destination: str, path: Sequence[str], *, within_s: float = 25.0
    ) -> PathResult:
        """Ask until the answer is complete and its records are those of the points of `path`."""
        wanted = tuple(self.address(node) for node in path)

        def complete() -> PathResult | None:
            result = self.ask(source, destination)
            return result if result.status is ResultStatus.COMPLETE and points_of(result) == wanted else None

        return eventually(complete, f"a complete answer over {' - '.join(path)}", within_s=within_s)

    def await_samples(self, upstream: str, current: str, count: int, *, within_s: float = 25.0) -> None:
        eventually(
            lambda: self.samples(upstream, current) >= count,
            f"{count} samples of {upstream} -> {current}",
            within_s=within_s,
        )


def points_of(result: PathResult) -> tuple[str, ...]:
    """The points of an answer in the order of its segments, which must join."""
    for before, after in zip(result.segments, result.segments[1:], strict=False):
        assert before.current == after.upstream
    return tuple([segment.upstream for segment in result.segments[:1]] + [s.current for s in result.segments])


def eventually(attempt: Callable[[], Value | None], what: str, *, within_s: float) -> Value:
    """What `attempt` gives as soon as that is true; fails, saying `what` was awaited and what came instead."""
    deadline_s = time.monotonic() + within_s
    while True:
        trouble: object = None
        try:
            value = attempt()
        except InpathError as error:
            value, trouble = None, error
        if value:
            return value
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s:g} s: {what} (last: {trouble or value})")
        time.sleep(POLL_S)


@contextmanager
def state_directory() -> Iterator[Path]:
    """A directory with a short path, since Unix sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="ov", dir="/tmp"))
    path.chmod(0o755)  # other users' programs read configurations here
    try:
        yield path
    finally:
        shutil.rmtree(path)


def new_name() -> str:
    """A name that no other lab of this machine has."""
    return f"t{os.getpid()}{secrets.token_hex(2)}"


@contextmanager
def network(
    document: dict[str, Any], *, name: str | None = None, database: str | None = None
) -> Iterator[Network]:
    """A lab of which no point is started yet; nothing of it stays.

    Args:
        document: the topology without its name.
        name: a name of its own, from `new_name`.
        database: URL of one store for all points.
    """
    name = name or new_name()
    topology: Topology = topology_from_json({"name": name, **document})
    with state_directory() as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_DIRECTORY_VARIABLE, str(path))
        try:
            lab = bring_up(topology, start_points=False, database=database)
            patch.undo()  # other tests of the same run have labs of their own
            for node in topology.nodes:
                _probe_faster(lab.directory.configuration(node.name))
            yield Network(lab, path)
        finally:
            patch.setenv(STATE_DIRECTORY_VARIABLE, str(path))
            take_down(name)


def _probe_faster(configuration: Path) -> None:
    """And greet nobody, unless a test says otherwise: on the wire are then only the packets of the test."""
    text = configuration.read_text()
    configuration.write_text(
        text.replace("[probe]\n", f"[discovery]\ninterval_s = 0\n\n[probe]\nrate_per_s = {PROBES_PER_S}\n")
    )


def start(net: Network) -> None:
    """Start all points of a network."""
    nodes = [node.name for node in net.lab.topology.nodes if node.point]
    start_points(net.lab.directory, net.lab.addressing, nodes, lambda: None)
