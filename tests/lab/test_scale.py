"""A network of the size that a test can afford, each router a point: every pair is answered."""

from __future__ import annotations

import random

import pytest

from benchmarks.scale import MAX_MEMORY_MB, is_good, measure, table
from lab.thinning import thinned
from lab.topology import Topology, topology_from_json

pytestmark = pytest.mark.netns


def network() -> Topology:
    """Thirty routers in a ring with chords, thinned to twelve."""
    chance = random.Random(12)
    pairs = [(n, (n + 1) % 30) for n in range(30)] + [(n, (n + 11) % 30) for n in range(0, 30, 5)]
    links = []
    for a, b in pairs:
        delay_ms = round(chance.uniform(0.2, 3), 3)
        links.append({"a": f"r{a}", "b": f"r{b}", "delay_ms": delay_ms, "cost": round(delay_ms * 1000)})
    nodes = {f"r{n}": {"point": True} for n in range(30)}
    return thinned(topology_from_json({"name": "ring", "nodes": nodes, "links": links}), 12)


def test_every_pair_of_a_network_is_answered_in_full_by_points_that_stay_small() -> None:
    outcome = measure(network(), rate_per_s=2.0, pairs=60, idle_s=3.0, seed=1)
    assert is_good(outcome), table(outcome)
    assert outcome["memory"]["points"] == 12
    assert outcome["memory"]["most_pss_mb"] < MAX_MEMORY_MB
    assert {row["asked"] for row in outcome["answers"].values()} == {60}
    load = outcome["traffic"]
    assert load["mesh_sessions"] == 66 > load["overlay_sessions"]
    assert load["mesh"]["mean"] > 2 * load["probes"]["mean"] > 0
