"""Build a lab: namespaces, links, addresses, routes, measurement points; and clear away what fails half-way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType

from lab import namespaces, points
from lab.addressing import Addressing, LinkPlan, addressing_of
from lab.bird import bird_configuration, missing_route, start_bird
from lab.links import LinkKind, UserSpaceLinks, detect_link_kind, last_line, link_driver, planned_links
from lab.network import Lab
from lab.routes import Routes, exact_weights, ospf_weights, routes_of
from lab.state import LabDirectory, LabState, Phase, lab_directory
from lab.teardown import take_down
from lab.topology import Node, Routing, Topology
from schemas.errors import HostError, LabError
from schemas.message import MEASUREMENT_PORT

Progress = Callable[[str, int, int], None]
"""Called with a stage in words, how many of its steps are done, and how many there are."""

PARALLEL_NODES = 2
"""Namespaces configured at a time: the work is the kernel's, which serializes most of it."""

ROUTE_WAIT_S = 60.0
"""How long OSPF may take at the start; forty routers on two cores need a fraction of it."""

ROUTE_POLL_S = 0.1

SYSCTLS = {
    # Answers may come by another interface than the one that the request left by.
    "net/ipv4/conf/{which}/rp_filter": "0",
    "net/ipv4/conf/{which}/send_redirects": "0",
    "net/ipv4/conf/{which}/accept_redirects": "0",
    # An interface without carrier is no way: the kernel then takes the route that OSPF found, or none.
    "net/ipv4/conf/{which}/ignore_routes_with_linkdown": "1",
    # Quiet links: no neighbor discovery and no router solicitations between the measured packets.
    "net/ipv6/conf/{which}/disable_ipv6": "1",
}
"""For `all`, and for `default`, which interfaces made later inherit. The limit of ICMP errors
(net.ipv4.icmp_ratelimit) stays the kernel's; it counts for each namespace on its own."""


NO_REQUESTS = f"ipproto udp dport {MEASUREMENT_PORT} blackhole"
"""The routing rule (ip-rule(8)) that keeps requests and hellos off the links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """All that is decided before anything is built."""

    topology: Topology
    addressing: Addressing
    weights: Sequence[int]
    routes: Routes
    directory: LabDirectory


def blueprint_of(topology: Topology) -> Blueprint:
    """Decide names, addresses and routes.

    Raises:
        UsageError: the topology has too many nodes, or costs that its routing cannot work with.
    """
    weigh = ospf_weights if topology.routing is Routing.OSPF else exact_weights
    weights = weigh(topology)
    return Blueprint(
        topology=topology,
        addressing=addressing_of(topology),
        weights=weights,
        routes=routes_of(topology, weights),
        directory=lab_directory(topology.name),
    )


def bring_up(
    topology: Topology,
    *,
    start_points: bool = True,
    discover: bool = False,
    database: str | None = None,
    settings: points.Settings = points.NO_SETTINGS,
    progress: Progress = lambda stage, done, total: None,
) -> Lab:
    """Build a lab; on any failure or interruption nothing of it remains.

    Args:
        topology: the network; its name becomes the lab's.
        start_points: whether to start the daemons of the measurement points.
        discover: let the points find their neighbors by themselves, by hellos to all other points.
        database: URL of one store for all points; None gives each its own SQLite file.
        settings: what every point's configuration says besides, or instead.
        progress: told of each step.

    Raises:
        UsageError: the topology cannot be built.
        LabError: a lab of this name exists, or a part of it does not start.
        HostError: the machine refuses.
    """
    blueprint = blueprint_of(topology)
    if os.geteuid() != 0:
        raise HostError("building a lab needs root, to make network namespaces")
    if start_points:
        points.inpath_program()
    taken = {blueprint.addressing.namespace(node.name) for node in topology.nodes} & namespaces.existing()
    if taken and not blueprint.directory.path.exists():
        raise LabError(
            f"the network namespace {min(taken)} exists already; "
            f"clear it away with: inpath lab down {topology.name}"
        )
    with _interruption_as_exception():
        kind = detect_link_kind(f"inpath.probe-{os.getpid()}")
        blueprint.directory.create(LabState(topology=topology, link_kind=kind, phase=Phase.BUILDING))
        try:
            _build(blueprint, kind, database, progress, discover=discover, settings=settings)
            if start_points and discover:
                _start_points_together(blueprint, progress)
            elif start_points:
                _start_points(blueprint, progress)
            blueprint.directory.write(LabState(topology=topology, link_kind=kind, phase=Phase.UP))
        except BaseException:
            _ignore_interruptions()
            take_down(topology.name)
            raise
    return Lab(blueprint.directory)


def _build(
    blueprint: Blueprint,
    kind: LinkKind,
    database: str | None,
    progress: Progress,
    *,
    discover: bool,
    settings: points.Settings,
) -> None:
    topology, directory = blueprint.topology, blueprint.directory
    namespaces.create([blueprint.addressing.namespace(node.name) for node in topology.nodes])
    _for_each_node(blueprint, "namespaces", _set_sysctls, progress)
    if kind is LinkKind.USER_SPACE:
        UserSpaceLinks.start(directory.links_control, directory.links_log)
    link_driver(kind, directory.links_control).add(planned_links(topology, blueprint.addressing))
    _for_each_node(blueprint, "addresses and routes", _configure, progress)
    points.write_configurations(
        directory,
        topology,
        blueprint.addressing,
        blueprint.routes,
        database,
        discover=discover,
        settings=settings,
    )
    if topology.routing is Routing.OSPF:
        _for_each_node(blueprint, "routing daemons", _start_ospf, progress)
        _wait_for_routes(blueprint, progress)


def _for_each_node(
    blueprint: Blueprint, stage: str, work: Callable[[Blueprint, Node], None], progress: Progress
) -> None:
    """Do some work inside each node's namespace."""
    nodes = blueprint.topology.nodes

    def work_inside(node: Node) -> None:
        namespaces.inside(blueprint.addressing.namespace(node.name), lambda: work(blueprint, node))

    progress(stage, 0, len(nodes))
    with ThreadPoolExecutor(PARALLEL_NODES) as executor:
        for done, _ in enumerate(executor.map(work_inside, nodes), start=1):
            progress(stage, done, len(nodes))


