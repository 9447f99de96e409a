"""The way from one point to a destination, as the points on it tell where each goes on (pure)."""

from __future__ import annotations

from collections.abc import Callable

from prober.knowledge.database import Table

MAX_POINTS = 255
"""More cannot lie on one path (TTL 255)."""

TableOf = Callable[[str], Table | None]
"""What a point says of itself now."""


def route(table_of: TableOf, point: str, destination: str) -> tuple[Table, ...] | None:
    """The points after `point`, up to the one that is last for `destination`.

    None where a point is unknown or says nothing of the destination, and where they contradict each other: during
    a change two tables may be of different moments, and a loop is what that looks like.
    """
    here = table_of(point)
    found: list[Table] = []
    seen = {point}
    while here is not None and not here.is_last_for(destination):
        following = here.next_points.get(destination)
        if following is None or following in seen or len(found) >= MAX_POINTS:
            return None
        here = table_of(following)
        if here is not None:
            seen.add(following)
            found.append(here)
    return None if here is None else tuple(found)
