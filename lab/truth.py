"""What a path's quality must be, from the configured links on it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.impairment import Impairment
from lab.topology import Link, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The configured quality of the present route between two nodes."""

    path: tuple[str, ...]
    """The nodes from source to destination; where the route breaks off, up to there."""
    complete: bool
    """Whether the route reaches the destination over links that are up."""
    hops: int | None
    """Links on the route, as the metric counts; None where it breaks off, as for the delays and what follows."""
    delay_ms: float | None
    """Sum of the mean one-way delays."""
    rtt_ms: float | None
    """The same, with the route back; None too if only that one breaks off."""
    loss_ratio: float
    """1 - prod(1 - p) over the links of the way forth; 1 where it breaks off."""
    capacity_mbit_s: float | None
    """The least `rate_mbit` on the way forth, counted as a link counts; None too where no link has a limit.

    Points know the links at their own interfaces alone: what they tell is the least of those."""
    mtu_octets: int | None
    """The least on the way forth; None too for the way to oneself, which crosses no link."""


def truth_of(topology: Topology, forth: Sequence[str], back: Sequence[str]) -> Truth:
    """Add up the links.

    Args:
        topology: the network with its present impairments.
        forth: the nodes of the present route, source first; it is whole if it ends where `back` starts.
        back: the present route from the destination to the source.
    """
    complete = forth[-1] == back[0] and _is_up(topology, forth)
    returns = back[-1] == forth[0] and _is_up(topology, back)
    delay_ms = _delay_ms(topology, forth) if complete else None
    return Truth(
        path=tuple(forth),
        complete=complete,
        hops=len(forth) - 1 if complete else None,
        delay_ms=delay_ms,
        rtt_ms=None if delay_ms is None or not returns else round(delay_ms + _delay_ms(topology, back), 6),
        loss_ratio=_loss_ratio(topology, forth) if complete else 1.0,
        capacity_mbit_s=_capacity_mbit_s(topology, forth) if complete else None,
        mtu_octets=_mtu_octets(topology, forth) if complete else None,
    )


def _links(topology: Topology, path: Sequence[str]) -> list[Link]:
    return [topology.links[topology.link_index(here, there)] for here, there in pairwise(path)]


def _impairments(topology: Topology, path: Sequence[str]) -> list[Impairment]:
    links = _links(topology, path)
    return [link.impairment_from(here) for here, link in zip(path, links, strict=False)]


def _is_up(topology: Topology, path: Sequence[str]) -> bool:
    return all(link.up for link in _links(topology, path))


def _delay_ms(topology: Topology, path: Sequence[str]) -> float:
    # Rounded to the nanosecond, so that 0.1 + 0.2 reads 0.3.
    return round(math.fsum(impairment.delay_ms for impairment in _impairments(topology, path)), 6)


def _loss_ratio(topology: Topology, path: Sequence[str]) -> float:
    return round(1 - math.prod(1 - impairment.loss_ratio for impairment in _impairments(topology, path)), 12)


def _capacity_mbit_s(topology: Topology, path: Sequence[str]) -> float | None:
    rates = (impairment.rate_mbit for impairment in _impairments(topology, path))
    return min((rate for rate in rates if rate is not None), default=None)


def _mtu_octets(topology: Topology, path: Sequence[str]) -> int | None:
    return min((link.mtu_octets for link in _links(topology, path)), default=None)
