"""What the command line reads of a result store, beside what every reader does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from receiver.store.history import Cursor, ResultFilter
from receiver.store.result_reader import ResultReader
from receiver.store.tables import RESULTS
from schemas.errors import StoreError
from schemas.result import PathResult

PAGE = 200
"""Results in memory at once: 20 MB where paths have 20 segments and all metrics are asked for."""
_AFTER_HEX = "g"
"""Sorts behind every hexadecimal digit."""


class StoredResults(ResultReader):
    """Results found again.

    Args:
        url: as for `Database`.

    Raises:
        StoreError: the URL is of another kind, or names a file that is not there.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        file = _sqlite_file(url)
        if file is not None and not file.exists():  # to look at it would make it
            self.close()
            raise StoreError(f"{self.name}: no such file; nothing was stored there yet")

    def each(self, wanted: ResultFilter, limit: int | None = None) -> Iterator[PathResult]:
        """Results one by one, newest first; only a page of them is in memory.

        What is stored meanwhile is not among them.
        """
        after: Cursor | None = None
        left = limit
        while left is None or left > 0:
            page = self.results(wanted, limit=PAGE if left is None else min(PAGE, left), after=after)
            yield from page.results
            after = page.next
            if after is None:
                return
            left = None if left is None else left - len(page.results)

    def starting_with(self, beginning: str, limit: int) -> Sequence[PathResult]:
        """Results whose id begins with these hexadecimal digits."""
        identifier = RESULTS.c.id
        return self._load(limit, [identifier >= beginning, identifier < beginning + _AFTER_HEX])

    def count_before(self, time_us: int) -> int:
        """How many results were asked for before a time in microseconds since the Unix epoch."""
        query = select(func.count()).select_from(RESULTS).where(RESULTS.c.requested_at_us < time_us)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url) if url.startswith("sqlite") else None
    return None if parsed is None or parsed.database is None else Path(parsed.database)
