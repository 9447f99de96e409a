from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from prober.knowledge.exchange import ExchangeSettings, KnowledgeExchange
from prober.knowledge.udp import UdpKnowledge
from schemas.errors import HostError
from schemas.metrics import LossStatistics

A, B, C = "127.0.7.1", "127.0.7.2", "127.0.7.3"
LOSS = LossStatistics(sent=100, lost=1, threshold_ms=1000, runs=1, longest_run=1)


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((A, 0))
        return int(probe.getsockname()[1])


class Points:
    """A - B - C on the loopback interface; what is known changes only when the test says so."""

    def __init__(self, port: int) -> None:
        self.news = asyncio.Event()
        self.by_address = {address: self._point(address, port) for address in (A, B, C)}

    def _point(self, address: str, port: int) -> UdpKnowledge:
        exchange = KnowledgeExchange(
            address, "", settings=ExchangeSettings(), random_source=random.Random(address), wall_ms=wall_ms()
        )
        return UdpKnowledge(exchange, port=port, now_ms=monotonic_ms, wall_ms=wall_ms, on_news=self.news.set)

    def update(self, address: str, neighbors: tuple[str, ...], next_points: dict[str, str | None]) -> None:
        point = self.by_address[address]
        point.exchange.update(
            {upstream: (wall_ms(), {"loss": LOSS}) for upstream in neighbors},
            neighbors=neighbors,
            next_points=next_points,
            addresses=(address,),
            serves=(),
            now_ms=monotonic_ms(),
            wall_ms=wall_ms(),
        )
        point.wake()

    def told(self) -> list[str] | None:
        """What A can tell of the path to C."""
        path = self.by_address[A].exchange.far_path(C, now_ms=monotonic_ms(), wall_ms=wall_ms())
        return None if path is None else [segment.current for segment in path]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def chain(port: int) -> AsyncIterator[Points]:
    points = Points(port)
    try:
        for point in points.by_address.values():
            await point.start()
        points.update(A, (B,), {C: B})
        points.update(B, (A, C), {C: C})
        points.update(C, (B,), {})
        yield points
    finally:
        for point in points.by_address.values():
            await point.close()


def test_points_tell_each_other_what_they_measured_until_one_says_farewell(port: int) -> None:
    async def story() -> None:
        async with chain(port) as points:
            await points.until(lambda: points.told() == [B, C])
            await points.by_address[C].close()
            await points.until(lambda: points.told() is None)

    asyncio.run(story())


def test_a_changed_path_is_known_to_others_at_once(port: int) -> None:
    async def story() -> None:
        async with chain(port) as points:
            await points.until(lambda: points.told() == [B, C])
            await asyncio.sleep(1)  # what was said last is damped that long
            started_ms = monotonic_ms()
            points.update(B, (A, C), {})
            await points.until(lambda: points.told() is None)
            assert monotonic_ms() - started_ms < 1_000

    asyncio.run(story())


def test_strangers_and_other_ports_are_not_heard(port: int) -> None:
    async def story() -> None:
        async with chain(port) as points:
            counters = points.by_address[A].exchange.counters
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((B, 0))
                other.sendto(b"x", (A, port))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.7.9", port))
                other.sendto(b"x", (A, port))
            await points.until(lambda: points.told() == [B, C])
            assert counters["refused-port"] == counters["refused-stranger"] == 1

    asyncio.run(story())


def test_a_port_in_use_is_named(port: int) -> None:
    async def story() -> None:
        async with chain(port) as points:
            second = points._point(A, port)
            with pytest.raises(HostError, match=f"no knowledge on {A} port {port}: the port is in use"):
                await second.start()
            await second.close()

    asyncio.run(story())


def test_closing_twice_gives_the_port_back(port: int) -> None:
    async def story() -> None:
        for _ in range(2):
            async with chain(port) as points:
                await points.by_address[A].close()

    asyncio.run(story())
