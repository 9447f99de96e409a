"""The segments of one measurement point: which neighbors are probed, and by whom.

There is one session per unordered pair of neighbors. Whoever wants a segment first starts; when both did, the one
with the numerically lower address goes on and the other stops as soon as it hears a probe of the lower one. A
reflecting end that hears nothing any more starts a session of its own.

A learned neighbor for whose segment nobody asks falls asleep: it is known, but no longer measured, until the next
request asks for it.

Pure: time and datagrams come in, datagrams go out; `UdpProber` is the driver.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter

from prober.challenge import Challenges
from prober.clock_state import ClockState
from prober.neighbor import LEAST_SILENCE_NS, PROBED_NS, SILENT_GAPS, Neighbor, address_number, is_unicast
from prober.segment import Event, Role, Segment, SegmentSnapshot, announced_error
from prober.stamp.authentication import NO_KEY, KeyOf
from prober.stamp.common_times import CommonSchedule, CommonTimes
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reflected_session import Source
from prober.stamp.reflector import Reflector, Reply
from prober.stamp.reply_budget import NEIGHBOR_RATE_PER_S, ReplyBudget
from prober.stamp.session import DEFAULT_RATE_PER_S, MAX_UNTOLD_REPLIES, Probe, SenderSession
from prober.timestamp import NS_PER_MS, NS_PER_S, ErrorEstimate
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS
from schemas.errors import ProbeError, UsageError
from schemas.message import SegmentState

MAX_SEGMENTS = 256
DEFAULT_SLEEP_AFTER_S = 900.0
LONGEST_REPLY_WAIT_NS = 200 * NS_PER_MS
UNREAD_REPLIES = MAX_UNTOLD_REPLIES // 2
"""Of one session, on average."""
NEWCOMERS_PER_S = 20.0
"""Unknown addresses of which a probe is more than answered, and as many at once. To begin the statistics of a
segment takes a millisecond; forged probes must not take a processor. Who was not noticed sends another probe."""
REVIEW_NS = 250 * NS_PER_MS
"""How often it is looked who should probe; far below the waiting times above."""


class Prober:
    """All segments of the point at `address`.

    Args:
        address: own IPv4 address.
        random_source: draws the gaps between probes.
        clock: state of the own clock; assign `clock` when it changes.
        rate_per_s: expected probes per second and session.
        key_of: puts the sessions with an address into the authenticated mode; it must have the key too.
        stateless: number replies like their probes, so that a sender learns the loss of the round trip alone.
        loss_threshold_ms: waiting time after which a packet counts as lost.
        sleep_after_s: without a request for so long, the segment of a learned neighbor is no longer measured.
        challenges: asks whom a message named before it is measured; without, everybody is who was named.

    Raises:
        UsageError: no IPv4 address, no positive rate, or no such threshold.
    """

    def __init__(
        self,
        address: str,
        *,
        random_source: random.Random,
        clock: ClockState,
        rate_per_s: float = DEFAULT_RATE_PER_S,
        key_of: KeyOf = NO_KEY,
        stateless: bool = False,
        loss_threshold_ms: int = DEFAULT_LOSS_THRESHOLD_MS,
        sleep_after_s: float = DEFAULT_SLEEP_AFTER_S,
        challenges: Challenges | None = None,
    ) -> None:
        if not 0 < rate_per_s <= 100:
            raise UsageError("rate_per_s", rate_per_s, "more than 0, at most 100")
        self.address = address
        self.clock = clock
        self._own = address_number("address", address)
        self._random = random_source
        self._rate_per_s = rate_per_s
        self._times = CommonTimes(random_source, rate_per_s=rate_per_s)
        self.reply_wait_ns = min(LONGEST_REPLY_WAIT_NS, round(UNREAD_REPLIES * NS_PER_S / rate_per_s))
        """How long replies may wait unread, so that the next probes of their session can tell its peer of them."""
        self._silence_ns = max(LEAST_SILENCE_NS, round(SILENT_GAPS * NS_PER_S / rate_per_s))
        self._loss_threshold_ms = loss_threshold_ms
        self._sleep_after_ns = round(sleep_after_s * NS_PER_S)
        self._neighbors: dict[str, Neighbor] = {}
        self._challenges = challenges
        self.faults: Counter[ProbeFault] = Counter()
        """Packets that were no good, of neighbors and of strangers."""
        self._key_of = key_of
        self._strangers = ReplyBudget()
        self._newcomers = ReplyBudget(source_rate_per_s=NEWCOMERS_PER_S, whole_rate_per_s=NEWCOMERS_PER_S)
        self._asked_for = ReplyBudget(
            source_rate_per_s=NEIGHBOR_RATE_PER_S, whole_rate_per_s=NEIGHBOR_RATE_PER_S * MAX_SEGMENTS
        )
        self._reflector = Reflector(
            self._reflecting,
            key_of=key_of,
            stateless=stateless,
            admits=self._admits,
            faults=self.faults,
            asked_for=self._is_asked_for,
            heard=self._heard,
        )
        self._due: list[tuple[int, str]] = []
        """Heap of send times; an entry that is no longer its session's next time is void."""
        self._next_review_ns: int | None = None

    def want(self, peer: str, now_ns: int, *, configured: bool = False) -> None:
        """Ask for a segment, or go on asking: that of a learned peer falls asleep when wishes stay away.

        Whoever is not configured must answer a challenge first, and is wanted from then on. Beyond MAX_SEGMENTS
        the learned peer that was of use longest ago gives way; if all are configured, the wish is ignored.

        Raises:
            UsageError: `peer` is no IPv4 address, or our own.
        """
        neighbor = self._neighbors.get(peer)
        if not (configured or (neighbor and neighbor.is_asked_for) or self._is_proven(peer, now_ns)):
            return
        neighbor = neighbor or self._learn(peer, wanted=True)
        if neighbor is None:
            return
        if neighbor.wanted_at_ns is None and not neighbor.is_probing(now_ns):
            waits = configured and neighbor.is_lower
            neighbor.start_at_ns = now_ns + PROBED_NS if waits else now_ns
        neighbor.wanted_at_ns = now_ns
        neighbor.configured |= configured
        self._next_review_ns = now_ns

    def meet(self, peer: str, now_ns: int) -> None:
        """Learn that `peer` is a neighbor: a new one is measured as if it was wanted, a sleeping one sleeps on.

        Raises:
            UsageError: as `want`.
        """
        known = self._neighbors.get(peer)
        if known is None or (known.wanted_at_ns is None and known.met_at_ns is None):
            self.want(peer, now_ns)
        neighbor = self._neighbors.get(peer)
        if neighbor is not None:
            neighbor.met_at_ns = now_ns

    def is_neighbor(self, address: str) -> bool:
        """Whether a segment to the address is measured, so that it is a point that answers."""
        neighbor = self._neighbors.get(address)
        return neighbor is not None and neighbor.segment.newest_sample_at_ns is not None

    def own_error(self) -> ErrorEstimate:
        """What packets of this point say of its clock."""
        return announced_error(self.clock)

    def clock_stepped(self, now_ns: int, *, step_ns: int) -> None:
        """The own clock was set: restart what rests on it.

        Args:
            now_ns: own clock, after the step.
            step_ns: how far it was set, forward positive.
        """
        self._reflector.clock_stepped(step_ns)
        if self._challenges:
            self._challenges.clock_stepped(step_ns)
        self._due.clear()
        self._next_review_ns = now_ns
        for peer, neighbor in self._neighbors.items():
            neighbor.clock_stepped(now_ns, step_ns=step_ns)
            if neighbor.session:
                self._plan(peer, neighbor.session)

    def next_wakeup_ns(self) -> int | None:
        """When `due` has something to do; None while there is no neighbor."""
        next_ns = self._due[0][0] if self._due else None
        for at_ns in (self._next_review_ns, self._challenges.next_wakeup_ns() if self._challenges else None):
            if at_ns is not None and (next_ns is None or at_ns < next_ns):
                next_ns = at_ns
        return next_ns

    def due(self, now_ns: int) -> list[Probe]:
        """The probes to send now."""
        if self._next_review_ns is not None and self._next_review_ns <= now_ns:
            self._review(now_ns)
        due = []
        while self._due and self._due[0][0] <= now_ns:
            due.append(heapq.heappop(self._due))
        asking = self._challenges is not None and self._challenges.is_asking
        probes = self._challenges.due(now_ns, self.own_error()) if self._challenges and asking else []
        for at_ns, peer in due:
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

    def probe_received(self, datagram: Datagram, now_ns: int) -> Reply | None:
        """Answer a probe; see `Reflector.probe_received`.

        Raises:
            ProbeError: nothing must be answered.
        """
        try:
            return self._reflector.probe_received(datagram, now_ns=now_ns, clock=self.clock)
        except ProbeError as error:
            self._count_fault(datagram.address, error)
            raise

    def reply_received(self, datagram: Datagram) -> None:
        """Take a reply in.

        Raises:
            ProbeError: no reply to a probe of ours.
        """
        if self._challenges and self._challenges.answered(
            datagram.address, datagram.data, datagram.received_at_ns
        ):
            self.want(datagram.address, datagram.received_at_ns)
            return
        neighbor = self._neighbors.get(datagram.address)
        try:
            if neighbor is None or neighbor.session is None:
                raise ProbeError(ProbeFault.STRANGER)
            neighbor.session.reply(datagram)
        except ProbeError as error:
            self._count_fault(datagram.address, error)
            raise

    def segments(self, now_ns: int) -> tuple[SegmentSnapshot, ...]:
        """What is known of every neighbor."""
        self._reflector.learn()
        return tuple(
            SegmentSnapshot.of(neighbor.segment, now_ns=now_ns, clock=self.clock)
            for neighbor in self._neighbors.values()
        )

    def measured(self, now_ns: int, *, asked_for: bool = False) -> tuple[Segment, ...]:
        """The segments whose delay can be told, for their statistics alone.

        Args:
            now_ns: own wall clock.
            asked_for: leave out those that were merely heard. Whoever sends more packets because of a segment
                must: probes with a forged source would have them sent to anybody.
        """
        self._reflector.learn()
        neighbors = self._neighbors.values()
        segments = (one.segment for one in neighbors if one.is_asked_for or not asked_for)
        return tuple(segment for segment in segments if segment.state(now_ns) is SegmentState.MEASURED)

    def segment(self, peer: str) -> Segment | None:
        """The segment of one neighbor, for its statistics alone."""
        self._reflector.learn()
        neighbor = self._neighbors.get(peer)
        return neighbor.segment if neighbor else None

    def _reflecting(self, address: str) -> Segment | None:
        """Our own session's samples and the peer's do not mix: the sender's are the ones that count."""
        neighbor = self._neighbors.get(address)
        return neighbor.segment if neighbor and neighbor.session is None else None

    def _admits(self, address: str, now_ns: int) -> bool:
        """Whether a probe may be answered: always an authenticated one, and more of a neighbor asked for here.

        An address that was merely heard may be forged, though it has a segment.
        """
        if self._key_of(address):
            return True
        budget = self._asked_for if self._is_asked_for(address) else self._strangers
        return budget.allows(address, now_ns)

    def _is_asked_for(self, address: str) -> bool:
        neighbor = self._neighbors.get(address)
        return neighbor is not None and neighbor.is_asked_for

    def _is_proven(self, peer: str, now_ns: int) -> bool:
        """Whether somebody answers there; if that is not known, it is asked."""
        self._peer_number(peer)
        if self._challenges is None or self._challenges.is_proven(peer, now_ns):
            return True
        self._challenges.ask(peer, now_ns)
        return False

    def _peer_number(self, peer: str) -> int:
        number = address_number("peer", peer)
        if number == self._own or not is_unicast(peer):
            raise UsageError("peer", peer, "the unicast address of another measurement point")
        return number

    def _learn(self, peer: str, *, wanted: bool) -> Neighbor | None:
        number = self._peer_number(peer)
        if len(self._neighbors) >= MAX_SEGMENTS and not self._make_room(wanted=wanted):
            return None
        segment = Segment(peer, loss_threshold_ms=self._loss_threshold_ms)
        neighbor = self._neighbors[peer] = Neighbor(segment, is_lower=number < self._own)
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
        del self._neighbors[min(learned, key=lambda peer: self._neighbors[peer].last_use_ns())]
        return True

    def _heard(self, address: str, now_ns: int, is_point: bool) -> None:
        """A probe came. Of a neighbor that was asked for, another tool than a point does not do our work."""
        neighbor = self._neighbors.get(address)
        if neighbor and neighbor.is_asked_for and not is_point:
            return
        if neighbor is None and address != self.address and is_unicast(address):
            if not self._newcomers.allows(address, now_ns):
                return
            neighbor = self._learn(address, wanted=False)
            if neighbor and self._challenges:
                self._challenges.came(address, now_ns)
        if neighbor is None:
            return  # the table is full, or the address is forged: the kernel lets 240.0.0.0/4 in
        neighbor.heard_at_ns = now_ns
        neighbor.start_at_ns = now_ns + self._silence_ns
        if neighbor.session and neighbor.is_lower:
            self._stop(neighbor)
        if neighbor.session is None:
            neighbor.segment.role = Role.REFLECTOR
        if self._next_review_ns is None:
            self._next_review_ns = now_ns + REVIEW_NS

    def _review(self, now_ns: int) -> None:
        self._reflector.learn()
        self._next_review_ns = now_ns + REVIEW_NS
        for peer, neighbor in list(self._neighbors.items()):
            awake = neighbor.is_awake(now_ns, self._sleep_after_ns)
            if neighbor.is_mute(now_ns) or not (awake or neighbor.is_known(now_ns)):
                del self._neighbors[peer]
                if self._challenges:
                    self._challenges.forget(peer)
            elif awake and neighbor.session is None and neighbor.start_at_ns <= now_ns:
                self._start(peer, neighbor, now_ns)
            elif not awake and neighbor.session is not None:
                self._stop(neighbor)
            if not awake and not neighbor.is_probing(now_ns):
                neighbor.segment.role = Role.ASLEEP
        if not self._neighbors:
            self._next_review_ns = None
        self._times.share_among(sum(one.session is not None for one in self._neighbors.values()))

    def _start(self, peer: str, neighbor: Neighbor, now_ns: int) -> None:
        neighbor.session = SenderSession(
            neighbor.segment,
            random_source=self._random,
            now_ns=now_ns,
            rate_per_s=self._rate_per_s,
            probe_format=ProbeFormat(key=self._key_of(peer)),
            faults=self.faults,
            schedule=CommonSchedule(self._times, now_ns=now_ns),
        )
        neighbor.started_at_ns = now_ns
        neighbor.segment.role = Role.SENDER
        self._plan(peer, neighbor.session)

    def keys_changed(self, now_ns: int) -> None:
        """Sessions whose mode is another now begin anew; the others go on, whatever their keys became."""
        for peer, neighbor in self._neighbors.items():
            if neighbor.session is not None and neighbor.session.key is not self._key_of(peer):
                self._stop(neighbor)
                self._start(peer, neighbor, now_ns)

    def _stop(self, neighbor: Neighbor) -> None:
        neighbor.session = None
        neighbor.segment.unanswered.clear()
        neighbor.segment.role = Role.IDLE

    def _plan(self, peer: str, session: SenderSession) -> None:
        heapq.heappush(self._due, (session.next_send_at_ns(), peer))

    def _count_fault(self, address: str, error: ProbeError) -> None:
        self.faults[ProbeFault(str(error))] += 1
        neighbor = self._neighbors.get(address)
        if neighbor:
            neighbor.segment.events[Event.MALFORMED] += 1
