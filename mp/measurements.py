"""The life of a request at its first point: noted, sent, sent again, answered, composed, recorded."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from mp import clock
from receiver.assembly import ReportAssembly
from receiver.composition import compose
from requestor.query import PathQuery, way_back
from requestor.retransmission import Retransmission
from schemas.errors import HostError, MessageError
from schemas.message import MeasureRequest, Message, SegmentRecord
from schemas.metrics import METRICS, Registry
from schemas.result import PathResult, ResultStatus
from schemas.rfc3339 import rfc3339_from_us
from schemas.xml_codec import message_to_xml

logger = logging.getLogger(__name__)

MAX_PENDING = 4096
"""Questions that may wait at once."""
REMEMBERED = 4096
"""Answered requests that are remembered, so that copies of their reports are acknowledged and change nothing."""

Send = Callable[[bytes, str], None]
Record = Callable[[PathResult], Awaitable[tuple[str, ...]]]
"""Makes a result durable; returns warnings for whoever asked."""


@dataclass(slots=True, kw_only=True)
class _Pending:
    """One request that waits for its report."""

    request: MeasureRequest
    requested_at_us: int
    started_ns: int
    answer: asyncio.Future[PathResult]
    assembly: ReportAssembly
    records: tuple[SegmentRecord, ...] = ()
    """What the answer was composed of."""
    deciding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an answer is recorded: a report and the end of the time may come together."""

    @property
    def elapsed_ms(self) -> float:
        """Time since the request was made, exact to a microsecond."""
        return (clock.monotonic_ns() - self.started_ns) // 1000 / 1000


