"""Stored results in pages, read from the result store by the daemon for the HTTP process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mp.http.setup import file_of
from requestor.http.history import Cursor, HistoryPage, HistoryQuery

if TYPE_CHECKING:
    from receiver.store.result_reader import ResultReader


class StoredHistory:
    """Reads what the point has stored, a page at a time in a thread; writes nothing and changes no table.

    Args:
        url: of the result store.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._reader: ResultReader | None = None

    async def page_file(self, query: HistoryQuery) -> int:
        """A file in memory with the results, the newest first; none while the embedded database was never used.

        Raises:
            StoreError: the database is away or refuses, or its URL is of no kind that the store takes.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: file_of(self._page(query)))

    def close(self) -> None:
        """Close all connections."""
        self._thread.shutdown(cancel_futures=True)
        if self._reader is not None:
            self._reader.close()

    def _page(self, query: HistoryQuery) -> HistoryPage:
        # Half of what the daemon imports is for the database: not before it is needed.
        from sqlalchemy.engine import make_url

        from receiver.store.history import Cursor as StoreCursor
        from receiver.store.history import ResultFilter
        from receiver.store.result_reader import ResultReader

        if self._reader is None:
            self._reader = ResultReader(self._url)
        parsed = make_url(self._url)
        if parsed.drivername.startswith("sqlite") and not Path(str(parsed.database)).exists():
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
