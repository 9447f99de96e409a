from __future__ import annotations

import pytest

from lab.thinning import thinned
from lab.topology import Topology, topology_from_json
from schemas.errors import UsageError

RING = topology_from_json(
    {
        "name": "ring",
        "nodes": {name: {"point": True} for name in "abcde"},
        "links": [
            {"a": "a", "b": "b", "delay_ms": 1, "cost": 10},
            {"a": "b", "b": "c", "delay_ms": 4, "cost": 40},
            {"a": "c", "b": "d", "delay_ms": 5, "cost": 50},
            {"a": "d", "b": "a", "delay_ms": 6, "cost": 60},
            {"a": "a", "b": "e", "delay_ms": 9, "cost": 90},
        ],
    }
)


def links(topology: Topology) -> list[tuple[str, str, float, float, int]]:
    return [(one.a, one.b, one.a_to_b.delay_ms, one.b_to_a.delay_ms, one.cost) for one in topology.links]


def test_the_two_nearest_nodes_become_one_and_what_is_left_lies_as_far_apart() -> None:
    smaller = thinned(RING, 4)
    assert [node.name for node in smaller.nodes] == ["a", "c", "d", "e"]
    assert links(smaller) == [
        ("a", "c", 5, 5, 50),
        ("c", "d", 5, 5, 50),
        ("d", "a", 6, 6, 60),
        ("a", "e", 9, 9, 90),
    ]


def test_of_two_links_between_the_same_nodes_the_cheaper_one_stays() -> None:
    smaller = thinned(RING, 3)
    assert [node.name for node in smaller.nodes] == ["a", "d", "e"]
    assert links(smaller) == [("d", "a", 6, 6, 60), ("a", "e", 9, 9, 90)]


def test_a_network_that_is_small_enough_stays_as_it_is() -> None:
    assert thinned(RING, 5) == thinned(RING, 9) == RING


def test_parts_that_no_link_joins_are_not_joined() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        thinned(RING, 1)
    apart = topology_from_json({"name": "apart", "nodes": {"a": {}, "b": {}, "c": {}}, "links": []})
    with pytest.raises(UsageError, match="at least 3"):
        thinned(apart, 2)
