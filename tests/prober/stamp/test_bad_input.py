"""What nobody should send, over real sockets, to both roles in both modes, beside a session that is all right."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from scapy.compat import raw
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Event, Segment
from prober.stamp.authentication import StampKey
from prober.stamp.packet import MAX_PACKET_BYTES, ReflectorPacket, SenderPacket, base_bytes
from prober.stamp.reflector import MAX_SESSIONS
from prober.stamp.tlv import FollowUp, Tlv, TlvFlag, TlvType
from prober.timestamp import NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from prober.udp import UdpProber
from schemas.metrics import ScalarStatistics
from tests.namespaces import Namespace, Namespaces, in_namespace

pytestmark = pytest.mark.netns

CLOCK = ClockState(synchronized=True, error_ms=0.01)
ERROR = ErrorEstimate.from_int(0x8F84)
UNSYNCHRONIZED = replace(ERROR, synchronized=False)
ZERO = replace(ERROR, multiplier=0)
"""What `from_int` refuses to read, but anybody can write."""
KEY, OTHER_KEY = StampKey(bytes(range(32))), StampKey(bytes(range(1, 33)))
MODES = pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
PORT = 862
RATE_PER_S = 100
STRANGER, LIAR, THIRD = "10.9.0.77", "10.9.0.78", "10.9.0.79"
A_YEAR_NS = 365 * 86_400 * NS_PER_S
WAIT_S = 10.0
USUAL = frozenset({Event.SENT, Event.RECEIVED, Event.MALFORMED})
LAST = (1 << 32) - 1
FOLLOW_UP = Tlv(TlvFlag.UNRECOGNIZED, TlvType.FOLLOW_UP, FollowUp().to_value()).to_bytes()

Bed = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Two hosts, with addresses for those who send what they should not."""
    factory = Namespaces()
    try:
        left, right = factory.chain("left", "right")
        left.run(*f"ip address add {STRANGER}/24 dev {left.interfaces[0]}".split())
        for address in (LIAR, THIRD):
            right.run(*f"ip address add {address}/24 dev {right.interfaces[0]}".split())
        yield left, right
    finally:
        factory.remove()


