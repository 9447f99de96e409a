"""Search for a segment's path MTU with datagrams of chosen sizes (RFC 8899, Datagram PLPMTUD).

Sizes are octets of the whole IP packet, header included (RFC 1191, RFC 2215). A size that is answered fits. One
that is not answered in TRIES tries does not fit, or its probes were lost, so silence is not believed at once:

    base -> interface's MTU -> bisect to the octet -> that size again -> the size above again -> that size again

With the share p of probes lost, both ways together, a fitting size is taken for too big with probability p^3. The
size above the result then fits too, and must be lost 3 times again before the result is believed: at most n p^6
with n tested sizes. At 5 % loss each way (p = 0.0975) and 9 sizes that is 8e-6. Two outages are needed to deceive,
one during the bisection and one during the second look above: between them and after, the result must be answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prober.timestamp import NS_PER_S

BASE_OCTETS: Final = 1200
"""BASE_PLPMTU of RFC 8899 section 5.1.2; nearly every path carries it."""
LEAST_OCTETS: Final = 256
"""An authenticated probe needs 140 octets and its TLVs; smaller MTUs are not searched for."""
TRIES: Final = 3
"""MAX_PROBES of RFC 8899 section 5.1.2."""
LONGEST_TIMEOUT_NS: Final = 15 * NS_PER_S
"""PROBE_TIMER that RFC 8899 section 5.1.1 recommends where nothing is known of the round trip."""
_MAX_REMEMBERED: Final = 16
"""Probes whose late answer still counts: two rounds of tries, and some."""
_SEQUENCE_MODULUS: Final = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MtuTimes:
    """When to probe."""

    least_timeout_ns: int = NS_PER_S
    """RFC 8899 section 5.1.1: PROBE_TIMER must not be smaller than 1 s; it grows with the round trip."""
    confirm_ns: int = 60 * NS_PER_S
    """From one confirmation of the found size to the next; also the pause after a search without any answer."""
    raise_ns: int = 600 * NS_PER_S
    """PMTU_RAISE_TIMER of RFC 8899 section 5.1.1: from one look for a greater size to the next."""


class Phase(StrEnum):
    """What the present probe is for (states of RFC 8899 section 5.2)."""

    BASE = "base"
    ERROR = "error"
    """The base size was not answered: does anything pass?"""
    SEARCHING = "searching"
    VERIFYING = "verifying"
    """The size just above the greatest one that passed, once more."""
    CONFIRMING = "confirming"
    """The greatest size that passed, once more."""
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class MtuProbe:
    """A probe to send now."""

    sequence: int
    size_octets: int
    """Of the IP packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MtuFinding:
    """The result of a search, as last confirmed."""

    octets: int
    answers: int
    """Answered probes of just this size."""
    confirmed_at_ns: int


@dataclass(frozen=True, slots=True)
class _Sent:
    size_octets: int
    at_ns: int


