import subprocess
from pathlib import Path

import pytest

from lab.addressing import addressing_of
from lab.bird import bird_configuration, start_bird
from lab.routes import routes_of
from lab.topology import topology_from_json
from schemas.errors import HostError

TOPOLOGY = topology_from_json(
    {
        "name": "net",
        "routing": "ospf",
        "nodes": {"r1": {}, "r2": {}, "h": {"host": True}, "r3": {}},
        "links": [{"a": "r1", "b": "r2"}, {"a": "r1", "b": "h"}, {"a": "r2", "b": "h"}],
    }
)


def configuration(router: str) -> str:
    weights = (101, 202, 909)
    routes = routes_of(TOPOLOGY, weights)
    return bird_configuration(TOPOLOGY, addressing_of(TOPOLOGY), weights, routes, router, Path("/tmp/bird.log"))


@pytest.mark.parametrize("router", ["r1", "r2", "r3"])
def test_bird_accepts_what_is_written_for_it(router: str, tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text(configuration(router))
    done = subprocess.run(["bird", "-p", "-c", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_routers_speak_over_links_at_their_cost_and_hosts_are_stubs_with_a_route() -> None:
    text = configuration("r1")
    assert 'interface "to-r2" { type ptp; cost 101; hello 1; dead count 4; check link yes; };' in text
    assert 'interface "to-h" { stub yes; cost 202; };' in text
    assert "route 10.255.0.3/32 via 10.0.0.6 { preference = 200; ospf_metric1 = 202; };" in text
    assert "krt_prefsrc = 10.255.0.1;" in text


def test_a_link_to_a_host_that_is_nearer_by_another_router_is_kept_in_reserve() -> None:
    assert "route 10.255.0.3/32 via 10.0.0.10 { preference = 100; ospf_metric1 = 909; };" in configuration("r2")


def test_a_router_without_hosts_has_no_static_routes() -> None:
    assert "protocol static" not in configuration("r3")


def test_what_bird_complains_of_is_told(tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text("nonsense;")
    with pytest.raises(HostError, match="bird refused .*bird.conf"):
        start_bird(file, tmp_path / "ctl", tmp_path / "pid")
