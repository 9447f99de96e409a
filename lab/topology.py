"""A network to emulate, as data: nodes, links, areas, which nodes run a measurement point.

`lab/scenarios/two_areas.toml` is the manual of the file format. Nothing here touches the machine.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from lab.impairment import Impairment
from schemas.errors import ConfigurationError, UsageError

MAX_LAB_NAME_LENGTH = 24
MAX_NODE_NAME_LENGTH = 40
"""Together with the state directory, a Unix socket's path stays below the 108 octets of `sockaddr_un`."""

DEFAULT_AREA = "area-1"
DEFAULT_COST = 10
"""The customary cost of an OSPF interface of 10 Mbit/s; only the ratios of costs matter."""

MAX_COST = 1_000_000
"""A GraphML link's cost is its delay in microseconds; 1 s is beyond any link on Earth. OSPF allows less."""

DEFAULT_MTU_OCTETS = 1500
MIN_MTU_OCTETS = 576
"""A datagram that every IPv4 host takes (RFC 791, section 3.1)."""

MAX_MTU_OCTETS = 9000
"""The usual size of jumbo frames."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_TOPOLOGY_KEYS = ("name", "routing", "nodes", "links")
_NODE_KEYS = ("area", "point", "host", "serves")
_IMPAIRMENT_KEYS = ("delay_ms", "jitter_ms", "loss_ratio", "rate_mbit", "drops_options", "up")
_LINK_KEYS = ("a", "b", "cost", "mtu", *_IMPAIRMENT_KEYS, "a_to_b", "b_to_a")


class Routing(StrEnum):
    """How the routers learn their routes."""

    STATIC = "static"
    OSPF = "ospf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One router or host."""

    name: str
    area: str = DEFAULT_AREA
    point: bool = False
    """Whether a measurement point runs here."""
    host: bool = False
    """A host has routes of its own but forwards nothing."""
    serves: tuple[str, ...] = ()
    """Names of nodes, or prefixes, that this point answers for besides the hosts attached to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One point-to-point link; each direction has its own impairment, cost and MTU are those of both.

    Raises:
        UsageError: the MTU is beyond its bounds.
    """

    a: str
    b: str
    a_to_b: Impairment
    b_to_a: Impairment
    cost: int = DEFAULT_COST
    mtu_octets: int = DEFAULT_MTU_OCTETS
    """Of the interfaces at both ends: the longest IP packet that crosses in one piece."""

    def __post_init__(self) -> None:
        _whole_number("mtu", self.mtu_octets, MIN_MTU_OCTETS, MAX_MTU_OCTETS)

    @property
    def up(self) -> bool:
        """Whether the cable is plugged in; one that is cut one way is cut."""
        return self.a_to_b.up and self.b_to_a.up

    def joins(self, one: str, other: str) -> bool:
        """Whether this link lies between the two nodes, in either order."""
        return {self.a, self.b} == {one, other}

    def impairment_from(self, node: str) -> Impairment:
        """What a packet meets that enters the link at `node`."""
        return self.a_to_b if node == self.a else self.b_to_a

    def far_end(self, node: str) -> str:
        """The node at the other end."""
        return self.b if node == self.a else self.a


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole network; the order of nodes and links is that of the file and gives the addresses."""

    name: str
    routing: Routing
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]

    def node(self, name: str, field: str = "node") -> Node:
        """Return the node of that name.

        Raises:
            UsageError: there is none; the error offers names that look alike.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise UsageError(field, name, expected_name(name, [node.name for node in self.nodes], "a node"))

    def link_index(self, one: str, other: str) -> int:
        """Return the place in `links` of the link between the two nodes.

        Raises:
            UsageError: a node is unknown, or no link joins the two; the error names the neighbors.
        """
        self.node(one, "A")
        self.node(other, "B")
        for index, link in enumerate(self.links):
            if link.joins(one, other):
                return index
        neighbors = sorted(link.far_end(one) for link in self.links if one in (link.a, link.b))
        raise UsageError("link", f"{one} {other}", f"a neighbor of {one}: {', '.join(neighbors) or 'it has none'}")

    def with_link(self, index: int, link: Link) -> Topology:
        """The same network with one link replaced."""
        return replace(self, links=(*self.links[:index], link, *self.links[index + 1 :]))

    def with_points(self, wish: str) -> Topology:
        """The same network with other points.

        Args:
            wish: `all` (every router, and the hosts that the file marks) or names between commas.

        Raises:
            UsageError: a name is unknown.
        """
        if wish == "all":
            return replace(self, nodes=tuple(replace(n, point=n.point or not n.host) for n in self.nodes))
        names = [name.strip() for name in wish.split(",") if name.strip()]
        for name in names:
            self.node(name, "--points")
        if not names:
            raise UsageError("--points", wish, "all, or names of nodes between commas")
        return replace(self, nodes=tuple(replace(n, point=n.name in names) for n in self.nodes))