@dataclass
class Points:
    """A point on the left that probes one on the right."""

    left: UdpProber
    right: UdpProber

    def segment(self, at: UdpProber, peer: str) -> Segment:
        segment = at.prober.segment(peer)
        assert segment is not None
        return segment

    def send_no_more(self) -> None:
        """Have the left point send no further probe."""
        self.left.prober._due.clear()

    async def assert_exact(self) -> None:
        """Nothing of what others send shows in the session between the two."""
        here = self.segment(self.left, self.right.prober.address)
        await eventually(lambda: here.events[Event.RECEIVED] >= 20)
        self.send_no_more()
        await eventually(lambda: here.events[Event.SENT] == here.events[Event.RECEIVED])
        there = self.segment(self.right, self.left.prober.address)
        sent, now_ns = here.events[Event.SENT], time.time_ns()
        # The first probe makes the neighbor known there, and is counted nowhere yet.
        assert there.events[Event.RECEIVED] == there.events[Event.SENT] == sent - 1
        for segment, crossed in ((here, sent), (there, sent - 1)):
            assert set(+segment.events) <= {Event.SENT, Event.RECEIVED}
            assert segment.hops == 0
            # Whether the peer knows extensions is tried out first, and true times are told by later packets.
            assert crossed - 9 <= segment.inbound.delays.count(now_ns, 60) <= crossed
            assert 5 <= segment.round_trips.count(now_ns, 60) <= crossed
            assert segment.inbound.arrivals.count(now_ns, 60) == crossed
            assert segment.inbound.arrivals.greatest_extent == 0
            delays = segment.inbound.delays.over(now_ns, 60)
            assert delays is not None
            assert 0 < delays.round_trip().mean_ms < 20
        loss = here.outbound.losses.statistics(now_ns, 60)
        assert loss is None or loss.lost == 0


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.002)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end; whatever a callback raised on the way fails the test."""
    raised: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        await main

    asyncio.run(watched())
    assert raised == []


@asynccontextmanager
async def running(bed: Bed, key: StampKey | None) -> AsyncIterator[Points]:
    left, right = (
        UdpProber(
            Prober(side.addresses[0], random_source=random.Random(1), clock=CLOCK, rate_per_s=RATE_PER_S, key=key),
            now_ns=time.time_ns,
            monotonic_ns=time.monotonic_ns,
        )
        for side in bed
    )
    try:
        for side, point in zip(bed, (left, right), strict=True):
            with in_namespace(side.name):
                point.open()
        await asyncio.gather(right.start(), left.start())
        left.want(right.prober.address)
        yield Points(left, right)
    finally:
        for point in (left, right):
            await point.close()


def udp_socket(namespace: Namespace, address: str, port: int = 0) -> socket.socket:
    with in_namespace(namespace.name):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    made.bind((address, port))
    made.setblocking(False)
    return made


def drained(source: socket.socket) -> list[bytes]:
    came = []
    while True:
        try:
            came.append(source.recv(4096))
        except BlockingIOError:
            return came


def probe(key: StampKey | None, sequence: int = 0, *, ahead_ns: int = 0, error: ErrorEstimate = ERROR) -> bytes:
    return SenderPacket(sequence, ntp_from_unix_ns(time.time_ns() + ahead_ns), error).to_bytes(key)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


@dataclass(frozen=True)
class ToReflector:
    """What a stranger sends, and what becomes of it."""

    name: str
    make: Callable[[StampKey | None], Sequence[bytes]]
    faults: Callable[[StampKey | None], dict[str, int]]
    """By `ProbeFault`, all there are."""
    answers: Callable[[StampKey | None], int] = lambda key: 0
    samples: Callable[[StampKey | None], int] = lambda key: 0
    """Delays that count."""
    events: Callable[[StampKey | None], dict[Event, int]] = lambda key: {}
    """Of the stranger's segment, beside USUAL."""


TO_REFLECTOR = [
    ToReflector(
        "truncated",
        lambda key: [probe(key)[:size] for size in (0, 1, 13)],
        lambda key: {"probe-too-short": 3},
    ),
    ToReflector(
        "truncated within the base",
        lambda key: [probe(key)[: base_bytes(key) - 1]],
        lambda key: {"not-authenticated": 1} if key else {},
        lambda key: 0 if key else 1,  # a probe of TWAMP-Light
        lambda key: 0 if key else 1,
    ),
    ToReflector(
        "oversized",
        lambda key: [probe(key).ljust(size, b"\0") for size in (MAX_PACKET_BYTES + 1, 2048, 9000)],
        lambda key: {"packet-too-long": 3},
    ),
    ToReflector(
        "zero error multiplier",
        lambda key: [probe(key, error=ZERO), probe(key, error=replace(ZERO, scale=63))],
        lambda key: {"error-multiplier-zero": 2},
    ),
    ToReflector(
        "wrongly authenticated",
        lambda key: [
            *([flipped(probe(key), place) for place in (0, 5, 95, 96, 111)] if key else []),
            probe(OTHER_KEY),
            probe(None),
        ],
        lambda key: (
            {"wrong-authentication": 6, "not-authenticated": 1} if key else {"unexpectedly-authenticated": 1}
        ),
        lambda key: 0 if key else 1,  # the last one is right without a key
        lambda key: 0 if key else 1,
    ),
    ToReflector(
        "replayed",
        lambda key: [probe(key)] * 6,
        lambda key: {"replayed": 5} if key else {},
        # The format lets nobody tell whether a sender without extensions wants an answer to each.
        lambda key: 1 if key else 6,
        lambda key: 1,
        lambda key: {Event.DUPLICATE: 5},
    ),
    ToReflector(
        "kept for a minute",
        lambda key: [probe(key, ahead_ns=-60 * NS_PER_S)],
        lambda key: {"replayed": 1} if key else {},
        lambda key: 0 if key else 1,
    ),
    ToReflector(
        "timestamp from the far future",
        lambda key: [probe(key, n, ahead_ns=A_YEAR_NS, error=UNSYNCHRONIZED) for n in range(3)],
        lambda key: {"timestamp-far-off": 3},
        lambda key: 3,
    ),
    ToReflector(
        "reordered",
        lambda key: [probe(key, n) for n in (0, 2, 1, 4, 3, 5)],
        lambda key: {},
        lambda key: 6,
        lambda key: 6,
    ),
    ToReflector(
        "numbers that wrap",
        lambda key: [probe(key, n) for n in (LAST - 1, LAST, 0, 1)],
        lambda key: {},
        lambda key: 4,
        lambda key: 4,
    ),
    ToReflector(
        "TLVs of nobody who has the key",
        lambda key: [probe(key) + FOLLOW_UP],
        lambda key: {"tlv-integrity": 1} if key else {},
        lambda key: 1,
        lambda key: 1,
    ),
    ToReflector(
        "TLVs that lie about their length",
        lambda key: [probe(key, n) + flipped(FOLLOW_UP, place) for n, place in enumerate((2, 3))],
        lambda key: {},  # there is no whole TLV, so none is used
        lambda key: 2,
        lambda key: 2,
    ),
]


