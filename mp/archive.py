"""The store and its spool beside an event loop: two threads, so that a slow database delays no answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from mp import clock
from receiver.store.retention import Retention
from receiver.store.spool import Spool
from receiver.store.spool_document import Document, document_from_check, document_from_result, interrupted
from schemas.closure import ClosureCheck
from schemas.errors import StoreError
from schemas.result import PathResult, ResultStatus

if TYPE_CHECKING:
    from receiver.store.recorder import Recorder, RecorderState
    from receiver.store.upkeep import Upkeep

logger = logging.getLogger(__name__)

DATABASE_GRACE_S = 0.25
"""How long an answer waits for a database of which it is not known that it is there, to be able to say so."""
DRAIN_AFTER_S = 0.01
"""The answer leaves first: what goes to the database takes the interpreter from it for some milliseconds."""
INTERRUPTED = "the measurement point ended while the request waited"
"""Why a request failed that was noted by an earlier run of this point, and not answered."""
UPKEEP_S = 20
"""A minute is rolled up at most this long after it may be."""


@dataclass(slots=True)
class _Unwritten:
    """Documents that wait for the disk together."""

    documents: list[tuple[Document, str]] = field(default_factory=list)
    written: asyncio.Future[None] | None = None


class Archive:
    """Keeps results: durable in the spool when `record` returns, in the database as soon as that takes them.

    Args:
        url: of the database.
        directory: where the spool lives.
        retention: how long the database keeps what; without it somebody else looks after the database.
    """

    def __init__(self, url: str, directory: Path, retention: Retention | None = None) -> None:
        self._url = url
        self._directory = directory
        self._retention = retention
        self._spooling = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._storing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._spool: Spool | None = None
        self._recorder: Recorder | None = None
        self._draining: asyncio.Task[None] | None = None
        self._drain_timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._unwritten = _Unwritten()
        self._taking = Lock()
        """Of what waits for the disk: the loop adds to it, and the spool's thread takes it."""
        self._upkeep: asyncio.Task[None] | None = None
        self._more = False
        """Something was kept after the drain that is under way had looked."""
        self._interrupted: Mapping[str, Document] = {}
        """By key, what an earlier run left unfinished."""

    def open(self) -> None:
        """Open the spool; the database is opened by the first drain. No thread is started yet.

        What an earlier run left unfinished fails with the first drain, not before: until the point has its ports,
        another may run here, and its requests still wait.

        Raises:
            StoreError: the spool cannot be opened.
        """
        self._spool = Spool(self._directory / "spool.db")
        self._interrupted = self._spool.unfinished()
        if self._retention is not None:
            self._upkeep = asyncio.create_task(self._look_after(self._retention), name="look after the store")

    @property
    def state(self) -> RecorderState | None:
        """How things stand; None before the database was first looked for."""
        return None if self._recorder is None else self._recorder.state

    @property
    def waiting(self) -> int:
        """How many results the database has not taken yet."""
        return self._opened().depth + len(self._interrupted)

    async def record(self, result: PathResult) -> tuple[str, ...]:
        """Make a result durable; gives warnings for whoever asked.

        The database has an answer a moment later. That a request waits reaches it with whatever is drained next:
        most answers come sooner, and then both are one transaction.

        Raises:
            StoreError: the spool refuses; nothing is durable.
            MessageError: what no database would take.
        """
        document = document_from_result(result)
        is_note = result.status is ResultStatus.PENDING
        if not (is_note and self._noted(document, result.id)):
            await self._keep(document, result.id)
        if self._is_closing:
            return ()
        state = self.state
        if is_note:
            if state is None:
                self.drain_soon()  # to open the database takes longer than most answers
            return ()
        if state is not None and state.last_error is None:
            self._drain_in_a_moment()
            return ()
        await asyncio.wait((self.drain_soon(),), timeout=DATABASE_GRACE_S)
        state = self.state
        if state is None or state.last_error is None:
            return ()
        return (f"database away, the result waits in the spool: {state.last_error}",)

    async def record_check(self, check: ClosureCheck) -> None:
        """Make a closure check durable.

        Raises:
            StoreError: the spool refuses; nothing is durable.
        """
        await self._keep(document_from_check(check), check.id)
        self._drain_in_a_moment()

    def _noted(self, document: Document, key: str) -> bool:
        """Keep a note here and now: to change threads and back takes longer, and the request waits for it."""
        try:
            return self._opened().note(document, key)
        except StoreError as error:
            logger.error("%s", error)
            raise

    async def _keep(self, document: Document, key: str) -> None:
        """Wait until the document is durable; those that come while the disk is busy go to it together."""
        with self._taking:
            unwritten = self._unwritten
            unwritten.documents.append((document, key))
        if unwritten.written is None:
            loop = asyncio.get_running_loop()
            unwritten.written = loop.run_in_executor(self._spooling, self._write, unwritten)
        await asyncio.shield(unwritten.written)

    def _write(self, unwritten: _Unwritten) -> None:
        with self._taking:
            self._unwritten = _Unwritten()  # from here on others wait for the next time
        try:
            self._opened().put_all(unwritten.documents)
        except StoreError as error:
            logger.error("%s", error)
            raise

    def drain_soon(self) -> asyncio.Task[None]:
        """Bring what waits to the database; if that is under way, once more after it. The task ends after both."""
        self._more = True
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="drain spool")
        return self._draining

    def _drain_in_a_moment(self) -> None:
        if self._drain_timer is None and not self._is_closing:
            self._drain_timer = asyncio.get_running_loop().call_later(DRAIN_AFTER_S, self._drain_now)

    def _drain_now(self) -> None:
        self._drain_timer = None
        self.drain_soon()

    async def close(self) -> None:
        """Finish what is under way; what waits is there the next time."""
        self._is_closing = True
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_now()
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
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
                drained = await loop.run_in_executor(self._storing, self._replay, clock.monotonic_ns())
                self._more = self._more or bool(drained and self.waiting)
        except StoreError as error:
            logger.error("%s", error)

    def _replay(self, now_ns: int) -> int:
        self._fail_interrupted()
        if self._recorder is None:
            # Half of what the daemon imports is for the database: not before it is needed.
            from receiver.store.recorder import Recorder
            from receiver.store.result_store import ResultStore
            from receiver.store.schema_version import upgrade_apart

            self._recorder = Recorder(ResultStore(self._url, upgrade_apart), self._opened())
        return self._recorder.drain(now_ns)

    def _fail_interrupted(self) -> None:
        if self._interrupted:
            now_us = clock.now_ns() // 1_000
            failed = [
                (interrupted(document, INTERRUPTED, now_us=now_us), key)
                for key, document in self._interrupted.items()
            ]
            self._opened().put_all(failed)
            logger.warning("%d requests waited when this point last ended: they have failed", len(failed))
            self._interrupted = {}

    def _opened_upkeep(self, retention: Retention) -> Upkeep:
        from receiver.store.schema_version import upgrade_apart
        from receiver.store.upkeep import Upkeep

        return Upkeep(self._url, retention, upgrade_apart)

    async def _look_after(self, retention: Retention) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(UPKEEP_S)  # half of what the daemon imports is for the database: not at its start
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="upkeep") as thread:
            upkeep = await loop.run_in_executor(thread, self._opened_upkeep, retention)
            try:
                while True:
                    try:
                        more = await loop.run_in_executor(thread, upkeep.step, clock.now_ns() // 1_000)
                    except StoreError as error:
                        more = False
                        logger.info("store not looked after, next try in %d s: %s", UPKEEP_S, error)
                    await asyncio.sleep(0 if more else UPKEEP_S)
            finally:
                upkeep.stop()
                thread.shutdown()
                upkeep.close()
