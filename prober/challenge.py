"""Whether somebody answers at an address that a message named, asked before it is measured (pure).

Who sends requests may name any address as the point before: probes at their full rate toward all of them would be
a gift to whoever dislikes one of their owners. So an address that no operator configured gets single STAMP probes
first, which any point answers (and any reflector of RFC 8762): their numbers are chance, so only who received one
can send the right reply. What stays silent is asked a few times, ever more rarely, and then left alone for a
while; how many are asked, and how often in all, is bounded whatever comes in.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass

from prober.stamp.authentication import NO_KEY, KeyOf
from prober.stamp.packet import SEQUENCE_MODULUS, ReflectorPacket, SenderPacket
from prober.stamp.probe_format import MAX_SSID
from prober.stamp.session import Probe
from prober.timestamp import NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError

MAX_ASKED = 64
"""Addresses that are asked at once. Beyond it the one that was asked longest ago gives way, once it had time."""
CHALLENGES = 3
AUTHENTICATED_CHALLENGES = 1
"""Of one address; then it is left alone. Together they have no more octets than the shortest request: 72 each of
IP, or 140 in the authenticated mode."""
FIRST_GAP_NS = 1 * NS_PER_S
"""To the second challenge; each further gap is twice as long."""
SILENCE_NS = 60 * NS_PER_S
"""How long an address that did not answer is left alone; where it was asked but once, a sixth of that."""
PROVEN_NS = 3600 * NS_PER_S
"""How long an answer counts for one that is no neighbor any more."""
MAX_REMEMBERED = 1024
"""Addresses that answered, and as many that did not: 20 a second are asked, so a minute's are 1200 at most."""
RATE_PER_S = 20
"""Challenges in all, 1.4 kB/s; as many may come at once. One in the authenticated mode counts as two."""


@dataclass(slots=True)
class _Asked:
    next_at_ns: int
    sent: int = 0
    sequence: int = 0
    timestamp: int = 0
    """Of the last challenge: the reply repeats both."""


