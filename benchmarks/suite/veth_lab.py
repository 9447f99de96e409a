"""Labs whose links do nothing to packets: veth pairs, as cheap as the kernel has them.

The links of `inpath lab` emulate delay, loss and rate, in user space where the kernel has no netem, and that costs
more than what is measured here. Names, addresses, routes and configurations are the lab's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.suite.delayed_lab import lab_place
from lab import namespaces
from lab.build import SYSCTLS, blueprint_of, node_commands
from lab.links import LinkKind, finish_checksums, planned_links, veth_command
from lab.network import Lab
from lab.points import write_configurations
from lab.state import LabState, Phase
from lab.topology import topology_from_json


@contextmanager
def veth_lab(topology: Mapping[str, Any]) -> Iterator[Lab]:
    """A lab of this topology in which no point runs yet; nothing of it stays.

    Args:
        topology: nodes and links, without a name and without impairments.

    Raises:
        HostError: the machine refuses, as it does to all but root.
    """
    with lab_place() as name:
        yield _built(name, topology)


def _built(name: str, document: Mapping[str, Any]) -> Lab:
    blueprint = blueprint_of(topology_from_json({"name": name, **document}))
    topology, addressing, directory = blueprint.topology, blueprint.addressing, blueprint.directory
    directory.create(LabState(topology=topology, link_kind=LinkKind.NETEM, phase=Phase.UP))
    namespaces.create([addressing.namespace(node.name) for node in topology.nodes])
    for node in topology.nodes:
        namespaces.inside(addressing.namespace(node.name), partial(namespaces.write_sysctls, _sysctls()))
    links = planned_links(topology, addressing)
    namespaces.run_batch("ip", [veth_command(link) for link in links])
    for end in (end for link in links for end in (link.a, link.b)):
        namespaces.inside(end.namespace, partial(finish_checksums, end.interface))
    for node in topology.nodes:
        commands = partial(namespaces.run_batch, "ip", node_commands(blueprint, node))
        namespaces.inside(addressing.namespace(node.name), commands)
    write_configurations(directory, topology, addressing, blueprint.routes, None)
    return Lab(directory)


def _sysctls() -> dict[str, str]:
    found = {"net/ipv4/ip_forward": "1"}
    for which in ("all", "default"):
        found |= {path.format(which=which): value for path, value in SYSCTLS.items()}
    return found
