from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from prober.clock_state import ClockState
from prober.segment import METRICS_MEASURED, Segment, SegmentSnapshot
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.reflector import MAX_UNLEARNED, OLDEST_PROBE_NS, Reflector, Reply
from prober.stamp.tlv import SenderFollowUp, sender_extension
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError

MS, S = 1_000_000, 1_000_000_000
START_NS = 1_700_000_000 * S
CLOCK = ClockState(synchronized=True, error_ms=0.5)
ERROR = ErrorEstimate.from_int(0x8F84)
NEIGHBORS = ("192.0.2.7", "192.0.2.8", "192.0.2.9")
KEY = StampKey(bytes(range(32)))
MODES = pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])


class Bed:
    """A reflector and its segments, which learns after each `every` packets."""

    def __init__(self, every: int, key: StampKey | None = None) -> None:
        self.segments = {address: Segment(address) for address in NEIGHBORS}
        self.faults: Counter[ProbeFault] = Counter()
        self.heard: list[tuple[str, int, bool]] = []
        self.reflector = Reflector(
            self.segments.get,
            key_of=sole_key(key),
            faults=self.faults,
            heard=lambda *heard: self.heard.append(heard),
        )
        self._every = every
        self._taken = 0

    def take(self, datagram: Datagram) -> Reply | None:
        reply = self.reflector.probe_received(datagram, now_ns=datagram.received_at_ns + MS // 10, clock=CLOCK)
        if reply:
            self.reflector.transmitted(reply.source, reply.number, datagram.received_at_ns + MS // 5)
        self._taken += 1
        if self._taken % self._every == 0:
            self.reflector.learn()
        return reply


def probe(
    sequence: int,
    sent_ns: int,
    told: SenderFollowUp | None,
    report: bytes = b"",
    key: StampKey | None = None,
    error: ErrorEstimate = ERROR,
) -> bytes:
    number = sequence % 2**32
    extension = b"" if told is None else sender_extension(told, interfaces=report, sequence=number, key=key)
    return SenderPacket(number, ntp_from_unix_ns(sent_ns), error, extension=extension).to_bytes(key)


def came(number: int, *, after_ms: int, key: StampKey | None, error: ErrorEstimate = ERROR) -> Datagram:
    """A probe that left at its number in milliseconds, and arrived so long after the start."""
    data = probe(number, START_NS + number * MS, SenderFollowUp(), key=key, error=error)
    return Datagram(data, NEIGHBORS[0], 5000, 255, START_NS + after_ms * MS)


def traffic(chance: random.Random, *, first: int, key: StampKey | None) -> list[Datagram]:
    """Of three neighbors: with and without TLVs, lost, copied and overtaken packets, one that begins anew."""
    came = []
    for address in NEIGHBORS:
        begun = first
        for number in range(400):
            sent_ns = START_NS + number * 40 * MS
            if number == 300 and address == NEIGHBORS[2]:
                begun = first - 300
            if chance.random() < 0.05:
                continue
            told = SenderFollowUp(
                (begun + number - 1) % 2**32,
                ntp_from_unix_ns(sent_ns - 40 * MS + MS // 20),
                (begun + number - 1) % 2**32,
                ntp_from_unix_ns(sent_ns - 20 * MS),
            )
            plain = address == NEIGHBORS[1] and number % 2
            data = probe(begun + number, sent_ns, None if plain else told, bytes(24) if number % 5 else b"", key)
            for _ in range(1 + (chance.random() < 0.05)):
                arrived_ns = sent_ns + round(chance.expovariate(1 / 12) * MS)
                came.append(Datagram(data, address, 5000, 250, arrived_ns, tos=number % 4))
    return sorted(came, key=lambda datagram: datagram.received_at_ns)


@MODES
@pytest.mark.parametrize("first", [0, 2**32 - 150])
def test_who_learns_in_batches_answers_and_measures_as_one_who_learns_at_once(
    first: int, key: StampKey | None
) -> None:
    at_once, in_batches = Bed(1, key), Bed(50, key)
    for datagram in traffic(random.Random(first), first=first, key=key):
        assert at_once.take(datagram) == in_batches.take(datagram)
    in_batches.reflector.learn()
    now_ns = START_NS + 17 * S
    for address in NEIGHBORS:
        told, expected = (
            SegmentSnapshot.of(bed.segments[address], now_ns=now_ns, clock=CLOCK) for bed in (in_batches, at_once)
        )
        assert told == expected
        assert set(told.statistics) >= set(METRICS_MEASURED) - {"jitter"}
    assert in_batches.faults == at_once.faults
    assert sorted(in_batches.heard) == sorted(at_once.heard)


def test_what_a_usual_probe_tells_waits_until_it_is_learned_and_that_of_any_other_probe_does_not() -> None:
    bed = Bed(1000)
    segment = bed.segments[NEIGHBORS[0]]
    told = SenderFollowUp()

    def take(sequence: int, told: SenderFollowUp | None) -> int:
        at_ns = START_NS + sequence * 10 * MS
        bed.take(Datagram(probe(sequence, at_ns, told), NEIGHBORS[0], 5000, 255, at_ns + MS))
        return segment.inbound.arrivals.over(START_NS + S, 60).unique

    assert take(0, told) == 1  # begins the session
    assert [take(sequence, told) for sequence in (1, 2, 3)] == [1, 1, 1]
    bed.reflector.learn()
    assert segment.inbound.arrivals.over(START_NS + S, 60).unique == 4
    assert take(4, told) == 4
    assert take(5, None) == 6


@MODES
def test_a_copy_of_a_probe_that_was_not_yet_learned_gets_no_answer(key: StampKey | None) -> None:
    bed = Bed(1000, key)
    datagrams = [came(number, after_ms=number, key=key) for number in range(5)]
    replies = [bed.take(datagram) for datagram in datagrams]
    assert [ReflectorPacket.from_bytes(reply.data, key).sequence for reply in replies if reply] == [0, 1, 2, 3, 4]
    assert [bed.take(datagram) for datagram in datagrams] == [None] * 5
    assert bed.faults[ProbeFault.REPLAYED] == (5 if key else 0)


@MODES
def test_a_copy_that_follows_an_overtaken_probe_gets_no_answer(key: StampKey | None) -> None:
    bed = Bed(1000, key)
    order = (0, 1, 2, 4, 5, 3)
    datagrams = [came(number, after_ms=after, key=key) for after, number in enumerate(order)]
    assert all(bed.take(datagram) for datagram in datagrams)
    assert [bed.take(datagram) for datagram in datagrams] == [None] * len(order)


@pytest.mark.parametrize("synchronized", [True, False])
def test_a_usual_probe_that_was_kept_is_refused_when_its_age_shows_it(synchronized: bool) -> None:
    bed = Bed(1000, KEY)
    error = replace(ERROR, synchronized=synchronized)
    for number in range(3):
        assert bed.take(came(number, after_ms=number, key=KEY, error=error))
    late_ms = 4 + (OLDEST_PROBE_NS + S) // MS
    kept = came(4, after_ms=late_ms, key=KEY, error=error)
    if synchronized:
        with pytest.raises(ProbeError, match=ProbeFault.REPLAYED):
            bed.take(kept)
    else:  # the next number with an old time shows a step of the sender's clock
        assert bed.take(kept)


def test_of_unsynchronized_clocks_the_newest_time_of_usual_probes_shows_an_old_one() -> None:
    bed = Bed(1000, KEY)
    step_ms = OLDEST_PROBE_NS // MS // 4

    def take(number: int) -> Reply | None:
        sent_ns = START_NS + number * step_ms * MS
        data = probe(number, sent_ns, SenderFollowUp(), key=KEY, error=replace(ERROR, synchronized=False))
        return bed.take(Datagram(data, NEIGHBORS[0], 5000, 255, sent_ns + MS))

    assert all(take(number) for number in (0, 2, 3, 4, 5, 7))
    with pytest.raises(ProbeError, match=ProbeFault.REPLAYED):
        take(1)
    assert take(6)


def test_not_more_than_so_many_probes_wait_to_be_learned() -> None:
    bed = Bed(10**6)
    segment = bed.segments[NEIGHBORS[0]]
    for n in range(3 * MAX_UNLEARNED):
        at_ns = START_NS + n * MS
        bed.take(Datagram(probe(n, at_ns, SenderFollowUp()), NEIGHBORS[0], 5000, 255, at_ns))
    assert segment.inbound.arrivals.over(START_NS + S, 60).unique >= 2 * MAX_UNLEARNED
