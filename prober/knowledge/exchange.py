"""One point among those that share what they know (pure): what it says, hears, and can tell of paths.

Whoever drives it brings datagrams, the time and what was measured, and carries datagrams away.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType
from typing import Any

from prober.knowledge.advertisement import (
    MAX_ADDRESSES,
    MAX_NEXT_POINTS,
    Advertisement,
    advertisement_from_bytes,
    advertisement_to_bytes,
)
from prober.knowledge.database import Database, DatedSegment, Table
from prober.knowledge.datagram import Item, datagram_from_bytes, datagram_to_bytes
from prober.knowledge.demand import Demand, demand_on
from prober.knowledge.flood import Flood, Outgoing
from prober.knowledge.origination import (
    DEFAULT_LIFETIME_S,
    DEFAULT_OCTETS_PER_S,
    DEFAULT_REFRESH_S,
    Content,
    Origination,
)
from prober.knowledge.routes import TableOf, route
from prober.knowledge.seal import Opened, opened, seal
from prober.knowledge.session import Session
from prober.knowledge.tails import FarPath, far_path
from schemas.authentication import Standing
from schemas.errors import MessageError
from schemas.keyring import NO_KEYS, Keyring, MessageKey
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import Statistics

ADVERTISEMENT_LABEL = b"inpath knowledge: advertisement\0"
DATAGRAM_LABEL = b"inpath knowledge: datagram\0"
"""The addresses of sender and receiver follow, so that no datagram can be sent back or on."""
ASKED_MS = 300_000
"""A third of the time after which a segment that nobody asks for is no longer measured."""
MAX_ASKED = MAX_NEXT_POINTS
MAX_DECODED = 512
"""Advertisements that need not be checked and decoded again when they come from another peer."""

Measured = Mapping[str, tuple[int, Mapping[str, Statistics]]]
"""By upstream: time of the newest sample (milliseconds since the Unix epoch, own clock), and all metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeSettings:
    """What an operator decides."""

    refresh_s: float = DEFAULT_REFRESH_S
    lifetime_s: int = DEFAULT_LIFETIME_S
    octets_per_s: int = DEFAULT_OCTETS_PER_S
    borders: tuple[str, ...] = ()
    """Peers in other areas."""
    is_required: bool = False
    """Believe only what is signed by somebody whose key is held here."""


