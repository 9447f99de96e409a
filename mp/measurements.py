"""The life of a request at its first point: noted, sent, sent again, answered, composed, recorded."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from mp import clock
from mp.keys.credentials import Credentials
from mp.pending_request import PendingRequest
from receiver.assembly import Whole
from requestor.carriers import CarrierMemory
from requestor.query import PathQuery, way_back
from requestor.retransmission import Retransmission
from requestor.slices import divided, slices_of
from schemas.authentication import Standing, signed_request
from schemas.errors import HostError, MessageError
from schemas.message import Carrier, MeasureRequest, Message, SegmentRecord
from schemas.metrics import METRICS, Registry
from schemas.result import PathResult
from schemas.xml_writer import message_to_xml

logger = logging.getLogger(__name__)

MAX_PENDING = 4096
"""Questions that may wait at once."""
REMEMBERED = 4096
"""Answered requests that are remembered, so that copies of their reports are acknowledged and change nothing."""
USUAL_ROOM_BYTES = 1468
"""At an MTU of 1500 octets."""

Send = Callable[[bytes, str, Carrier], None]
"""Puts a payload toward a destination on the network; HostError when there is no way."""
KnownPath = Callable[[MeasureRequest], Whole | None]
"""What this point itself can tell of the path of a request."""
Record = Callable[[PathResult], Awaitable[tuple[str, ...]]]
"""Makes a result durable; returns warnings for whoever asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """How copies of a request leave."""

    ways: Sequence[PendingRequest]
    """The way out, and the way back if that was asked for, too."""
    schedule: Retransmission
    carriers: Sequence[Carrier]
    """One copy by each in turn."""
    is_forced: bool
    """Whoever asked named the carrier."""


