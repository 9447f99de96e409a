"""Replies that nobody should send, over real sockets, in both modes, beside a session that is all right."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from prober.segment import Event, Segment
from prober.stamp.authentication import StampKey
from prober.stamp.packet import MAX_PACKET_BYTES, ReflectorPacket, SenderPacket, base_bytes
from prober.timestamp import NS_PER_S, ntp_from_unix_ns
from schemas.metrics import ScalarStatistics
from tests.prober.stamp.bad_input import (
    A_YEAR_NS,
    CLOCK,
    ERROR,
    FOLLOW_UP,
    LAST,
    LIAR,
    MODES,
    OTHER_KEY,
    PORT,
    THIRD,
    USUAL,
    ZERO,
    Bed,
    Points,
    eventually,
    flipped,
    probe,
    run,
    running,
    udp_socket,
)

pytestmark = pytest.mark.netns


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

            def expected() -> Counter[str]:
                """By what the liar has heard until now: a last probe may be on its way."""
                faults = Counter({kind: count * liar.heard for kind, count in Counter(case.faults(key)).items()})
                if "tlv-integrity" in faults:  # at the TLVs of answers to plain probes nobody looks
                    faults["tlv-integrity"] = liar.extended
                return faults

            await eventually(lambda: points.left.counters() == expected())
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