async def introduce(bed: Bed, points: Points, key: StampKey | None) -> None:
    """Have the right point know the stranger as somebody who probes it, with one sample."""
    prober = points.right.prober

    def has_answered(count: int) -> bool:
        segment = prober.segment(STRANGER)
        return segment is not None and segment.events[Event.SENT] == count

    with udp_socket(bed[0], STRANGER) as first:
        for number in range(2):  # the first one makes it known, and is counted nowhere yet
            first.sendto(probe(key, number), (prober.address, PORT))
            await eventually(partial(has_answered, number))


@MODES
@pytest.mark.parametrize("case", TO_REFLECTOR, ids=lambda case: case.name)
def test_a_reflector_counts_what_is_wrong_by_its_kind(bed: Bed, key: StampKey | None, case: ToReflector) -> None:
    async def main() -> None:
        async with running(bed, key) as points:
            await introduce(bed, points, key)
            with udp_socket(bed[0], STRANGER) as stranger:
                for data in case.make(key):
                    stranger.sendto(data, (points.right.prober.address, PORT))
                await eventually(lambda: points.right.counters() == case.faults(key))
                await points.assert_exact()
                assert points.right.counters() == case.faults(key)
                assert len(drained(stranger)) == case.answers(key)
            segment = points.segment(points.right, STRANGER)
            assert segment.inbound.delays.count(time.time_ns(), 60) == 1 + case.samples(key)
            events = {event: count for event, count in segment.events.items() if count and event not in USUAL}
            assert events == case.events(key)
            losses = segment.inbound.losses.statistics(time.time_ns() + 2 * NS_PER_S, 60)
            assert losses is None or losses.lost == 0
            assert points.left.counters() == {}

    run(main())