class KnowledgeExchange:
    """The knowledge of one point.

    Args:
        own, area: this point.
        settings: see there.
        keyring: checks what others say and signs what this point does.
        random_source: draws times, and the instance, which nobody may foresee.
        wall_ms: milliseconds since the Unix epoch, now.
    """

    def __init__(
        self,
        own: str,
        area: str,
        *,
        settings: ExchangeSettings,
        keyring: Keyring = NO_KEYS,
        random_source: random.Random,
        wall_ms: int,
    ) -> None:
        self.own = own
        self.area = area
        self.database = Database(own, area)
        self.keyring = keyring
        self._settings = settings
        self._flood = Flood(
            self.database,
            borders=settings.borders,
            instance=random_source.getrandbits(63) + 1,
            random_source=random_source,
            octets_per_s=settings.octets_per_s,
            unseal=self._unseal,
        )
        self._origination = Origination(
            own,
            area,
            first_sequence=wall_ms,
            random_source=random_source,
            refresh_s=settings.refresh_s,
            lifetime_s=settings.lifetime_s,
            octets_per_s=settings.octets_per_s,
        )
        self._own_table = _own_table(own, area, Content(), 0)
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._demand = Demand(frozenset(), frozenset(), frozenset())
        self._decoded: OrderedDict[bytes, tuple[Advertisement, Standing]] = OrderedDict()

    @property
    def counters(self) -> Counter[str]:
        """What was sent, heard and refused, by kind."""
        return self._flood.counters

    @property
    def standing(self) -> Standing:
        """What everything that is known here is worth."""
        is_signed = self._settings.is_required or self.keyring.signer(self.own, self.own) is not None
        return Standing.AUTHENTIC if is_signed else Standing.UNSIGNED

    @property
    def demand(self) -> Demand:
        """What others want of this point, as of the last update."""
        return self._demand

    def update(
        self,
        measured: Measured,
        *,
        neighbors: Iterable[str],
        next_points: Mapping[str, str | None],
        addresses: Collection[str],
        serves: tuple[IPv4Network, ...],
        now_ms: int,
        wall_ms: int,
    ) -> None:
        """Take what this point knows of itself now: about once a second, and at once when its paths change.

        Args:
            measured: the segments that end here.
            neighbors: points at the other ends of segments.
            next_points: the first point toward each destination; None while it is not known.
            addresses: all of this host's.
            serves: see `Advertisement`.
            now_ms: on a clock that never steps, as everywhere here.
            wall_ms: the same moment, milliseconds since the Unix epoch.
        """
        self._flood.set_neighbors(neighbors, now_ms)
        self.database.expire(now_ms)
        known = sorted((one for one in next_points.items() if one[1]), key=lambda one: IPv4Address(one[0]))
        toward = {destination: point for destination, point in known[:MAX_NEXT_POINTS] if point}
        content = Content(
            addresses=_some_addresses(self.own, addresses),
            serves=serves[:MAX_ADDRESSES],
            next_points=MappingProxyType(toward),
            asked=self._asked_of_late(now_ms) & toward.keys(),
            segments=_records(self.own, measured, wall_ms),
        )
        self._own_table = _own_table(self.own, self.area, content, now_ms)
        self._demand = demand_on(self._own_table, self.database.tables(now_ms))
        if self._flood.own_sequence_heard is not None:
            self._origination.jump(self._flood.own_sequence_heard)
            self._flood.own_sequence_heard = None
        self._originate(content, now_ms, wall_ms)

    def asked(self, destination: str, now_ms: int) -> None:
        """Somebody asks this point for the path to `destination`, and takes an answer that is not walked."""
        self._asked[destination] = now_ms
        self._asked.move_to_end(destination)
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)

    @property
    def asked_destinations(self) -> frozenset[str]:
        """Toward these somebody has asked this point of late."""
        return frozenset(self._asked)

    def far_path(self, destination: str, *, now_ms: int, wall_ms: int, point: str | None = None) -> FarPath | None:
        """What is known of the segments from this or another point on to `destination`; see `tails.far_path`."""
        return far_path(self._table_of(now_ms), point or self.own, destination, now_ms=now_ms, wall_ms=wall_ms)

    def route(self, destination: str, now_ms: int) -> tuple[str, ...] | None:
        """The points from this one on to `destination`; None when one of them is not known."""
        points = route(self._table_of(now_ms), self.own, destination)
        return None if points is None else tuple(table.origin for table in points)

    def receive(self, data: bytes, peer: str, now_ms: int) -> list[tuple[bytes, str]]:
        """Take a datagram; what to send at once, and to whom. What it may not be believed is counted."""
        session = self._flood.session(peer)
        if session is None:
            self.counters["refused-stranger"] += 1
            return []
        try:
            what = opened(_label(peer, self.own), data, peer, self.keyring)
            if not self._is_believed(what.standing, self.keyring.signer(self.own, peer)):
                self.counters[f"refused-{what.standing}"] += 1
                return []
            datagram = datagram_from_bytes(what.body)
        except MessageError:
            self.counters["refused-malformed"] += 1
            return []
        session.is_authentic = what.standing is Standing.AUTHENTIC
        return [self._sealed(one) for one in self._flood.receive(datagram, session, now_ms)]

    def due(self, now_ms: int) -> Iterator[tuple[bytes, str]]:
        """What to send now, and to whom."""
        return (self._sealed(one) for one in self._flood.due(now_ms))

    def farewell(self, wall_ms: int) -> Iterator[tuple[bytes, str]]:
        """What to send when this point ends."""
        last = self._seal(self._origination.withdraw(wall_ms))
        return (self._sealed(one) for one in self._flood.farewell(Item(0, last)))

    def next_wakeup_ms(self) -> int | None:
        """When `due` has something next; None without peers."""
        return self._flood.next_wakeup_ms()

    def status(self, now_ms: int) -> dict[str, Any]:
        """For people: who is told and heard, and how much is known."""
        tables = list(self.database.tables(now_ms))
        return {
            "peers": {
                session.peer: ("border" if self._flood.is_border(session) else "neighbor")
                if session.is_open
                else ("other area" if session.area not in (None, self.area) else "silent")
                for session in self._flood.sessions
            },
            "points": len(tables),
            "segments": sum(len(table.segments) for table in tables),
            "octets": self.database.octets(self.area),
            "asked": sorted(self._own_table.asked),
            "counters": dict(self.counters),
        }

    def _table_of(self, now_ms: int) -> TableOf:
        def table_of(origin: str) -> Table | None:
            return self._own_table if origin == self.own else self.database.table(origin, now_ms)

        return table_of

    def _asked_of_late(self, now_ms: int) -> frozenset[str]:
        while self._asked and next(iter(self._asked.values())) < now_ms - ASKED_MS:
            self._asked.popitem(last=False)
        return frozenset(self._asked) | self._demand.asked

    def _originate(self, content: Content, now_ms: int, wall_ms: int) -> None:
        made = self._origination.make(
            content, now_ms=now_ms, created_at_ms=wall_ms, area_octets=self.database.octets(self.area)
        )
        if not made:
            return
        known = self.database.table(self.own, now_ms)
        self.database.put_own([(one, self._seal(one)) for one in made], now_ms)
        for one in made:
            self._flood.spread(one, now_ms, urgent=known is None or known.revision != one.revision)

    def _seal(self, advertisement: Advertisement) -> bytes:
        key = self.keyring.signer(self.own, self.own)
        return seal(ADVERTISEMENT_LABEL, advertisement_to_bytes(advertisement), key)

    def _sealed(self, one: Outgoing) -> tuple[bytes, str]:
        key = self.keyring.signer(self.own, one.peer)
        return seal(_label(self.own, one.peer), datagram_to_bytes(one.datagram), key), one.peer

    def _unseal(self, sealed: bytes, session: Session) -> Advertisement | None:
        known = self._decoded.get(sealed)
        try:
            advertisement, standing = known or self._decode(sealed)
        except MessageError:
            self.counters["refused-malformed"] += 1
            return None
        vouched = self._flood.is_border(session) and session.is_authentic and standing is not Standing.FORGED
        key = self.keyring.signer(self.own, self.own)
        if vouched or self._is_believed(standing, key):  # keys of another area need not be held here
            return advertisement
        self.counters[f"refused-{standing}"] += 1
        return None

    def _decode(self, sealed: bytes) -> tuple[Advertisement, Standing]:
        # Who is said to have made it stands inside; nothing is believed before the tag has been checked with that.
        body = opened(ADVERTISEMENT_LABEL, sealed, self.own, NO_KEYS).body
        origin = str(IPv4Address(body[:4])) if len(body) >= 4 else self.own
        what: Opened = opened(ADVERTISEMENT_LABEL, sealed, origin, self.keyring)
        if what.standing is Standing.FORGED:
            return _NOTHING, what.standing  # not worth to be decoded
        decoded = advertisement_from_bytes(what.body), what.standing
        self._decoded[sealed] = decoded
        if len(self._decoded) > MAX_DECODED:
            self._decoded.popitem(last=False)
        return decoded

    def _is_believed(self, standing: Standing, key: MessageKey | None) -> bool:
        """Who has a key for its own words takes none without: it signs for others what it tells of them."""
        if self._settings.is_required or key is not None:
            return standing is Standing.AUTHENTIC
        return standing is not Standing.FORGED


