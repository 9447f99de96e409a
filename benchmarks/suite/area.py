"""Networks like those of providers, and what probing costs in them: some links more than a tree needs (pure)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from lab.routes import Routes, exact_weights, neighboring_points, routes_of
from lab.topology import Topology, topology_from_json

SEED = 2026
EXTRA_LINKS_RATIO = 0.4
"""Links beyond a tree, for each point: about 2.8 links at each, as in many maps of the Internet Topology Zoo."""


def area_document(points: int) -> dict[str, Any]:
    """Nodes and links; the same for the same number each time."""
    chance = random.Random(SEED + points)
    names = [f"p{number}" for number in range(points)]
    links = {(chance.randrange(number), number) for number in range(1, points)}
    wanted = len(links) + round(EXTRA_LINKS_RATIO * points)
    while len(links) < min(wanted, points * (points - 1) // 2):
        one, other = sorted(chance.sample(range(points), 2))
        links.add((one, other))
    return {
        "nodes": {name: {"point": True} for name in names},
        "links": [{"a": names[one], "b": names[other]} for one, other in sorted(links)],
    }


@dataclass(frozen=True, slots=True)
class Probing:
    """Which pairs of points measure each other, and what that puts on the links."""

    sessions: int
    crossings: int
    """Of links, by one packet of each session."""
    busiest: int
    """Sessions over the link that carries most."""

    @classmethod
    def of_pairs(cls, routes: Routes, pairs: Iterable[tuple[str, str]]) -> Probing:
        """Add up the ways of the pairs."""
        sessions, links = 0, Counter[frozenset[str]]()
        for one, other in pairs:
            path = routes.path(one, other)
            assert path is not None  # a tree is part of the network
            sessions += 1
            links.update(frozenset(ends) for ends in zip(path, path[1:], strict=False))
        return cls(sessions=sessions, crossings=links.total(), busiest=max(links.values()))


def probing(points: int) -> tuple[Probing, Probing]:
    """Of the overlay, and of a full mesh, in a network of so many points."""
    topology: Topology = topology_from_json({"name": "area", **area_document(points)})
    routes = routes_of(topology, exact_weights(topology))
    neighbors = neighboring_points(topology, routes)
    adjacent = {tuple(sorted((one, other))) for one, others in neighbors.items() for other in others}
    return (
        Probing.of_pairs(routes, [(one, other) for one, other in adjacent]),
        Probing.of_pairs(routes, combinations([node.name for node in topology.nodes], 2)),
    )
