"""Shortest paths that are unique, symmetric and consistent.

Each link gets an exact integer weight, the same in both directions. With weights under which no two ways between
the same nodes weigh the same, every part of a route is itself the route between its ends, and the route
back is the route forth reversed. Spatial composition (RFC 6049) depends on just this: what was measured
on the segments is what a packet of the whole path meets.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.topology import Topology
from schemas.errors import UsageError

MAX_OSPF_COST = 65_535
"""The metric of a router-LSA's link has 16 bits (RFC 2328, section A.4.2)."""

MAX_TIE_BREAK_ATTEMPTS = 200
"""Random tie-breaks fail rarely when there is room for them; a network without room fails them all."""

Adjacency = Mapping[str, Sequence[tuple[str, int]]]
"""For each node, its neighbors and the weight of the link to each."""


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes of a network: for each destination, each node's next node."""

    next_nodes: Mapping[str, Mapping[str, str]]
    """destination -> node -> next node; a node that cannot reach the destination is absent."""

    def next_node(self, node: str, destination: str) -> str | None:
        """Where a packet for the destination leaves the node for; None without a route."""
        return self.next_nodes[destination].get(node)

    def path(self, source: str, destination: str) -> tuple[str, ...] | None:
        """The nodes from source to destination, both included; None without a route."""
        path = [source]
        while path[-1] != destination:
            following = self.next_node(path[-1], destination)
            if following is None:
                return None
            path.append(following)
        return tuple(path)


def routes_of(topology: Topology, weights: Sequence[int]) -> Routes:
    """Compute every route.

    Args:
        topology: the network; its hosts are ends of routes, never in between.
        weights: one for each link, without ties: from `exact_weights` or `ospf_weights`.
    """
    adjacency = _adjacency(topology, weights)
    hosts = {node.name for node in topology.nodes if node.host}
    # Weights are symmetric, so the tree from a destination outwards gives each node's next node towards it.
    return Routes(
        {
            node.name: {
                reached: parents[0]
                for reached, parents in _shortest_paths(adjacency, hosts, node.name).items()
                if parents
            }
            for node in topology.nodes
        }
    )


def exact_weights(topology: Topology) -> tuple[int, ...]:
    """Weights that keep the order of the costs and never tie: link k adds its own bit k below the cost.

    Two different ways differ in some link and so in some bit. Python's integers have room for any number of links.
    """
    room = len(topology.links)
    return tuple((link.cost << room) | (1 << index) for index, link in enumerate(topology.links))


def ospf_weights(topology: Topology) -> tuple[int, ...]:
    """Weights without ties that fit into OSPF's 16 bits and keep the order of the costs.

    The costs are scaled up and a small random number, from a fixed seed, is added to each; the sum of those
    numbers along a route stays below one step of the scale. The result is checked, not hoped for.

    Raises:
        UsageError: a cost is beyond 16 bits, or the costs leave no room to break a tie between two routes.
    """
    highest = max((link.cost for link in topology.links), default=1)
    if highest > MAX_OSPF_COST:
        raise UsageError("[[links]]: cost", highest, f'at most {MAX_OSPF_COST} with routing = "ospf"')
    # One step more than the highest cost, for the tie-break of the costliest link.
    scale = max(1, MAX_OSPF_COST // (highest + 1))
    largest_tie_break = (scale - 1) // _longest_route_hops(topology)
    for attempt in range(MAX_TIE_BREAK_ATTEMPTS):
        weights = _perturbed(topology, scale, largest_tie_break, attempt)
        if not has_ties(topology, weights):
            return weights
        if largest_tie_break == 0:
            break
    raise UsageError("[[links]]: cost", highest, "costs small enough to leave room to break ties (below 1000)")


def has_ties(topology: Topology, weights: Sequence[int]) -> bool:
    """Whether two ways between some pair of nodes have the same least weight."""
    adjacency = _adjacency(topology, weights)
    hosts = {node.name for node in topology.nodes if node.host}
    return any(
        len(parents) > 1
        for node in topology.nodes
        for parents in _shortest_paths(adjacency, hosts, node.name).values()
    )


def neighboring_points(topology: Topology, routes: Routes) -> dict[str, tuple[str, ...]]:
    """For each measurement point, the points that come next on some route with no point in between."""
    points = [node.name for node in topology.nodes if node.point]
    neighbors: dict[str, tuple[str, ...]] = {}
    for source in points:
        met = {first_point(routes.path(source, other), points) for other in points if other != source}
        neighbors[source] = tuple(point for point in points if point in met)
    return neighbors


def first_point(path: Sequence[str] | None, points: Sequence[str]) -> str | None:
    """The first measurement point after the path's start; None if there is none."""
    return next((node for node in (path or ())[1:] if node in points), None)


def served_nodes(topology: Topology, routes: Routes) -> dict[str, tuple[str, ...]]:
    """For each point, the attached hosts without a point for which it is the last router of its own route."""
    points = {node.name for node in topology.nodes if node.point}
    hosts = [node.name for node in topology.nodes if node.host and not node.point]
    return {point: tuple(host for host in hosts if routes.next_node(point, host) == host) for point in points}


def _adjacency(topology: Topology, weights: Sequence[int]) -> Adjacency:
    adjacency: dict[str, list[tuple[str, int]]] = {node.name: [] for node in topology.nodes}
    for link, weight in zip(topology.links, weights, strict=True):
        adjacency[link.a].append((link.b, weight))
        adjacency[link.b].append((link.a, weight))
    return adjacency


def _shortest_paths(adjacency: Adjacency, hosts: set[str], root: str) -> dict[str, list[str]]:
    """Dijkstra's algorithm: for each node reached, the neighbors through which the root is nearest."""
    distance = {root: 0}
    parents: dict[str, list[str]] = {root: []}
    heap = [(0, root)]
    while heap:
        here_distance, here = heapq.heappop(heap)
        if here_distance > distance[here] or (here in hosts and here != root):
            continue
        for there, weight in adjacency[here]:
            candidate = here_distance + weight
            known = distance.get(there)
            if known is None or candidate < known:
                distance[there] = candidate
                parents[there] = [here]
                heapq.heappush(heap, (candidate, there))
            elif candidate == known:
                parents[there].append(here)
    return parents


def _longest_route_hops(topology: Topology) -> int:
    routes = routes_of(topology, exact_weights(topology))
    hops = (_hops(routes, node, to) for to in routes.next_nodes for node in routes.next_nodes[to])
    return max(hops, default=1)


def _hops(routes: Routes, source: str, destination: str) -> int:
    return len(routes.path(source, destination) or ()) - 1


def _perturbed(topology: Topology, scale: int, largest: int, attempt: int) -> tuple[int, ...]:
    numbers = _tie_breaks(largest, attempt)
    return tuple(link.cost * scale + next(numbers) for link in topology.links)


def _tie_breaks(largest: int, attempt: int) -> Iterator[int]:
    generator = random.Random(attempt)
    while True:
        yield generator.randint(0, largest)
