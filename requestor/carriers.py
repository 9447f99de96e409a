"""Which carrier the copies of a request take: what came through last time first, then the others (pure)."""

from __future__ import annotations

from collections import OrderedDict

from schemas.message import Carrier

REMEMBERED = 1024
"""Destinations of which is known what came through."""


class CarrierMemory:
    """What came through to each destination."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Carrier] = OrderedDict()

    def order(self, destination: str, forced: Carrier | None) -> tuple[Carrier, ...]:
        """The carriers of the first, second and following copies, again and again."""
        if forced is not None:
            return (forced,)
        best = self._known.get(destination, Carrier.ROUTER_ALERT)
        return (best, *(carrier for carrier in Carrier if carrier is not best))

    def came_through(self, destination: str, carrier: Carrier) -> None:
        """An answer came to a copy that took this carrier."""
        self._known[destination] = carrier
        self._known.move_to_end(destination)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