class Measurements:
    """Requests of this point.

    Args:
        send: puts a payload toward a destination on the network; HostError when there is no way.
        record: see `Record`.
        registry: the metrics that this point knows.
    """

    def __init__(self, send: Send, record: Record, registry: Registry = METRICS) -> None:
        self._send = send
        self._record = record
        self._registry = registry
        self._pending: dict[str, _Pending] = {}
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._refusals: set[asyncio.Task[PathResult]] = set()
        self.counters: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """How many requests wait for an answer."""
        return len(self._pending)

    async def measure(self, query: PathQuery) -> tuple[PathResult, ...]:
        """Ask the network; of each way the composed answer, or a failed result when the time is up.

        One result, or two when both directions were asked for: the way out and the way back.

        Raises:
            HostError: too many requests wait already, or there is no way to the destination.
        """
        return tuple(pending.answer.result() for pending in await self._ask(query))

    async def measure_segments(self, query: PathQuery) -> tuple[PathResult, tuple[SegmentRecord, ...]]:
        """Ask for the way out alone; the answer, and the records that it was composed of.

        Raises:
            HostError: as `measure`.
        """
        (pending,) = await self._ask(replace(query, both_directions=False))
        return pending.answer.result(), pending.records

    async def _ask(self, query: PathQuery) -> Sequence[_Pending]:
        if len(self._pending) >= MAX_PENDING:
            raise HostError(f"requests: {MAX_PENDING} wait already, try again later")
        now_ms = clock.now_ms()
        request = query.to_request(
            identifier=secrets.token_hex(16),
            return_id=secrets.token_hex(16) if query.both_directions else None,
            now_ms=now_ms,
        )
        ways = [await self._begin(request)]
        if query.both_directions:
            # The last point's address is known for sure when its request comes in.
            ways.append(await self._begin(way_back(request, source=request.destination, now_ms=now_ms)))
        sender = asyncio.create_task(self._send_copies(ways), name=f"request {request.id}")
        try:
            await asyncio.gather(*(self._await(pending, query.timeout_s) for pending in ways))
        finally:
            sender.cancel()
            for pending in ways:
                self._forget(pending.request.id)
        return ways

    async def _begin(self, request: MeasureRequest) -> _Pending:
        pending = _Pending(
            request=request,
            requested_at_us=clock.now_ns() // 1000,
            started_ns=clock.monotonic_ns(),
            answer=asyncio.get_running_loop().create_future(),
            assembly=ReportAssembly(max_open=8),
        )
        await self._record(_result(pending, ResultStatus.PENDING))
        self._pending[request.id] = pending
        return pending

    async def _await(self, pending: _Pending, timeout_s: float) -> None:
        try:
            result = await asyncio.wait_for(asyncio.shield(pending.answer), timeout_s)
        except TimeoutError:
            result = await self._fail(pending, f"no answer within {timeout_s:g} s")
        self.counters[str(result.status)] += 1
        logger.info(
            "request %s from %s to %s: %s after %.1f ms",
            result.id,
            result.source,
            result.destination,
            result.status,
            result.elapsed_ms,
        )

    async def on_report(self, message: Message, final: bool) -> bool:
        """Take one report; True when it is durable or was answered before, False when nobody asked for it.

        Raises:
            MessageError: the report contradicts its request or itself.
        """
        identifier = message.request.id
        if identifier in self._answered:
            return True
        pending = self._pending.get(identifier)
        if pending is None:
            return False
        _check_same(pending.request, message.request)
        whole = pending.assembly.add(message, final=final, now_ns=clock.now_ns())
        if whole is not None:
            await self._answer(pending, whole)
        return True

    def on_unreachable(self, destination: str, reason: str) -> None:
        """The destination refused a request: nobody will answer those that wait for it."""
        for pending in tuple(self._pending.values()):
            if pending.request.far_end == destination:
                self._refuse(pending, f"destination {destination}: {reason}")

    async def _answer(self, pending: _Pending, whole: Message) -> None:
        request = pending.request
        pending.records = whole.records
        composition = compose(
            request.metrics,
            whole.records,
            waited_ms=pending.elapsed_ms,
            max_age_ms=request.max_age_ms,
            registry=self._registry,
        )
        result = replace(
            _result(pending, composition.status),
            source=whole.request.source,
            segments=composition.segments,
            composed=composition.composed,
            warnings=composition.warnings,
        )
        await self._decide(pending, result)
        self._remember(pending.request.id)

    async def _fail(self, pending: _Pending, reason: str) -> PathResult:
        return await self._decide(pending, replace(_result(pending, ResultStatus.FAILED), warnings=(reason,)))

    async def _decide(self, pending: _Pending, result: PathResult) -> PathResult:
        """Make `result` the answer, unless there is one already; gives the answer."""
        async with pending.deciding:
            if not pending.answer.done():
                warnings = await self._record(result)
                pending.answer.set_result(replace(result, warnings=(*result.warnings, *warnings)))
            return pending.answer.result()

    async def _send_copies(self, ways: Sequence[_Pending]) -> None:
        """Send the way out again and again: who gets it to the end asks for the way back again, too."""
        out = ways[0]
        schedule = Retransmission(lifetime_ms=out.request.lifetime_ms)
        while (due_ms := schedule.next_after_ms()) is not None:
            await asyncio.sleep(max(0.0, due_ms - out.elapsed_ms) / 1000)
            copy = replace(out.request, copy=schedule.copies)
            try:
                self._send(message_to_xml(Message(request=copy)), copy.destination)
            except HostError as error:
                for pending in ways:
                    await self._fail(pending, str(error))
                return
            schedule.sent()
            self.counters["copies_sent"] += 1

    def _refuse(self, pending: _Pending, reason: str) -> None:
        task = asyncio.get_running_loop().create_task(self._fail(pending, reason))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    def _remember(self, identifier: str) -> None:
        self._answered[identifier] = None
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def _forget(self, identifier: str) -> None:
        self._pending.pop(identifier, None)


def _check_same(asked: MeasureRequest, reported: MeasureRequest) -> None:
    same = replace(reported, copy=0, part=0, last_point=None)
    if asked.returning:  # the last point made the request, of which the asker knows neither address nor time
        same = replace(same, source=asked.source, created_at_ms=asked.created_at_ms)
    if same != asked:
        raise MessageError(f"mr of {asked.id}: differs from the request that was sent")


def _result(pending: _Pending, status: ResultStatus) -> PathResult:
    waiting = status is ResultStatus.PENDING
    return PathResult(
        id=pending.request.id,
        status=status,
        source=pending.request.source,
        destination=pending.request.destination,
        metrics=pending.request.metrics,
        requested_at=rfc3339_from_us(pending.requested_at_us),
        elapsed_ms=None if waiting else pending.elapsed_ms,
        segments=(),
        composed={},
        warnings=(),
    )
