"""What this point knows of whole paths from here on, so that it can answer in the place of the points there."""

from __future__ import annotations

from dataclasses import dataclass

from processor.segment_table import PreparedSegment
from schemas.glance import Glance

MAX_TAILS = 4096
"""A few KiB each; a point greets no more destinations than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TailSegment:
    """One segment further on, as `current` told of it."""

    current: str
    segment: PreparedSegment


Tail = tuple[TailSegment, ...]
"""The segments from this point to the last point of a path, in their order."""


class TailTable:
    """The tails by destination; whoever hears of other points' segments puts them in, the pipeline reads them."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}

    def put(self, destination: str, tail: Tail) -> None:
        """Take this for all that is known of the path to `destination`; nothing happens when the table is full."""
        if destination in self._tails or len(self._tails) < MAX_TAILS:
            self._tails[destination] = tail

    def remove(self, destination: str) -> None:
        """Forget a path; nothing happens if it is not known."""
        self._tails.pop(destination, None)

    def __contains__(self, destination: str) -> bool:
        return destination in self._tails

    def fresh(self, glance: Glance, *, now_ms: int) -> Tail | None:
        """The path to the request's destination, if the request allows an answer from it.

        It does when every segment is young enough, and when the last point has nothing else to do for it: a way
        back begins there.
        """
        tail = self._tails.get(glance.destination)
        if tail is None or not glance.max_age_ms or glance.hello or glance.request.return_id is not None:
            return None
        oldest_at_ms = now_ms - glance.max_age_ms
        if any(one.segment.newest_sample_at_ms < oldest_at_ms for one in tail):
            return None
        if any(not set(glance.metrics) <= one.segment.metrics.keys() for one in tail):
            return None  # its own point may measure it when it is asked
        if any(one.current in glance.points for one in tail):
            return None  # routes are changing
        return tail
