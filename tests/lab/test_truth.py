from dataclasses import replace
from pathlib import Path

import pytest

from lab.topology import topology_from_toml
from lab.truth import truth_of

TOPOLOGY = topology_from_toml(
    b"""
    name = "n"
    nodes = { a = {}, b = {}, c = {} }
    [[links]]
    a = "a"
    b = "b"
    mtu = 1400
    delay_ms = 0.1
    b_to_a = { delay_ms = 5, rate_mbit = 2 }
    a_to_b = { loss_ratio = 0.1 }
    [[links]]
    a = "c"
    b = "b"
    delay_ms = 0.2
    a_to_b = { delay_ms = 7, rate_mbit = 8 }
    b_to_a = { loss_ratio = 0.2 }
    """,
    str(Path("n.toml")),
)
FORTH, BACK = ("a", "b", "c"), ("c", "b", "a")


def test_a_path_adds_up_link_by_link_in_its_own_direction() -> None:
    truth = truth_of(TOPOLOGY, FORTH, BACK)
    assert truth.path == FORTH
    assert truth.hops == 2
    assert truth.delay_ms == 0.3
    assert truth.rtt_ms == 12.3
    assert truth.loss_ratio == pytest.approx(0.28)


def test_the_way_to_oneself_costs_nothing() -> None:
    truth = truth_of(TOPOLOGY, ("a",), ("a",))
    assert (truth.hops, truth.delay_ms, truth.rtt_ms, truth.loss_ratio) == (0, 0, 0, 0)
    assert (truth.capacity_mbit_s, truth.mtu_octets) == (None, None)


def test_capacity_and_mtu_are_the_least_on_the_way_forth() -> None:
    forth, back = truth_of(TOPOLOGY, FORTH, BACK), truth_of(TOPOLOGY, BACK, FORTH)
    assert (forth.capacity_mbit_s, forth.mtu_octets) == (None, 1400)
    assert (back.capacity_mbit_s, back.mtu_octets) == (2, 1400)
    near = truth_of(TOPOLOGY, ("c", "b"), ("b", "c"))
    assert (near.capacity_mbit_s, near.mtu_octets) == (8, 1500)


@pytest.mark.parametrize("link", [0, 1])
def test_over_a_link_that_is_down_all_is_lost_and_delay_is_undefined(link: int) -> None:
    old = TOPOLOGY.links[link]
    cut = replace(old, a_to_b=replace(old.a_to_b, up=False))
    truth = truth_of(TOPOLOGY.with_link(link, cut), FORTH, BACK)
    assert (truth.complete, truth.delay_ms, truth.rtt_ms, truth.hops) == (False, None, None, None)
    assert truth.loss_ratio == 1


def test_a_route_that_breaks_off_loses_all_and_shows_how_far_it_goes() -> None:
    truth = truth_of(TOPOLOGY, ("a", "b"), BACK)
    assert truth.path == ("a", "b")
    assert truth.delay_ms is None
    assert (truth.capacity_mbit_s, truth.mtu_octets) == (None, None)
    assert truth.loss_ratio == 1


def test_without_a_way_back_only_the_round_trip_is_undefined() -> None:
    truth = truth_of(TOPOLOGY, FORTH, ("c",))
    assert truth.delay_ms == 0.3
    assert truth.rtt_ms is None
    assert truth.loss_ratio < 1
