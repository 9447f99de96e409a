"""What a point has heard from all others, newest first, for as long as they vouch for it (pure).

Times are milliseconds on this point's own clock that never steps. An advertisement comes with its age, to which
each point on its way adds how long it held it; its origin's clock plays no part. What each link takes is not
known, so `TRANSIT_MS` stands for it: an age is rather told too great than too small.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from prober.knowledge.advertisement import Advertisement
from prober.knowledge.datagram import Held, Version
from schemas.message import SegmentRecord

TRANSIT_MS = 100
"""More than any link on the ground takes, with its queue."""
MAX_ORIGINS = 512
MAX_SEGMENTS = 2048
"""Of all origins: a few KiB of memory each."""
MAX_NEXT_POINTS = 65_536
"""Destinations of all origins."""
MAX_FORGOTTEN = 4096
"""Origins that have gone, whose last sequence is remembered: nobody can bring them back by a replay."""
_DIGEST_BYTES = 8
_DIGESTED = struct.Struct("!4sQH")


class Verdict(StrEnum):
    """What became of an advertisement."""

    NEW = "new"
    KNOWN = "known"
    OLDER = "older"
    """A newer one is here."""
    OWN = "own"
    """Somebody heard a later word of this point than it remembers: it restarted with an earlier clock."""
    FOREIGN = "foreign"
    """Another area tells of a point that is known in this one."""
    AGED = "aged"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class DatedSegment:
    """A segment's record, and when it was made on this point's clock."""

    record: SegmentRecord
    made_at_ms: int
    """When its origin read off `record.age_ms`."""

    def age_ms(self, now_ms: int) -> int:
        """How old the newest sample is."""
        return self.record.age_ms + max(0, now_ms - self.made_at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that an origin says of itself, of one moment."""

    origin: str
    area: str
    revision: int
    expires_at_ms: int
    addresses: frozenset[str]
    serves: tuple[IPv4Network, ...]
    next_points: Mapping[str, str]
    asked: frozenset[str]
    segments: Mapping[str, DatedSegment]
    """By upstream."""

    def is_last_for(self, destination: str) -> bool:
        """Whether the path to `destination` ends at the origin, as far as points can see."""
        if destination == self.origin or destination in self.addresses:
            return True
        if not self.serves:
            return False
        address = IPv4Address(destination)
        return any(address in network for network in self.serves)


@dataclass(frozen=True, slots=True)
class Stored:
    """One advertisement, as it came."""

    advertisement: Advertisement
    sealed: bytes
    made_at_ms: int

    @property
    def version(self) -> Version:
        """Its name."""
        one = self.advertisement
        return Version(one.origin, one.fragment, one.sequence)


@dataclass(slots=True)
class _Origin:
    """The fragments of the newest sequence."""

    latest: Advertisement
    """Any of them."""
    stored: dict[int, Stored] = field(default_factory=dict)
    table: Table | None = None
    """Of the last sequence of which all came, while its paths are those of the newest."""

    @property
    def expires_at_ms(self) -> int:
        return max(one.made_at_ms for one in self.stored.values()) + self.latest.lifetime_s * 1000

    @property
    def is_whole(self) -> bool:
        return len(self.stored) == self.latest.fragments

    def held(self) -> Held:
        return Held(self.latest.origin, self.latest.sequence, sum(1 << number for number in self.stored))


