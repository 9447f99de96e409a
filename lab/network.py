"""Labs that exist: find one, change its links, ask what is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lab.addressing import LinkEnd, addressing_of
from lab.fib import present_path
from lab.impairment import Impairment
from lab.links import link_driver, planned_link
from lab.points import kill_point, point_pid, start_point, stop_point
from lab.state import LabDirectory, Phase, lab_directory, lab_names
from lab.topology import Link, Node, Topology, expected_name
from lab.truth import Truth, truth_of
from schemas.errors import LabError, UsageError


class Lab:
    """A lab that exists."""

    def __init__(self, directory: LabDirectory) -> None:
        self.directory = directory
        self.state = directory.read()
        self.addressing = addressing_of(self.state.topology)

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.directory.name

    @property
    def topology(self) -> Topology:
        """The network with its present impairments."""
        return self.state.topology

    def set_link(
        self,
        one: str,
        other: str,
        changes: Mapping[str, Any],
        *,
        one_way: bool = False,
        mtu_octets: int | None = None,
    ) -> Link:
        """Change what a link does to packets, from now on.

        Args:
            one: the node at one end.
            other: the node at the other end.
            changes: fields of `Impairment` with their new values; the others stay.
            one_way: change only the direction from `one` to `other`.
            mtu_octets: of the interfaces at both ends; None leaves it.

        Returns:
            The link as it is now.

        Raises:
            UsageError: no such link, or a value that an impairment or a link refuses.
            LabError: the process of the links is gone.
        """
        with self.directory.locked():
            self.state = self.directory.read()
            index = self.topology.link_index(one, other)
            link = _changed(self.topology.links[index], one, changes, one_way=one_way)
            if mtu_octets is not None:
                link = replace(link, mtu_octets=mtu_octets)
            topology = self.topology.with_link(index, link)
            driver = link_driver(self.state.link_kind, self.directory.links_control)
            driver.set(planned_link(topology, self.addressing, index))
            self.state = self.state.with_topology(topology)
            self.directory.write(self.state)
        return link

    def truth(self, source: str, destination: str) -> Truth:
        """What the configured links on the present routes add up to.

        Raises:
            UsageError: a node is unknown.
        """
        self.topology.node(source, "A")
        self.topology.node(destination, "B")
        forth = present_path(self.addressing, source, destination)
        back = present_path(self.addressing, destination, source)
        return truth_of(self.topology, forth, back)

    def start_point(self, node: str) -> None:
        """Start the measurement point of a node.

        Raises:
            UsageError: the node has none.
            LabError: it runs already, or it does not start.
        """
        start_point(self.directory, self.addressing, self._point(node))

    def stop_point(self, node: str) -> None:
        """End the measurement point of a node in good order.

        Raises:
            UsageError: the node has none.
            LabError: it does not run.
        """
        stop_point(self.directory, self.addressing, self._point(node))

    def kill_point(self, node: str) -> None:
        """Kill the measurement point of a node, to try what the others do then.

        Raises:
            UsageError: the node has none.
            LabError: it does not run.
        """
        kill_point(self.directory, self.addressing, self._point(node))

    def _point(self, name: str) -> str:
        if not self.topology.node(name, "NODE").point:
            points = [node.name for node in self.topology.nodes if node.point]
            raise UsageError("NODE", name, expected_name(name, points, "a node with a measurement point"))
        return name


def describe_labs(name: str | None = None) -> list[dict[str, Any]]:
    """One lab, or all of this machine, as plain values for JSON; of a broken one only its name is known.

    Raises:
        UsageError: there is no lab of that name.
    """
    names = lab_names() if name is None else [chosen_name(name)]
    return [_describe_or_broken(each) for each in names]


def _describe_or_broken(name: str) -> dict[str, Any]:
    try:
        return describe(Lab(lab_directory(name)))
    except LabError:
        return {"name": name, "phase": "broken", "routing": None, "link_kind": None, "nodes": [], "links": []}


def find_lab(name: str | None) -> Lab:
    """The lab of that name; without a name, the only one there is.

    Raises:
        UsageError: no such lab, or several to choose from.
        LabError: its state is broken, or it is only half built.
    """
    lab = Lab(lab_directory(chosen_name(name)))
    if lab.state.phase is Phase.BUILDING:
        raise LabError(f"lab {lab.name} is not whole: it is being built, or its building was cut short")
    return lab


def chosen_name(name: str | None) -> str:
    """The name of a lab that exists; without a name, the only one there is.

    Raises:
        UsageError: no such lab, or several to choose from.
    """
    names = lab_names()
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        some = f"one of the labs that are up: {', '.join(names)}"
        none = "a lab that is up; bring one up with: inpath lab up FILE"
        raise UsageError("--name", "nothing", some if names else none)
    if name not in names:
        raise UsageError("lab", name, expected_name(name, names, "a lab that is up"))
    return name


def _changed(link: Link, one: str, changes: Mapping[str, Any], *, one_way: bool) -> Link:
    # The cable itself is up or down for both, whatever else is asked for one direction.
    both_ways = {key: value for key, value in changes.items() if key == "up" or not one_way}
    forth = changes if one == link.a else both_ways
    back = both_ways if one == link.a else changes
    return replace(link, a_to_b=_impaired(link.a_to_b, forth), b_to_a=_impaired(link.b_to_a, back))


def _impaired(impairment: Impairment, changes: Mapping[str, Any]) -> Impairment:
    return replace(impairment, **changes)


def describe(lab: Lab) -> dict[str, Any]:
    """All that there is to know of a lab, as plain values for JSON."""
    return {
        "name": lab.name,
        "phase": lab.state.phase.value,
        "routing": lab.topology.routing.value,
        "link_kind": lab.state.link_kind.value,
        "nodes": [_describe_node(lab, node) for node in lab.topology.nodes],
        "links": [describe_link(lab, index) for index in range(len(lab.topology.links))],
    }


def _describe_node(lab: Lab, node: Node) -> dict[str, Any]:
    ends = [link.end_of(node.name) for link in lab.addressing.links_of(node.name)]
    return {
        "name": node.name,
        "area": node.area,
        "address": lab.addressing.identities[node.name],
        "namespace": lab.addressing.namespace(node.name),
        "point": node.point,
        "pid": point_pid(lab.directory, lab.addressing, node.name) if node.point else None,
        "host": node.host,
        "interfaces": [_describe_end(end) for end in ends],
    }


def _describe_end(end: LinkEnd) -> dict[str, str]:
    return {"name": end.interface, "address": end.interface_address, "mac": end.mac}


def describe_link(lab: Lab, index: int) -> dict[str, Any]:
    """One link with its present state, as plain values for JSON."""
    link, plan = lab.topology.links[index], lab.addressing.links[index]
    return {
        "a": link.a,
        "b": link.b,
        "a_interface": plan.a.interface,
        "b_interface": plan.b.interface,
        "network": plan.network,
        "cost": link.cost,
        "mtu_octets": link.mtu_octets,
        "a_to_b": link.a_to_b.to_json(),
        "b_to_a": link.b_to_a.to_json(),
    }
