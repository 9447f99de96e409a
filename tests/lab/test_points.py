import tomllib
from pathlib import Path

from lab.addressing import Addressing, addressing_of
from lab.points import Settings, interface_capacities, point_pid, served_prefixes, write_configurations
from lab.routes import exact_weights, routes_of
from lab.state import LabDirectory
from lab.topology import Node, Topology, topology_from_json
from mp.config import load_configuration
from mp.keys.directory import read_keyring
from prober.interfaces.load import ConfiguredCapacity

TOPOLOGY = topology_from_json(
    {
        "name": "net",
        "nodes": {
            "h1": {"host": True},
            "p1": {"point": True, "area": "north", "serves": ["r", "192.0.2.0/24"]},
            "r": {},
            "p2": {"point": True},
        },
        "links": [
            {"a": "h1", "b": "p1"},
            {"a": "p1", "b": "r"},
            {"a": "r", "b": "p2", "rate_mbit": 2.5, "b_to_a": {"rate_mbit": 1}},
        ],
    }
)


def written(path: Path, database: str | None = None, *, discover: bool = False) -> LabDirectory:
    directory = LabDirectory(path)
    routes = routes_of(TOPOLOGY, exact_weights(TOPOLOGY))
    write_configurations(directory, TOPOLOGY, addressing_of(TOPOLOGY), routes, database, discover=discover)
    return directory


def test_a_point_gets_all_that_its_daemon_reads(tmp_path: Path) -> None:
    directory = written(tmp_path)
    file = directory.configuration("p1")
    assert tomllib.loads(file.read_text()) == {
        "point": {
            "name": "p1",
            "address": "10.255.0.2",
            "area": "north",
            "serves": ["10.255.0.1/32", "10.255.0.3/32", "192.0.2.0/24"],
            "state_dir": f"{tmp_path}/p1",
        },
        "clock": {"assumed_error_ms": 0.001},
        "probe": {"neighbors": ["10.255.0.4"]},
        "store": {"url": f"sqlite:///{tmp_path}/p1/results.db"},
        "service": {"socket": f"{tmp_path}/p1/service.sock", "listen": "10.255.0.2"},
        "security": {"keys_dir": f"{tmp_path}/p1/keys"},
        "names": {"h1": "10.255.0.1", "p1": "10.255.0.2", "r": "10.255.0.3", "p2": "10.255.0.4"},
    }
    configuration = load_configuration(file)
    assert configuration.names["p2"] == "10.255.0.4"


def test_all_points_of_a_lab_hold_one_key_for_all_its_areas(tmp_path: Path) -> None:
    directory = written(tmp_path)
    keyrings = [read_keyring(load_configuration(directory.configuration(name)).security) for name in ("p1", "p2")]
    signed = keyrings[0].signer("10.255.0.2", "10.255.0.4")
    assert signed is not None
    known = keyrings[1].key(signed.id)
    assert known is not None
    assert known.verifies(b"message", signed.tag(b"message"))


def test_a_node_without_a_point_gets_the_names_alone(tmp_path: Path) -> None:
    configuration = tomllib.loads(written(tmp_path).configuration("r").read_text())
    assert list(configuration) == ["names"]


def test_a_point_is_told_the_rates_of_its_own_links_by_direction(tmp_path: Path) -> None:
    configuration = load_configuration(written(tmp_path).configuration("p2"))
    assert configuration.capacities == {"to-r": ConfiguredCapacity(ingress_mbit_s=2.5, egress_mbit_s=1)}


def test_a_rate_of_one_direction_is_told_alone() -> None:
    link = {"a": "a", "b": "b", "a_to_b": {"rate_mbit": 10}}
    topology = topology_from_json({"name": "n", "nodes": {"a": {}, "b": {}}, "links": [link]})
    addressing = addressing_of(topology)
    assert interface_capacities(topology, addressing, "a") == {"to-b": {"egress_capacity_mbit_s": 10}}
    assert interface_capacities(topology, addressing, "b") == {"to-a": {"ingress_capacity_mbit_s": 10}}


def test_points_that_find_each_other_know_all_addresses_and_no_neighbor(tmp_path: Path) -> None:
    file = written(tmp_path, discover=True).configuration("p1")
    assert "probe" not in tomllib.loads(file.read_text())
    configuration = load_configuration(file)
    assert configuration.discovery.destinations == ("10.255.0.4",)
    assert configuration.discovery.interval_s == 5
    assert configuration.probe.neighbors == ()


def test_one_store_for_all_is_written_as_given(tmp_path: Path) -> None:
    url = 'mysql+pymysql://user:pa"ss@db/inpath'
    configuration = tomllib.loads(written(tmp_path, url).configuration("p2").read_text())
    assert configuration["store"]["url"] == url


def test_no_prefix_is_served_twice() -> None:
    addressing = Addressing(lab="net", identities={"h": "10.255.0.9"}, links=())
    node = Node(name="p", serves=("h", "10.255.0.9/32", "192.0.2.0/24"))
    assert served_prefixes(node, ["h"], addressing) == ["10.255.0.9/32", "192.0.2.0/24"]


def test_a_recorded_process_outside_the_namespace_is_not_taken_for_the_point(tmp_path: Path) -> None:
    directory = written(tmp_path)
    (directory.node("p1") / "pid").write_text("1\n")
    assert point_pid(directory, addressing_of(TOPOLOGY), "p1") is None


def test_hosts_of_a_topology_without_points_are_served_by_nobody(tmp_path: Path) -> None:
    bare: Topology = topology_from_json({"name": "bare", "nodes": {"a": {}, "h": {"host": True}}, "links": []})
    directory = LabDirectory(tmp_path)
    write_configurations(directory, bare, addressing_of(bare), routes_of(bare, ()), None)
    assert list(tomllib.loads(directory.configuration("a").read_text())) == ["names"]


def test_what_all_points_shall_say_besides_joins_their_own_tables(tmp_path: Path) -> None:
    directory = LabDirectory(tmp_path)
    routes = routes_of(TOPOLOGY, exact_weights(TOPOLOGY))
    settings: Settings = {"probe": {"rate_per_s": 0.5}, "bandwidth": {"enabled": False}}
    write_configurations(directory, TOPOLOGY, addressing_of(TOPOLOGY), routes, None, settings=settings)
    content = tomllib.loads(directory.configuration("p1").read_text())
    assert content["probe"] == {"neighbors": ["10.255.0.4"], "rate_per_s": 0.5}
    assert content["bandwidth"] == {"enabled": False}
    assert list(tomllib.loads(directory.configuration("r").read_text())) == ["names"]
