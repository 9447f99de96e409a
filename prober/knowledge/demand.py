"""What a point must do so that others can tell the paths through it (pure).

Who has this point as the next toward a destination can tell the path only when this point says where it goes on.
So interest travels along a path from point to point, and nobody greets destinations of which nobody asks. And
where answers are told instead of walked, no request passes by that would keep a segment measured: what is told is
wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prober.knowledge.database import Table


@dataclass(frozen=True, slots=True)
class Demand:
    """What others want of this point."""

    destinations: frozenset[str]
    """Toward these it is to find its next point."""
    asked: frozenset[str]
    """Those of them toward which paths were told of late."""
    upstreams: frozenset[str]
    """Segments from these points are to be measured: they were told."""


def demand_on(own: Table, others: Iterable[Table]) -> Demand:
    """What the other points want of this one.

    Args:
        own: what this point says of itself.
        others: all tables that are known.
    """
    destinations: set[str] = set()
    asked: set[str] = set()
    upstreams: set[str] = set()
    for table in others:
        for destination, following in table.next_points.items():
            if following != own.origin:
                continue
            is_asked = destination in table.asked
            if is_asked:
                upstreams.add(table.origin)
            if not own.is_last_for(destination):
                destinations.add(destination)
                if is_asked:
                    asked.add(destination)
    return Demand(frozenset(destinations), frozenset(asked), frozenset(upstreams))
