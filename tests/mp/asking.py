"""Requests on a network of one line: what is sent comes back as the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mp.keys.credentials import Credentials
from mp.measurements import Measurements
from requestor.query import PathQuery
from schemas.message import Carrier, Message, SegmentRecord, SegmentState
from schemas.result import PathResult
from schemas.xml_reader import message_from_xml
from tests.statistics import loss_of

QUERY = PathQuery(source="10.0.0.1", destination="10.0.0.3", metrics=("loss",), timeout_s=3.0, max_age_s=15.0)


def record(upstream: str, current: str, *, at_ms: int = 5) -> SegmentRecord:
    return SegmentRecord(
        upstream=upstream,
        current=current,
        state=SegmentState.MEASURED,
        recorded_at_ms=at_ms,
        metrics={"loss": loss_of(100, 1)},
    )


class Network:
    """Keeps what was sent and recorded; `on_send` may answer."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.recorded: list[PathResult] = []
        self.on_send: Callable[[Message], None] = lambda message: None
        self.room = 1468
        self.carriers: list[Carrier] = []
        self.credentials = Credentials()
        self.measurements = Measurements(
            self.send, self.keep, credentials=self.credentials, room=lambda: self.room
        )
        self.reports: list[asyncio.Task[bool]] = []

    async def measure(self, query: PathQuery) -> PathResult:
        (result,) = await self.measurements.measure(query)
        return result

    def send(self, payload: bytes, destination: str, carrier: Carrier) -> None:
        message = message_from_xml(payload)
        assert destination == message.request.destination
        self.carriers.append(carrier)
        self.sent.append(message)
        self.on_send(message)

    async def keep(self, result: PathResult) -> tuple[str, ...]:
        self.recorded.append(result)
        return ()

    def report(self, message: Message, *, final: bool = True) -> None:
        self.reports.append(asyncio.get_running_loop().create_task(self._report(message, final)))

    async def _report(self, message: Message, final: bool) -> bool:
        return await self.measurements.on_report(message, final)

    def answer_whole(self, message: Message) -> None:
        self.report(replace(message, records=(record("10.0.0.1", "10.0.0.2"), record("10.0.0.2", "10.0.0.3"))))


def play(story: Callable[[Network], Awaitable[PathResult]]) -> tuple[PathResult, Network]:
    async def main() -> tuple[PathResult, Network]:
        network = Network()
        result = await story(network)
        await asyncio.gather(*network.reports, return_exceptions=True)
        return result, network

    return asyncio.run(main())
