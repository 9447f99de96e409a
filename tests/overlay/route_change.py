"""A network with two ways and OSPF, of which the better one breaks and comes back: who knows what, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lab.fib import host_routes
from lab.namespaces import inside
from lab.points import point_files
from mp import clock
from mp.config import load_configuration
from mp.results.stored_results import StoredResults
from receiver.store.history import RouteEvent
from receiver.store.retention import Retention
from receiver.store.upkeep import Upkeep
from requestor.client import Client
from requestor.query import DEFAULT_METRICS, PathQuery
from schemas.errors import InpathError
from schemas.result import PathResult, ResultStatus
from tests.overlay.network import Network, points_of, start
from tests.overlay.point_configuration import configure

TWO_WAYS: dict[str, Any] = {
    "routing": "ospf",
    "nodes": {name: {"point": True} for name in ("a", "m", "n", "b")},
    "links": [
        {"a": "a", "b": "m", "delay_ms": 2},
        {"a": "m", "b": "b", "delay_ms": 2},
        {"a": "a", "b": "n", "delay_ms": 5, "cost": 20},
        {"a": "n", "b": "b", "delay_ms": 5, "cost": 20},
    ],
}
BETTER, OTHER = ("a", "m", "b"), ("a", "n", "b")
HELLO_S = 60
"""The usual: here the requests themselves find out who lies on the new path."""
ASK_TIMEOUT_S = 1.0
CHANGE_S = 40.0
POLL_S = 0.02
_ROLLED_UP_US = 200_000_000
"""So much later, the minute of anything that was stored now is over for sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one change of a link, in seconds since it was made."""

    converged_s: float
    """The kernels of all routers had the new routes, both ways: OSPF's own time."""
    followed_s: float
    """The first answer over the new path, whatever it knew."""
    complete_s: float
    """The first complete one."""
    answers: tuple[tuple[float, float, PathResult], ...]
    """All until then, with the times when they were asked for and came."""


def start_strangers(net: Network) -> None:
    """Start points of which none was told a neighbor, and only those of the better way find theirs unasked."""
    sought = {"a": ["b"], "m": ["a", "b"], "n": [], "b": ["a"]}
    for node, destinations in sought.items():
        addresses = [net.address(name) for name in destinations]
        discovery = {"destinations": addresses, "interval_s": HELLO_S}
        configure(net, node, {"probe": {"neighbors": []}, "discovery": discovery})
    start(net)


def change_link(net: Network, *, up: bool) -> Change:
    """Take the better way down, or up again, and ask on and on until a complete answer came over the new path.

    Raises:
        TimeoutError: none came.
    """
    path = BETTER if up else OTHER
    wanted = tuple(net.address(node) for node in path)
    converged = _Convergence(net, path)
    began_s = time.monotonic()
    net.lab.set_link("m", "b", {"up": up})
    converged.start()
    answers: list[tuple[float, float, PathResult]] = []
    followed_s: float | None = None
    while time.monotonic() - began_s < CHANGE_S:
        asked_s = time.monotonic() - began_s
        try:
            result = ask(net, *path[:: len(path) - 1])
        except InpathError:  # for a moment there may be no route at all
            time.sleep(POLL_S)
            continue
        came_s = time.monotonic() - began_s
        answers.append((asked_s, came_s, result))
        if points_of(result) == wanted:
            followed_s = came_s if followed_s is None else followed_s
            if result.status is ResultStatus.COMPLETE:
                return Change(
                    converged_s=converged.await_end() - began_s,
                    followed_s=followed_s,
                    complete_s=came_s,
                    answers=tuple(answers),
                )
        time.sleep(POLL_S)
    raise TimeoutError(f"no complete answer over {' - '.join(path)} within {CHANGE_S:g} s")


def ask(net: Network, source: str, destination: str) -> PathResult:
    """Walk the path; nothing that is known from before will do."""
    query = PathQuery(
        source=net.address(source),
        destination=net.address(destination),
        metrics=DEFAULT_METRICS,
        timeout_s=ASK_TIMEOUT_S,
        max_age_s=0,
    )
    with Client(point_files(net.lab.directory, source).control) as client:
        return client.path(query)


def route_events(net: Network, source: str, destination: str) -> Sequence[RouteEvent]:
    """The events that the point at `source` has kept of a path, oldest first; the point must not run."""
    url = load_configuration(net.configuration(source)).store_url
    with closing(Upkeep(url, Retention(results_days=365, minutes_days=365, hours_days=36_500))) as upkeep:
        upkeep.step(clock.now_ns() // 1_000 + _ROLLED_UP_US)
    with closing(StoredResults(url)) as store:
        events = store.route_events(source=net.address(source), destination=net.address(destination))
    return events[::-1]


class _Convergence:
    """Looks on, from the side, until the routes are the new ones."""

    def __init__(self, net: Network, path: Sequence[str]) -> None:
        self._net = net
        self._path = tuple(path)
        self._ended_s: float | None = None
        self._thread = threading.Thread(target=self._look_on)

    def start(self) -> None:
        self._thread.start()

    def await_end(self) -> float:
        """When it was, on the monotonic clock.

        Raises:
            TimeoutError: it never was.
        """
        self._thread.join()
        if self._ended_s is None:
            raise TimeoutError(f"routes over {' - '.join(self._path)} never came")
        return self._ended_s

    def _look_on(self) -> None:
        until_s = time.monotonic() + CHANGE_S
        while self._ended_s is None and time.monotonic() < until_s:
            if self._leads(self._path) and self._leads(self._path[::-1]):
                self._ended_s = time.monotonic()
            time.sleep(POLL_S)

    def _leads(self, path: Sequence[str]) -> bool:
        """Whether each router on the path sends on to the next what goes to its end."""
        far = self._net.address(path[-1])
        return all(
            inside(self._net.namespace(here), host_routes).get(far) == self._net.interface(here, there)
            for here, there in pairwise(path)
        )