def expected_name(name: str, known: Sequence[str], what: str) -> str:
    """The expectation to show for a name that is unknown: close matches first, else some that exist."""
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if close:
        return f"{what}; did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    return f"{what}: {shown or 'there is none'}"


def check_name(field: str, name: object, max_length: int) -> str:
    """Return the name if it can be part of a namespace's name and of a path.

    Raises:
        UsageError: it is no string of lower-case letters, digits and inner hyphens, or it is too long.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > max_length:
        raise UsageError(
            field, name, f"lower-case letters, digits and inner hyphens, at most {max_length} characters"
        )
    return name


def topology_from_toml(data: bytes, file: str) -> Topology:
    """Read a topology file.

    Args:
        data: what the file holds.
        file: its name, for the errors.

    Raises:
        ConfigurationError: names the file, the table and the key that cannot be meant.
    """
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(file, str(error), "a TOML document") from None
    try:
        return topology_from_json(document)
    except UsageError as error:
        raise ConfigurationError(f"{file}: {error.field}", error.value, error.expected) from None


def topology_from_json(document: Mapping[str, Any]) -> Topology:
    """Read a topology from plain values, as TOML and JSON give them.

    Raises:
        UsageError: names the table and the key that cannot be meant.
    """
    _refuse_unknown_keys("", document, _TOPOLOGY_KEYS)
    node_tables = _table("nodes", document.get("nodes", {}))
    topology = Topology(
        name=check_name("name", document.get("name"), MAX_LAB_NAME_LENGTH),
        routing=_routing(document.get("routing", Routing.STATIC.value)),
        nodes=tuple(_node(name, table) for name, table in node_tables.items()),
        links=tuple(
            _link(f"[[links]] {number}", table)
            for number, table in enumerate(_list("links", document.get("links", [])), start=1)
        ),
    )
    check_topology(topology)
    return topology


def topology_to_json(topology: Topology) -> dict[str, Any]:
    """The plain values from which `topology_from_json` makes an equal topology."""
    return {
        "name": topology.name,
        "routing": topology.routing.value,
        "nodes": {
            node.name: {
                "area": node.area,
                "point": node.point,
                "host": node.host,
                "serves": list(node.serves),
            }
            for node in topology.nodes
        },
        "links": [
            {
                "a": link.a,
                "b": link.b,
                "cost": link.cost,
                "mtu": link.mtu_octets,
                "a_to_b": link.a_to_b.to_json(),
                "b_to_a": link.b_to_a.to_json(),
            }
            for link in topology.links
        ],
    }


def check_topology(topology: Topology) -> None:
    """Check what no single table shows: that names refer to nodes and that links are single.

    Raises:
        UsageError: names the table and the key.
    """
    if not topology.nodes:
        raise UsageError("[nodes]", "no table", "at least one [nodes.NAME]")
    names = [node.name for node in topology.nodes]
    known = set(names)
    seen: dict[frozenset[str], int] = {}
    for number, link in enumerate(topology.links, start=1):
        table = f"[[links]] {number}"
        for key, name in (("a", link.a), ("b", link.b)):
            if name not in known:
                raise UsageError(f"{table}: {key}", name, expected_name(name, names, "a node of this file"))
        if link.a == link.b:
            raise UsageError(f"{table}: b", link.b, "another node than a")
        first = seen.setdefault(frozenset((link.a, link.b)), number)
        if first != number:
            raise UsageError(table, f"{link.a} {link.b}", f"one link for a pair; [[links]] {first} joins it too")
    for node in topology.nodes:
        _check_serves(node, known)


def _check_serves(node: Node, known: Iterable[str]) -> None:
    for served in node.serves:
        if served in known:
            continue
        try:
            ipaddress.IPv4Network(served)
        except ValueError:
            raise UsageError(
                f"[nodes.{node.name}]: serves", served, "names of nodes or IPv4 prefixes such as 192.0.2.0/24"
            ) from None


def _routing(value: object) -> Routing:
    try:
        return Routing(str(value))
    except ValueError:
        raise UsageError("routing", value, " or ".join(f'"{routing}"' for routing in Routing)) from None


def _node(name: str, value: object) -> Node:
    field = f"[nodes.{name}]"
    check_name(field, name, MAX_NODE_NAME_LENGTH)
    table = _table(field, value)
    _refuse_unknown_keys(field, table, _NODE_KEYS)
    return Node(
        name=name,
        area=_area(f"{field}: area", table.get("area", DEFAULT_AREA)),
        point=_flag(f"{field}: point", table.get("point", False)),
        host=_flag(f"{field}: host", table.get("host", False)),
        serves=tuple(
            _string(f"{field}: serves", served) for served in _list(f"{field}: serves", table.get("serves", []))
        ),
    )


def _area(field: str, value: object) -> str:
    return check_name(field, value, MAX_NODE_NAME_LENGTH)


def _link(field: str, value: object) -> Link:
    table = _table(field, value)
    _refuse_unknown_keys(field, table, _LINK_KEYS)
    for end in ("a", "b"):
        if end not in table:
            raise UsageError(f"{field}: {end}", "nothing", "the name of a node")
    common = {key: table[key] for key in _IMPAIRMENT_KEYS if key in table}
    a_to_b, b_to_a = (_direction(field, key, common, table) for key in ("a_to_b", "b_to_a"))
    if a_to_b.up != b_to_a.up:
        raise UsageError(f"{field}: up", "one way", "the same both ways; loss_ratio = 1 cuts one direction")
    return Link(
        a=_string(f"{field}: a", table["a"]),
        b=_string(f"{field}: b", table["b"]),
        a_to_b=a_to_b,
        b_to_a=b_to_a,
        cost=_whole_number(f"{field}: cost", table.get("cost", DEFAULT_COST), 1, MAX_COST),
        mtu_octets=_whole_number(
            f"{field}: mtu", table.get("mtu", DEFAULT_MTU_OCTETS), MIN_MTU_OCTETS, MAX_MTU_OCTETS
        ),
    )


def _direction(field: str, key: str, common: Mapping[str, Any], table: Mapping[str, Any]) -> Impairment:
    own = _table(f"{field}: {key}", table.get(key, {}))
    _refuse_unknown_keys(f"{field}: {key}", own, _IMPAIRMENT_KEYS)
    try:
        return Impairment.from_json({**common, **own})
    except UsageError as error:
        where = f"{field}: {key}" if error.field in own else field
        raise UsageError(f"{where}: {error.field}", error.value, error.expected) from None


def _whole_number(field: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(field, value, f"a whole number from {least} to {most}")
    return value


def _refuse_unknown_keys(field: str, table: Mapping[str, object], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{field}: {key}" if field else key, key, expected_name(key, known, "a known key"))


def _table(field: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(field, value, "a table")
    return value


def _list(field: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(field, value, "a list")
    return value


def _string(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(field, value, "a string")
    return value


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(field, value, "true or false")
    return value
