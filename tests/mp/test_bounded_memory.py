"""What a flood leaves in memory: nothing that grows with it.

A day of flood at the usual limit is 86 million packets. Tables fill within the first few thousand of them, each
from another source about another path; from then on not a byte may be added, so what comes later is like what came
before.
"""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from benchmarks.flood import datagram, spoofed_requests
from interceptor.memory_queue import MemoryQueue
from mp import clock, packet_process
from mp.bridge import SegmentKnown, event_to_bytes
from mp.packet_process import PacketProcess
from prober import challenge
from prober.challenge import Challenges
from prober.discovery import MAX_DESTINATIONS, Discovery
from prober.prober import MAX_SEGMENTS, Prober
from prober.stamp import reflector, reply_budget
from prober.stamp.datagram import Datagram
from prober.stamp.packet import SenderPacket
from prober.timestamp import ErrorEstimate
from processor import trust
from schemas.errors import ProbeError
from schemas.message import MEASUREMENT_PORT
from tests.mp.test_bridge import SETUP
from tests.prober.simulated import CLOCK, START_NS
from tests.statistics import loss_of

ROUTER_ALERT = b"\x94\x04\x00\x00"
SLACK_BLOCKS = 200
"""What the interpreter itself takes and gives back meanwhile; one entry for each packet would be thousands."""
MS = 1_000_000
SAMPLE = 250


def growth(feed: Callable[[int], None], *, until_full: int, then: int) -> int:
    """By how many blocks of memory the peak over the later packets is above that over those before."""

    def peak(numbers: range) -> int:
        blocks = 0
        for number in numbers:
            feed(number)
            if number % SAMPLE == SAMPLE - 1:
                gc.collect()
                blocks = max(blocks, sys.getallocatedblocks())
        return blocks

    gc.freeze()  # what is there already need not be looked at each time
    try:
        for number in range(until_full):
            feed(number)
        early = peak(range(until_full, until_full + then))
        return peak(range(until_full + then, until_full + 2 * then)) - early
    finally:
        gc.unfreeze()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PacketProcess, Callable[[], None]]]:
    """A packet process that knows one segment, on a clock on which a packet comes each millisecond."""
    monkeypatch.setattr(packet_process, "LONGEST_TURN_MS", 10**12)
    monkeypatch.setattr(trust, "_MOST_REMEMBERED", 50)  # what fills with 4096 packets, and is then emptied
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        made = PacketProcess(theirs, SETUP)
        known = SegmentKnown(
            upstream="198.18.0.0", newest_sample_at_ms=clock.now_ms(), metrics={"loss": loss_of(10, 1)}
        )
        ours.send(event_to_bytes(known))
        made.read_events()

        def listen() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.recv(1 << 17)

        yield made, listen


def test_requests_from_ever_new_sources_leave_nothing_in_the_packet_process(
    process: tuple[PacketProcess, Callable[[], None]],
) -> None:
    handler, listen = process
    requests = spoofed_requests(2500, seed=1, now_ms=clock.now_ms())
    queue = MemoryQueue(handler.handle)

    def feed(number: int) -> None:
        source, payload = next(requests)
        if number % 3 == 1:
            payload = payload[: len(payload) // 2]  # some are damaged
        queue.put(datagram(payload, source=source, port=MEASUREMENT_PORT, options=ROUTER_ALERT))
        queue.process_pending()
        queue.take_verdicts()
        if number % 50 == 0:
            listen()

    assert growth(feed, until_full=500, then=1000) < SLACK_BLOCKS
    assert queue.handled == 2500 and queue.failed == 0


def test_a_service_that_does_not_listen_makes_the_packet_process_keep_nothing_for_it(
    process: tuple[PacketProcess, Callable[[], None]],
) -> None:
    handler, _ = process
    requests = spoofed_requests(2500, seed=2, now_ms=clock.now_ms())
    queue = MemoryQueue(handler.handle)

    def feed(_number: int) -> None:
        source, payload = next(requests)
        queue.put(datagram(payload, source=source, port=MEASUREMENT_PORT, options=ROUTER_ALERT))
        queue.process_pending()
        queue.take_verdicts()

    assert growth(feed, until_full=500, then=1000) < SLACK_BLOCKS


FULL, SMALL = 1000, 200
"""Packets after which all tables are full, and the size of those that would take longer."""


def stranger(number: int) -> str:
    return str(IPv4Address("198.18.0.0") + number)


def test_named_and_heard_strangers_fill_the_probers_tables_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge, "MAX_REMEMBERED", SMALL)  # so that the tables are full after a moment
    monkeypatch.setattr(reply_budget, "MAX_SOURCES", SMALL)
    monkeypatch.setattr(reflector, "MAX_SESSIONS", SMALL)
    challenges = Challenges(random_source=random.Random(1))
    prober = Prober("10.0.0.2", random_source=random.Random(2), clock=CLOCK, challenges=challenges)
    error = ErrorEstimate.of(1000, synchronized=True)

    def feed(number: int) -> None:
        now_ns = START_NS + number * 20 * MS
        prober.want(stranger(number), now_ns)
        prober.meet(stranger(number), now_ns)
        probe = SenderPacket(number, number << 32, error).to_bytes()
        with contextlib.suppress(ProbeError):
            prober.probe_received(
                Datagram(
                    data=probe,
                    address=stranger(100_000 + number),
                    port=40_000,
                    ttl=255,
                    tos=0,
                    received_at_ns=now_ns,
                    user_stamped=False,
                ),
                now_ns,
            )
        prober.due(now_ns)

    assert growth(feed, until_full=FULL, then=500) < SLACK_BLOCKS
    assert len(prober.segments(START_NS + (FULL + 1000) * 20 * MS)) <= MAX_SEGMENTS
    assert len(challenges) <= challenge.MAX_ASKED + 2 * SMALL


def test_destinations_that_programs_ask_for_fill_the_discovery_and_no_more() -> None:
    discovery = Discovery(random_source=random.Random(3), interval_ms=60_000)

    def feed(number: int) -> None:
        discovery.seek(stranger(number), number, configured=number < 10)
        discovery.due(number)

    assert growth(feed, until_full=400, then=500) < SLACK_BLOCKS
    assert len(discovery.neighbors()) == MAX_DESTINATIONS
