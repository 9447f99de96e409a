"""A smaller network of the same shape: nodes that lie nearest to each other become one."""

from __future__ import annotations

from dataclasses import replace

from lab.impairment import Impairment
from lab.topology import Link, Topology
from schemas.errors import UsageError


def thinned(topology: Topology, nodes: int) -> Topology:
    """The network with so many nodes left.

    Again and again the link of the least cost goes (of several, the first of the file), and with it the node
    at one end of it: the one with fewer links. Its other links end at the node that stays, and get the delay
    and the cost of the link that went on top of their own, so that what is left lies as far apart as before.
    Of two links between the same nodes, the one of the greater cost goes.

    Args:
        topology: the network; what its links do to packets apart from the delay is not added up.
        nodes: how many shall stay; a network that has no more is returned as it is.

    Raises:
        UsageError: fewer than two nodes, or than the parts that no link joins.
    """
    if nodes < 2:
        raise UsageError("--thin", nodes, "at least 2 nodes")
    links = list(topology.links)
    gone: set[str] = set()
    while len(topology.nodes) - len(gone) > nodes:
        if not links:
            raise UsageError("--thin", nodes, f"at least {len(topology.nodes) - len(gone)}, which no link joins")
        shortest = min(links, key=lambda link: link.cost)
        kept, merged = sorted((shortest.a, shortest.b), key=lambda name: -_degree(links, name))
        gone.add(merged)
        links = _contracted(links, shortest, kept, merged)
    left = tuple(node for node in topology.nodes if node.name not in gone)
    return replace(topology, nodes=left, links=tuple(links))


def _degree(links: list[Link], name: str) -> int:
    return sum(name in (link.a, link.b) for link in links)


def _contracted(links: list[Link], gone: Link, kept: str, merged: str) -> list[Link]:
    """The links, in their order, once `merged` has become a part of `kept`."""
    left: dict[frozenset[str], Link] = {}
    for link in links:
        if link is gone:
            continue
        moved = _moved(link, gone, kept, merged) if merged in (link.a, link.b) else link
        ends = frozenset((moved.a, moved.b))
        if ends not in left or moved.cost < left[ends].cost:
            left[ends] = moved
    return list(left.values())


def _moved(link: Link, gone: Link, kept: str, merged: str) -> Link:
    outward, inward = gone.impairment_from(kept), gone.impairment_from(merged)
    forth, back = (outward, inward) if link.a == merged else (inward, outward)
    return replace(
        link,
        a=kept if link.a == merged else link.a,
        b=kept if link.b == merged else link.b,
        a_to_b=_later(link.a_to_b, forth),
        b_to_a=_later(link.b_to_a, back),
        cost=link.cost + gone.cost,
    )


def _later(impairment: Impairment, before: Impairment) -> Impairment:
    return replace(impairment, delay_ms=round(impairment.delay_ms + before.delay_ms, 3))
