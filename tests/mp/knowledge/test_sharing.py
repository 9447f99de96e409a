from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from mp import clock
from mp.config import configuration_from_toml
from mp.knowledge.sharing import MAX_NEW_ASKED, Knowledge
from prober.knowledge.tails import FarPath
from schemas.errors import ConfigurationError
from schemas.keyring import NO_KEYS
from schemas.metrics import LossStatistics

A, B, C = "127.0.8.1", "127.0.8.2", "127.0.8.3"
LOSS = LossStatistics(sent=100, lost=1, threshold_ms=1000, runs=1, longest_run=1)


class Point:
    """A point's knowledge, and what it did to the rest of the point."""

    def __init__(self, address: str, port: int, more: str = "") -> None:
        configuration = configuration_from_toml(
            f'[point]\naddress = "{address}"\n[knowledge]\nport = {port}\n{more}'
        )
        assert configuration.point is not None
        self.sought: set[str] = set()
        self.wanted: set[str] = set()
        self.told: list[tuple[str, list[str] | None]] = []
        self.listens = True
        self.knowledge = Knowledge(
            configuration.knowledge,
            configuration.point,
            area="",
            keyring=NO_KEYS,
            seek=self.sought.add,
            want=self.wanted.add,
            tell=self._tell,
        )

    def _tell(self, destination: str, path: FarPath | None) -> bool:
        if self.listens:
            self.told.append((destination, None if path is None else [segment.current for segment in path]))
        return self.listens


class Chain:
    """A - B - C on the loopback interface; A's applications ask for C."""

    def __init__(self, more: str = "") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((A, 0))
            port = int(probe.getsockname()[1])
        self.a, self.b, self.c = (Point(address, port, more) for address in (A, B, C))
        self.next_of_b: str | None = C

    def update(self) -> None:
        """What housekeeping does once a second; here more often."""
        now_ms = clock.now_ms()
        self.a.knowledge.update({}, neighbors=[B], next_points={C: B}, addresses=[A])
        toward = {C: self.next_of_b} if C in self.b.sought else {}
        self.b.knowledge.update({A: (now_ms, {"loss": LOSS})}, neighbors=[A, C], next_points=toward, addresses=[B])
        self.c.knowledge.update({B: (now_ms, {"loss": LOSS})}, neighbors=[B], next_points={}, addresses=[C])

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():
                self.update()
                await asyncio.sleep(0.02)


def run(story: Callable[[Chain], Awaitable[None]], more: str = "") -> None:
    async def running() -> None:
        chain = Chain(more)
        async with AsyncExitStack() as stack:
            for point in (chain.a, chain.b, chain.c):
                await point.knowledge.start(stack)
            await story(chain)

    asyncio.run(running())


def test_a_path_is_answered_without_a_packet_once_its_points_have_told_their_segments() -> None:
    async def story(chain: Chain) -> None:
        assert chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is None
        await chain.until(lambda: chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is not None)
        records = chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000)
        assert records is not None
        assert [(one.upstream, one.current, one.told_by) for one in records] == [(A, B, A), (B, C, A)]
        assert chain.b.sought == {C}, "since A's path to it leads there"
        assert chain.a.knowledge.tail(C, ("loss",), max_age_ms=0) is None
        assert chain.a.knowledge.tail(C, ("loss", "rtt"), max_age_ms=30_000) is None

    run(story)


def test_who_answers_requests_that_pass_by_hears_of_paths_that_are_asked_for() -> None:
    async def story(chain: Chain) -> None:
        await chain.until(lambda: chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is not None)
        assert chain.a.told == []
        chain.a.knowledge.asked(C)
        await chain.until(lambda: bool(chain.a.told))
        chain.update()
        assert chain.a.told == [(C, [B, C])], "and not again while nothing has changed"
        chain.a.knowledge.forget_told()
        chain.update()
        assert chain.a.told == [(C, [B, C])] * 2

    run(story)


def test_segments_of_paths_that_are_asked_for_are_wanted_where_they_end() -> None:
    async def story(chain: Chain) -> None:
        chain.a.knowledge.asked(C)
        await chain.until(lambda: chain.b.wanted == {A} and chain.c.wanted == {B})
        assert chain.a.wanted == set()

    run(story, "refresh_s = 1\n")


def test_a_told_path_is_taken_back_when_a_point_on_it_goes_another_way() -> None:
    async def story(chain: Chain) -> None:
        chain.a.knowledge.asked(C)
        await chain.until(lambda: chain.a.told[-1:] == [(C, [B, C])])
        chain.next_of_b = None
        await chain.until(lambda: chain.a.told[-1:] == [(C, None)])
        assert chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is None

    run(story)


def test_what_anybody_may_ask_for_is_sought_at_a_bounded_pace() -> None:
    async def story(chain: Chain) -> None:
        for number in range(2 * MAX_NEW_ASKED):
            chain.a.knowledge.asked(f"192.0.2.{number}")
        assert len(chain.a.sought) == MAX_NEW_ASKED
        chain.update()
        chain.a.knowledge.asked("192.0.2.0")
        chain.a.knowledge.asked("192.0.2.99")
        assert len(chain.a.sought) == MAX_NEW_ASKED + 1

    run(story)


def test_what_was_not_taken_is_told_again() -> None:
    async def story(chain: Chain) -> None:
        chain.a.listens = False
        chain.a.knowledge.asked(C)
        await chain.until(lambda: chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is not None)
        chain.update()
        chain.a.listens = True
        chain.update()
        assert chain.a.told == [(C, [B, C])]

    run(story)


def test_a_point_that_is_to_answer_nothing_still_shares() -> None:
    async def story(chain: Chain) -> None:
        chain.a.knowledge.asked(C)
        status: dict[str, object] = {}

        def all_known() -> bool:
            status.update(chain.a.knowledge.status() or {})
            return status["points"] == 3

        await chain.until(all_known)
        assert chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is None
        assert chain.a.told == []

    run(story, "answer_from_cache = false\n")


def test_switched_off_it_opens_no_port_and_knows_nothing() -> None:
    async def story(chain: Chain) -> None:
        chain.update()
        chain.a.knowledge.asked(C)
        assert chain.a.knowledge.tail(C, ("loss",), max_age_ms=30_000) is None
        assert chain.a.knowledge.status() is None

    run(story, "enabled = false\n")


def test_the_state_names_peers_and_how_much_is_known() -> None:
    async def story(chain: Chain) -> None:
        await chain.until(lambda: (chain.b.knowledge.status() or {})["points"] == 3)
        status = chain.b.knowledge.status()
        assert status is not None
        assert status["peers"] == {A: "neighbor", C: "neighbor"}
        assert status["segments"] == 2
        assert status["octets"] > 0
        assert status["counters"]["heard-new"] >= 2

    run(story)


def test_an_area_that_no_advertisement_can_name_is_refused() -> None:
    point = configuration_from_toml(f'[point]\naddress = "{A}"\n')
    assert point.point is not None
    with pytest.raises(ConfigurationError, match="point.area: got .* expected a name of at most 63 octets"):
        Knowledge(
            point.knowledge,
            point.point,
            area="ü" * 32,
            seek=lambda _: None,
            want=lambda _: None,
            tell=lambda _, __: True,
        )