class Database:
    """The advertisements of all points, each point's newest.

    Args:
        own: this point's address.
        area: this point's area.
    """

    def __init__(self, own: str, area: str) -> None:
        self.own = own
        self.area = area
        self.changes = 0
        """Grows with each change of what is held."""
        self._own_sequence = 0
        self._origins: dict[str, _Origin] = {}
        self._forgotten: OrderedDict[str, int] = OrderedDict()
        self._digests: dict[str, bytes] = {}
        """By area; each hello of each peer wants one, and seldom has anything changed since the last."""

    def take(self, advertisement: Advertisement, sealed: bytes, *, age_ms: int, now_ms: int) -> Verdict:
        """Take an advertisement of another point, if it is news."""
        if advertisement.origin == self.own:
            return Verdict.OWN if advertisement.sequence > self._own_sequence else Verdict.KNOWN
        age_ms += TRANSIT_MS
        if age_ms >= advertisement.lifetime_s * 1000:
            return Verdict.AGED
        verdict = self._compare(advertisement)
        if verdict is Verdict.NEW:
            self._store(Stored(advertisement, sealed, now_ms - age_ms))
        return verdict

    def put_own(self, fragments: Iterable[tuple[Advertisement, bytes]], now_ms: int) -> None:
        """Take this point's own new advertisement, in all its fragments, for the others."""
        for advertisement, sealed in fragments:
            self._own_sequence = advertisement.sequence
            self._store(Stored(advertisement, sealed, now_ms))

    def expire(self, now_ms: int) -> list[str]:
        """Forget the origins that nobody vouches for any more; their addresses."""
        aged = [address for address, origin in self._origins.items() if origin.expires_at_ms <= now_ms]
        for address in aged:
            self._forget(address)
        return aged

    def forget_foreign(self, areas: Iterable[str]) -> None:
        """Forget the origins of areas that are not named and not this point's."""
        kept = {self.area, *areas}
        for address in [one for one, origin in self._origins.items() if origin.latest.area not in kept]:
            self._forget(address)

    def table(self, origin: str, now_ms: int) -> Table | None:
        """What the origin says; None when it is not known, or not wholly, or no longer."""
        known = self._origins.get(origin)
        if known is None or known.table is None or known.table.expires_at_ms <= now_ms:
            return None
        return known.table

    def tables(self, now_ms: int) -> Iterator[Table]:
        """All that are known now."""
        for origin in self._origins:
            table = self.table(origin, now_ms)
            if table is not None:
                yield table

    def stored(self, origin: str, fragment: int) -> Stored | None:
        """A fragment of the newest sequence."""
        known = self._origins.get(origin)
        return None if known is None else known.stored.get(fragment)

    def fragments(self, origin: str) -> tuple[int, ...]:
        """Which fragments of the newest sequence are here."""
        known = self._origins.get(origin)
        return () if known is None else tuple(known.stored)

    def held(self, area: str) -> list[Held]:
        """What is here of an area, by address."""
        of_area = (origin for origin in self._origins.values() if origin.latest.area == area)
        return sorted((origin.held() for origin in of_area), key=lambda one: IPv4Address(one.origin))

    def digest(self, area: str) -> bytes:
        """Equal for two points that hold the same of an area."""
        known = self._digests.get(area)
        if known is None:
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for one in self.held(area):
                digest.update(_DIGESTED.pack(IPv4Address(one.origin).packed, one.sequence, one.fragments))
            known = self._digests[area] = digest.digest()
        return known

    def octets(self, area: str) -> int:
        """What one copy of all of an area takes on a link."""
        of_area = (origin for origin in self._origins.values() if origin.latest.area == area)
        return sum(len(stored.sealed) for origin in of_area for stored in origin.stored.values())

    def _compare(self, advertisement: Advertisement) -> Verdict:
        forgotten = self._forgotten.get(advertisement.origin, -1)
        known = self._origins.get(advertisement.origin)
        if known is None:
            if advertisement.sequence <= forgotten:
                return Verdict.KNOWN
            return Verdict.NEW if self._has_room(advertisement) else Verdict.FULL
        latest = known.latest
        if latest.area == self.area != advertisement.area:
            return Verdict.FOREIGN
        if advertisement.sequence < latest.sequence:
            return Verdict.OLDER
        if advertisement.sequence == latest.sequence:
            same = (advertisement.fragments, advertisement.revision) == (latest.fragments, latest.revision)
            if advertisement.fragment in known.stored or not same:
                return Verdict.KNOWN
        return Verdict.NEW if self._has_room(advertisement) else Verdict.FULL

    def _has_room(self, advertisement: Advertisement) -> bool:
        stored = [
            one.advertisement
            for origin in self._origins.values()
            if origin.latest.origin != advertisement.origin or origin.latest.sequence == advertisement.sequence
            for one in origin.stored.values()
        ]
        return (
            (advertisement.origin in self._origins or len(self._origins) < MAX_ORIGINS)
            and sum(len(one.segments) for one in stored) + len(advertisement.segments) <= MAX_SEGMENTS
            and sum(len(one.next_points) for one in stored) + len(advertisement.next_points) <= MAX_NEXT_POINTS
        )

    def _store(self, stored: Stored) -> None:
        advertisement = stored.advertisement
        self._changed()
        self._forgotten.pop(advertisement.origin, None)
        known = self._origins.get(advertisement.origin)
        if known is None:
            known = self._origins[advertisement.origin] = _Origin(advertisement)
        elif advertisement.sequence > known.latest.sequence:
            known.latest = advertisement
            known.stored = {}
        known.stored[advertisement.fragment] = stored
        if advertisement.withdrawn or (known.table and known.table.revision != advertisement.revision):
            known.table = None  # paths have changed: until all is here, nothing is better than a mixture
        if known.is_whole and not advertisement.withdrawn:
            known.table = _table(known)

    def _changed(self) -> None:
        self.changes += 1
        self._digests.clear()

    def _forget(self, address: str) -> None:
        self._changed()
        self._forgotten[address] = self._origins.pop(address).latest.sequence
        self._forgotten.move_to_end(address)
        while len(self._forgotten) > MAX_FORGOTTEN:
            self._forgotten.popitem(last=False)


def _table(origin: _Origin) -> Table:
    fragments = [origin.stored[number] for number in sorted(origin.stored)]
    first = fragments[0].advertisement  # it alone has the addresses
    next_points: dict[str, str] = {}
    asked: set[str] = set()
    segments = {}
    for stored in fragments:
        next_points |= stored.advertisement.next_points
        asked |= stored.advertisement.asked
        for record in stored.advertisement.segments:
            segments[record.upstream] = DatedSegment(record, stored.made_at_ms)
    return Table(
        origin=first.origin,
        area=first.area,
        revision=first.revision,
        expires_at_ms=origin.expires_at_ms,
        addresses=frozenset(first.addresses),
        serves=first.serves,
        next_points=MappingProxyType(next_points),
        asked=frozenset(asked),
        segments=MappingProxyType(segments),
    )
