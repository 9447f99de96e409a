import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.impairment import Impairment
from lab.routes import (
    MAX_OSPF_COST,
    Routes,
    exact_weights,
    has_ties,
    neighboring_points,
    ospf_weights,
    routes_of,
    served_nodes,
)
from lab.topology import Link, Node, Routing, Topology
from schemas.errors import UsageError

PERFECT = Impairment()

Weigh = Callable[[Topology], tuple[int, ...]]


def network(costs: dict[tuple[str, str], int], *, hosts: str = "", points: str = "") -> Topology:
    names = dict.fromkeys(name for pair in costs for name in pair)
    return Topology(
        name="net",
        routing=Routing.STATIC,
        nodes=tuple(Node(name=n, host=n in hosts.split(), point=n in points.split()) for n in names),
        links=tuple(Link(a=a, b=b, a_to_b=PERFECT, b_to_a=PERFECT, cost=cost) for (a, b), cost in costs.items()),
    )


@st.composite
def networks(draw: st.DrawFn) -> Topology:
    """Small costs over few values, so that ties abound; possibly in pieces, possibly with hosts."""
    count = draw(st.integers(2, 9))
    names = [f"n{number}" for number in range(count)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1))
    hosts = draw(st.sets(st.sampled_from(names), max_size=2))
    topology = network({pair: draw(st.integers(1, 3)) for pair in chosen}, hosts=" ".join(hosts))
    return topology


def all_paths(topology: Topology, routes: Routes) -> list[tuple[str, ...]]:
    names = [node.name for node in topology.nodes]
    return [path for a in names for b in names if (path := routes.path(a, b)) is not None]


def cost_of(topology: Topology, path: tuple[str, ...]) -> int:
    links = (topology.links[topology.link_index(a, b)] for a, b in zip(path, path[1:], strict=False))
    return sum(link.cost for link in links)


@given(networks(), st.sampled_from([exact_weights, ospf_weights]))
def test_every_part_of_a_route_is_the_route_between_its_ends(topology: Topology, weigh: Weigh) -> None:
    routes = routes_of(topology, weigh(topology))
    hosts = {node.name for node in topology.nodes if node.host}
    for path in all_paths(topology, routes):
        assert hosts.isdisjoint(path[1:-1])
        for start in range(len(path)):
            for end in range(start, len(path)):
                assert routes.path(path[start], path[end]) == path[start : end + 1]


@given(networks(), st.sampled_from([exact_weights, ospf_weights]))
def test_the_route_back_is_the_route_forth_reversed(topology: Topology, weigh: Weigh) -> None:
    routes = routes_of(topology, weigh(topology))
    for path in all_paths(topology, routes):
        assert routes.path(path[-1], path[0]) == path[::-1]


@given(networks())
def test_no_way_of_routers_costs_less_than_the_route(topology: Topology) -> None:
    names = [node.name for node in topology.nodes]
    routers = [node.name for node in topology.nodes if not node.host]
    infinite = 10**9
    # Floyd and Warshall's algorithm, over routers only: another way to the same costs.
    best = {(a, b): 0 if a == b else infinite for a in names for b in names}
    for link in topology.links:
        best[link.a, link.b] = best[link.b, link.a] = link.cost
    for via in routers:
        for a in names:
            for b in names:
                best[a, b] = min(best[a, b], best[a, via] + best[via, b])
    for weights in (exact_weights(topology), ospf_weights(topology)):
        routes = routes_of(topology, weights)
        for (a, b), cost in best.items():
            path = routes.path(a, b)
            assert (infinite if path is None else cost_of(topology, path)) == cost


@given(networks())
def test_weights_have_no_ties_and_those_of_ospf_fit_its_field(topology: Topology) -> None:
    weights = ospf_weights(topology)
    assert all(1 <= weight <= MAX_OSPF_COST for weight in weights)
    assert not has_ties(topology, weights)
    assert not has_ties(topology, exact_weights(topology))


@settings(deadline=None)
@given(st.integers(1, MAX_OSPF_COST))
def test_a_square_of_equal_links_gets_unique_routes_at_every_cost_that_leaves_room(cost: int) -> None:
    square = network({("a", "b"): cost, ("b", "c"): cost, ("c", "d"): cost, ("d", "a"): cost})
    if cost <= 1000:
        assert max(ospf_weights(square)) <= MAX_OSPF_COST
    else:
        try:
            assert not has_ties(square, ospf_weights(square))
        except UsageError as error:
            assert "room to break ties" in str(error)


def test_a_cost_beyond_ospf_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 65535"):
        ospf_weights(network({("a", "b"): MAX_OSPF_COST + 1}))


def test_two_hundred_nodes_take_well_below_a_second() -> None:
    grid = {}
    for row in range(14):
        for column in range(14):
            grid[f"n{row}-{column}", f"n{row}-{column + 1}"] = 10
            grid[f"n{row}-{column}", f"n{row + 1}-{column}"] = 10
    topology = network(grid)
    started = time.process_time()
    routes = routes_of(topology, exact_weights(topology))
    assert time.process_time() - started < 2
    assert len(routes.path("n0-0", "n13-13") or ()) == 27


def test_without_a_way_there_is_no_route() -> None:
    topology = network({("a", "b"): 1, ("c", "d"): 1})
    assert routes_of(topology, exact_weights(topology)).path("a", "c") is None


def test_neighbors_are_the_points_that_come_next_on_some_route() -> None:
    chain = network(
        {("a", "r"): 1, ("r", "b"): 1, ("b", "c"): 1, ("r", "d"): 1, ("x", "y"): 1}, points="a b c d x"
    )
    neighbors = neighboring_points(chain, routes_of(chain, exact_weights(chain)))
    assert neighbors == {"a": ("b", "d"), "b": ("a", "c", "d"), "c": ("b",), "d": ("a", "b"), "x": ()}


def test_a_host_is_served_by_the_attached_point_that_its_packets_pass_last() -> None:
    costs = {("p", "h"): 1, ("p", "q"): 1, ("q", "h"): 9, ("q", "own"): 1}
    topology = network(costs, hosts="h own", points="p q own")
    served = served_nodes(topology, routes_of(topology, exact_weights(topology)))
    assert served == {"p": ("h",), "q": (), "own": ()}
