"""Shares what this point measured with its area, and tells paths from what the others shared."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from mp import clock
from mp.knowledge.settings import KnowledgeSettings
from mp.settings import PointSettings
from prober.knowledge.advertisement import MAX_AREA_BYTES
from prober.knowledge.exchange import ExchangeSettings, KnowledgeExchange, Measured
from prober.knowledge.tails import FarPath, tail
from prober.knowledge.udp import UdpKnowledge
from schemas.authentication import Standing
from schemas.errors import ConfigurationError
from schemas.keyring import NO_KEYS, Keyring
from schemas.message import SegmentRecord

logger = logging.getLogger(__name__)

SAME_MS = 50
"""Two times of one sample differ by so little: it is reckoned on two clocks that are read one after the other."""

MAX_NEW_ASKED = 8
"""Destinations that are newly asked for between two updates: each costs a hello, and anybody may ask."""
MAX_TOLD_SEGMENTS = 32
"""Of one path: with all metrics, that is as much as one datagram to the packet process holds (`mp.bridge`)."""

Tell = Callable[[str, FarPath | None], bool]
"""Hands the path from this point on to a destination, or that none is known any more, to whoever answers requests
that pass by; whether it was taken."""


class Knowledge:
    """What this point knows beyond its own segments.

    Args:
        settings: the table [knowledge].
        point: this point.
        area: in which it shares what it knows.
        keyring: checks what others say, and signs what this point does.
        is_required: believe only what is signed by somebody whose key is held here.
        seek: finds the next point toward a destination, from now on (`prober.discovery`).
        want: measures the segment from an upstream point for a while, since it was told.
        tell: see `Tell`.

    Raises:
        ConfigurationError: the area's name is too long.
    """

    def __init__(
        self,
        settings: KnowledgeSettings,
        point: PointSettings,
        *,
        area: str,
        keyring: Keyring = NO_KEYS,
        is_required: bool = False,
        seek: Callable[[str], None],
        want: Callable[[str], None],
        tell: Tell,
    ) -> None:
        if settings.is_enabled and len(area.encode()) > MAX_AREA_BYTES:
            raise ConfigurationError("point.area", area, f"a name of at most {MAX_AREA_BYTES} octets")
        self._settings = settings
        self._point = point
        self._seek = seek
        self._want = want
        self._tell = tell
        self._told: dict[str, FarPath] = {}
        self._new_asked = 0
        self._exchange = KnowledgeExchange(
            point.address,
            area,
            settings=ExchangeSettings(
                refresh_s=settings.refresh_s,
                lifetime_s=settings.lifetime_s,
                octets_per_s=settings.octets_per_s,
                borders=settings.borders,
                is_required=is_required,
            ),
            keyring=keyring,
            random_source=random.SystemRandom(),
            wall_ms=clock.now_ms(),
        )
        self._udp = UdpKnowledge(
            self._exchange,
            port=settings.port,
            now_ms=clock.monotonic_ms,
            wall_ms=clock.now_ms,
            on_news=self._withdraw_changed,
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin to share, if that is enabled; `stack` ends it.

        Raises:
            HostError: the port is in use.
        """
        if self._settings.is_enabled:
            stack.push_async_callback(self._udp.close)
            await self._udp.start()

    @property
    def standing(self) -> Standing:
        """What the records of `tail` are worth."""
        return self._exchange.standing

    def set_keyring(self, keyring: Keyring) -> None:
        """The keys were read anew."""
        self._exchange.keyring = keyring

    def update(
        self,
        known: Measured,
        *,
        neighbors: Iterable[str],
        next_points: Mapping[str, str | None],
        addresses: Collection[str],
    ) -> None:
        """Take what this point knows of itself: once a second, and at once when a next point is another.

        Args:
            known: the segments that are measured.
            neighbors: points at the other ends of segments, whether or not they are measured now.
            next_points: the first point toward each destination; None while it is not known or in doubt.
            addresses: all of this host's.
        """
        if not self._settings.is_enabled:
            return
        self._exchange.update(
            known,
            neighbors=neighbors,
            next_points=next_points,
            addresses=addresses,
            serves=self._point.serves,
            now_ms=clock.monotonic_ms(),
            wall_ms=clock.now_ms(),
        )
        self._new_asked = 0
        self._udp.wake()
        demand = self._exchange.demand
        for destination in sorted(demand.destinations - next_points.keys()):
            self._seek(destination)
        for upstream in sorted(demand.upstreams):
            self._want(upstream)
        self._tell_changed()

    def asked(self, destination: str) -> None:
        """A request that accepts an answer from here is for `destination`: keep the path to it known."""
        if not (self._settings.is_enabled and self._settings.answers):
            return
        if destination not in self._exchange.asked_destinations:
            if self._new_asked >= MAX_NEW_ASKED:
                return
            self._new_asked += 1
            self._seek(destination)
        self._exchange.asked(destination, clock.monotonic_ms())

    def tail(
        self, destination: str, metrics: tuple[str, ...], *, max_age_ms: int
    ) -> tuple[SegmentRecord, ...] | None:
        """The records of the whole path from this point to `destination`, if all are known and young enough."""
        if not (self._settings.is_enabled and self._settings.answers and max_age_ms):
            return None
        return tail(
            self._far_path(destination),
            metrics=metrics,
            max_age_ms=max_age_ms,
            told_by=self._point.address,
            now_ms=clock.now_ms(),
        )

    def forget_told(self) -> None:
        """Whoever was told of paths has started anew, and knows none."""
        self._told.clear()

    def status(self) -> dict[str, Any] | None:
        """For `inpath mp status`; None when nothing is shared."""
        return self._exchange.status(clock.monotonic_ms()) if self._settings.is_enabled else None

    def _far_path(self, destination: str) -> FarPath | None:
        return self._exchange.far_path(destination, now_ms=clock.monotonic_ms(), wall_ms=clock.now_ms())

    def _tell_changed(self) -> None:
        if not self._settings.answers:
            return
        asked = self._exchange.asked_destinations
        for destination in [*asked, *(self._told.keys() - asked)]:
            path = self._far_path(destination) if destination in asked else None
            self._tell_one(destination, None if path and len(path) > MAX_TOLD_SEGMENTS else path)

    def _tell_one(self, destination: str, path: FarPath | None) -> None:
        told = self._told.get(destination)
        if path is None:
            if told is not None and self._tell(destination, None):
                del self._told[destination]
        elif (told is None or not _is_same(told, path)) and self._tell(destination, path):
            self._told[destination] = path

    def _withdraw_changed(self) -> None:
        """News came in: what was told of paths that go another way now is taken back without delay."""
        for destination, told in tuple(self._told.items()):
            points = self._exchange.route(destination, clock.monotonic_ms())
            if points != tuple(segment.current for segment in told):
                self._tell_one(destination, None)


def _is_same(one: FarPath, other: FarPath) -> bool:
    """Whether both say the same of the same segments."""
    return len(one) == len(other) and all(
        (mine.upstream, mine.current) == (theirs.upstream, theirs.current)
        and abs(mine.newest_sample_at_ms - theirs.newest_sample_at_ms) <= SAME_MS
        for mine, theirs in zip(one, other, strict=True)
    )
