from __future__ import annotations

import pytest

from benchmarks.suite.area import Probing, area_document, probing
from lab.routes import exact_weights, routes_of
from lab.topology import topology_from_json

ROW = {
    "name": "row",
    "nodes": {name: {"point": True} for name in "abc"},
    "links": [{"a": "a", "b": "b"}, {"a": "b", "b": "c"}],
}


def test_in_a_row_of_three_the_session_of_the_ends_crosses_both_links() -> None:
    topology = topology_from_json(ROW)
    routes = routes_of(topology, exact_weights(topology))
    found = Probing.of_pairs(routes, [("a", "b"), ("b", "c"), ("a", "c")])
    assert found == Probing(sessions=3, crossings=4, busiest=2)


@pytest.mark.parametrize("points", [5, 10, 30])
def test_an_overlay_has_one_session_over_each_link_and_a_full_mesh_one_for_each_pair(points: int) -> None:
    overlay, mesh = probing(points)
    assert overlay.busiest == 1
    assert overlay.sessions == overlay.crossings <= len(area_document(points)["links"])
    assert mesh.sessions == points * (points - 1) // 2
    assert mesh.crossings > overlay.crossings


def test_the_same_number_of_points_gives_the_same_network() -> None:
    assert area_document(30) == area_document(30)
