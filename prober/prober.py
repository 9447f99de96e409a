"""The segments of one measurement point: which neighbors are probed, and by whom.

There is one session per unordered pair of neighbors. Whoever wants a segment first starts; when both did, the one
with the numerically lower address goes on and the other stops as soon as it hears a probe of the lower one. A
reflecting end that hears nothing any more starts a session of its own.

Pure: time and datagrams come in, datagrams go out; `UdpProber` is the driver.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from prober.clock_state import ClockState
from prober.reflector import Reflector, Reply, Source
from prober.segment import Event, Role, Segment, SegmentSnapshot
from prober.session import DEFAULT_RATE_PER_S, Probe, SenderSession
from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.errors import ProbeError, UsageError
from schemas.message import SegmentState

MAX_SEGMENTS = 256
PROBED_NS = 3 * NS_PER_S
"""A peer heard within this time probes us; also how long the higher of two configured peers waits for that."""
REFLECTED_SILENCE_NS = 5 * NS_PER_S
"""A peer that probed us and is silent for so long has stopped."""
UNWANTED_NS = 900 * NS_PER_S
"""A learned peer that nobody wanted for so long is forgotten."""
UNANSWERED_NS = 20 * NS_PER_S
"""A learned peer that has not answered a single probe for so long is forgotten: it may be no point at all."""
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
REVIEW_NS = 250 * NS_PER_MS
"""How often it is looked who should probe; far below the waiting times above."""


@dataclass(slots=True)
class _Neighbor:
    segment: Segment
    is_lower: bool
    """Its address is below ours, so its session is the one that stays."""
    configured: bool = False
    start_at_ns: int = 0
    """Not before this do we start a session of our own."""
    wanted_at_ns: int | None = None
    heard_at_ns: int | None = None
    session: SenderSession | None = None
    started_at_ns: int = 0
    """When our session began."""

    def is_mute(self, now_ns: int) -> bool:
        """Whether it was learned and has never answered or probed us."""
        return (
            not self.configured
            and self.session is not None
            and self.heard_at_ns is None
            and self.segment.events[Event.RECEIVED] == 0
            and now_ns - self.started_at_ns > UNANSWERED_NS
        )


class Prober:
    """All segments of the point at `address`.

    Args:
        address: own IPv4 address.
        random_source: draws the gaps between probes.
        clock: state of the own clock; assign `clock` when it changes.
        rate_per_s: expected probes per second and session.

    Raises:
        UsageError: no IPv4 address, or no positive rate.
    """

    def __init__(
        self,
        address: str,
        *,
        random_source: random.Random,
        clock: ClockState,
        rate_per_s: float = DEFAULT_RATE_PER_S,
    ) -> None:
        if not 0 < rate_per_s <= 100:
            raise UsageError("rate_per_s", rate_per_s, "more than 0, at most 100")
        self.address = address
        self.clock = clock
        self._own = _number("address", address)
        self._random = random_source
        self._rate_per_s = rate_per_s
        self._neighbors: dict[str, _Neighbor] = {}
        self._reflector = Reflector(self._reflecting)
        self._due: list[tuple[int, str]] = []
        """Heap of send times; an entry that is no longer its session's next time is void."""
        self._next_review_ns: int | None = None
        self._last_now_ns = 0

    def want(self, peer: str, now_ns: int, *, configured: bool = False) -> None:
        """Ask for a segment, or go on asking: a learned peer is kept for UNWANTED_NS after the last wish.

        Beyond MAX_SEGMENTS the learned peer that was of use longest ago gives way; if all are configured, the
        wish is ignored.

        Raises:
            UsageError: `peer` is no IPv4 address, or our own.
        """
        neighbor = self._neighbors.get(peer) or self._learn(peer, wanted=True)
        if neighbor is None:
            return
        if neighbor.wanted_at_ns is None and not self._is_probed(neighbor, now_ns):
            waits = configured and neighbor.is_lower
            neighbor.start_at_ns = now_ns + PROBED_NS if waits else now_ns
        neighbor.wanted_at_ns = now_ns
        neighbor.configured |= configured
        self._next_review_ns = now_ns

    def next_wakeup_ns(self) -> int | None:
        """When `due` has something to do; None while there is no neighbor."""
        times = [self._due[0][0]] if self._due else []
        if self._next_review_ns is not None:
            times.append(self._next_review_ns)
        return min(times, default=None)

    def due(self, now_ns: int) -> list[Probe]:
        """The probes to send now."""
        if now_ns < self._last_now_ns:
            self._clock_stepped_back(now_ns)
        self._last_now_ns = now_ns
        if self._next_review_ns is not None and self._next_review_ns <= now_ns:
            self._review(now_ns)
        probes = []
        while self._due and self._due[0][0] <= now_ns:
            at_ns, peer = heapq.heappop(self._due)
            neighbor = self._neighbors.get(peer)
            if neighbor and neighbor.session and neighbor.session.next_send_at_ns() == at_ns:
                probes.append(neighbor.session.probe(now_ns, self.clock))
                self._plan(peer, neighbor.session)
        return probes

    def probe_transmitted(self, peer: str, sequence: int, at_ns: int) -> None:
        """The kernel tells when a probe left."""
        neighbor = self._neighbors.get(peer)
        if neighbor and neighbor.session:
            neighbor.session.transmitted(sequence, at_ns)

    def reply_transmitted(self, source: Source, number: int, at_ns: int) -> None:
        """The kernel tells when a reply left."""
        self._reflector.transmitted(source, number, at_ns)

    def probe_received(
        self,
        data: bytes,
        source: Source,
        *,
        ttl: int,
        received_at_ns: int,
        now_ns: int,
        user_stamped: bool = False,
    ) -> Reply | None:
        """Answer a probe; arguments as in `Reflector.probe_received`.

        Raises:
            ProbeError: nothing must be answered.
        """
        try:
            reply = self._reflector.probe_received(
                data,
                source,
                ttl=ttl,
                received_at_ns=received_at_ns,
                now_ns=now_ns,
                clock=self.clock,
                user_stamped=user_stamped,
            )
        except ProbeError:
            self._count_malformed(source.address)
            raise
        self._heard(source.address, received_at_ns)
        return reply

    def reply_received(
        self, data: bytes, address: str, *, ttl: int, received_at_ns: int, user_stamped: bool = False
    ) -> None:
        """Take a reply in; arguments as in `SenderSession.reply`.

        Raises:
            ProbeError: no reply to a probe of ours.
        """
        neighbor = self._neighbors.get(address)
        if neighbor is None or neighbor.session is None:
            raise ProbeError("a reply came from an address that is not probed")
        try:
            neighbor.session.reply(data, ttl=ttl, received_at_ns=received_at_ns, user_stamped=user_stamped)
        except ProbeError:
            self._count_malformed(address)
            raise

    def segments(self, now_ns: int) -> tuple[SegmentSnapshot, ...]:
        """What is known of every neighbor."""
        return tuple(
            SegmentSnapshot.of(neighbor.segment, now_ns=now_ns, clock=self.clock)
            for neighbor in self._neighbors.values()
        )

    def measured(self, now_ns: int) -> tuple[Segment, ...]:
        """The segments whose delay can be told, for their statistics alone."""
        segments = (neighbor.segment for neighbor in self._neighbors.values())
        return tuple(segment for segment in segments if segment.state(now_ns) is SegmentState.MEASURED)

    def segment(self, peer: str) -> Segment | None:
        """The segment of one neighbor, for its statistics alone."""
        neighbor = self._neighbors.get(peer)
        return neighbor.segment if neighbor else None

    def _reflecting(self, address: str) -> Segment | None:
        """Our own session's samples and the peer's do not mix: the sender's are the ones that count."""
        neighbor = self._neighbors.get(address)
        return neighbor.segment if neighbor and neighbor.session is None else None

    def _learn(self, peer: str, *, wanted: bool) -> _Neighbor | None:
        number = _number("peer", peer)
        if number == self._own or not _is_unicast(peer):
            raise UsageError("peer", peer, "the unicast address of another measurement point")
        if len(self._neighbors) >= MAX_SEGMENTS and not self._make_room(wanted=wanted):
            return None
        neighbor = self._neighbors[peer] = _Neighbor(Segment(peer), is_lower=number < self._own)
        return neighbor

    def _make_room(self, *, wanted: bool) -> bool:
        """Forget a learned peer; for one that only probes us, none that is wanted."""
        learned = [
            peer
            for peer, neighbor in self._neighbors.items()
            if not neighbor.configured and (wanted or neighbor.wanted_at_ns is None)
        ]
        if not learned:
            return False
        del self._neighbors[min(learned, key=lambda peer: _last_use_ns(self._neighbors[peer]))]
        return True

    def _heard(self, address: str, now_ns: int) -> None:
        neighbor = self._neighbors.get(address)
        if neighbor is None:
            neighbor = self._learn(address, wanted=False) if address != self.address else None
        if neighbor is None:
            return
        neighbor.heard_at_ns = now_ns
        neighbor.start_at_ns = now_ns + REFLECTED_SILENCE_NS
        if neighbor.session and neighbor.is_lower:
            self._stop(neighbor)
        if neighbor.session is None:
            neighbor.segment.role = Role.REFLECTOR
        if self._next_review_ns is None:
            self._next_review_ns = now_ns + REVIEW_NS

    def _is_probed(self, neighbor: _Neighbor, now_ns: int) -> bool:
        return neighbor.heard_at_ns is not None and now_ns - neighbor.heard_at_ns <= PROBED_NS

    def _review(self, now_ns: int) -> None:
        self._next_review_ns = now_ns + REVIEW_NS
        for peer, neighbor in list(self._neighbors.items()):
            wanted = neighbor.configured or _is_recent(neighbor.wanted_at_ns, now_ns)
            if neighbor.is_mute(now_ns):
                del self._neighbors[peer]
                continue
            if neighbor.session is None:
                if wanted and neighbor.start_at_ns <= now_ns:
                    self._start(peer, neighbor, now_ns)
            elif not wanted:
                self._stop(neighbor)
            if not wanted and not _is_recent(neighbor.heard_at_ns, now_ns):
                del self._neighbors[peer]
        if not self._neighbors:
            self._next_review_ns = None

    def _start(self, peer: str, neighbor: _Neighbor, now_ns: int) -> None:
        neighbor.session = SenderSession(
            neighbor.segment, random_source=self._random, now_ns=now_ns, rate_per_s=self._rate_per_s
        )
        neighbor.started_at_ns = now_ns
        neighbor.segment.role = Role.SENDER
        self._plan(peer, neighbor.session)

    def _stop(self, neighbor: _Neighbor) -> None:
        neighbor.session = None
        neighbor.segment.unanswered.clear()
        neighbor.segment.role = Role.IDLE

    def _plan(self, peer: str, session: SenderSession) -> None:
        heapq.heappush(self._due, (session.next_send_at_ns(), peer))

    def _clock_stepped_back(self, now_ns: int) -> None:
        """Plans made by the old time would wait for as long as the step was."""
        self._due.clear()
        self._next_review_ns = now_ns
        for peer, neighbor in self._neighbors.items():
            neighbor.start_at_ns = min(neighbor.start_at_ns, now_ns + REFLECTED_SILENCE_NS)
            if neighbor.session:
                neighbor.session.restart_schedule(now_ns)
                self._plan(peer, neighbor.session)

    def _count_malformed(self, address: str) -> None:
        neighbor = self._neighbors.get(address)
        if neighbor:
            neighbor.segment.events[Event.MALFORMED] += 1


def _number(field: str, address: str) -> int:
    try:
        return int(IPv4Address(address))
    except AddressValueError as error:
        raise UsageError(field, address, "an IPv4 address") from error


def _is_unicast(address: str) -> bool:
    """Whether one host can have the address: a forged message must not have us probe a whole network."""
    one = IPv4Address(address)
    return not (one.is_multicast or one.is_reserved or one in _THIS_NETWORK)


def _is_recent(at_ns: int | None, now_ns: int) -> bool:
    return at_ns is not None and now_ns - at_ns <= UNWANTED_NS


def _last_use_ns(neighbor: _Neighbor) -> int:
    return max(neighbor.wanted_at_ns or 0, neighbor.heard_at_ns or 0)