class Challenges:
    """The addresses that have answered, and those that are asked.

    Args:
        random_source: draws the numbers of challenges; they are secrets, so let it be a `SystemRandom`.
        key_of: gives the key of the authenticated mode toward an address.
    """

    def __init__(self, *, random_source: random.Random, key_of: KeyOf = NO_KEY) -> None:
        self._random = random_source
        self._key_of = key_of
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._proven_at_ns: OrderedDict[str, int] = OrderedDict()
        self._silent_at_ns: OrderedDict[str, int] = OrderedDict()
        self._tokens = float(RATE_PER_S)
        self._filled_at_ns: int | None = None

    def __len__(self) -> int:
        """How many addresses are remembered in all."""
        return len(self._asked) + len(self._proven_at_ns) + len(self._silent_at_ns)

    def is_proven(self, peer: str, now_ns: int) -> bool:
        """Whether the address has answered."""
        at_ns = self._proven_at_ns.get(peer)
        return at_ns is not None and now_ns - at_ns <= PROVEN_NS

    def ask(self, peer: str, now_ns: int) -> None:
        """Challenge the address, unless it is asked already or has been silent just now."""
        silent_at_ns = self._silent_at_ns.get(peer)
        silence_ns = SILENCE_NS if self._key_of(peer) is None else SILENCE_NS // 6
        if peer in self._asked or (silent_at_ns is not None and now_ns - silent_at_ns <= silence_ns):
            return
        if len(self._asked) >= MAX_ASKED and not self._gives_way(now_ns):
            return
        self._silent_at_ns.pop(peer, None)
        self._asked[peer] = _Asked(now_ns)

    def came(self, peer: str, now_ns: int) -> None:
        """The address has begun to send probes: it may be there now, though it was silent before."""
        self._silent_at_ns.pop(peer, None)
        asked = self._asked.get(peer)
        if asked is not None:
            asked.sent, asked.next_at_ns = 0, now_ns

    def forget(self, peer: str) -> None:
        """The address answers no more: it must prove itself again."""
        self._proven_at_ns.pop(peer, None)

    @property
    def is_asking(self) -> bool:
        """Whether an address has still to answer."""
        return bool(self._asked)

    def next_wakeup_ns(self) -> int | None:
        """When `due` has something to do; None while nobody is asked."""
        if not self._asked:
            return None
        next_at_ns = min(asked.next_at_ns for asked in self._asked.values())
        needed = max(map(self._cost, self._asked))
        if self._tokens >= needed or self._filled_at_ns is None:
            return next_at_ns
        return max(next_at_ns, self._filled_at_ns + round((needed - self._tokens) / RATE_PER_S * NS_PER_S))

    def due(self, now_ns: int, error: ErrorEstimate) -> list[Probe]:
        """The challenges to send now.

        Args:
            now_ns: own wall clock.
            error: what packets of this point say of its clock.
        """
        self._fill(now_ns)
        probes = []
        waiting = [(peer, asked) for peer, asked in self._asked.items() if asked.next_at_ns <= now_ns]
        for peer, asked in sorted(waiting, key=lambda one: one[1].sent):  # whoever is new comes first
            cost = self._cost(peer)
            if asked.sent >= (CHALLENGES if cost == 1 else AUTHENTICATED_CHALLENGES):
                del self._asked[peer]
                _remember(self._silent_at_ns, peer, now_ns)
            elif self._tokens >= cost:
                self._tokens -= cost
                probes.append(self._challenge(peer, asked, now_ns, error))
        return probes

    def answered(self, address: str, data: bytes, now_ns: int) -> bool:
        """Take a datagram from the address; whether it proves that the last challenge was received there."""
        asked = self._asked.get(address)
        if asked is None or not asked.sent:
            return False
        try:
            reply = ReflectorPacket.from_bytes(data, self._key_of(address))
        except ProbeError:
            return False
        if (reply.sender_sequence, reply.sender_timestamp) != (asked.sequence, asked.timestamp):
            return False
        del self._asked[address]
        _remember(self._proven_at_ns, address, now_ns)
        return True

    def clock_stepped(self, step_ns: int) -> None:
        """The own clock was set: what was noted by it moves with it, forward positive."""
        for asked in self._asked.values():
            asked.next_at_ns += step_ns
        for times in (self._proven_at_ns, self._silent_at_ns):
            for peer in times:
                times[peer] += step_ns
        if self._filled_at_ns is not None:
            self._filled_at_ns += step_ns

    def _cost(self, peer: str) -> int:
        return 1 if self._key_of(peer) is None else 2

    def _gives_way(self, now_ns: int) -> bool:
        """Whether there was an address that had its time to answer, and is given up."""
        for peer, asked in self._asked.items():
            if asked.sent and now_ns >= asked.next_at_ns:
                del self._asked[peer]
                _remember(self._silent_at_ns, peer, now_ns)
                return True
        return False

    def _challenge(self, peer: str, asked: _Asked, now_ns: int, error: ErrorEstimate) -> Probe:
        asked.sequence = self._random.randrange(SEQUENCE_MODULUS)
        asked.timestamp = ntp_from_unix_ns(now_ns)
        asked.next_at_ns = now_ns + (FIRST_GAP_NS << asked.sent)
        asked.sent += 1
        ssid = self._random.randint(1, MAX_SSID)  # with it, no reflector takes it for a probe of a segment
        packet = SenderPacket(asked.sequence, asked.timestamp, error, ssid)
        return Probe(peer, asked.sequence, packet.to_bytes(self._key_of(peer)))

    def _fill(self, now_ns: int) -> None:
        if self._filled_at_ns is not None:
            elapsed_s = max(0, now_ns - self._filled_at_ns) / NS_PER_S
            self._tokens = min(RATE_PER_S, self._tokens + elapsed_s * RATE_PER_S)
        self._filled_at_ns = now_ns


def _remember(times: OrderedDict[str, int], peer: str, now_ns: int) -> None:
    times[peer] = now_ns
    times.move_to_end(peer)
    if len(times) > MAX_REMEMBERED:
        times.popitem(last=False)