_NOTHING = Advertisement(origin="0.0.0.0", sequence=0, revision=0, created_at_ms=0, lifetime_s=1, area="")
"""In the place of what is not decoded."""


def _label(sender: str, receiver: str) -> bytes:
    return DATAGRAM_LABEL + IPv4Address(sender).packed + IPv4Address(receiver).packed


def _some_addresses(own: str, addresses: Collection[str]) -> tuple[str, ...]:
    return (own, *sorted(set(addresses) - {own}, key=IPv4Address)[: MAX_ADDRESSES - 1])


def _records(own: str, measured: Measured, wall_ms: int) -> tuple[SegmentRecord, ...]:
    return tuple(
        SegmentRecord(
            upstream=upstream,
            current=own,
            state=SegmentState.MEASURED,
            recorded_at_ms=wall_ms,
            age_ms=max(0, wall_ms - newest_at_ms),
            metrics=MappingProxyType(dict(metrics)),
        )
        for upstream, (newest_at_ms, metrics) in sorted(measured.items())
    )


def _own_table(own: str, area: str, content: Content, now_ms: int) -> Table:
    return Table(
        origin=own,
        area=area,
        revision=0,
        expires_at_ms=now_ms,
        addresses=frozenset(content.addresses),
        serves=content.serves,
        next_points=content.next_points,
        asked=content.asked,
        segments={one.upstream: DatedSegment(one, now_ms) for one in content.segments},
    )
