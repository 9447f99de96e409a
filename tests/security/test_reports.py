"""The report port of a point that waits for answers: only true reports of open requests change anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from mp.measurements import Measurements
from receiver.server import NOT_TAKEN, ReportServer
from requestor.query import PathQuery
from schemas.framing import Acknowledgement, Refusal, Report, frame_to_bytes
from schemas.message import Carrier, Message, SegmentRecord, SegmentState
from schemas.payload import message_from_payload
from schemas.result import PathResult, ResultStatus
from schemas.xml_writer import message_to_xml

OWN, LAST = "127.0.0.1", "127.0.0.9"
QUERY = PathQuery(source=OWN, destination=LAST, metrics=("delay",), timeout_s=0.6, max_age_s=0)
REFUSED = frame_to_bytes(Refusal(reason=NOT_TAKEN))


def true_report(sent: Message) -> Message:
    """What the last point would say: it has just learned of its upstream."""
    record = SegmentRecord(upstream=OWN, current=LAST, state=SegmentState.PENDING, recorded_at_ms=1)
    return replace(sent, records=(record,))


def of_another_id(report: Message) -> Message:
    return replace(report, request=replace(report.request, id="0" * 32))


def of_another_time(report: Message) -> Message:
    return replace(report, request=replace(report.request, created_at_ms=1))


def of_other_metrics(report: Message) -> Message:
    return replace(report, request=replace(report.request, metrics=("loss",)))


def of_another_source(report: Message) -> Message:
    record = replace(report.records[0], upstream="127.0.0.2")
    return replace(report, request=replace(report.request, source="127.0.0.2"), records=(record,))


class Point:
    """Asks one question; the test answers it over TCP."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.recorded: list[ResultStatus] = []
        self.measurements = Measurements(self.send, self.keep)
        self.server = ReportServer(OWN, 0, self.measurements.on_report)

    def send(self, payload: bytes, destination: str, carrier: Carrier) -> None:
        self.sent.put_nowait(payload)

    async def keep(self, result: PathResult) -> tuple[str, ...]:
        self.recorded.append(result.status)
        return ()

    async def tell(self, message: Message) -> bytes:
        """The octets of the answer to a report."""
        reader, writer = await asyncio.open_connection(OWN, self.server.port)
        writer.write(frame_to_bytes(Report(payload=message_to_xml(message), final=True)))
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


def play(story: Callable[[Point, Message], Awaitable[None]]) -> tuple[ResultStatus, list[ResultStatus]]:
    """Ask, and let the story begin with what was sent; the answer, and all that was stored."""

    async def main() -> tuple[ResultStatus, list[ResultStatus]]:
        point = Point()
        await point.server.start()
        try:
            asking = asyncio.ensure_future(point.measurements.measure(QUERY))
            await story(point, message_from_payload(await point.sent.get()))
            (result,) = await asking
            return result.status, point.recorded
        finally:
            await point.server.close()

    return asyncio.run(main())


@pytest.mark.parametrize("forged", [of_another_time, of_other_metrics, of_another_source])
def test_a_forged_report_gets_the_very_octets_that_an_unknown_id_gets_and_changes_nothing(
    forged: Callable[[Message], Message],
) -> None:
    async def story(point: Point, sent: Message) -> None:
        report = true_report(sent)
        assert await point.tell(of_another_id(report)) == REFUSED
        assert await point.tell(forged(report)) == REFUSED
        assert point.recorded == [ResultStatus.PENDING]
        taken = Acknowledgement(id=report.request.id, copy=report.request.copy, part=0)
        assert await point.tell(report) == frame_to_bytes(taken)

    assert play(story) == (ResultStatus.PARTIAL, [ResultStatus.PENDING, ResultStatus.PARTIAL])


def test_a_report_of_a_request_whose_time_is_over_is_one_of_an_unknown_request() -> None:
    async def story(point: Point, sent: Message) -> None:
        async with asyncio.timeout(10):
            while point.recorded != [ResultStatus.PENDING, ResultStatus.FAILED]:
                await asyncio.sleep(0.02)
        assert await point.tell(true_report(sent)) == REFUSED

    assert play(story) == (ResultStatus.FAILED, [ResultStatus.PENDING, ResultStatus.FAILED])


def test_an_answered_request_takes_copies_of_its_report_while_it_lives_and_forged_ones_never() -> None:
    async def story(point: Point, sent: Message) -> None:
        report = true_report(sent)
        acknowledged = await point.tell(report)
        assert acknowledged != REFUSED
        assert await point.tell(report) == acknowledged
        assert await point.tell(of_another_time(report)) == REFUSED
        await asyncio.sleep(QUERY.timeout_s)
        assert await point.tell(report) == REFUSED

    assert play(story) == (ResultStatus.PARTIAL, [ResultStatus.PENDING, ResultStatus.PARTIAL])
