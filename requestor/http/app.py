"""The HTTP application: routes, problems, and the guard in front of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from requestor.http import documents
from requestor.http.callers import Doorkeeper
from requestor.http.desk import Desk
from requestor.http.guard import Guard
from requestor.http.problems import MEDIA_TYPE, Problem, problem_of
from requestor.http.routes import router
from schemas.errors import InpathError

logger = logging.getLogger(__name__)

_KINDS = {HTTPStatus.NOT_FOUND: "not-found", HTTPStatus.METHOD_NOT_ALLOWED: "method"}
_NO_JSON = ("json_invalid", "json_type")


def application(desk: Desk, doorkeeper: Doorkeeper, *, version: str) -> ASGIApp:
    """The whole application.

    Args:
        desk: what the routes work with.
        doorkeeper: says who asks.
        version: of this program, for the OpenAPI document.
    """
    app = FastAPI(
        title="inpath",
        version=version,
        summary="Know the quality of a network path before you use it.",
        openapi_url=None,
        docs_url=None,  # its pages load programs from elsewhere
        redoc_url=None,
    )
    app.state.desk = desk
    app.include_router(router)
    app.add_exception_handler(InpathError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_failure)
    document = _openapi(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(document, media_type=documents.JSON)

    return Guard(app, doorkeeper, desk.rate, desk.now_ms)


def _openapi(app: FastAPI) -> bytes:
    """Made once, and now: later the process may not read its own files any more."""
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    return json.dumps(documents.complete(document), separators=(",", ":")).encode()


def _response(problem: Problem) -> Response:
    return Response(problem.to_bytes(), int(problem.status), headers=dict(problem.headers), media_type=MEDIA_TYPE)


async def _on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, InpathError)  # it is registered for these
    return _response(problem_of(error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    """The first of what the types of a question refuse."""
    assert isinstance(error, RequestValidationError)
    return _response(_of_invalid(error.errors()[0]))


def _of_invalid(first: Mapping[str, Any]) -> Problem:
    location, expected = first["loc"], str(first["msg"])
    if first["type"] in _NO_JSON:
        return Problem(
            kind="malformed",
            status=HTTPStatus.BAD_REQUEST,
            detail=f"body: {expected} at octet {location[-1]}, expected one JSON object",
        )
    name = ".".join(str(part) for part in location[1:]) or "body"
    value = first.get("input")
    if first["type"] == "missing":
        value = None
    elif name == "body":
        expected = "a JSON object, with Content-Type: application/json"
    return Problem(
        kind="value",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        detail=f"{name}: {expected}",
        field=name,
        value=value,
        expected=expected,
    )


async def _on_http(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself: no such path, another method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    kind = _KINDS.get(status, "malformed")
    return _response(
        Problem(kind=kind, status=status, detail=str(error.detail), headers=tuple((error.headers or {}).items()))
    )


async def _on_failure(_: Request, error: Exception) -> Response:
    """One request must neither end the service nor stay without an answer; the traceback goes to the log."""
    if isinstance(error, ConnectionAbortedError):
        raise error
    return _response(
        Problem(
            kind="internal",
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            detail="the service failed; its log says why",
        )
    )
