from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from receiver.admission import AdmissionLimits
from receiver.server import NOT_TAKEN, REFUSAL_AFTER_S, ReportServer, Trouble
from schemas.errors import HostError, MessageError, StoreError
from schemas.framing import ANSWER_KINDS, Acknowledgement, Frame, FrameReader, Refusal, Report, frame_to_bytes
from schemas.message import Message
from schemas.payload import COMPRESSED
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import message_to_xml
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
    taker: Callable[[Message, bool], Awaitable[bool]],
    *,
    is_open: Callable[[str], bool] = lambda _: True,
    limits: AdmissionLimits | None = None,
    idle_limit_s: float = 10.0,
) -> AsyncIterator[ReportServer]:
    server = ReportServer(LOOPBACK, 0, taker, is_open=is_open, limits=limits, idle_limit_s=idle_limit_s)
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
    assert ask(Taker(False, True), frame(PART) + frame(PART)) == [Refusal(reason=NOT_TAKEN), ACKNOWLEDGED]


def test_a_report_that_does_not_fit_its_request_is_refused_as_one_of_an_unknown_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unknown = ask(Taker(False), frame(PART))
    assert ask(Taker(MessageError("lp: got a, expected b")), frame(PART)) == unknown
    assert unknown == [Refusal(reason=NOT_TAKEN)]
    assert "lp: got a, expected b" in caplog.text


MALFORMED = [
    Report(payload=message_to_xml(PART).replace(b"<mrp>", b"<mrp><lie/>", 1), final=True),
    Report(payload=message_to_xml(PART)[:-4], final=True),
    Report(payload=message_to_xml(message((usual(0), usual(2)))), final=False),
    Report(payload=COMPRESSED + b"\xff" * 20, final=True),
    Report(payload=b"<id>" + REQUEST_ID.encode() + b"</id>", final=True),
]


@pytest.mark.parametrize("report", MALFORMED)
def test_what_is_malformed_gets_the_same_answer_whether_its_request_is_open_or_not(report: Report) -> None:
    stream = frame_to_bytes(report) + frame(PART)

    async def story(is_open: bool) -> list[Frame]:
        async with serving(Taker(), is_open=lambda _: is_open) as server:
            return await exchange(server, stream)

    assert asyncio.run(story(True)) == [Refusal(reason=NOT_TAKEN), ACKNOWLEDGED]
    assert asyncio.run(story(False)) == [Refusal(reason=NOT_TAKEN)] * 2


def test_a_report_of_an_unknown_request_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def note(xml: bytes) -> Message:
        decoded.append(xml)
        return message_from_xml(xml)

    monkeypatch.setattr("receiver.connection.message_from_document", note)
    taker = Taker()

    async def story() -> list[Frame]:
        async with serving(taker, is_open=lambda identifier: identifier != REQUEST_ID) as server:
            return await exchange(server, frame(PART))

    assert asyncio.run(story()) == [Refusal(reason=NOT_TAKEN)]
    assert (decoded, taker.reports) == ([], [])


def test_how_long_a_refusal_takes_does_not_tell_its_reason() -> None:
    """The quickest of some: whatever the machine does besides, nothing comes before its time."""
    busy_s = REFUSAL_AFTER_S / 2

    async def look_long(_: Message, final: bool) -> bool:
        end_s = time.monotonic() + busy_s
        while time.monotonic() < end_s:
            pass
        raise MessageError("forged")

    async def quickest_s(*, is_open: bool) -> float:
        took_s = []
        async with serving(look_long, is_open=lambda _: is_open) as server:
            for _ in range(8):
                began_s = time.monotonic()
                await exchange(server, frame(PART))
                took_s.append(time.monotonic() - began_s)
        return min(took_s)

    unknown_s, forged_s = asyncio.run(quickest_s(is_open=False)), asyncio.run(quickest_s(is_open=True))
    assert unknown_s > REFUSAL_AFTER_S
    assert abs(forged_s - unknown_s) < busy_s / 2


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
        async with serving(Taker(), limits=AdmissionLimits(connections=2)) as server:
            held = [await asyncio.open_connection(LOOPBACK, server.port) for _ in range(2)]
            reader, extra = await asyncio.open_connection(LOOPBACK, server.port)
            assert await rest_of(reader) == b""
            assert server.counters == {Trouble.TURNED_AWAY: 1}
            await hang_up(extra)
            for _, writer in held:
                await hang_up(writer)
            await asyncio.sleep(0.05)
            return await exchange(server, frame(PART))

    assert asyncio.run(story()) == [ACKNOWLEDGED]


