"""Stored results in pages; who keeps them is handed in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from requestor.http.problems import bad_value
from schemas.errors import MessageError
from schemas.result import PathResult
from schemas.rfc3339 import us_from_rfc3339

DEFAULT_PAGE = 20
MAX_PAGE = 100
_CURSOR = re.compile(r"(-?\d{1,18})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last result of a page: the next one begins behind it."""

    requested_at_us: int
    id: str

    def to_text(self) -> str:
        """As it stands in `next`."""
        return f"{self.requested_at_us}-{self.id}"

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """The cursor that `to_text` wrote.

        Raises:
            RefusedError: another text.
        """
        found = _CURSOR.fullmatch(text)
        if found is None or not found[1].isascii():
            raise bad_value("cursor", text, "what `next` of the page before says")
        return cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Which results are wanted."""

    source: str | None
    destination: str | None
    from_us: int | None
    """Requested at this moment or later, microseconds since the Unix epoch."""
    to_us: int | None
    """Requested before this moment."""
    metric: str | None
    """Only results of questions that named it."""
    after: Cursor | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Stored results, the newest first."""

    results: Sequence[PathResult]
    next: Cursor | None
    """Where the following page begins; None when there is none."""


class History(Protocol):
    """Where results are kept."""

    async def page(self, query: HistoryQuery) -> HistoryPage:
        """Results, the newest first.

        Raises:
            StoreError: the database is away or refuses.
        """


def time_us(field: str, text: str | None) -> int | None:
    """A bound of `from` and `to`.

    Raises:
        RefusedError: no time.
    """
    if text is None:
        return None
    try:
        # A plus sign that was not escaped reads as a space in a query.
        return us_from_rfc3339(text.replace(" ", "+"))
    except MessageError:
        raise bad_value(field, text, "an RFC 3339 time such as 2026-01-31T12:00:00Z") from None


def with_one_metric(result: PathResult, metric: str | None) -> dict[str, object]:
    """The result's document, of which only one metric is kept, if one is named."""
    document = result.to_json()
    if metric is not None:
        document["metrics"] = [metric]
        document["composed"] = {name: one for name, one in document["composed"].items() if name == metric}
        for segment in document["segments"]:
            segment["metrics"] = {name: one for name, one in segment["metrics"].items() if name == metric}
    return document
