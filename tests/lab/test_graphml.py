import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.graphml import DEFAULT_DELAY_MS, MIN_DELAY_MS, topology_from_graphml, unique_names
from lab.topology import MAX_NODE_NAME_LENGTH, check_name, topology_from_json, topology_to_json
from schemas.errors import ConfigurationError

KEYS = """
<key attr.name="label" attr.type="string" for="node" id="d1" />
<key attr.name="Latitude" attr.type="double" for="node" id="d2" />
<key attr.name="Longitude" attr.type="double" for="node" id="d3" />
<key attr.name="label" attr.type="string" for="edge" id="d4" />
"""


def graphml(body: str) -> bytes:
    namespace = 'xmlns="http://graphml.graphdrawing.org/xmlns"'
    head = f'<?xml version="1.0" encoding="utf-8"?><graphml {namespace}>{KEYS}'
    return f"{head}<graph edgedefault='undirected'>{body}</graph></graphml>".encode()


def node(identifier: str, label: str = "", place: tuple[float, float] | None = None) -> str:
    data = f'<data key="d1">{label}</data>' if label else ""
    if place:
        data += f'<data key="d2">{place[0]}</data><data key="d3">{place[1]}</data>'
    return f'<node id="{identifier}">{data}</node>'


def edge(a: str, b: str) -> str:
    return f'<edge source="{a}" target="{b}"><data key="d4">x</data></edge>'


def test_names_come_from_labels_and_each_is_unique() -> None:
    labels = ["Los Angeles", "(los)  ANGELES!", "São Paulo", "", "東京", "Los Angeles-2"]
    nodes = "".join(node(str(number), label) for number, label in enumerate(labels))
    topology = topology_from_graphml(graphml(nodes), "net.graphml")
    assert [n.name for n in topology.nodes] == [
        "los-angeles",
        "los-angeles-2",
        "sao-paulo",
        "3",
        "4",
        "los-angeles-2-2",
    ]


@given(st.lists(st.text(max_size=60), max_size=20))
def test_any_labels_become_valid_names_of_which_none_comes_twice(labels: list[str]) -> None:
    names = unique_names(labels, MAX_NODE_NAME_LENGTH)
    assert len(set(names)) == len(labels)
    assert all(check_name("name", name, MAX_NODE_NAME_LENGTH) for name in names)


def test_a_link_takes_a_millisecond_for_200_km_and_costs_its_microseconds() -> None:
    # One degree of longitude on the equator is 111.19 km on a sphere with a radius of 6371 km.
    nodes = node("a", "a", (0, 0)) + node("b", "b", (0, 10))
    link = topology_from_graphml(graphml(nodes + edge("a", "b")), "net.graphml").links[0]
    assert link.a_to_b.delay_ms == link.b_to_a.delay_ms == pytest.approx(5.56, abs=0.001)
    assert link.cost == round(link.a_to_b.delay_ms * 1000)


def test_a_link_with_an_end_in_an_unknown_place_takes_the_median_of_the_others() -> None:
    places = {"a": (0, 0), "b": (0, 0), "c": (0, 10), "d": (0, 30)}
    nodes = "".join(node(name, name, place) for name, place in places.items()) + node("x", "x")
    edges = edge("a", "b") + edge("b", "c") + edge("c", "d") + edge("d", "x")
    links = topology_from_graphml(graphml(nodes + edges), "net.graphml").links
    delays = [link.a_to_b.delay_ms for link in links]
    assert delays[0] == MIN_DELAY_MS
    assert delays[3] == delays[1] < delays[2]


def test_without_any_place_links_take_the_default() -> None:
    topology = topology_from_graphml(graphml(node("a") + node("b") + edge("a", "b")), "net.graphml")
    assert topology.links[0].a_to_b.delay_ms == DEFAULT_DELAY_MS


def test_parallel_edges_collapse_and_self_loops_are_dropped() -> None:
    edges = edge("a", "b") + edge("b", "a") + edge("a", "a") + edge("a", "b")
    topology = topology_from_graphml(graphml(node("a") + node("b") + edges), "net.graphml")
    assert [(link.a, link.b) for link in topology.links] == [("a", "b")]


def test_a_network_in_pieces_is_fine_and_its_topology_survives_the_state_file() -> None:
    topology = topology_from_graphml(graphml(node("a") + node("b")), "Some Net (2012).graphml")
    assert topology.name == "some-net-2012"
    assert all(n.point for n in topology.nodes)
    assert topology_from_json(topology_to_json(topology)) == topology


BOMB = b'<?xml version="1.0"?><!DOCTYPE graphml [<!ENTITY a "aaaaaaaa">]><graphml>&a;</graphml>'


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (BOMB, "got '<!DOCTYPE graphml>', expected GraphML without a document type"),
        (b"<graphml><graph>", "expected a GraphML document"),
        (b"<html/>", "got '<html>', expected <graphml>"),
        (graphml(""), "got 'no node'"),
        (graphml(node("a") + node("a")), "expected an id of its own"),
        (graphml(node("a") + edge("a", "z")), "<edge> 1: target: got 'z'"),
        (graphml(node("a", "a", (91, 0))), "Latitude: got '91', expected degrees"),
        (graphml(node("a", "a", (0, float("nan")))), "Longitude: got 'nan'"),
        (graphml("<node/>"), "<node>: got 'no id'"),
        (b'<?xml version="1.0" encoding="no-such"?><graphml/>', "expected a GraphML document"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(data: bytes, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        topology_from_graphml(data, "net.graphml")
    assert complaint in str(error.value)
    assert str(error.value).startswith("net.graphml")
