"""A lab whose points are told no neighbors: they find each other, and tell of their links what is true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from lab.build import bring_up
from lab.network import Lab
from lab.points import point_files
from lab.routes import exact_weights, neighboring_points, routes_of
from lab.topology import Topology, topology_from_json
from requestor.client import Client
from schemas.errors import InpathError

pytestmark = pytest.mark.netns

LIMIT_S = 40.0
POLL_S = 0.25


def ring(name: str) -> Topology:
    """Four points, a and b with a router between; a and c, and b and d, have a point on every way between them."""
    return topology_from_json(
        {
            "name": name,
            "nodes": {
                "a": {"point": True},
                "r": {},
                "b": {"point": True},
                "c": {"point": True},
                "d": {"point": True},
            },
            "links": [
                {"a": "a", "b": "r", "cost": 5, "delay_ms": 1, "rate_mbit": 60},
                {"a": "r", "b": "b", "cost": 5, "delay_ms": 1, "rate_mbit": 40},
                {"a": "b", "b": "c", "delay_ms": 2, "mtu": 1300},
                {"a": "c", "b": "d", "delay_ms": 2},
                {"a": "d", "b": "a", "delay_ms": 2},
            ],
        }
    )


def neighbors_of(lab: Lab, point: str) -> dict[str, dict[str, Any]]:
    """What a point measures over each of its sessions, by the name of the neighbor."""
    names = {address: name for name, address in lab.addressing.identities.items()}
    try:
        with Client(point_files(lab.directory, point).control) as client:
            return {names[one["address"]]: one["last_60_s"] for one in client.status()["neighbors"]}
    except InpathError:
        return {}


def sessions(lab: Lab) -> dict[str, tuple[str, ...]]:
    """For each point, with whom it has a session that measures."""
    points = [node.name for node in lab.topology.nodes if node.point]
    measured = {
        point: {name for name, metrics in neighbors_of(lab, point).items() if "delay" in metrics}
        for point in points
    }
    return {point: tuple(name for name in points if name in measured[point]) for point in points}


def told(lab: Lab, segment: tuple[str, str], metric: str) -> float | None:
    """What the downstream end of (upstream, current) tells; None while it tells nothing."""
    upstream, current = segment
    value: float | None = neighbors_of(lab, current).get(upstream, {}).get(metric, {}).get("value")
    return value


def awaited(attempt: Callable[[], object], wanted: object) -> None:
    """Wait until the attempt gives what is wanted; else show what it gave."""
    deadline_s = time.monotonic() + LIMIT_S
    while (found := attempt()) != wanted and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    assert found == wanted


def test_points_find_all_their_neighbors_and_nobody_else(lab_name: Callable[[], str]) -> None:
    topology = ring(lab_name())
    expected = neighboring_points(topology, routes_of(topology, exact_weights(topology)))
    assert expected == {"a": ("b", "d"), "b": ("a", "c"), "c": ("b", "d"), "d": ("a", "c")}
    lab = bring_up(topology, discover=True)
    awaited(lambda: sessions(lab), expected)
    across, narrow = ("a", "b"), ("c", "b")
    truth = lab.truth(*across)
    assert (truth.hops, truth.capacity_mbit_s, lab.truth(*narrow).mtu_octets) == (2, 40, 1300)
    awaited(lambda: told(lab, across, "hops"), 2)
    awaited(lambda: told(lab, narrow, "mtu"), 1300)
    awaited(lambda: told(lab, across, "capacity"), 40)
    assert all(set(neighbors_of(lab, point)) == set(expected[point]) for point in expected)