class MtuSearch:
    """The search toward one peer: one probe at a time.

    Args:
        limit_octets: MTU of the interface that leads to the peer.
        now_ns: any clock that never steps; all other times are of the same one.
        first_sequence: number of the first probe; a random one is not easily guessed by a forger of replies.
        times: see `MtuTimes`.
    """

    def __init__(
        self, *, limit_octets: int, now_ns: int, first_sequence: int = 0, times: MtuTimes | None = None
    ) -> None:
        self.found: MtuFinding | None = None
        """None until the first search is complete, and after one that nobody answered."""
        self._times = times or MtuTimes()
        self._limit = max(limit_octets, LEAST_OCTETS)
        self._next_sequence = first_sequence % _SEQUENCE_MODULUS
        self._timeout_ns = self._times.least_timeout_ns
        self._smoothed_ns: float | None = None
        self._variation_ns = 0.0
        self._raise_at_ns = now_ns
        self.phase = Phase.BASE
        self._passes = 0
        """The greatest size that was answered; 0 for none."""
        self._fails = self._limit + 1
        """The least size that does not fit, or seems not to."""
        self._is_certain = True
        """`_fails` does not rest on silence."""
        self._is_verified = False
        """`_fails` was silent again while the path worked."""
        self._answers = 0
        self._tries = 0
        self._sent: dict[int, _Sent] = {}
        self._awaited: int | None = None
        self._due_at_ns = now_ns

    def due_at_ns(self) -> int:
        """When `poll` has something to do."""
        return self._due_at_ns

    def poll(self, now_ns: int) -> MtuProbe | None:
        """The probe to send now, if one is due."""
        if now_ns < self._due_at_ns:
            return None
        if self._awaited is not None:
            self._missed(now_ns)
            if now_ns < self._due_at_ns:
                return None
        if self.phase is Phase.COMPLETE:
            raising = self._fails <= self._limit and self._raise_at_ns <= now_ns
            self.phase = Phase.VERIFYING if raising else Phase.CONFIRMING
        return self._probe(now_ns)

    def answered(self, sequence: int, size_octets: int, now_ns: int) -> bool:
        """A reply came, of `size_octets` of IP packet; False when it answers no probe of that size.

        A late reply counts as well as one in time: either way the size fits.
        """
        sent = self._sent.get(sequence)
        if sent is None or sent.size_octets != size_octets:
            return False
        del self._sent[sequence]
        self._learn_round_trip(now_ns - sent.at_ns)
        awaited_octets = 0 if self._awaited is None else self._size()
        if sent.size_octets < max(self._passes, awaited_octets):
            return True  # a late one that tells nothing new
        self._answers = self._answers + 1 if sent.size_octets == self._passes else 1
        self._passes = sent.size_octets
        if self._fails <= self._passes:
            # Silence was loss: what was concluded from silence above may be as wrong.
            self._fails, self._is_certain = self._limit + 1, True
        self._narrow(now_ns)
        return True

    def refused(self, sequence: int, now_ns: int) -> None:
        """The probe certainly does not fit: the own kernel says so, or its reply came in fragments."""
        self._sent.pop(sequence, None)
        if sequence == self._awaited:
            self._failed(now_ns, is_certain=True)

    def limit(self, octets: int, now_ns: int) -> None:
        """Take the interface's MTU in again; a change is followed at once."""
        octets = max(octets, LEAST_OCTETS)
        if octets == self._limit:
            return
        was_limit = self._fails == self._limit + 1
        self._limit = octets
        if self.phase is not Phase.COMPLETE or octets < self._passes:
            self._begin(now_ns)
        elif was_limit or self._fails > octets:
            self._fails, self._is_certain = octets + 1, True
            if self._fails - self._passes > 1:
                self._narrow(now_ns)

    def _begin(self, at_ns: int) -> None:
        self.phase = Phase.BASE
        self._passes = 0
        self._fails = self._limit + 1
        self._is_certain, self._is_verified = True, False
        self._answers = 0
        self._sent.clear()
        self._settle(at_ns)

    def _size(self) -> int:
        match self.phase:
            case Phase.BASE:
                return min(BASE_OCTETS, self._limit)
            case Phase.ERROR:
                return LEAST_OCTETS
            case Phase.SEARCHING if self._fails > self._limit:
                return self._limit  # what most paths carry
            case Phase.SEARCHING:
                return (self._passes + self._fails) // 2
            case Phase.VERIFYING:
                return self._fails
            case Phase.CONFIRMING | Phase.COMPLETE:
                return self._passes

    def _probe(self, now_ns: int) -> MtuProbe:
        probe = MtuProbe(self._next_sequence, self._size())
        self._next_sequence = (self._next_sequence + 1) % _SEQUENCE_MODULUS
        self._sent[probe.sequence] = _Sent(probe.size_octets, now_ns)
        if len(self._sent) > _MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._awaited = probe.sequence
        self._due_at_ns = now_ns + self._timeout_ns
        return probe

    def _missed(self, now_ns: int) -> None:
        self._tries += 1
        if self._tries >= TRIES:
            self._failed(now_ns, is_certain=False)

    def _failed(self, now_ns: int, *, is_certain: bool) -> None:
        size = self._size()
        self._settle(now_ns)
        match self.phase:
            case Phase.BASE if size > LEAST_OCTETS:
                self.phase = Phase.ERROR
                self._fails, self._is_certain = size, is_certain
            case Phase.BASE | Phase.ERROR:
                self.found = None
                self._begin(now_ns + self._times.confirm_ns)
            case Phase.SEARCHING:
                self._fails, self._is_certain = size, is_certain
                if self._fails - self._passes == 1:
                    self.phase = Phase.CONFIRMING
            case Phase.VERIFYING:
                self.phase = Phase.CONFIRMING
                self._is_verified = True
            case Phase.CONFIRMING:
                self._begin(now_ns)

    def _narrow(self, now_ns: int) -> None:
        """The greatest size that is known to pass was answered: go on with what is open above it."""
        self._settle(now_ns)
        if self._fails - self._passes > 1:
            self.phase = Phase.SEARCHING
            self._is_verified = False
        elif self._is_certain or self._is_verified:
            self._complete(now_ns)
        else:
            self.phase = Phase.VERIFYING

    def _settle(self, now_ns: int) -> None:
        self._awaited = None
        self._tries = 0
        self._due_at_ns = now_ns

    def _complete(self, now_ns: int) -> None:
        self.phase = Phase.COMPLETE
        self.found = MtuFinding(octets=self._passes, answers=self._answers, confirmed_at_ns=now_ns)
        self._due_at_ns = now_ns + self._times.confirm_ns
        if self._raise_at_ns <= now_ns:
            self._raise_at_ns = now_ns + self._times.raise_ns

    def _learn_round_trip(self, round_trip_ns: int) -> None:
        """RFC 6298 section 2; every try has a number of its own, so no sample is ambiguous."""
        if self._smoothed_ns is None:
            self._smoothed_ns, self._variation_ns = float(round_trip_ns), round_trip_ns / 2
        else:
            self._variation_ns += (abs(self._smoothed_ns - round_trip_ns) - self._variation_ns) / 4
            self._smoothed_ns += (round_trip_ns - self._smoothed_ns) / 8
        timeout_ns = round(self._smoothed_ns + 4 * self._variation_ns)
        self._timeout_ns = min(max(timeout_ns, self._times.least_timeout_ns), LONGEST_TIMEOUT_NS)
