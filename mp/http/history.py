"""Stored results in pages, read straight from the result store."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from receiver.store.history import Cursor as StoreCursor
from receiver.store.history import ResultFilter
from receiver.store.result_reader import ResultReader
from requestor.http.history import Cursor, HistoryPage, HistoryQuery


class StoredHistory:
    """Reads what the point has stored; writes nothing and changes no table.

    Args:
        url: of the result store.

    Raises:
        StoreError: the URL is of no kind that the store takes.
    """

    def __init__(self, url: str) -> None:
        self._reader = ResultReader(url)
        parsed = make_url(url)
        self._file = Path(str(parsed.database)) if parsed.drivername.startswith("sqlite") else None

    def page(self, query: HistoryQuery) -> HistoryPage:
        """Results, the newest first; none while the embedded database was never used.

        Raises:
            StoreError: the database is away or refuses.
        """
        if self._file is not None and not self._file.exists():
            return HistoryPage(results=(), next=None)  # to look into it would create it
        wanted = ResultFilter(
            source=query.source,
            destination=query.destination,
            metric=query.metric,
            start_us=query.from_us,
            end_us=query.to_us,
        )
        after = None if query.after is None else StoreCursor(query.after.requested_at_us, query.after.id)
        found = self._reader.results(wanted, limit=query.limit, after=after)
        following = None if found.next is None else Cursor(found.next.requested_at_us, found.next.id)
        return HistoryPage(results=found.results, next=following)

    def close(self) -> None:
        """Close all connections."""
        self._reader.close()