@MODES
def test_of_a_flood_of_random_octets_each_is_counted_and_nothing_is_kept(bed: Bed, key: StampKey | None) -> None:
    chance = random.Random(5)
    flood = 500

    async def main() -> None:
        async with running(bed, key) as points:
            prober, answered = points.right.prober, 0

            def is_over() -> bool:
                nonlocal answered
                answered += len(drained(stranger))
                faults = Counter(points.right.counters())
                return faults.total() - faults["timestamp-far-off"] + answered == flood

            with udp_socket(bed[0], STRANGER) as stranger:
                for _ in range(flood // 10):
                    for _ in range(10):
                        data = chance.randbytes(chance.randint(0, 1600))
                        stranger.sendto(data, (prober.address, PORT))
                    for _ in range(15):  # each turn of the loop takes one datagram
                        await asyncio.sleep(0)
                    is_over()  # takes the answers, before there are too many to wait
                await eventually(is_over)
                await points.assert_exact()
            assert answered == points.right.counters().get("timestamp-far-off", 0)
            assert bool(answered) is (key is None)
            segment = prober.segment(STRANGER)
            assert (segment is None) is (key is not None)
            assert segment is None or segment.inbound.delays.count(time.time_ns(), 60) == 0
            # The good session, and what random SSIDs made where they cannot be known for what they are.
            assert len(prober._reflector) <= 1 + answered <= MAX_SESSIONS
            assert len(prober._strangers) == (0 if key else 2)  # nobody asked for the left point either
            assert len(prober.segments(time.time_ns())) == 1 + (key is None)
            assert points.left.counters() == {}

    run(main())


# 240.0.0.0/4 is no martian to the kernel, and port 0 can be written though nobody can answer it.
@MODES
@pytest.mark.parametrize(("address", "port"), [("240.0.0.9", 5000), (STRANGER, 0), ("10.9.0.2", 5000)])
def test_a_forged_source_that_nobody_can_have_raises_nothing(
    bed: Bed, key: StampKey | None, address: str, port: int
) -> None:
    async def main() -> None:
        async with running(bed, key) as points:
            to = points.right.prober.address
            with in_namespace(bed[0].name):
                forger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            with forger:
                for number in range(5):
                    packet = IP(src=address, dst=to) / UDP(sport=port, dport=PORT) / Raw(probe(key, number))
                    forger.sendto(raw(packet), (to, 0))
            await points.assert_exact()
            assert set(points.right.counters()) <= {"send-failed"}
            assert {snapshot.peer for snapshot in points.right.snapshots()} <= {
                points.left.prober.address,
                STRANGER,
            }

    run(main())


Lie = Callable[[SenderPacket, ReflectorPacket, StampKey | None], Sequence[bytes]]
"""(probe, its true answer): what is sent instead."""


@dataclass(frozen=True)
class ToSender:
    """What a reflector answers with, and what becomes of it."""

    name: str
    lie: Lie
    faults: Callable[[StampKey | None], Sequence[str]] = lambda key: ()
    """One `ProbeFault` for each datagram that is refused, in any order."""
    counts: frozenset[str] = frozenset()
    """Which of "delay", "rtt" get samples all the same."""
    events: frozenset[Event] = frozenset()
    """Of the liar's segment, beside USUAL."""


BOTH = frozenset({"delay", "rtt"})


def _far_off(answer: ReflectorPacket) -> ReflectorPacket:
    times = {"timestamp": answer.timestamp, "received": answer.received}
    return replace(answer, **{name: value + (A_YEAR_NS // NS_PER_S << 32) for name, value in times.items()})  # type: ignore[arg-type]


TO_SENDER = [
    ToSender(
        "truncated",
        lambda sent, answer, key: [answer.to_bytes(key)[:size] for size in (0, 37, base_bytes(key) - 1)][
            : 3 if key else 2
        ],
        lambda key: ["reply-too-short"] * 2 + ["not-authenticated"] * (key is not None),
    ),
    ToSender(
        "oversized",
        lambda sent, answer, key: [
            answer.to_bytes(key).ljust(size, b"\0") for size in (MAX_PACKET_BYTES + 1, 9000)
        ],
        lambda key: ["packet-too-long"] * 2,
    ),
    ToSender(
        "zero error multiplier",
        lambda sent, answer, key: [
            replace(answer, error=ZERO).to_bytes(key),
            replace(answer, sender_error=ZERO).to_bytes(key),
        ],
        lambda key: ["error-multiplier-zero"] * 2,
    ),
    ToSender(
        "wrongly authenticated",
        lambda sent, answer, key: [answer.to_bytes(OTHER_KEY), *([answer.to_bytes(None)] if key else [])],
        lambda key: ["wrong-authentication", "not-authenticated"] if key else ["unexpectedly-authenticated"],
    ),
    ToSender(
        "to no probe",
        lambda sent, answer, key: [
            replace(answer, sender_sequence=(answer.sender_sequence + 5000) & LAST).to_bytes(key),
            replace(answer, sender_timestamp=answer.sender_timestamp ^ 1).to_bytes(key),
        ],
        lambda key: ["reply-to-no-probe"] * 2,
    ),
    ToSender(
        "the probe itself",
        lambda sent, answer, key: [sent.to_bytes(key)],
        # Its times stand elsewhere; without a key it may even have zeros for an error estimate.
        lambda key: ["error-multiplier-zero"],
    ),
    ToSender(
        "each twice",
        lambda sent, answer, key: [answer.to_bytes(key)] * 2,
        counts=BOTH,
        events=frozenset({Event.DUPLICATE}),
    ),
    ToSender(
        "timestamps from the far future",
        lambda sent, answer, key: [_far_off(answer).to_bytes(key)],
        lambda key: ["timestamp-far-off"],
        counts=frozenset({"rtt"}),
    ),
    ToSender(
        "TLVs of nobody who has the key",
        lambda sent, answer, key: [replace(answer, extension=flipped(FOLLOW_UP, 0)).to_bytes(key)],
        lambda key: ["tlv-integrity"] if key else [],
        counts=BOTH,
    ),
    ToSender("nothing wrong", lambda sent, answer, key: [answer.to_bytes(key)], counts=BOTH),
]


class Liar:
    """Answers probes with what a case makes of the true answer.

    Args:
        first: number of its first answer.
        swapped: every second answer overtakes the one before.
    """

    def __init__(
        self, opened: socket.socket, key: StampKey | None, lie: Lie, *, first: int = 0, swapped: bool = False
    ) -> None:
        self._socket, self._key, self._lie = opened, key, lie
        self._number, self._swapped = first, swapped
        self._waiting: list[bytes] = []
        self.heard = self.extended = 0

    def answer(self) -> None:
        """Take one probe."""
        data, source = self._socket.recvfrom(4096)
        received = ntp_from_unix_ns(time.time_ns())
        sent = SenderPacket.from_bytes(data, self._key)
        self.heard += 1
        self.extended += bool(sent.extension)
        true = ReflectorPacket(
            sequence=self._number,
            timestamp=ntp_from_unix_ns(time.time_ns()),
            error=ERROR,
            received=received,
            sender_sequence=sent.sequence,
            sender_timestamp=sent.timestamp,
            sender_error=sent.error,
            sender_ttl=255,
        )
        self._number = (self._number + 1) & LAST
        self._waiting = [*self._lie(sent, true, self._key), *self._waiting]
        if self._swapped and len(self._waiting) < 2:
            return
        for one in self._waiting:
            self._socket.sendto(one, source)
        self._waiting = []


@asynccontextmanager
async def lying(
    bed: Bed, key: StampKey | None, lie: Lie, *, first: int = 0, swapped: bool = False
) -> AsyncIterator[tuple[Points, Liar]]:
    """Both sessions of the point on the left: a good one, and one with the liar."""
    loop = asyncio.get_running_loop()
    async with running(bed, key) as points:
        with udp_socket(bed[1], LIAR, PORT) as opened:
            liar = Liar(opened, key, lie, first=first, swapped=swapped)
            loop.add_reader(opened, liar.answer)
            try:
                points.left.want(LIAR)
                yield points, liar
            finally:
                loop.remove_reader(opened)


def samples(segment: Segment) -> set[str]:
    now_ns = time.time_ns()
    counts = {
        "delay": segment.inbound.delays.count(now_ns, 60) + segment.outbound.delays.count(now_ns, 60),
        "rtt": segment.round_trips.count(now_ns, 60),
    }
    return {name for name, count in counts.items() if count}


@MODES
@pytest.mark.parametrize("case", TO_SENDER, ids=lambda case: case.name)
def test_a_sender_counts_what_is_wrong_by_its_kind(bed: Bed, key: StampKey | None, case: ToSender) -> None:
    async def main() -> None:
        async with lying(bed, key, case.lie) as (points, liar):
            await eventually(lambda: liar.heard >= 15)
            await points.assert_exact()
            segment = points.segment(points.left, LIAR)
            expected = Counter({kind: count * liar.heard for kind, count in Counter(case.faults(key)).items()})
            if "tlv-integrity" in expected:  # at the TLVs of answers to plain probes nobody looks
                expected["tlv-integrity"] = liar.extended
            await eventually(lambda: points.left.counters() == expected)
            assert samples(segment) == case.counts
            assert {event for event, count in segment.events.items() if count} - USUAL == case.events
            assert segment.round_trips.count(time.time_ns(), 60) <= liar.heard
            assert points.right.counters() == {}

    run(main())


@MODES
def test_answers_that_overtake_each_other_are_samples_each_and_told_as_reordered(
    bed: Bed, key: StampKey | None
) -> None:
    async def main() -> None:
        async with lying(bed, key, lambda sent, answer, key: [answer.to_bytes(key)], swapped=True) as (
            points,
            liar,
        ):
            await eventually(lambda: liar.heard >= 40)
            await points.assert_exact()
            segment = points.segment(points.left, LIAR)
            assert segment.inbound.arrivals.greatest_extent == 1
            told = segment.statistics(("loss", "reordering"), now_ns=time.time_ns(), clock=CLOCK)
            reordering = told["reordering"]
            assert isinstance(reordering, ScalarStatistics)
            assert reordering.value == pytest.approx(0.5, abs=0.1)
            await eventually(lambda: segment.round_trips.count(time.time_ns(), 60) >= liar.heard - 22)
            assert points.left.counters() == {}

    run(main())


@MODES
def test_numbers_of_both_directions_wrap_without_loss_or_restart(bed: Bed, key: StampKey | None) -> None:
    async def main() -> None:
        async with lying(bed, key, lambda sent, answer, key: [answer.to_bytes(key)], first=LAST - 5) as (
            points,
            liar,
        ):
            neighbor = points.left.prober._neighbors[LIAR]
            await eventually(lambda: neighbor.session is not None)
            assert neighbor.session is not None
            neighbor.session._next_sequence = LAST - 5
            await eventually(lambda: liar.heard >= 30)
            await points.assert_exact()
            segment = points.segment(points.left, LIAR)
            assert set(+segment.events) == {Event.SENT, Event.RECEIVED}
            await eventually(lambda: segment.round_trips.count(time.time_ns(), 60) >= liar.heard - 2)
            assert points.left.counters() == {}

    run(main())


@MODES
def test_random_answers_and_answers_of_strangers_are_counted_one_by_one(bed: Bed, key: StampKey | None) -> None:
    chance = random.Random(6)
    rubbish: list[int] = []

    def lie(sent: SenderPacket, answer: ReflectorPacket, key: StampKey | None) -> Sequence[bytes]:
        size = chance.randint(0, 1600)
        rubbish.append(size)
        return [chance.randbytes(size), answer.to_bytes(key)]

    async def main() -> None:
        async with lying(bed, key, lie) as (points, liar):
            await eventually(lambda: liar.heard >= 30)
            sending = points.left._sending
            assert sending is not None
            with udp_socket(bed[1], THIRD, PORT) as third:
                for _ in range(5):
                    third.sendto(probe(key), (points.left.prober.address, sending.port))
            await points.assert_exact()
            await eventually(lambda: sum(points.left.counters().values()) == 5 + len(rubbish))
            counters = Counter(points.left.counters())
            assert counters.pop("reply-from-stranger") == 5
            assert counters.total() == len(rubbish)
            segment = points.segment(points.left, LIAR)
            assert samples(segment) == BOTH
            assert segment.round_trips.count(time.time_ns(), 60) <= liar.heard
            assert segment.events[Event.MALFORMED] == counters.total()

    run(main())
