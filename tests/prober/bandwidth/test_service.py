from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from prober.bandwidth.gate import StreamOrder
from prober.bandwidth.packet import (
    REQUEST_BYTES,
    BandwidthPacket,
    Refusal,
    StreamId,
    StreamProbe,
    StreamRefusal,
    StreamRequest,
    packet_from_bytes,
)
from prober.bandwidth.search import Bound, End
from prober.bandwidth.service import BandwidthService
from prober.bandwidth.settings import BandwidthSettings
from prober.bandwidth.socket import BandwidthSocket
from prober.bandwidth.trend import StreamShape
from schemas.errors import HostError

UPSTREAM, RECEIVER, PORT = "127.0.0.1", "127.0.0.2", 18_640
QUICK = BandwidthSettings(
    max_rate_mbit_s=8, stream_duration_ms=50, packets_per_stream=50, load_ratio=0.5, max_estimate_s=5
)


def service(address: str, *, is_neighbor: Callable[[str], bool] = lambda _: True) -> BandwidthService:
    return BandwidthService(address, PORT, settings=QUICK, is_neighbor=is_neighbor, now_ns=time.time_ns)


@asynccontextmanager
async def running(*services: BandwidthService) -> AsyncIterator[None]:
    try:
        for one in services:
            await one.start()
        yield
    finally:
        for one in services:
            await one.close()


def test_the_loopback_is_faster_than_the_fastest_stream() -> None:
    async def measure() -> None:
        upstream, receiver = service(UPSTREAM), service(RECEIVER)
        async with running(upstream, receiver):
            outcome, again = await asyncio.gather(receiver.measure(UPSTREAM), receiver.measure(UPSTREAM))
            for one in (outcome, again):
                assert one.bound is Bound.LOWER
                assert one.end in (End.FASTEST_RATE, End.SENDER_TOO_SLOW)
                assert one.upstream == UPSTREAM
                assert one.duration_ns < 5e9
            assert again.measured_at_ms >= outcome.measured_at_ms + again.duration_ns // 1_000_000 - 5
            counters = upstream.counters()
            assert counters["challenges"] == 2
            assert counters["streams-sent"] == outcome.streams + again.streams
            assert receiver.counters()["stream-no-trend"] >= 3

    asyncio.run(measure())


def test_who_is_no_neighbor_is_refused_and_told_so() -> None:
    async def measure() -> None:
        upstream, receiver = service(UPSTREAM, is_neighbor=lambda _: False), service(RECEIVER)
        async with running(upstream, receiver):
            outcome = await receiver.measure(UPSTREAM)
            assert (outcome.end, outcome.refusal) == (End.REFUSED, Refusal.NO_NEIGHBOR)
            assert outcome.statistics() is None
            assert upstream.counters() == {"refused-no-neighbor": 1}

    asyncio.run(measure())


async def exchange(door: socket.socket, data: bytes) -> BandwidthPacket:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(door, data, (UPSTREAM, PORT))
    async with asyncio.timeout(5):
        return packet_from_bytes(await loop.sock_recv(door, 2048))


def test_rubbish_is_counted_by_kind_and_answered_by_nothing_larger() -> None:
    async def talk() -> None:
        upstream = service(UPSTREAM)
        request = StreamRequest(StreamId(1, 1), StreamShape(100, 1000, 1_000_000))
        stray = StreamProbe(StreamId(1, 1), 0, 0, 200).to_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.bind((RECEIVER, 0))
            door.setblocking(False)
            async with running(upstream):
                for data in (b"rubbish", b"", request.to_bytes()[:-1], stray):
                    door.sendto(data, (UPSTREAM, PORT))
                answer = await exchange(door, request.to_bytes())
                assert len(answer.to_bytes()) <= REQUEST_BYTES
                with pytest.raises(BlockingIOError):
                    door.recv(2048)
                assert upstream.counters() == {
                    "no packet of the bandwidth test": 2,
                    "a stream request is not 64 octets long": 1,
                    "a bandwidth packet came from a point that is not measured": 1,
                    "challenges": 1,
                }

    asyncio.run(talk())


def test_an_estimate_ends_when_the_point_stops() -> None:
    async def stop() -> None:
        receiver = service(RECEIVER)
        await receiver.start()
        waiting = asyncio.create_task(receiver.measure(UPSTREAM))
        await asyncio.sleep(0.05)
        await receiver.close()
        await receiver.close()
        for outcome in (await waiting, await receiver.measure(UPSTREAM)):
            assert (outcome.end, outcome.bound) == (End.CLOSED, Bound.NONE)

    asyncio.run(stop())


def test_a_stream_that_is_under_way_ends_when_the_point_stops() -> None:
    async def stop() -> float:
        upstream = service(UPSTREAM)
        await upstream.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.bind((RECEIVER, 0))
            door.setblocking(False)
            shape = StreamShape(100, 1000, 20_000_000)
            challenge = await exchange(door, StreamRequest(StreamId(1, 1), shape).to_bytes())
            cookie = getattr(challenge, "cookie", b"")
            probe = await exchange(door, StreamRequest(StreamId(1, 2), shape, cookie).to_bytes())
            assert isinstance(probe, StreamProbe)
            busy = await exchange(door, StreamRequest(StreamId(1, 3), shape, cookie).to_bytes())
            while isinstance(busy, StreamProbe):
                busy = packet_from_bytes(await asyncio.get_running_loop().sock_recv(door, 2048))
            assert busy == StreamRefusal(StreamId(1, 3), Refusal.BUSY)
            began_s = time.monotonic()
            await upstream.close()
            return time.monotonic() - began_s

    assert asyncio.run(stop()) < 0.5


def test_a_port_in_use_is_told_in_one_line() -> None:
    first = BandwidthSocket(UPSTREAM, 0, now_ns=time.time_ns)
    try:
        with pytest.raises(HostError, match="the port is in use"):
            BandwidthSocket(UPSTREAM, first.port, now_ns=time.time_ns)
    finally:
        first.close()


def sent(shape: StreamShape, is_stopped: Callable[[], bool]) -> list[StreamProbe]:
    """What arrives of a stream over the loopback."""
    door = BandwidthSocket(UPSTREAM, 0, now_ns=time.time_ns)
    try:
        count = door.send_stream(StreamOrder(StreamId(1, 2), shape, UPSTREAM, door.port), is_stopped)
        datagrams = [door.receive() for _ in range(count)]
        assert door.receive() is None
    finally:
        door.close()
    probes = [packet_from_bytes(datagram.data) for datagram in datagrams if datagram]
    return [probe for probe in probes if isinstance(probe, StreamProbe)]


def test_a_stream_has_its_intervals_and_its_sizes() -> None:
    probes = sent(StreamShape(50, 300, 400_000), lambda: False)
    assert [probe.sequence for probe in probes] == list(range(50))
    assert {probe.packet_bytes for probe in probes} == {300}
    gaps_ns = [later.sent_at_ns - earlier.sent_at_ns for earlier, later in pairwise(probes)]
    assert statistics.median(gaps_ns) == pytest.approx(400_000, rel=0.1)


def test_a_long_pause_is_not_made_up_for_by_a_burst() -> None:
    calls = iter(range(100))

    def pausing() -> bool:
        if next(calls) == 10:
            time.sleep(0.02)
        return False

    probes = sent(StreamShape(50, 300, 400_000), pausing)
    gaps_ns = [later.sent_at_ns - earlier.sent_at_ns for earlier, later in pairwise(probes)]
    assert len(gaps_ns) == 49
    assert max(gaps_ns) > 19_000_000
    assert sum(gap_ns < 200_000 for gap_ns in gaps_ns) < 10
