"""Who of the peers is to be told what (pure): time and datagrams in, datagrams out.

News goes to every neighbor of the area but the one it came from, after a short while: by then it may have come
from there too, so that most links carry it once. What is not acknowledged is sent again. Hellos carry a digest of
all that a point holds of its area; whoever has held something else twice in a row, or has just met the other, says
what it has, and gets what it lacks. So a new neighbor gets a copy of everything, and two that agree send but
hellos.

A border session joins points of two areas. Each tells the other of its own area, and keeps what it hears to
itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from prober.knowledge.advertisement import Advertisement
from prober.knowledge.database import Database, Verdict
from prober.knowledge.datagram import (
    MAX_HELD,
    Acknowledgement,
    Content,
    Datagram,
    Hello,
    Item,
    Summary,
    Update,
    Version,
)
from prober.knowledge.session import Key, Session

HOLD_MS = (50, 500)
"""How long news waits before it goes on, drawn at random."""
URGENT_MS = (0, 10)
"""The same, for news of changed paths."""
LINGER_MS = 60_000
"""Whose segment is without samples for a moment is still a neighbor."""
COPY_RATE_FACTOR = 10
"""A copy of everything, for a new neighbor, may go so much faster than advertisements come in the long run."""
_LAST_ADDRESS = "255.255.255.255"
_FIRST_ADDRESS = "0.0.0.0"

Unseal = Callable[[bytes, Session], Advertisement | None]
"""The advertisement in a seal, if it may be believed when this peer brings it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A datagram to send."""

    peer: str
    datagram: Datagram


class Flood:
    """The sessions of one point.

    Args:
        database: what is known here.
        borders: peers in other areas.
        instance: a random number of 64 bits, not 0, drawn at the start.
        random_source: draws times.
        octets_per_s: what advertisements may take on a link in the long run.
        unseal: see `Unseal`.
    """

    def __init__(
        self,
        database: Database,
        *,
        borders: Iterable[str],
        instance: int,
        random_source: random.Random,
        octets_per_s: int,
        unseal: Unseal,
    ) -> None:
        self.database = database
        self.counters: Counter[str] = Counter()
        self.own_sequence_heard: int | None = None
        """A later word of this point that somebody has, until it is taken."""
        self._borders = frozenset(borders)
        self._instance = instance
        self._random = random_source
        self._gap_ms_per_octet = 1000 / (octets_per_s * COPY_RATE_FACTOR)
        self._unseal = unseal
        self._sessions: dict[str, Session] = {}

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All of them, open or not."""
        return tuple(self._sessions.values())

    def is_border(self, session: Session) -> bool:
        """Whether it leads to another area."""
        return session.peer in self._borders and session.area != self.database.area

    def session(self, address: str) -> Session | None:
        """The one with this peer."""
        return self._sessions.get(address)

    def set_neighbors(self, neighbors: Iterable[str], now_ms: int) -> None:
        """These and the borders are the peers from now on; who is none any more stays one for a while."""
        wanted = (self._borders | set(neighbors)) - {self.database.own}
        for address in wanted & self._sessions.keys():
            self._sessions[address].wanted_at_ms = now_ms
        for address in self._sessions.keys() - wanted:
            if now_ms - self._sessions[address].wanted_at_ms > LINGER_MS:
                del self._sessions[address]
        for address in sorted(wanted - self._sessions.keys()):
            self._sessions[address] = Session(
                address,
                instance=self._instance,
                random_source=self._random,
                gap_ms_per_octet=self._gap_ms_per_octet,
                now_ms=now_ms,
            )

    def spread(self, advertisement: Advertisement, now_ms: int, *, urgent: bool, but: str | None = None) -> None:
        """Tell all that are to know, except the peer that it came from."""
        if advertisement.area != self.database.area:
            return
        key = (advertisement.origin, advertisement.fragment)
        for session in self._sessions.values():
            if session.peer != but:
                session.queue(key, now_ms + self._random.randint(*(URGENT_MS if urgent else HOLD_MS)))

    def receive(self, datagram: Datagram, session: Session, now_ms: int) -> list[Outgoing]:
        """Take a datagram that came over a session; what to answer at once."""
        if not session.accept(datagram, now_ms):
            self.counters["not-current"] += 1
            return self._challenge(session, datagram, now_ms)
        content = datagram.content
        if isinstance(content, Hello):
            session.area = content.area
        if session.area is None:
            return []  # it will come again, after a hello
        if session.area != self.database.area and not self.is_border(session):
            self.counters["other-area"] += 1
            session.slow_down(now_ms)
            return []
        return list(self._answers(session, content, now_ms))

    def due(self, now_ms: int) -> Iterator[Outgoing]:
        """The datagrams to send now."""
        for session in self._sessions.values():
            if session.is_silent(now_ms):
                self.counters["silent"] += 1
            if session.hello_due(now_ms):
                yield self._out(session, self._hello())
            if session.is_open:
                for content in session.due(lambda key: self._item(key, now_ms), now_ms):
                    yield self._out(session, content)

    def farewell(self, item: Item) -> Iterator[Outgoing]:
        """This point ends: its last word, to all."""
        for session in self._sessions.values():
            if session.is_open:
                yield self._out(session, Update((item,)))

    def next_wakeup_ms(self) -> int | None:
        """When `due` has something next; None without peers."""
        return min((session.next_wakeup_ms() for session in self._sessions.values()), default=None)

    def _out(self, session: Session, content: Content, *, to_instance: int | None = None) -> Outgoing:
        self.counters[f"sent-{type(content).__name__.lower()}"] += 1
        return Outgoing(session.peer, session.wrap(content, to_instance=to_instance))

    def _hello(self) -> Hello:
        return Hello(self.database.area, self.database.digest(self.database.area))

    def _challenge(self, session: Session, datagram: Datagram, now_ms: int) -> list[Outgoing]:
        if datagram.to_instance == self._instance:
            return []  # an old one: reordered, doubled or replayed
        to_instance = session.challenge(datagram.instance, now_ms)
        return [] if to_instance is None else [self._out(session, self._hello(), to_instance=to_instance)]

    def _answers(self, session: Session, content: Content, now_ms: int) -> Iterator[Outgoing]:
        match content:
            case Hello(digest=digest):
                yield from self._compare(session, digest, now_ms)
            case Update(items=items):
                for item in items:
                    self._take(session, item, now_ms)
            case Acknowledgement(versions=versions):
                for version in versions:
                    self._acknowledged(session, version)
            case Summary():
                self._complete(session, content, now_ms)

    def _compare(self, session: Session, digest: bytes, now_ms: int) -> Iterator[Outgoing]:
        assert session.area is not None  # it has just said hello
        if session.compare(is_alike=digest == self.database.digest(session.area), now_ms=now_ms):
            for summary in self._summaries(session.area):
                yield self._out(session, summary)

    def _summaries(self, area: str) -> Iterator[Summary]:
        held = self.database.held(area)
        first = _FIRST_ADDRESS
        while len(held) > MAX_HELD:
            some, held = held[:MAX_HELD], held[MAX_HELD:]
            yield Summary(first, some[-1].origin, tuple(some))
            first = str(IPv4Address(some[-1].origin) + 1)
        yield Summary(first, _LAST_ADDRESS, tuple(held))

    def _complete(self, session: Session, summary: Summary, now_ms: int) -> None:
        """Send what a peer lacks of this point's area."""
        theirs = {one.origin: one for one in summary.held}
        first, last = IPv4Address(summary.first), IPv4Address(summary.last)
        for one in self.database.held(self.database.area):
            if not first <= IPv4Address(one.origin) <= last:
                continue
            have = theirs.get(one.origin)
            if have is not None and have.sequence > one.sequence:
                continue
            missing = one.fragments
            if have is not None and have.sequence == one.sequence:
                missing &= ~have.fragments
            for fragment in range(missing.bit_length()):
                if missing >> fragment & 1:
                    session.queue((one.origin, fragment), now_ms)

    def _item(self, key: Key, now_ms: int) -> Item | None:
        stored = self.database.stored(*key)
        return None if stored is None else Item(max(0, now_ms - stored.made_at_ms), stored.sealed)

    def _take(self, session: Session, item: Item, now_ms: int) -> None:
        advertisement = self._unseal(item.sealed, session)
        if advertisement is None:
            return  # whoever refused it has counted it
        if advertisement.area != session.area:
            self.counters["other-area"] += 1
            return
        known = self.database.table(advertisement.origin, now_ms)
        verdict = self.database.take(advertisement, item.sealed, age_ms=item.age_ms, now_ms=now_ms)
        self.counters[f"heard-{verdict}"] += 1
        version = Version(advertisement.origin, advertisement.fragment, advertisement.sequence)
        key = (version.origin, version.fragment)
        match verdict:
            case Verdict.NEW:
                session.has(key)
                is_urgent = known is None or known.revision != advertisement.revision
                self.spread(advertisement, now_ms, urgent=is_urgent, but=session.peer)
            case Verdict.KNOWN:
                self._acknowledged(session, version)
            case Verdict.OLDER:
                for fragment in self.database.fragments(advertisement.origin):
                    session.queue((advertisement.origin, fragment), now_ms)
            case Verdict.OWN:
                self.own_sequence_heard = max(self.own_sequence_heard or 0, advertisement.sequence)
            case Verdict.AGED | Verdict.FULL | Verdict.FOREIGN:
                pass  # to send it again would be of no use
        session.acknowledge(version, now_ms)

    def _acknowledged(self, session: Session, version: Version) -> None:
        stored = self.database.stored(version.origin, version.fragment)
        if stored is None or version.sequence >= stored.advertisement.sequence:
            session.has((version.origin, version.fragment))
