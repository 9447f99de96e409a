"""Which neighbor lies toward which destination, found by hellos (pure).

A hello is a measure request that ends at the first point that it meets. The point that answers it is the neighbor
toward that destination, and begins to measure the segment. Hellos go on at a slow pace, so that a changed route is
noticed without anyone's configuration: the neighbor on the new way answers, and the old one is asked for no more.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass

MAX_DESTINATIONS = 256
"""Beyond it the learned destination that was of interest longest ago is forgotten."""
FIRST_RETRY_MS = 2_000
"""An unanswered hello is repeated this soon, then after twice as long, up to the usual interval."""
DEFAULT_INTERVAL_S = 60.0
_JITTER = 0.2
"""Hellos of many points must not fall into step (RFC 3432 section 4.3 on synchronization)."""


@dataclass(frozen=True, slots=True)
class Hello:
    """One to send."""

    destination: str
    id: str
    """128 bits as hexadecimal digits; the answer repeats it."""
    is_plain: bool = False
    """Without router alert: the one before, with it, was not answered, and routers may drop IP options."""


@dataclass(frozen=True, slots=True)
class NeighborChange:
    """The neighbor toward a destination is another one than before."""

    destination: str
    before: str | None
    """None for the first answer."""
    now: str


@dataclass(slots=True)
class _Destination:
    configured: bool
    next_at_ms: int
    neighbor: str | None = None
    id: str | None = None
    """Of the hello that is not answered yet."""
    unanswered: int = 0
    is_plain: bool = False
    """How the last hello went; what was answered goes the same way again."""
    is_doubted: bool = False
    """Routes have changed since the last answer: the neighbor may be another by now."""


class Discovery:
    """Looks for the neighbors of one point.

    Args:
        random_source: draws the times of hellos, and their ids; ids are secrets, so let it be a `SystemRandom`.
        interval_ms: between two hellos to one destination.
    """

    def __init__(self, *, random_source: random.Random, interval_ms: int) -> None:
        self._random = random_source
        self._interval_ms = interval_ms
        self._destinations: OrderedDict[str, _Destination] = OrderedDict()
        self._waiting: dict[str, str] = {}
        """Destinations by the ids of hellos that are not answered."""

    def seek(self, destination: str, now_ms: int, *, configured: bool = False) -> None:
        """Take an interest in the neighbor toward `destination`, at once if it is new."""
        known = self._destinations.get(destination)
        if known is None:
            self._make_room()
            known = self._destinations[destination] = _Destination(configured=configured, next_at_ms=now_ms)
        known.configured |= configured
        self._destinations.move_to_end(destination)

    def doubt(self, now_ms: int) -> None:
        """Routes may have changed: greet all anew, now; until they answer, their neighbors are not known."""
        for destination in self._destinations.values():
            destination.is_doubted = True
            destination.unanswered = 0
            destination.next_at_ms = now_ms

    def due(self, now_ms: int) -> list[Hello]:
        """The hellos to send now."""
        hellos = []
        for address, destination in self._destinations.items():
            if destination.next_at_ms > now_ms:
                continue
            self._give_up(destination)
            if destination.unanswered:
                destination.is_plain = not destination.is_plain
            destination.id = f"{self._random.getrandbits(128):032x}"
            self._waiting[destination.id] = address
            destination.next_at_ms = now_ms + self._pause_ms(destination)
            destination.unanswered += 1
            hellos.append(Hello(address, destination.id, destination.is_plain))
        return hellos

    def is_waiting(self, identifier: str) -> bool:
        """Whether this is the id of a hello that is not answered."""
        return identifier in self._waiting

    def answered(self, identifier: str, neighbor: str, now_ms: int) -> NeighborChange | None:
        """Take the answer to a hello; the change, if there is one. Ids that nobody waits for change nothing."""
        address = self._waiting.pop(identifier, None)
        if address is None:
            return None
        destination = self._destinations[address]
        destination.id = None
        destination.unanswered = 0
        destination.is_doubted = False
        destination.next_at_ms = now_ms + self._pause_ms(destination)
        before, destination.neighbor = destination.neighbor, neighbor
        return NeighborChange(address, before, neighbor) if before != neighbor else None

    def neighbors(self) -> dict[str, str | None]:
        """The neighbor toward each destination; None while none has answered, or not since routes have changed."""
        return {
            address: None if destination.is_doubted else destination.neighbor
            for address, destination in self._destinations.items()
        }

    def _pause_ms(self, destination: _Destination) -> int:
        pause_ms = self._interval_ms
        if destination.unanswered or destination.is_doubted or destination.neighbor is None:
            pause_ms = min(pause_ms, FIRST_RETRY_MS << min(destination.unanswered, 16))
        return round(pause_ms * self._random.uniform(1 - _JITTER, 1 + _JITTER))

    def _give_up(self, destination: _Destination) -> None:
        if destination.id is not None:
            self._waiting.pop(destination.id, None)

    def _make_room(self) -> None:
        if len(self._destinations) < MAX_DESTINATIONS:
            return
        learned = (address for address, destination in self._destinations.items() if not destination.configured)
        oldest = next(learned, None)
        if oldest is not None:
            self._give_up(self._destinations.pop(oldest))