async def connect_from(address: str, server: ReportServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(LOOPBACK, server.port, local_addr=(address, 0))


def test_one_address_cannot_take_all_places() -> None:
    async def story() -> Trouble:
        limits = AdmissionLimits(connections=8, connections_per_peer=2)
        async with serving(Taker(), limits=limits) as server:
            held = [await connect_from("127.0.0.2", server) for _ in range(3)]
            assert await rest_of(held[2][0]) == b""
            (trouble,) = server.counters
            other, writer = await connect_from("127.0.0.3", server)
            writer.write(frame(PART))
            assert list(FrameReader(ANSWER_KINDS).receive(await other.read(100))) == [ACKNOWLEDGED]
            for _, one in (*held, (other, writer)):
                await hang_up(one)
            return Trouble(trouble)

    assert asyncio.run(story()) is Trouble.TURNED_AWAY


def test_who_holds_most_connections_makes_room_for_others() -> None:
    async def story() -> None:
        async with serving(Taker(), limits=AdmissionLimits(connections=3)) as server:
            held = [await connect_from("127.0.0.2", server) for _ in range(3)]
            new, writer = await connect_from("127.0.0.3", server)
            assert await rest_of(held[0][0]) == b""  # the oldest
            writer.write(frame(PART))
            assert list(FrameReader(ANSWER_KINDS).receive(await new.read(100))) == [ACKNOWLEDGED]
            assert server.counters == {Trouble.DISPLACED: 1, "taken": 1}
            for _, one in (*held, (new, writer)):
                await hang_up(one)

    asyncio.run(story())


def test_a_burst_of_connections_never_passes_the_limit() -> None:
    async def story() -> int:
        async with serving(Taker(), limits=AdmissionLimits(connections=4)) as server:
            greedy = [await connect_from("127.0.0.2", server) for _ in range(4)]
            many = await asyncio.gather(*(connect_from(f"127.0.0.{host}", server) for host in range(3, 30)))
            begin = frame(PART)[:10]
            for _, writer in many:
                writer.write(begin)
            waiting = [asyncio.ensure_future(rest_of(reader)) for reader, _ in (*greedy, *many)]
            while sum(not one.done() for one in waiting) > 4:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            still_open = sum(not one.done() for one in waiting)
            for _, writer in (*greedy, *many):
                await hang_up(writer)
            await asyncio.gather(*waiting)
            return still_open

    assert asyncio.run(story()) == 4


def test_who_sends_more_than_its_share_is_slowed_down_and_loses_nothing() -> None:
    reports = 40
    stream = frame(PART) * reports
    limits = AdmissionLimits(peer_octets_per_s=4 * len(stream), burst_s=0.01)

    async def story() -> tuple[list[Frame], float]:
        async with serving(Taker(), limits=limits, idle_limit_s=0.15) as server:
            began_s = time.monotonic()
            return await exchange(server, stream), time.monotonic() - began_s

    answers, took_s = asyncio.run(story())
    assert answers == [ACKNOWLEDGED] * reports
    assert took_s > 0.2  # a quarter of a second, but for what may come at once


def test_who_takes_no_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.server._WRITE_LIMIT_S", 0.2)
    unlimited = AdmissionLimits(peer_octets_per_s=1e9, octets_per_s=1e9)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with serving(Taker(), limits=unlimited) as server:
            with socket.socket() as client:
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                await loop.sock_connect(client, (LOOPBACK, server.port))
                with suppress(ConnectionError):
                    for _ in range(100):  # it would hang where nobody cuts it
                        await asyncio.wait_for(loop.sock_sendall(client, frame(PART) * 50), 5)
            assert server.counters[Trouble.BROKEN_OFF] == 1
            assert server.counters["taken"] < 2000

    asyncio.run(story())


def test_trouble_is_counted_each_time_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> int:
        async with serving(Taker(*[False] * 5)) as server:
            await exchange(server, frame(PART) * 5)
            return server.counters[Trouble.UNKNOWN]

    assert asyncio.run(story()) == 5
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"reports from 127.0.0.1: unknown, 1 so far: {REQUEST_ID}"]


def test_without_file_descriptors_connections_wait_until_there_are_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("receiver.server.ACCEPT_AGAIN_AFTER_S", 0.05)

    async def story() -> list[Frame]:
        async with serving(Taker()) as server:
            loop = asyncio.get_running_loop()
            accept = loop.sock_accept
            failures = iter([OSError(24, "Too many open files")] * 3)

            async def failing(listener: socket.socket) -> tuple[socket.socket, Any]:
                for failure in failures:
                    raise failure
                return await accept(listener)

            await exchange(server, frame(PART))
            monkeypatch.setattr(loop, "sock_accept", failing)
            await exchange(server, frame(PART))  # what was waited for already
            return await exchange(server, frame(PART))

    assert asyncio.run(story()) == [ACKNOWLEDGED]
    assert caplog.text.count("Too many open files") == 1


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
