"""Probes that nobody should send, over real sockets, in both modes, beside a session that is all right."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
from scapy.compat import raw
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from prober.segment import Event
from prober.stamp.authentication import StampKey
from prober.stamp.packet import MAX_PACKET_BYTES, base_bytes
from prober.stamp.reflector import MAX_SESSIONS
from prober.timestamp import NS_PER_S
from tests.namespaces import in_namespace
from tests.prober.stamp.bad_input import (
    A_YEAR_NS,
    FOLLOW_UP,
    LAST,
    MODES,
    OTHER_KEY,
    PORT,
    STRANGER,
    UNSYNCHRONIZED,
    USUAL,
    ZERO,
    Bed,
    Points,
    drained,
    eventually,
    flipped,
    probe,
    run,
    running,
    udp_socket,
)

pytestmark = pytest.mark.netns


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