class Measurements:
    """Requests of this point.

    Args:
        send: see `Send`.
        record: see `Record`.
        registry: the metrics that this point knows.
        credentials: keys; who changes them changes what is done from then on.
        room: the greatest payload that may leave, in octets.
    """

    def __init__(
        self,
        send: Send,
        record: Record,
        registry: Registry = METRICS,
        *,
        credentials: Credentials | None = None,
        room: Callable[[], int] = lambda: USUAL_ROOM_BYTES,
        known: KnownPath = lambda _: None,
    ) -> None:
        self._send = send
        self._record = record
        self._registry = registry
        self._credentials = credentials or Credentials()
        self._room = room
        self._known = known
        self._carriers = CarrierMemory()
        self._pending: dict[str, PendingRequest] = {}
        self._answered: OrderedDict[str, tuple[MeasureRequest, int]] = OrderedDict()
        """With the moment until which copies of their reports may come, on the monotonic clock in ns."""
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

    async def _ask(self, query: PathQuery) -> Sequence[PendingRequest]:
        if len(self._pending) >= MAX_PENDING:
            raise HostError(f"requests: {MAX_PENDING} wait already, try again later")
        now_ms = clock.now_ms()
        request = query.to_request(
            identifier=secrets.token_hex(16),
            return_id=secrets.token_hex(16) if query.both_directions else None,
            now_ms=now_ms,
        )
        ways = [await self._begin(request)]
        if await self._answer_at_once(ways[0]):
            return ways
        if query.both_directions:
            # The last point's address is known for sure when its request comes in.
            ways.append(await self._begin(way_back(request, source=request.destination, now_ms=now_ms)))
        sending = _Sending(
            ways=ways,
            schedule=Retransmission(lifetime_ms=request.lifetime_ms),
            carriers=self._carriers.order(request.destination, query.carrier),
            is_forced=query.carrier is not None,
        )
        sender: asyncio.Task[None] | None = None
        try:
            if await self._send_next(sending):  # a task would begin with it two turns of the loop later
                sender = asyncio.create_task(self._send_copies(sending), name=f"request {request.id}")
            await asyncio.wait([pending.answer for pending in ways], timeout=query.timeout_s)
            for pending in ways:
                await self._end(pending, query.timeout_s)
        finally:
            if sender is not None:
                sender.cancel()
            for pending in ways:
                self._pending.pop(pending.request.id, None)
        return ways

    async def _answer_at_once(self, pending: PendingRequest) -> bool:
        """Answer from what is known without a packet, if the request allows it and all of the path is known."""
        request = pending.request
        if request.return_id is not None or not request.max_age_ms:
            return False
        whole = self._known(request)
        if whole is None:
            return False
        self._pending.pop(request.id)
        result = pending.answered(whole, registry=self._registry, has_keys=bool(len(self._credentials.keyring)))
        await self._decide(pending, result)
        self.counters["from_cache"] += 1
        self.counters[str(result.status)] += 1
        return True

    async def _begin(self, request: MeasureRequest) -> PendingRequest:
        pending = PendingRequest.of(request, keyring=self._credentials.keyring)
        await self._record(pending.noted())
        self._pending[request.id] = pending
        return pending

    async def _end(self, pending: PendingRequest, timeout_s: float) -> None:
        if pending.answer.done():
            result = pending.answer.result()
        else:
            result = await self._fail(pending, f"no answer within {timeout_s:g} s")
        self.counters[str(result.status)] += 1
        asyncio.get_running_loop().call_soon(  # the answer leaves first
            logger.info,
            "request %s from %s to %s: %s after %.1f ms",
            result.id,
            result.source,
            result.destination,
            result.status,
            result.elapsed_ms,
        )

    def is_open(self, identifier: str) -> bool:
        """Whether a report of this request may be wanted: of one that is answered, it may come again."""
        return identifier in self._pending or identifier in self._answered

    async def on_report(self, message: Message, final: bool) -> bool:
        """Take one report; True when it is durable or was answered before, False when nobody asks for it any more.

        Raises:
            MessageError: the report contradicts its request or itself.
        """
        identifier = message.request.id
        answered = self._answered.get(identifier)
        if answered is not None:
            request, until_ns = answered
            _check_same(request, message.request)
            return clock.monotonic_ns() < until_ns
        pending = self._pending.get(identifier)
        if pending is None:
            return False
        _check_same(pending.request, message.request)
        whole = pending.assembly.add(message, final=final, now_ns=clock.now_ns())
        if whole is not None:
            await self._take(pending, whole)
        return True

    def on_unreachable(self, destination: str, reason: str) -> None:
        """The destination refused a request: nobody will answer those that wait for it."""
        for pending in tuple(self._pending.values()):
            if pending.request.far_end == destination:
                self._refuse(pending, f"destination {destination}: {reason}")

    async def _take(self, pending: PendingRequest, whole: Whole) -> None:
        is_forged = whole.standing is Standing.FORGED
        if is_forged:
            self.counters["forged"] += 1
        if self._credentials.is_required and whole.standing is not Standing.AUTHENTIC:
            pending.refused = f"an answer came that is not authentic: {pending.first_doubt(whole)}"
            logger.warning("request %s: %s", pending.request.id, pending.refused)
            return
        result = pending.answered(whole, registry=self._registry, has_keys=bool(len(self._credentials.keyring)))
        if result.carrier is not None and pending.is_carrier_free and not pending.request.returning:
            self._carriers.came_through(pending.request.destination, result.carrier)
        if is_forged:  # a true copy may still come; if none does, this one is told
            pending.doubtful = result
            return
        await self._decide(pending, result)
        self._remember(pending)

    async def _fail(self, pending: PendingRequest, reason: str) -> PathResult:
        return await self._decide(pending, pending.doubtful or pending.failed(reason))

    async def _decide(self, pending: PendingRequest, result: PathResult) -> PathResult:
        """Make `result` the answer, unless there is one already; gives the answer."""
        async with pending.deciding:
            if not pending.answer.done():
                if warnings := await self._record(result):
                    result = replace(result, warnings=(*result.warnings, *warnings))
                pending.answer.set_result(result)
            return pending.answer.result()

    async def _send_copies(self, sending: _Sending) -> None:
        """Send the way out again and again: who gets it to the end asks for the way back again, too."""
        while (due_ms := sending.schedule.next_after_ms()) is not None:
            await asyncio.sleep(max(0.0, due_ms - sending.ways[0].elapsed_ms) / 1000)
            if not await self._send_next(sending):
                return

    async def _send_next(self, sending: _Sending) -> bool:
        """Send the next copy of the way out; False when no copy can leave, and all has failed."""
        ways, copy = sending.ways, sending.schedule.copies
        carrier = sending.carriers[copy % len(sending.carriers)]
        for pending in ways:
            pending.carriers.append(carrier)
            pending.is_carrier_free = not sending.is_forced
        try:
            self._send_copy(replace(ways[0].request, copy=copy), carrier)
        except HostError as error:
            if carrier is not Carrier.RELAY or sending.is_forced:
                for pending in ways:
                    await self._fail(pending, str(error))
                return False
            logger.debug("request %s: %s", ways[0].request.id, error)
        sending.schedule.sent()
        self.counters["copies_sent"] += 1
        return True

    def _send_copy(self, request: MeasureRequest, carrier: Carrier) -> None:
        slices = slices_of(request.metrics, self._room())
        for index, metrics in enumerate(slices):
            part = replace(request, metrics=metrics, slice_index=index, slices=len(slices))
            signed = signed_request(part, self._credentials.keyring)
            self._send(message_to_xml(Message(request=signed)), request.destination, carrier)

    def _refuse(self, pending: PendingRequest, reason: str) -> None:
        task = asyncio.get_running_loop().create_task(self._fail(pending, reason))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    def _remember(self, pending: PendingRequest) -> None:
        request = pending.request
        self._answered[request.id] = request, pending.started_ns + request.lifetime_ms * 1_000_000
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)


def _check_same(asked: MeasureRequest, reported: MeasureRequest) -> None:
    slices = divided(asked.metrics, reported.slices) if 1 < reported.slices <= len(asked.metrics) else ()
    is_asked = reported.metrics == (slices[reported.slice_index] if slices else asked.metrics)
    same = replace(
        reported,
        metrics=asked.metrics,
        copy=0,
        slice_index=0,
        slices=1,
        part=0,
        last_point=None,
        previous_tag=None,
        tag=None,
    )
    if asked.returning:  # the last point made the request, of which the asker knows neither address nor time
        same = replace(same, source=asked.source, created_at_ms=asked.created_at_ms)
    if same != asked or not is_asked:
        raise MessageError(f"mr of {asked.id}: differs from the request that was sent")
