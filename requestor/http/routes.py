"""The resources of version 1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from requestor.http import documents
from requestor.http.callers import Caller
from requestor.http.desk import Desk, watch_timeout_s
from requestor.http.history import Cursor, HistoryQuery, time_us, with_one_metric
from requestor.http.problems import bad_value, refused
from requestor.http.questions import (
    BatchQuestion,
    EventsQuestion,
    HistoryQuestion,
    PathQuestion,
    VerdictQuestion,
)
from requestor.http.tokens import Scope
from requestor.http.watches import WatchKey
from requestor.query import address_from_text
from schemas.errors import InpathError

router = APIRouter()
Value = TypeVar("Value")

_NEIGHBOR_KEYS = ("address", "role", "state", "newest_sample_age_s", "hops")


class _EventStream(StreamingResponse):
    """Ends its generator with itself: one that was cut while it sent would count as a subscriber for long."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        super().__init__(stream, media_type="text/event-stream")
        self._stream = stream

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.aclose()


# Coroutines: what is a plain function, the framework calls in a thread.


async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _caller_with(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    async def caller(request: Request) -> Caller:
        found: Caller = request.state.caller
        found.require(scope)
        return found

    return caller


TheDesk = Annotated[Desk, Depends(_desk)]
Querier = Annotated[Caller, Depends(_caller_with(Scope.QUERY))]
Reader = Annotated[Caller, Depends(_caller_with(Scope.READ))]


@router.post("/v1/paths", responses=documents.ANSWER, summary="Have a path measured, and wait for the answer")
async def ask(request: Request, question: PathQuestion, desk: TheDesk, _: Querier) -> Response:
    """Whatever the point can say is an answer: see `result.status`, which may be `partial` or `failed`."""
    wish = desk.wish(question)
    return JSONResponse(await _while_connected(request, desk.answer(wish)))


@router.post(
    "/v1/measurements",
    status_code=202,
    responses=documents.ACCEPTED,
    summary="Have a path measured, and fetch the answer later",
)
async def start(question: PathQuestion, desk: TheDesk, caller: Querier) -> Response:
    """`Location` says where; it is kept for ten minutes after it came, less when very many are kept."""
    wish = desk.wish(question)
    desk.jobs.check_room(caller.name)
    job = desk.jobs.start(caller.name, desk.answer(wish))
    return Response(
        job.to_bytes(),
        202,
        headers={"Location": f"/v1/measurements/{job.id}", "Retry-After": "1"},
        media_type="application/json",
    )


@router.get("/v1/measurements/{identifier}", responses=documents.MEASUREMENT, summary="Fetch a measurement")
async def fetch(identifier: str, desk: TheDesk, caller: Querier) -> Response:
    """Only who asked for it, and tokens with the scope `admin`, may fetch it."""
    job = desk.jobs.get(identifier)
    if job is None or (job.owner != caller.name and not caller.may(Scope.ADMIN)):
        raise refused(
            "not-found", HTTPStatus.NOT_FOUND, "measurement: there is none of this id, or it has expired"
        )
    return Response(job.to_bytes(), media_type="application/json")


@router.post("/v1/batches", responses=documents.BATCH, summary="Have many paths measured at once")
async def ask_many(request: Request, question: BatchQuestion, desk: TheDesk, caller: Querier) -> Response:
    """Each pair counts as one question, and gets an answer or a problem of its own, in the order of the pairs."""
    desk.charge(caller.name, len(question.pairs) - 1)
    return JSONResponse({"outcomes": await _while_connected(request, desk.batch(question))})


@router.get("/v1/verdict", responses=documents.VERDICT, summary="Is a path good enough for a purpose?")
async def judge(
    request: Request, question: Annotated[VerdictQuestion, Query()], desk: TheDesk, _: Querier
) -> Response:
    """Measures what the profile needs, and holds it against the profile."""
    wish = desk.wish_for(
        question.source,
        question.destination,
        profile=question.profile,
        metrics=None,
        timeout_s=question.timeout_s,
    )
    answer = await _while_connected(request, desk.answer(wish))
    return JSONResponse(answer["verdict"])


@router.get("/v1/profiles", responses=documents.PROFILES, summary="The purposes that verdicts are given for")
async def profiles(desk: TheDesk, _: Querier) -> Response:
    """By name, with the limits of each."""
    return JSONResponse({name: documents.of_profile(profile) for name, profile in desk.profiles.items()})


@router.get("/v1/events", responses=documents.EVENTS, summary="Hear of changes of a path (server-sent events)")
async def events(
    question: Annotated[EventsQuestion, Query()],
    desk: TheDesk,
    caller: Querier,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> Response:
    """The path is asked about every interval; the first answer is told, and then one with another status, route,
    or verdict, or with a value outside the interval that was told last. A client that comes again with
    `Last-Event-ID` within half a minute gets what it missed, of the last 64 events."""
    wish = desk.wish_for(
        question.source,
        question.destination,
        profile=question.profile,
        metrics=question.metrics if "metrics" in question.model_fields_set or not question.profile else None,
        timeout_s=watch_timeout_s(question.interval_s),
    )
    key = WatchKey(query=wish.query, interval_s=question.interval_s, profile=question.profile)
    desk.watches.check_room(key, caller.name)
    stream = desk.watches.subscribe(key, caller.name, last_event_id)
    return _EventStream(stream)


@router.get("/v1/history", responses=documents.HISTORY, summary="Stored results, the newest first")
async def history(question: Annotated[HistoryQuestion, Query()], desk: TheDesk, _: Reader) -> Response:
    """In pages: `next` is the cursor of the following one, null on the last."""
    query = HistoryQuery(
        source=_address(desk, "source", question.source),
        destination=_address(desk, "destination", question.destination),
        from_us=time_us("from", question.from_),
        to_us=time_us("to", question.to),
        metric=question.metric,
        after=None if question.cursor is None else Cursor.from_text(question.cursor),
        limit=question.limit,
    )
    if query.metric is not None and query.metric not in desk.registry:
        raise bad_value("metric", query.metric, f"one of {','.join(desk.registry)}")
    page = await desk.stored(query)
    return JSONResponse(
        {
            "results": [with_one_metric(result, query.metric) for result in page.results],
            "next": None if page.next is None else page.next.to_text(),
        }
    )


@router.get("/v1/point", responses=documents.POINT, summary="The point itself")
async def point(desk: TheDesk, _: Reader) -> Response:
    """Who it is, its clock, its counters."""
    status = await desk.point.status()
    return JSONResponse({key: value for key, value in status.items() if key != "neighbors"})


@router.get("/v1/neighbors", responses=documents.NEIGHBORS, summary="The neighboring points")
async def neighbors(desk: TheDesk, _: Reader) -> Response:
    """Those to which segments are measured or have been."""
    status = await desk.point.status()
    return JSONResponse(
        {"neighbors": [{key: one.get(key) for key in _NEIGHBOR_KEYS} for one in status["neighbors"]]}
    )


@router.get("/v1/segments", responses=documents.SEGMENTS, summary="What is measured to the neighbors")
async def segments(desk: TheDesk, _: Reader) -> Response:
    """One segment for each neighbor, with its statistics and counters."""
    status = await desk.point.status()
    address = status["point"]["address"]
    return JSONResponse(
        {"segments": [{"upstream": one["address"], "current": address, **one} for one in status["neighbors"]]}
    )


@router.get("/healthz", responses=documents.HEALTH, summary="The HTTP service lives")
async def healthz() -> Response:
    """Nothing else is looked at."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses=documents.READINESS, summary="Questions can be answered")
async def readyz(desk: TheDesk) -> Response:
    """The point answers; while the database alone is away, results wait in a spool."""
    try:
        status = await desk.point.status()
    except InpathError as error:
        return JSONResponse({"ready": False, "point": str(error), "store": None}, 503)
    store = status.get("store") or {"database": "not looked for yet"}
    return JSONResponse({"ready": True, "point": "up", "store": store["database"]})


def _address(desk: Desk, name: str, text: str | None) -> str | None:
    return None if text is None else address_from_text(name, text, desk.names)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """What `work` gives, unless the client goes away before.

    Raises:
        ConnectionAbortedError: it did; the work is cancelled.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ConnectionAbortedError("the client went away")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