def _set_sysctls(_: Blueprint, node: Node) -> None:
    # First, since the kernel resets the others when it is written.
    values = {"net/ipv4/ip_forward": "0" if node.host else "1"}
    for which in ("all", "default"):
        values |= {path.format(which=which): value for path, value in SYSCTLS.items()}
    namespaces.write_sysctls(values)


def _configure(blueprint: Blueprint, node: Node) -> None:
    namespaces.run_batch("ip", node_commands(blueprint, node))


def node_commands(blueprint: Blueprint, node: Node) -> list[str]:
    """The `ip` commands that give a node its addresses and, where no daemon does, its routes."""
    addressing = blueprint.addressing
    identity = addressing.identities[node.name]
    commands = ["link set lo up", f"addr add {identity}/32 dev lo"]
    for plan in addressing.links_of(node.name):
        commands += _interface_commands(plan, node.name, identity)
    if node.host and len(addressing.links_of(node.name)) == 1:
        (plan,) = addressing.links_of(node.name)
        return [*commands, _route("default", plan, node.name, identity)]
    if blueprint.topology.routing is Routing.STATIC or node.host:
        commands += _static_routes(blueprint, node.name, identity)
    if blueprint.topology.routing is Routing.OSPF and node.host:
        commands += _reserve_routes(addressing, node.name, identity)
    return commands


def _interface_commands(plan: LinkPlan, node: str, identity: str) -> Iterator[str]:
    here, there = plan.end_of(node), plan.far_end_of(node)
    yield f"link set {here.interface} up"
    yield f"addr add {here.interface_address} dev {here.interface} noprefixroute"
    yield f"route add {plan.network} dev {here.interface} scope link src {identity}"
    # No ARP: its first packet would cost a round trip over the emulated link, or be lost on it.
    yield f"neigh replace {there.address} lladdr {there.mac} dev {here.interface} nud permanent"


def _route(destination: str, plan: LinkPlan, node: str, identity: str) -> str:
    via = plan.far_end_of(node).address
    return f"route add {destination} via {via} dev {plan.end_of(node).interface} src {identity}"


