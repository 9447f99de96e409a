import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.addressing import MAX_INTERFACE_NAME_LENGTH, MAX_NODES, addressing_of, interface_name
from lab.impairment import Impairment
from lab.topology import Link, Node, Routing, Topology
from schemas.errors import UsageError


def star(leaves: list[str]) -> Topology:
    perfect = Impairment()
    return Topology(
        name="net",
        routing=Routing.STATIC,
        nodes=(Node(name="hub"), *(Node(name=leaf) for leaf in leaves)),
        links=tuple(Link(a="hub", b=leaf, a_to_b=perfect, b_to_a=perfect) for leaf in leaves),
    )


def test_everything_has_an_address_of_its_own() -> None:
    addressing = addressing_of(star([f"leaf-{number}" for number in range(600)]))
    ends = [end for plan in addressing.links for end in (plan.a, plan.b)]
    addresses = [*addressing.identities.values(), *(end.address for end in ends)]
    assert len(set(addresses)) == len(addresses)
    assert len({end.mac for end in ends}) == len(ends)
    assert not any(address.endswith((".0", ".255")) for address in addressing.identities.values())
    assert list(addressing.identities.values())[253:255] == ["10.255.0.254", "10.255.1.1"]
    for plan in addressing.links:
        network = ipaddress.IPv4Network(plan.network)
        assert {ipaddress.IPv4Address(end.address) for end in (plan.a, plan.b)} == set(network.hosts())


@given(st.lists(st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), max_size=30, unique=True))
def test_interfaces_of_a_node_have_short_names_of_their_own(neighbors: list[str]) -> None:
    names = [interface_name(neighbor, index) for index, neighbor in enumerate(neighbors)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= MAX_INTERFACE_NAME_LENGTH for name in names)


def test_the_far_end_is_the_other_one() -> None:
    plan = addressing_of(star(["leaf"])).links[0]
    assert plan.end_of("hub") == plan.far_end_of("leaf")
    assert plan.end_of("leaf").interface == "to-hub"
    assert plan.end_of("leaf").interface_address == "10.0.0.2/30"


def test_too_many_nodes_are_refused() -> None:
    nodes = (Node(name="a"),) * (MAX_NODES + 1)
    with pytest.raises(UsageError, match=f"at most {MAX_NODES} nodes"):
        addressing_of(Topology(name="net", routing=Routing.STATIC, nodes=nodes, links=()))
