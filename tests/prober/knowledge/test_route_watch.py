from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from prober.knowledge.route_watch import LATEST_S, SETTLE_S, RouteWatch
from tests.namespaces import Namespace, Namespaces, in_namespace

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    namespaces = Namespaces()
    try:
        yield namespaces.make("watched")
    finally:
        namespaces.remove()


class Calls:
    """When the watch called, in seconds after it was started."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.came = asyncio.Event()

    def __call__(self) -> None:
        self.times_s.append(asyncio.get_running_loop().time())
        self.came.set()

    async def next(self) -> float:
        async with asyncio.timeout(5):
            await self.came.wait()
        self.came.clear()
        return self.times_s[-1]


def watched(host: Namespace, story: Callable[[Calls], Awaitable[None]]) -> None:
    async def run() -> None:
        calls = Calls()
        watch = RouteWatch(calls)
        with in_namespace(host.name):
            watch.start()
        try:
            await story(calls)
        finally:
            watch.close()
            watch.close()

    asyncio.run(run())


def test_a_changed_route_is_told_at_once_and_again_when_no_more_change(host: Namespace) -> None:
    async def story(calls: Calls) -> None:
        host.run("ip", "route", "add", "192.0.2.0/24", "dev", "lo")
        first_s = await calls.next()
        assert await calls.next() - first_s >= SETTLE_S - 0.01
        host.run("ip", "route", "delete", "192.0.2.0/24", "dev", "lo")
        await calls.next()
        assert len(calls.times_s) == 3

    watched(host, story)


def test_changes_without_end_are_told_all_the_same(host: Namespace) -> None:
    async def story(calls: Calls) -> None:
        async def flap() -> None:
            while True:
                for verb in ("add", "delete"):
                    await asyncio.to_thread(host.run, "ip", "route", verb, "198.51.100.0/24", "dev", "lo")

        flapping = asyncio.create_task(flap())
        first_s = await calls.next()
        assert await calls.next() - first_s <= LATEST_S + 0.5
        flapping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flapping
        host.run("sh", "-c", "ip route delete 198.51.100.0/24 dev lo || true")

    watched(host, story)
