"""Reports over loopback TCP, to a server that behaves as the story needs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from mp.report_connections import OPENING_REPEATS, ReportConnections
from mp.reporter import MAX_ATTEMPTS, SEGMENT_BYTES, Reporter
from processor.decision import Report
from receiver.server import ReportServer
from schemas import framing
from schemas.errors import StoreError
from schemas.message import MeasureRequest, Message
from schemas.payload import COMPRESSED
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import message_to_xml
from tests.namespaces import Namespaces, in_namespace
from tests.receiver.paths import usual

REQUEST = MeasureRequest(
    source="127.0.0.1",
    destination="127.0.0.9",
    id="5" * 32,
    metrics=("loss",),
    created_at_ms=1,
    lifetime_ms=3000,
    max_age_ms=0,
)


def report(*, lifetime_ms: int = 3000, part: int = 0) -> Report:
    return Report(
        asker="127.0.0.1",
        id=REQUEST.id,
        copy=0,
        part=part,
        final=True,
        lifetime_ms=lifetime_ms,
        payload=message_to_xml(Message(request=REQUEST)),
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def play(
    on_report: Callable[[Message, bool], Awaitable[bool]], story: Callable[[Reporter], Awaitable[None]]
) -> Reporter:
    async def main() -> Reporter:
        server = ReportServer("127.0.0.1", 0, on_report)
        await server.start()
        reporter = Reporter("127.0.0.1", server.port)
        try:
            await story(reporter)
        finally:
            await reporter.close()
            await server.close()
        return reporter

    return asyncio.run(main())


def test_a_report_arrives_and_its_acknowledgement_ends_the_matter() -> None:
    taken: list[tuple[Message, bool]] = []

    async def take(message: Message, final: bool) -> bool:
        taken.append((message, final))
        return True

    async def story(reporter: Reporter) -> None:
        reporter.submit(report())
        await until(lambda: reporter.counters["acknowledged"] == 1)

    play(take, story)
    assert taken == [(Message(request=REQUEST), True)]


@pytest.mark.parametrize(("points", "form"), [(1, b"<"), (12, COMPRESSED)])
def test_a_report_of_more_than_one_segment_travels_deflated(
    points: int, form: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [replace(usual(number), metrics={"loss": usual(number).metrics["loss"]}) for number in range(points)]
    records[0] = replace(records[0], upstream=REQUEST.source)
    xml = message_to_xml(Message(request=REQUEST, records=tuple(records)))
    assert (len(xml) > SEGMENT_BYTES) == (form == COMPRESSED)
    sent: list[bytes] = []
    exchange = ReportConnections.exchange

    async def seen(connections: ReportConnections, asker: str, frame: bytes) -> framing.Frame:
        sent.append(frame)
        return await exchange(connections, asker, frame)

    monkeypatch.setattr(ReportConnections, "exchange", seen)
    taken: list[Message] = []

    async def take(message: Message, final: bool) -> bool:
        taken.append(message)
        return True

    async def story(reporter: Reporter) -> None:
        reporter.submit(replace(report(), payload=xml))
        await until(lambda: reporter.counters["acknowledged"] == 1)

    play(take, story)
    ((frame,),) = (tuple(framing.FrameReader(framing.REPORT_KINDS).receive(one)) for one in sent)
    assert isinstance(frame, framing.Report)
    assert frame.payload[:1] == form
    assert len(frame.payload) <= SEGMENT_BYTES
    assert taken == [message_from_xml(xml)]


def test_a_copy_of_a_report_under_way_opens_no_second_connection() -> None:
    taken = []

    async def take(message: Message, final: bool) -> bool:
        taken.append(message)
        await asyncio.sleep(0.05)
        return True

    async def story(reporter: Reporter) -> None:
        for _ in range(5):
            reporter.submit(report())
        await until(lambda: reporter.counters["acknowledged"] == 1)

    play(take, story)
    assert len(taken) == 1


def test_a_report_that_was_not_made_durable_is_sent_again() -> None:
    attempts = []

    async def take(message: Message, final: bool) -> bool:
        attempts.append(message)
        if len(attempts) == 1:
            raise StoreError("disk full")
        return True

    async def story(reporter: Reporter) -> None:
        reporter.submit(report())
        await until(lambda: reporter.counters["acknowledged"] == 1)

    play(take, story)
    assert len(attempts) == 2


def test_a_refused_report_is_not_sent_again() -> None:
    attempts = []

    async def take(message: Message, final: bool) -> bool:
        attempts.append(message)
        return False

    async def story(reporter: Reporter) -> None:
        reporter.submit(report())
        await until(lambda: reporter.counters["refused"] == 1)
        await asyncio.sleep(0.5)

    play(take, story)
    assert len(attempts) == 1


def test_a_report_that_nobody_takes_is_given_up_when_its_lifetime_ends() -> None:
    async def main() -> None:
        reporter = Reporter("127.0.0.1", 9)  # the discard port: nobody listens in the tests
        reporter.submit(report(lifetime_ms=500))
        await until(lambda: reporter.counters["given_up"] == 1)
        await reporter.close()

    asyncio.run(main())


def test_a_lifetime_beyond_all_reason_holds_no_place_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mp.reporter.MAX_LIFETIME_MS", 300)

    async def main() -> None:
        reporter = Reporter("127.0.0.1", 9)
        reporter.submit(report(lifetime_ms=10**15 - 1))
        await until(lambda: reporter.counters["given_up"] == 1)
        await reporter.close()

    asyncio.run(main())


def test_whose_address_was_forged_hears_of_a_report_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mp.reporter.FIRST_RETRY_S", 0.001)
    heard = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        reporter = Reporter("127.0.0.1", server.sockets[0].getsockname()[1])
        reporter.submit(report(lifetime_ms=300_000))
        await until(lambda: reporter.counters["given_up"] == 1)
        await reporter.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert heard == MAX_ATTEMPTS


@pytest.mark.netns
def test_a_connection_that_nobody_answers_is_soon_given_up(namespaces: Namespaces) -> None:
    near, far = namespaces.chain("near", "far")
    far.run("iptables", "-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--syn", "-j", "DROP")
    asker = far.addresses[0]

    async def main() -> None:
        with in_namespace(near.name):
            reporter = Reporter(near.addresses[0], 49862)
            reporter.submit(replace(report(lifetime_ms=1), asker=asker))
            await until(lambda: reporter.counters["given_up"] == 1)
            await reporter.close()

    asyncio.run(main())
    (dropped,) = re.findall(r"-c (\d+) \d+ -j DROP", far.run("iptables", "-t", "raw", "-vS"))
    assert 1 + OPENING_REPEATS <= int(dropped) <= 2 + OPENING_REPEATS  # since 6.5 the kernel repeats once more


def test_reports_that_nobody_takes_give_way_to_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mp.reporter.MAX_UNDER_WAY", 3)
    monkeypatch.setattr("mp.reporter.FIRST_RETRY_S", 0.1)  # the third attempt is under way after 0.3 s

    async def main() -> None:
        reporter = Reporter("127.0.0.1", 9)
        for part in range(3):
            reporter.submit(report(lifetime_ms=60_000, part=part))
        await until(lambda: len(reporter._failures) == 3 and min(reporter._failures.values()) >= 2)
        reporter.submit(report(part=7))
        assert (reporter.counters["displaced"], reporter.counters["dropped"]) == (1, 0)
        await reporter.close()

    asyncio.run(main())


def test_one_source_cannot_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mp.reporter.MAX_UNDER_WAY_PER_ASKER", 2)

    async def main() -> None:
        reporter = Reporter("127.0.0.1", 9)
        for part in range(3):
            reporter.submit(report(part=part))
        reporter.submit(replace(report(), asker="127.0.0.2"))
        assert reporter.counters["dropped"] == 1
        await reporter.close()

    asyncio.run(main())


def test_more_reports_than_may_be_under_way_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mp.reporter.MAX_UNDER_WAY", 3)

    async def take(message: Message, final: bool) -> bool:
        await asyncio.sleep(1)
        return True

    async def story(reporter: Reporter) -> None:
        for part in range(5):
            reporter.submit(report(part=part))
        assert reporter.counters["dropped"] == 2

    play(take, story)
