"""Questions to a point's service and how their answers are read: what both clients share (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from requestor.profile import Profile, profile_named
from requestor.query import DEFAULT_TIMEOUT_S, PathQuery
from requestor.verdict import verdict_of
from requestor.verify_query import VerifyQuery
from schemas.closure import ClosureCheck
from schemas.errors import MessageError, NoAnswerError
from schemas.result import PathResult, ResultStatus
from schemas.verdict import Verdict

STATUS_TIMEOUT_S = 3.0
VERIFY_GRACE_S = 75.0
"""Another check may be under way at the point, and comes first."""
GRACE_S = 2.0
"""How much longer than the point itself a client waits: the point keeps the time, this only saves from a hang."""

T = TypeVar("T")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One question, and what becomes of its answer."""

    document: Document
    timeout_s: float
    """How long a client waits for the answer."""
    read: Callable[[Document], T]
    """What the answer says; raises MessageError if it is none to this question."""


def path_question(query: PathQuery) -> Question[PathResult]:
    """The quality of a path."""
    return Question(*_ask_for_path(query), lambda document: _result(document, "result"))


def both_paths_question(query: PathQuery) -> Question[tuple[PathResult, PathResult]]:
    """The way out and the way back at once."""
    asked = _ask_for_path(replace(query, both_directions=True))
    return Question(*asked, lambda document: (_result(document, "result"), _result(document, "return")))


def verify_question(query: VerifyQuery) -> Question[ClosureCheck]:
    """The composed path against a direct measurement."""
    asked = {"ask": "verify", "query": query.to_json()}
    return Question(
        asked,
        query.duration_s + VERIFY_GRACE_S,
        lambda document: ClosureCheck.from_json(_object(document, "check")),
    )


def status_question() -> Question[Document]:
    """The point's own state."""
    return Question({"ask": "status"}, STATUS_TIMEOUT_S, lambda document: _object(document, "status"))


def own_address(status: Document) -> str:
    """The point's address, by what it says of itself.

    Raises:
        MessageError: it does not say.
    """
    point = status.get("point")
    address = point.get("address") if isinstance(point, dict) else None
    if not isinstance(address, str):
        raise MessageError(f"status: got {point!r}, expected the point's address")
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A purpose for which somebody wants to use a path, before it is known where the path begins."""

    destination: str
    profile: Profile
    timeout_s: float

    @classmethod
    def of(
        cls, destination: str, profile: str | Profile, timeout_s: float | None, profiles: Mapping[str, Profile]
    ) -> Wish:
        """With the profile looked up.

        Raises:
            UsageError: an unknown profile.
        """
        return cls(
            destination=destination,
            profile=profile_named(profile, profiles) if isinstance(profile, str) else profile,
            timeout_s=DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s,
        )

    def query(self, source: str) -> PathQuery:
        """What to ask the point at `source`."""
        return PathQuery(
            source=source,
            destination=self.destination,
            metrics=self.profile.metrics(),
            timeout_s=self.timeout_s,
            max_age_s=self.profile.max_age_s,
        )

    def verdict(self, result: PathResult) -> Verdict:
        """Whether that path will do.

        Raises:
            NoAnswerError: there is no answer to judge; the text is the point's reason.
        """
        if result.status is ResultStatus.FAILED:
            reason = "; ".join(result.warnings) or "no answer"
            raise NoAnswerError(f"path {result.source} -> {result.destination}: {reason}")
        return verdict_of(result, self.profile)


def _ask_for_path(query: PathQuery) -> tuple[Document, float]:
    return {"ask": "path", "query": query.to_json()}, query.timeout_s + GRACE_S


def _result(document: Document, key: str) -> PathResult:
    return PathResult.from_json(_object(document, key))


def _object(document: Document, key: str) -> Document:
    value = document.get(key)
    if not isinstance(value, dict):
        raise MessageError(f"answer: got {', '.join(sorted(document)) or 'nothing'}, expected {key}")
    return value
