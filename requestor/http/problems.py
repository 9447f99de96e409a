"""What goes wrong, as RFC 9457 problem documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from requestor.dialogue import Blame, RemoteError, shown
from schemas.errors import HostError, InpathError, MessageError, NoAnswerError, StoreError, UsageError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:inpath:problem:"
_KINDS: tuple[tuple[type[InpathError], str, HTTPStatus], ...] = (
    (NoAnswerError, "no-answer", HTTPStatus.GATEWAY_TIMEOUT),
    (StoreError, "store-away", HTTPStatus.SERVICE_UNAVAILABLE),
    (HostError, "point-away", HTTPStatus.BAD_GATEWAY),
    (MessageError, "point-unclear", HTTPStatus.BAD_GATEWAY),
)
TITLES: Mapping[str, str] = {
    "malformed": "The request cannot be read",
    "value": "A value cannot be meant",
    "unauthorized": "Nobody is known by these credentials",
    "forbidden": "The caller may not do this",
    "not-found": "There is no such thing",
    "method": "The method does not fit the resource",
    "too-large": "The request is too large",
    "too-slow": "The request came too slowly",
    "too-many": "Too much at once",
    "no-answer": "No answer in time",
    "store-away": "The result store is away",
    "point-away": "The measurement point is away",
    "point-unclear": "The measurement point said what cannot be understood",
    "refused": "The measurement point refused",
    "internal": "The service failed",
}
"""By the last part of `type`: what stays the same from one occurrence to the next (RFC 9457 section 3.1.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One occurrence; `kind` is the last part of its type."""

    kind: str
    status: HTTPStatus
    detail: str
    field: str | None = None
    """The key, parameter or header that is wrong, as whoever asked wrote it."""
    value: object = None
    """What came there, shortened."""
    expected: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document; `field`, `value` and `expected` only where one value is to blame."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": TITLES[self.kind],
            "status": int(self.status),
            "detail": self.detail,
        }
        if self.field is not None:
            document |= {"field": self.field, "value": shown(self.value), "expected": self.expected}
        return document

    def to_bytes(self) -> bytes:
        """The document as it is sent."""
        return json.dumps(self.to_json(), separators=(",", ":")).encode()


class RefusedError(InpathError):
    """A request that gets a problem in place of an answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refused(kind: str, status: HTTPStatus, detail: str, **members: Any) -> RefusedError:
    """A problem to raise."""
    return RefusedError(Problem(kind=kind, status=status, detail=detail, **members))


def bad_value(name: str, value: object, expected: str) -> RefusedError:
    """One value is to blame."""
    return RefusedError(problem_of(UsageError(name, value, expected)))


def too_many(detail: str, retry_after_s: float) -> RefusedError:
    """A bound is reached; says when to come again."""
    seconds = str(max(1, round(retry_after_s)))
    return refused("too-many", HTTPStatus.TOO_MANY_REQUESTS, detail, headers=(("Retry-After", seconds),))


def problem_of(error: InpathError) -> Problem:
    """What an error means to whoever asked over HTTP."""
    if isinstance(error, RefusedError):
        return error.problem
    if isinstance(error, UsageError):
        return _of_value(str(error), Blame(error.field, error.value, error.expected))
    if isinstance(error, RemoteError):
        return _of_remote(error)
    for kind, name, status in _KINDS:
        if isinstance(error, kind):
            return Problem(kind=name, status=status, detail=str(error))
    return Problem(kind="internal", status=HTTPStatus.INTERNAL_SERVER_ERROR, detail=str(error))


def _of_value(detail: str, blame: Blame | None) -> Problem:
    """A value cannot be meant; which one, if that is known."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if blame is None:
        return Problem(kind="value", status=status, detail=detail)
    return Problem(
        kind="value",
        status=status,
        detail=detail,
        field=blame.field,
        value=blame.value,
        expected=blame.expected,
    )


def _of_remote(error: RemoteError) -> Problem:
    """By the exit code, which is all that the dialogue says of a kind of error."""
    match error.exit_code:
        case UsageError.exit_code:
            return _of_value(str(error), error.blame)
        case NoAnswerError.exit_code:
            return Problem(kind="no-answer", status=HTTPStatus.GATEWAY_TIMEOUT, detail=str(error))
        case _:
            return Problem(kind="refused", status=HTTPStatus.BAD_GATEWAY, detail=str(error))
