"""OSPF by BIRD 2: one router process in each router's namespace, all in one OSPF area.

An area of the topology is a matter of administration. OSPF's own areas prefer a costlier route within an area to a
cheaper one across (RFC 2328, section 16.2), so routes would no longer be the shortest: everything is area 0.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.addressing import Addressing, LinkPlan
from lab.fib import host_routes
from lab.namespaces import inside
from lab.routes import Routes
from lab.topology import Topology
from schemas.errors import HostError

HELLO_S = 1
DEAD_S = 4
"""Four lost hellos make a dead neighbor, OSPF's usual proportion."""

DIRECT_PREFERENCE = 200
RESERVE_PREFERENCE = 100
"""Above and below OSPF's 150. BIRD does not compare the cost of its own link to a host with that of the way over
another router; so a router that is nearer to the host by way of that one keeps its own link in reserve."""

_HEADER = """\
router id {identity};
log "{log}" {{ warning, error, fatal, bug }};
protocol device {{ scan time 10; }}
protocol kernel {{
    ipv4 {{ import none; export filter {{ krt_prefsrc = {identity}; accept; }}; }};
}}
"""


def bird_configuration(
    topology: Topology, addressing: Addressing, weights: Sequence[int], routes: Routes, router: str, log: Path
) -> str:
    """The configuration of one router.

    Args:
        topology: the network.
        addressing: its names and addresses.
        weights: the OSPF cost of each link, by its index.
        routes: the routes that follow from these costs.
        router: the node's name.
        log: where BIRD writes warnings and errors.
    """
    hosts = {node.name for node in topology.nodes if node.host}
    attached = [
        (plan, weights[index])
        for index, plan in enumerate(addressing.links)
        if router in (plan.a.node, plan.b.node)
    ]
    host_links = [(plan, cost) for plan, cost in attached if plan.far_end_of(router).node in hosts]
    interfaces = [_interface(plan, router, cost, stub=(plan, cost) in host_links) for plan, cost in attached]
    return "\n".join(
        [
            _HEADER.format(identity=addressing.identities[router], log=log),
            *_host_routes(host_links, addressing, routes, router),
            "protocol ospf v2 lab {",
            "    ecmp no;",
            "    ipv4 { import all; export filter { if source = RTS_STATIC then accept; reject; }; };",
            "    area 0 {",
            '        interface "lo" { stub yes; cost 1; };',
            *interfaces,
            "    };",
            "}",
            "",
        ]
    )


def _host_routes(
    host_links: Sequence[tuple[LinkPlan, int]], addressing: Addressing, routes: Routes, router: str
) -> list[str]:
    """Routes to the hosts, which speak no OSPF; as external routes of type 1 they cost what their links cost."""
    if not host_links:
        return []
    lines = []
    for plan, cost in host_links:
        host = plan.far_end_of(router)
        nearest = routes.next_node(router, host.node) == host.node
        preference = DIRECT_PREFERENCE if nearest else RESERVE_PREFERENCE
        attributes = f"preference = {preference}; ospf_metric1 = {cost};"
        identity = addressing.identities[host.node]
        lines.append(f"    route {identity}/32 via {host.address} {{ {attributes} }};")
    return ["protocol static {", "    ipv4;", "    check link yes;", *lines, "}"]


def _interface(plan: LinkPlan, router: str, cost: int, *, stub: bool) -> str:
    name = plan.end_of(router).interface
    if stub:
        return f'        interface "{name}" {{ stub yes; cost {cost}; }};'
    timers = f"hello {HELLO_S}; dead count {DEAD_S // HELLO_S};"
    return f'        interface "{name}" {{ type ptp; cost {cost}; {timers} check link yes; }};'


def start_bird(configuration: Path, control: Path, pid_file: Path) -> None:
    """Start BIRD in the namespace of the calling thread; it goes into the background by itself.

    Raises:
        HostError: BIRD is missing or refuses its configuration.
    """
    command = ["bird", "-c", str(configuration), "-s", str(control), "-P", str(pid_file)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise HostError('the program bird is missing: install bird2, or use routing = "static"') from None
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise HostError(f"bird refused {configuration}: {reason[-1]}")


def missing_route(topology: Topology, addressing: Addressing, routes: Routes, router: str) -> str | None:
    """The first node to which a router's kernel has not yet the expected route; None when all are there."""
    present = inside(addressing.namespace(router), host_routes)
    for destination in (node.name for node in topology.nodes):
        following = routes.next_node(router, destination)
        if following is None:
            continue
        plan = addressing.links[topology.link_index(router, following)]
        if present.get(addressing.identities[destination]) != plan.end_of(router).interface:
            return destination
    return None
