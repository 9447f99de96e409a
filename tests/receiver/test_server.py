from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from receiver.server import UNKNOWN_REQUEST, ReportServer
from schemas.errors import HostError, MessageError, StoreError
from schemas.framing import ANSWER_KINDS, Acknowledgement, Frame, FrameReader, Refusal, Report, frame_to_bytes
from schemas.message import Message
from schemas.xml_codec import message_to_xml
from tests.receiver.paths import REQUEST_ID, message, usual

LOOPBACK = "127.0.0.1"
PART = message((usual(0),))
LAST = message((usual(1),), part=1)
ACKNOWLEDGED = Acknowledgement(id=REQUEST_ID, copy=0, part=0)


class Taker:
    """What the daemon does with reports: here, it notes them and says what the test wants."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.reports: list[tuple[Message, bool]] = []

    async def __call__(self, report: Message, final: bool) -> bool:
        self.reports.append((report, final))
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


def frame(report: Message, *, final: bool = True) -> bytes:
    return frame_to_bytes(Report(payload=message_to_xml(report), final=final))


@asynccontextmanager
async def serving(
    taker: Callable[[Message, bool], Awaitable[bool]], *, max_connections: int = 64, idle_limit_s: float = 10.0
) -> AsyncIterator[ReportServer]:
    server = ReportServer(LOOPBACK, 0, taker, max_connections=max_connections, idle_limit_s=idle_limit_s)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What still comes before the server ends the connection, in order or not."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def exchange(server: ReportServer, stream: bytes) -> list[Frame]:
    """All answers to `stream`, after which the sender says that no more comes."""
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    writer.write(stream)
    writer.write_eof()
    answers = list(FrameReader(ANSWER_KINDS).receive(await reader.read()))
    await hang_up(writer)
    return answers


def ask(taker: Taker, stream: bytes) -> list[Frame]:
    async def story() -> list[Frame]:
        async with serving(taker) as server:
            return await exchange(server, stream)

    return asyncio.run(story())


def test_each_report_is_handed_over_and_acknowledged_in_order() -> None:
    taker = Taker()
    answers = ask(taker, frame(PART, final=False) + frame(LAST))
    assert taker.reports == [(PART, False), (LAST, True)]
    assert answers == [ACKNOWLEDGED, Acknowledgement(id=REQUEST_ID, copy=0, part=1)]


def test_a_report_is_acknowledged_only_when_it_is_durable() -> None:
    async def story() -> None:
        durable = asyncio.Event()

        async def slow(_: Message, final: bool) -> bool:
            await durable.wait()
            return final

        async with serving(slow) as server:
            reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
            writer.write(frame(PART))
            answer = asyncio.ensure_future(reader.read(100))
            await asyncio.sleep(0.05)
            assert not answer.done()
            durable.set()
            assert list(FrameReader(ANSWER_KINDS).receive(await answer)) == [ACKNOWLEDGED]
            await hang_up(writer)

    asyncio.run(story())


def test_a_report_of_an_unknown_request_is_refused_and_the_next_one_is_not() -> None:
    assert ask(Taker(False, True), frame(PART) + frame(PART)) == [Refusal(reason=UNKNOWN_REQUEST), ACKNOWLEDGED]


def test_a_report_that_the_receiver_finds_wrong_is_refused_with_the_reason() -> None:
    assert ask(Taker(MessageError("lp: got a, expected b")), frame(PART)) == [
        Refusal(reason="lp: got a, expected b")
    ]


def test_rubbish_is_refused_after_the_good_report_before_it() -> None:
    taker = Taker()
    answers = ask(taker, frame(PART) + b"rubbish")
    assert answers[0] == ACKNOWLEDGED
    assert isinstance(answers[1], Refusal) and "magic" in answers[1].reason
    assert len(taker.reports) == 1


def test_a_report_that_cannot_be_kept_now_gets_no_answer_so_that_it_comes_again() -> None:
    assert ask(Taker(StoreError("disk full")), frame(PART) + frame(PART)) == []


def test_a_defect_in_the_taker_ends_the_connection_and_not_the_server(caplog: pytest.LogCaptureFixture) -> None:
    taker = Taker(ZeroDivisionError("defect"))

    async def story() -> tuple[list[Frame], list[Frame]]:
        async with serving(taker) as server:
            return await exchange(server, frame(PART)), await exchange(server, frame(PART))

    assert asyncio.run(story()) == ([], [ACKNOWLEDGED])
    assert "defect" in caplog.text


def test_who_sends_too_slowly_is_cut_off() -> None:
    async def story() -> bytes:
        async with serving(Taker(), idle_limit_s=0.1) as server:
            reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
            answer = asyncio.ensure_future(rest_of(reader))
            for octet in frame(PART)[:20]:
                writer.write(bytes((octet,)))
                await asyncio.sleep(0.02)
                if answer.done():
                    break
            await hang_up(writer)
            return await answer

    assert asyncio.run(story()) == b""


def test_connections_beyond_the_limit_are_closed_and_later_ones_served() -> None:
    async def story() -> list[Frame]:
        async with serving(Taker(), max_connections=2) as server:
            held = [await asyncio.open_connection(LOOPBACK, server.port) for _ in range(2)]
            await asyncio.sleep(0.05)
            reader, extra = await asyncio.open_connection(LOOPBACK, server.port)
            assert await rest_of(reader) == b""
            await hang_up(extra)
            for _, writer in held:
                await hang_up(writer)
            await asyncio.sleep(0.05)
            return await exchange(server, frame(PART))

    assert asyncio.run(story()) == [ACKNOWLEDGED]


def test_closing_is_quick_while_connections_are_open() -> None:
    async def story() -> float:
        server = ReportServer(LOOPBACK, 0, Taker())
        await server.start()
        connections = [await asyncio.open_connection(LOOPBACK, server.port) for _ in range(5)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await server.close()
        took_s = time.monotonic() - began
        for reader, writer in connections:
            assert await rest_of(reader) == b""
            await hang_up(writer)
        return took_s

    assert asyncio.run(story()) < 0.5


def test_a_port_in_use_is_one_clear_line() -> None:
    async def story() -> str:
        async with serving(Taker()) as server:
            with pytest.raises(HostError) as caught:
                await ReportServer(LOOPBACK, server.port, Taker()).start()
            return str(caught.value).replace(str(server.port), "PORT")

    assert asyncio.run(story()) == "TCP port PORT on 127.0.0.1: in use by another program"


def test_an_address_of_another_host_is_one_clear_line() -> None:
    with pytest.raises(HostError, match=r"TCP port 0 on 192\.0\.2\.1: this host has no such address"):
        asyncio.run(ReportServer("192.0.2.1", 0, Taker()).start())
