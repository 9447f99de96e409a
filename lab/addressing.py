"""Which names and addresses a topology's nodes and links get: a pure function of the topology.

Each node has one identity, a /32 on its loopback interface, which all its packets leave from. Each link has a
/30. Both follow from the order in the file, so the same file gives the same addresses each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from lab.topology import Link, Topology
from schemas.errors import UsageError

IDENTITIES = IPv4Network("10.255.0.0/16")
LINK_NETWORKS = IPv4Network("10.0.0.0/9")
LINK_PREFIX_LENGTH = 30

NODES_PER_BLOCK = 254
"""Identities use 1 to 254 of each /24, so that no one takes one for a network or broadcast address."""

MAX_NODES = NODES_PER_BLOCK * 256
MAX_LINKS = LINK_NETWORKS.num_addresses // 4

MAX_INTERFACE_NAME_LENGTH = 15
"""IFNAMSIZ of the kernel is 16 with the closing zero."""

NAMESPACE_PREFIX = "inpath-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnd:
    """One of the two interfaces of a link."""

    node: str
    interface: str
    mac: str
    address: str

    @property
    def interface_address(self) -> str:
        """The address with its prefix length."""
        return f"{self.address}/{LINK_PREFIX_LENGTH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """Names and addresses of one link."""

    a: LinkEnd
    b: LinkEnd
    network: str

    def end_of(self, node: str) -> LinkEnd:
        """The end at `node`."""
        return self.a if node == self.a.node else self.b

    def far_end_of(self, node: str) -> LinkEnd:
        """The end at the other node."""
        return self.b if node == self.a.node else self.a


@dataclass(frozen=True, slots=True)
class Addressing:
    """Names and addresses of a whole lab."""

    lab: str
    identities: Mapping[str, str]
    """Node name -> loopback address."""
    links: tuple[LinkPlan, ...]
    """In the order of the topology's links."""

    def namespace(self, node: str) -> str:
        """The network namespace of a node."""
        return namespace_name(self.lab, node)

    def links_of(self, node: str) -> list[LinkPlan]:
        """The links at a node."""
        return [link for link in self.links if node in (link.a.node, link.b.node)]


def namespace_name(lab: str, node: str) -> str:
    """The network namespace of a node, as `ip netns` shows it."""
    return f"{NAMESPACE_PREFIX}{lab}-{node}"


def addressing_of(topology: Topology) -> Addressing:
    """Give each node and link its names and addresses.

    Raises:
        UsageError: more nodes or links than there are addresses.
    """
    if len(topology.nodes) > MAX_NODES:
        raise UsageError("[nodes]", len(topology.nodes), f"at most {MAX_NODES} nodes")
    if len(topology.links) > MAX_LINKS:
        raise UsageError("[[links]]", len(topology.links), f"at most {MAX_LINKS} links")
    return Addressing(
        lab=topology.name,
        identities={node.name: _identity(index) for index, node in enumerate(topology.nodes)},
        links=tuple(_link_plans(topology)),
    )


def interface_name(neighbor: str, link_index: int) -> str:
    """`to-NEIGHBOR` where that fits into an interface's name, else the link's number and a shortened name."""
    readable = f"to-{neighbor}"
    if len(readable) <= MAX_INTERFACE_NAME_LENGTH:
        return readable
    return f"l{link_index}-{neighbor}"[:MAX_INTERFACE_NAME_LENGTH]


def _identity(index: int) -> str:
    block, place = divmod(index, NODES_PER_BLOCK)
    return str(IDENTITIES.network_address + block * 256 + place + 1)


def _link_plans(topology: Topology) -> Iterator[LinkPlan]:
    for index, link in enumerate(topology.links):
        first = LINK_NETWORKS.network_address + 4 * index
        yield LinkPlan(
            a=_link_end(link, link.a, index, side=1, first=first),
            b=_link_end(link, link.b, index, side=2, first=first),
            network=f"{first}/{LINK_PREFIX_LENGTH}",
        )


def _link_end(link: Link, node: str, index: int, *, side: int, first: IPv4Address) -> LinkEnd:
    return LinkEnd(
        node=node,
        interface=interface_name(link.far_end(node), index),
        # 02: a locally administered address (IEEE 802, clause 8.4); then the link's number and the side.
        mac="02:00:" + ":".join(f"{byte:02x}" for byte in (*index.to_bytes(3, "big"), side)),
        address=str(first + side),
    )
