"""Two points with a session that is all right, beside which others send what nobody should."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Event, Segment
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.packet import SenderPacket
from prober.stamp.tlv import FollowUp, Tlv, TlvFlag, TlvType
from prober.timestamp import NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from prober.udp import UdpProber
from tests.namespaces import Namespace, in_namespace

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
            assert segment.inbound.arrivals.over(now_ns, 60).unique == crossed
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
            Prober(
                side.addresses[0],
                random_source=random.Random(1),
                clock=CLOCK,
                rate_per_s=RATE_PER_S,
                key_of=sole_key(key),
            ),
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
