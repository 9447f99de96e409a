import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.impairment import Impairment
from lab.topology import (
    Link,
    Node,
    Routing,
    Topology,
    check_name,
    topology_from_json,
    topology_from_toml,
    topology_to_json,
)
from schemas.errors import ConfigurationError, UsageError

EXAMPLE = Path(__file__).parents[2] / "lab" / "scenarios" / "two_areas.toml"

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
impairments = st.builds(
    Impairment,
    delay_ms=st.floats(1, 100),
    jitter_ms=st.floats(0, 1),
    loss_ratio=st.floats(0, 1),
    rate_mbit=st.none() | st.floats(0.1, 1000),
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    node_names = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    pairs = [(a, b) for i, a in enumerate(node_names) for b in node_names[i + 1 :]]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return Topology(
        name=draw(names),
        routing=draw(st.sampled_from(Routing)),
        nodes=tuple(
            Node(
                name=name,
                area=draw(names),
                point=draw(st.booleans()),
                host=draw(st.booleans()),
                serves=tuple(draw(st.lists(st.sampled_from([*node_names, "192.0.2.0/24"]), max_size=2))),
            )
            for name in node_names
        ),
        links=tuple(
            Link(
                a=a,
                b=b,
                a_to_b=draw(impairments),
                b_to_a=draw(impairments),
                cost=draw(st.integers(1, 1000)),
                mtu_octets=draw(st.integers(576, 9000)),
            )
            for a, b in chosen
        ),
    )


@given(topologies())
def test_reading_reverses_writing(topology: Topology) -> None:
    assert topology_from_json(json.loads(json.dumps(topology_to_json(topology)))) == topology


def test_the_example_is_two_areas_with_three_points_and_a_host_at_each_end() -> None:
    topology = topology_from_toml(EXAMPLE.read_bytes(), "two_areas.toml")
    routers = [node for node in topology.nodes if not node.host and not node.point]
    assert [node.name for node in topology.nodes if node.point] == ["mp1", "mp2", "mp3"]
    assert [node.name for node in topology.nodes if node.host] == ["h1", "h2"]
    assert all(sum(r.area == area for r in routers) >= 4 for area in ("area-1", "area-2"))


def test_a_direction_takes_over_what_the_link_says_and_adds_its_own() -> None:
    link = topology_from_toml(
        b"""
        name = "n"
        nodes = { a = {}, b = {} }
        [[links]]
        a = "a"
        b = "b"
        delay_ms = 4
        b_to_a = { delay_ms = 6, loss_ratio = 0.5 }
        """,
        "n.toml",
    ).links[0]
    assert link.impairment_from("a") == Impairment(delay_ms=4)
    assert link.impairment_from("b") == Impairment(delay_ms=6, loss_ratio=0.5)


def test_a_link_of_an_older_state_has_the_usual_mtu() -> None:
    link = {"a": "a", "b": "b"}
    topology = topology_from_json({"name": "n", "nodes": {"a": {}, "b": {}}, "links": [link]})
    assert topology.links[0].mtu_octets == 1500
    assert topology_to_json(topology)["links"][0]["mtu"] == 1500


HEAD = 'name = "n"\n[nodes.left]\n[nodes.right]\n'
LINK = '[[links]]\na = "left"\nb = "right"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "net.toml: got 'Invalid value"),
        ("[nodes.a]", "net.toml: name: got None"),
        ('name = "Big"\n[nodes.a]', "net.toml: name: got 'Big', expected lower-case letters"),
        ('name = "n"', "net.toml: [nodes]: got 'no table'"),
        (HEAD + "colour = 1", "net.toml: [nodes.right]: colour: got 'colour', expected a known key"),
        (HEAD + 'area = "A B"', "net.toml: [nodes.right]: area: got 'A B'"),
        (HEAD + 'point = "yes"', "net.toml: [nodes.right]: point: got 'yes', expected true or false"),
        (HEAD + 'serves = ["lft"]', "net.toml: [nodes.right]: serves: got 'lft'"),
        (HEAD + "[nodes.-x]", "net.toml: [nodes.-x]: got '-x'"),
        (HEAD + '[[links]]\na = "left"', "net.toml: [[links]] 1: b: got 'nothing'"),
        (HEAD + '[[links]]\na = "left"\nb = "rigth"', "did you mean right?"),
        (HEAD + '[[links]]\na = "left"\nb = "left"', "[[links]] 1: b: got 'left', expected another node"),
        (HEAD + LINK + LINK, "[[links]] 2: got 'left right', expected one link for a pair"),
        (HEAD + LINK + "cost = 0", "[[links]] 1: cost: got 0"),
        (HEAD + LINK + "mtu = 575", "[[links]] 1: mtu: got 575, expected a whole number from 576 to 9000"),
        (HEAD + LINK + "mtu = 9001", "[[links]] 1: mtu: got 9001"),
        (HEAD + LINK + "mtu = 1500.0", "[[links]] 1: mtu: got 1500.0"),
        (HEAD + LINK + "a_to_b = { mtu = 1400 }", "[[links]] 1: a_to_b: mtu: got 'mtu', expected a known key"),
        (
            HEAD + LINK + "delay = 5",
            "[[links]] 1: delay: got 'delay', expected a known key; did you mean",
        ),
        (HEAD + LINK + "loss_ratio = 2", "[[links]] 1: loss_ratio: got 2"),
        (HEAD + LINK + "a_to_b = { loss_ratio = 2 }", "[[links]] 1: a_to_b: loss_ratio: got 2"),
        (HEAD + LINK + "a_to_b = { lost = 2 }", "[[links]] 1: a_to_b: lost: got 'lost'"),
        (HEAD + LINK + "a_to_b = { up = false }", "[[links]] 1: up: got 'one way'"),
        (HEAD + LINK + "a_to_b = 7", "[[links]] 1: a_to_b: got 7, expected a table"),
        ('routing = "rip"\n' + HEAD, 'net.toml: routing: got \'rip\', expected "static" or "ospf"'),
        ('name = "n"\nlinks = 3\n[nodes.a]', "net.toml: links: got 3, expected a list"),
        ('name = "n"\nnodes = 3', "net.toml: nodes: got 3, expected a table"),
    ],
)
def test_what_cannot_be_meant_is_named_with_file_table_and_key(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        topology_from_toml(text.encode(), "net.toml")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_topology_or_a_configuration_error(data: bytes) -> None:
    try:
        topology = topology_from_toml(data, "net.toml")
    except ConfigurationError as error:
        assert str(error).startswith("net.toml")
    else:
        assert topology.nodes


def test_points_can_be_chosen_anew() -> None:
    topology = topology_from_toml(EXAMPLE.read_bytes(), "two_areas.toml")
    assert {n.name for n in topology.with_points("r11, r25").nodes if n.point} == {"r11", "r25"}
    assert {n.name for n in topology.with_points("all").nodes if not n.point} == {"h1", "h2"}
    with pytest.raises(UsageError, match="did you mean mp1"):
        topology.with_points("mp11")
    with pytest.raises(UsageError, match="--points"):
        topology.with_points(" , ")


def test_a_link_is_found_in_either_order_and_a_missing_one_names_the_neighbors() -> None:
    topology = topology_from_toml(EXAMPLE.read_bytes(), "two_areas.toml")
    assert topology.link_index("mp1", "h1") == topology.link_index("h1", "mp1") == 0
    with pytest.raises(UsageError, match="a neighbor of h1: mp1"):
        topology.link_index("h1", "h2")


@pytest.mark.parametrize("name", ["../x", "", "a_b", "a-", "x" * 25, None, 3])
def test_a_name_that_could_leave_its_directory_is_refused(name: object) -> None:
    with pytest.raises(UsageError):
        check_name("name", name, 24)
