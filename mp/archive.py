"""The store and its spool beside an event loop: two threads, so that a slow database delays no answer."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mp import clock
from receiver.store.spool import CLOSURE_CHECK, Spool
from schemas.closure import ClosureCheck
from schemas.errors import StoreError
from schemas.result import PathResult, ResultStatus

if TYPE_CHECKING:
    from receiver.store.recorder import Recorder, RecorderState

logger = logging.getLogger(__name__)

DATABASE_GRACE_S = 0.25
"""How long an answer waits for the database, so that whoever asked finds the row there; durable it is before."""


class Archive:
    """Keeps results: durable in the spool when `record` returns, in the database as soon as that takes them.

    Args:
        url: of the database.
        directory: where the spool lives.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._spooling = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._storing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._spool: Spool | None = None
        self._recorder: Recorder | None = None
        self._draining: asyncio.Task[None] | None = None
        self._more = False
        """Something was kept after the drain that is under way had looked."""

    def open(self) -> None:
        """Open the spool; the database is opened by the first drain, at once if results wait from an earlier time.

        Raises:
            StoreError: the spool cannot be opened.
        """
        self._spool = Spool(self._directory / "spool.db")
        if self._spool.depth:
            self.drain_soon()

    @property
    def state(self) -> RecorderState | None:
        """How things stand; None before the database was first looked for."""
        return None if self._recorder is None else self._recorder.state

    @property
    def waiting(self) -> int:
        """How many results the database has not taken yet."""
        return self._opened().depth

    async def record(self, result: PathResult) -> tuple[str, ...]:
        """Make a result durable; gives warnings for whoever asked.

        Raises:
            StoreError: the spool refuses; nothing is durable.
        """
        await self._keep(result.to_json(), result.id)
        if result.status is ResultStatus.PENDING:
            return ()
        assert self._draining is not None  # drain_soon has just seen to it
        await asyncio.wait((self._draining,), timeout=DATABASE_GRACE_S)
        state = self.state
        if state is None or state.last_error is None:
            return ()
        return (f"database away, the result waits in the spool: {state.last_error}",)

    async def record_check(self, check: ClosureCheck) -> None:
        """Make a closure check durable.

        Raises:
            StoreError: the spool refuses; nothing is durable.
        """
        await self._keep({CLOSURE_CHECK: check.to_json()}, check.id)

    async def _keep(self, document: dict[str, Any], key: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._spooling, self._opened().put, document, key)
        self.drain_soon()

    def drain_soon(self) -> None:
        """Bring what waits to the database; if that is under way, once more after it."""
        self._more = True
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="drain spool")

    async def close(self) -> None:
        """Finish what is under way; what waits is there the next time."""
        if self._draining is not None:
            await asyncio.gather(self._draining, return_exceptions=True)
        self._storing.shutdown()
        self._spooling.shutdown()
        if self._recorder is not None:
            self._recorder.close()
        elif self._spool is not None:
            self._spool.close()

    def _opened(self) -> Spool:
        if self._spool is None:
            raise StoreError("archive: not open")
        return self._spool

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._more:
                self._more = False
                await loop.run_in_executor(self._storing, self._replay, clock.monotonic_ns())
        except StoreError as error:
            logger.error("%s", error)

    def _replay(self, now_ns: int) -> None:
        if self._recorder is None:
            # Half of what the daemon imports is for the database: not before it is needed.
            from receiver.store.recorder import Recorder
            from receiver.store.result_store import ResultStore

            self._recorder = Recorder(ResultStore(self._url), self._opened())
        self._recorder.drain(now_ns)