def _reserve_routes(addressing: Addressing, node: str, identity: str) -> Iterator[str]:
    """What a host with several links falls back to when the link of its best route is down."""
    for metric, plan in enumerate(addressing.links_of(node), start=1):
        yield f"{_route('default', plan, node, identity)} metric {metric}"


def _static_routes(blueprint: Blueprint, node: str, identity: str) -> Iterator[str]:
    addressing, routes = blueprint.addressing, blueprint.routes
    plan_to = {plan.far_end_of(node).node: plan for plan in addressing.links_of(node)}
    for name, address in addressing.identities.items():
        following = routes.next_node(node, name)
        if following is not None:
            yield _route(f"{address}/32", plan_to[following], node, identity)
    for plan in addressing.links:
        following = _next_node_to_link(blueprint, node, plan)
        if following is not None:
            yield _route(plan.network, plan_to[following], node, identity)


def _next_node_to_link(blueprint: Blueprint, node: str, plan: LinkPlan) -> str | None:
    """The next node towards a link's own addresses: towards the end that is a router; None at the link itself."""
    hosts = {n.name for n in blueprint.topology.nodes if n.host}
    ends = sorted((plan.a.node, plan.b.node), key=lambda end: end in hosts)
    return None if node in ends else blueprint.routes.next_node(node, ends[0])


def _routers(topology: Topology) -> list[Node]:
    return [node for node in topology.nodes if not node.host]


def _start_ospf(blueprint: Blueprint, node: Node) -> None:
    if node.host:
        return
    folder = blueprint.directory.node(node.name)
    configuration = folder / "bird.conf"
    log = folder / "bird.log"
    text = bird_configuration(
        blueprint.topology, blueprint.addressing, blueprint.weights, blueprint.routes, node.name, log
    )
    configuration.write_text(text)
    start_bird(configuration, folder / "bird.ctl", folder / "bird.pid")


def _wait_for_routes(blueprint: Blueprint, progress: Progress) -> None:
    """Wait until the kernels' routes are those that the costs ask for."""
    waiting = {node.name: "" for node in _routers(blueprint.topology)}
    total = len(waiting)
    deadline = time.monotonic() + ROUTE_WAIT_S
    while waiting:
        found = {
            router: missing_route(blueprint.topology, blueprint.addressing, blueprint.routes, router)
            for router in waiting
        }
        waiting = {router: destination for router, destination in found.items() if destination is not None}
        progress("OSPF routes", total - len(waiting), total)
        if waiting and time.monotonic() > deadline:
            router, destination = next(iter(waiting.items()))
            said = last_line(blueprint.directory.node(router) / "bird.log")
            raise LabError(
                f"OSPF has found no route from {router} to {destination} in {ROUTE_WAIT_S:.0f} s: {said}"
            )
        time.sleep(ROUTE_POLL_S if waiting else 0)


def _start_points_together(blueprint: Blueprint, progress: Progress) -> None:
    """Start the points, but let no hello pass before the last one runs.

    A point that starts between two others would find that they have met across it, and are measuring each other.
    """
    _for_each_node(blueprint, "hellos held", _hold_requests, progress)
    _start_points(blueprint, progress)
    _for_each_node(blueprint, "hellos let go", _let_requests_go, progress)


def _hold_requests(_: Blueprint, __: Node) -> None:
    namespaces.run_batch("ip", [f"rule add {NO_REQUESTS}"])


def _let_requests_go(_: Blueprint, __: Node) -> None:
    namespaces.run_batch("ip", [f"rule del {NO_REQUESTS}"])


def _start_points(blueprint: Blueprint, progress: Progress) -> None:
    nodes = [node.name for node in blueprint.topology.nodes if node.point]
    started = 0

    def count() -> None:
        nonlocal started
        started += 1
        progress("measurement points", started, len(nodes))

    progress("measurement points", 0, len(nodes))
    points.start_points(blueprint.directory, blueprint.addressing, nodes, count)


@contextlib.contextmanager
def _interruption_as_exception() -> Iterator[None]:
    """Within, an end by SIGTERM is an exception as Ctrl-C is, so that what was built is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _ignore_interruptions() -> None:
    """Let an impatient second Ctrl-C not stop the clearing away."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
