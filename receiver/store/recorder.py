"""Each result reaches the database exactly once, also when that is away for a while.

A result goes to the spool first and then, in order, to the store; it leaves the spool after the store's commit. A
crash between the two replays it, which `ResultStore.save_rows` takes as nothing new.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.exc import DataError, IntegrityError

from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool, SpoolEntry
from receiver.store.spool_document import waiting_from_documents
from schemas.errors import MessageError, StoreError

logger = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 1
MAX_BACK_OFF_S = 60
"""A database that comes back is used again within a minute."""
BATCH = 1_000
"""Documents in one transaction: a quarter of a second, so that a new result does not wait long for the thread."""

_NS_PER_S = 1_000_000_000


class DatabaseState(StrEnum):
    """What the last attempt showed."""

    UP = "up"
    AWAY = "away"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderState:
    """For the operator; may be read from any thread."""

    database: DatabaseState
    spool_depth: int
    refused: int
    """Results set aside because the database will never take them."""
    last_error: str | None
    """One line, without secrets; None while all is well."""


class Recorder:
    """Takes results and brings them to the store; `drain` is for one thread at a time.

    Args:
        store: where results go.
        spool: where they wait.
    """

    def __init__(self, store: ResultStore, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._failures = 0
        self._retry_at_ns: int | None = None
        self._last_error: str | None = None

    @property
    def state(self) -> RecorderState:
        """How things stand."""
        return RecorderState(
            database=DatabaseState.AWAY if self._failures else DatabaseState.UP,
            spool_depth=self._spool.depth,
            refused=self._spool.refused,
            last_error=self._last_error,
        )

    def close(self) -> None:
        """Close spool and store; what waits is there the next time."""
        self._spool.close()
        self._store.close()

    def drain(self, now_ns: int) -> int:
        """Replay what waits, unless the last failure was just now; how many left the spool.

        Args:
            now_ns: any clock that only goes forward; call about once a second.

        Raises:
            StoreError: the spool cannot be read.
        """
        if self._retry_at_ns is not None and now_ns < self._retry_at_ns:
            return 0
        before = self._spool.depth
        self._replay()
        if self._failures:
            back_off_s = min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S << min(self._failures - 1, 10))
            self._retry_at_ns = now_ns + back_off_s * _NS_PER_S
        return before - self._spool.depth

    def _replay(self) -> None:
        """The oldest documents into the store, in one transaction; one by one when that cannot be."""
        entries = self._spool.oldest(BATCH)
        try:
            self._save(entries)
        except (StoreError, MessageError) as error:
            if not _is_refused_for_good(error):
                self._failed(error)
            elif len(entries) == 1:
                self._set_aside(entries[0], error)
            else:
                self._replay_singly(entries)

    def _replay_singly(self, entries: Sequence[SpoolEntry]) -> None:
        """In order up to the first failure; what the database refuses for good is set aside."""
        for entry in entries:
            try:
                self._save([entry])
            except (StoreError, MessageError) as error:
                if not _is_refused_for_good(error):
                    self._failed(error)
                    return
                self._set_aside(entry, error)

    def _save(self, entries: Sequence[SpoolEntry]) -> None:
        if not entries:
            return
        waiting = waiting_from_documents([entry.document for entry in entries])
        self._store.save_rows(waiting.rows, waiting.checks)
        self._spool.remove([entry.id for entry in entries])
        self._succeeded()

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            logger.warning("results wait in the spool: %s", error)
        self._failures += 1
        self._last_error = str(error)

    def _succeeded(self) -> None:
        if self._failures:
            logger.info("%s is back, %d results wait", self._store.name, self._spool.depth)
        self._failures = 0
        self._retry_at_ns = None
        self._last_error = None

    def _set_aside(self, entry: SpoolEntry, error: Exception) -> None:
        # Otherwise one result that no database takes would hold up all that come after it.
        logger.error("%s: result set aside: %s", entry.key, error)
        self._spool.set_aside(entry.id, str(error))
        self._last_error = str(error)


def _is_refused_for_good(error: Exception) -> bool:
    return isinstance(error, MessageError) or isinstance(error.__cause__, DataError | IntegrityError)
