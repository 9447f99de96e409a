"""Connections over loopback TCP, to a server that is told what becomes of reports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mp import clock, report_connections
from mp.report_connections import KEPT_S, MAX_KEPT, ReportConnections
from receiver.admission import AdmissionLimits
from receiver.server import ReportServer
from schemas.framing import Acknowledgement, Refusal, Report, frame_to_bytes
from schemas.message import Message
from schemas.xml_writer import message_to_xml
from tests.receiver.paths import message, usual

LOOPBACK = "127.0.0.1"
FRAME = frame_to_bytes(Report(payload=message_to_xml(message((usual(0),))), final=True))


class Asker:
    """Takes reports, and counts the connections that brought them."""

    def __init__(self, *, limits: AdmissionLimits | None = None) -> None:
        self.server = ReportServer(LOOPBACK, 0, self._take, limits=limits)
        self.is_wanted = True

    async def _take(self, report: Message, final: bool) -> bool:
        return self.is_wanted

    @property
    def connections(self) -> int:
        return len(self.server._open)


def play(
    story: Callable[[Asker, ReportConnections], Awaitable[None]], *, limits: AdmissionLimits | None = None
) -> None:
    async def main() -> None:
        asker = Asker(limits=limits)
        await asker.server.start()
        connections = ReportConnections(LOOPBACK, asker.server.port)
        try:
            await story(asker, connections)
        finally:
            connections.close()
            await asker.server.close()

    asyncio.run(main())


def test_one_connection_carries_one_report_after_the_other() -> None:
    async def story(asker: Asker, connections: ReportConnections) -> None:
        for _ in range(5):
            assert isinstance(await connections.exchange(LOOPBACK, FRAME), Acknowledgement)
        assert (asker.connections, len(connections)) == (1, 1)

    play(story)


def test_reports_at_the_same_time_have_a_connection_each() -> None:
    async def story(asker: Asker, connections: ReportConnections) -> None:
        answers = await asyncio.gather(*(connections.exchange(LOOPBACK, FRAME) for _ in range(4)))
        assert [type(answer) for answer in answers] == [Acknowledgement] * 4
        assert (asker.connections, len(connections)) == (4, 4)

    play(story)


def test_a_connection_that_the_asker_closed_is_replaced_at_once() -> None:
    async def story(asker: Asker, connections: ReportConnections) -> None:
        await connections.exchange(LOOPBACK, FRAME)
        for task in tuple(asker.server._open):
            task.cancel()
        await asyncio.sleep(0.05)
        assert isinstance(await connections.exchange(LOOPBACK, FRAME), Acknowledgement)
        assert asker.connections == 1

    play(story)


def test_a_connection_whose_report_nobody_wanted_is_not_kept() -> None:
    async def story(asker: Asker, connections: ReportConnections) -> None:
        asker.is_wanted = False
        assert isinstance(await connections.exchange(LOOPBACK, FRAME), Refusal)
        assert len(connections) == 0

    play(story)


def test_what_was_not_used_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(asker: Asker, connections: ReportConnections) -> None:
        await connections.exchange(LOOPBACK, FRAME)
        later_ms = clock.monotonic_ms() + round(KEPT_S * 1000) + 1
        monkeypatch.setattr(clock, "monotonic_ms", lambda: later_ms)
        await connections.exchange(LOOPBACK, FRAME)
        assert len(connections) == 1
        async with asyncio.timeout(5):
            while asker.connections > 1:
                await asyncio.sleep(0.01)

    play(story)


def test_no_more_are_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_connections, "MAX_KEPT", 3)
    assert MAX_KEPT > 3

    async def story(asker: Asker, connections: ReportConnections) -> None:
        await asyncio.gather(*(connections.exchange(LOOPBACK, FRAME) for _ in range(8)))
        assert len(connections) == 3

    play(story)


def test_connections_that_rest_make_room_for_new_ones() -> None:
    async def story(asker: Asker, connections: ReportConnections) -> None:
        await asyncio.gather(*(connections.exchange(LOOPBACK, FRAME) for _ in range(3)))
        other = ReportConnections(LOOPBACK, asker.server.port)
        assert isinstance(await other.exchange(LOOPBACK, FRAME), Acknowledgement)
        assert asker.connections == 3
        other.close()

    play(story, limits=AdmissionLimits(connections=3))
