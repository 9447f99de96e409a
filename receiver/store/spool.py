"""Documents that wait on disk: once `put` returns, neither a killed process nor a lost power supply loses them.

For an unfinished one, which only notes that something waits, and for a removal the disk is not waited for: a
killed process loses neither, and both are safe from a lost power supply with the next document that is put.

The one user of `sqlite3` beside SQLAlchemy: the spool must be as simple as possible, since it stands in for a
database that has failed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Self

from receiver.store.spool_document import is_unfinished
from schemas.errors import StoreError

BUSY_TIMEOUT_S = 2.0
RESERVE_BYTES = 4 * 1024 * 1024
"""Of disk beside the file: SQLite needs room to remove documents too, so a full disk would hold them for ever."""

LONG_WAL_PAGES = 1000
"""SQLite's own choice."""

_TABLES = """
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so a late removal takes nothing else
        key TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS refused (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        document TEXT NOT NULL,
        reason TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS unfinished (
        key TEXT PRIMARY KEY,
        document TEXT NOT NULL
    ) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolEntry:
    """One document that waits."""

    id: int
    """Grows with each `put`."""
    key: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Text:
    """A document as the file has it."""

    key: str
    text: str
    is_unfinished: bool

    @classmethod
    def of(cls, document: Mapping[str, Any], key: str) -> Self:
        return cls(key, json.dumps(document, allow_nan=False), is_unfinished(document))


class Spool:
    """A queue in one SQLite file (WAL).

    Args:
        path: the file; made when it is not there.

    Raises:
        StoreError: here and in each method, when the file cannot be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._reserve = self._path.with_suffix(".reserve")
        self._lock = Lock()  # made in one thread, used in another, closed in the first
        with self._errors():
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA cache_size = -256")  # KiB
                self._connection.executescript(_TABLES)
                self._depth = self._count("entries")
                self._refused = self._count("refused")
        except StoreError:
            self._connection.close()
            raise
        if not self._reserve.exists():
            self._keep_reserve()

    @property
    def depth(self) -> int:
        """How many documents wait."""
        return self._depth

    @property
    def refused(self) -> int:
        """How many documents were set aside, since no database would take them."""
        return self._refused

    def put(self, document: Mapping[str, Any], key: str) -> int:
        """Keep a JSON document at the end of the queue; durable when this returns. Gives the entry's id."""
        return self.put_all([(document, key)])[0]

    def put_all(self, documents: Sequence[tuple[Mapping[str, Any], str]]) -> Sequence[int]:
        """Keep documents with their keys in this order, all or none; to wait for the disk once is enough.

        An unfinished one is remembered, wherever it goes from here, until another with its key is put.
        """
        texts = [_Text.of(document, key) for document, key in documents]
        with self._lock:
            return self._put(texts, waits_for_disk=not all(text.is_unfinished for text in texts))

    def note(self, document: Mapping[str, Any], key: str) -> bool:
        """Keep one unfinished document, as `put` does, but wait neither for the disk nor for another thread.

        The first transaction of a log that begins anew waits for its head, whatever it is (sqlite.org/wal.html).

        Returns:
            False when another thread is at the file, as while that waits for the disk: then nothing is kept.
        """
        text = _Text.of(document, key)
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._put([text], waits_for_disk=False, tidies_up=False)
        finally:
            self._lock.release()
        return True

    def oldest(self, limit: int) -> Sequence[SpoolEntry]:
        """The first `limit` documents in the order in which they were put."""
        with self._lock, self._errors():
            rows = self._connection.execute(
                "SELECT id, key, document FROM entries ORDER BY id LIMIT ?", (limit,)
            ).fetchall()
        return [SpoolEntry(id=row[0], key=row[1], document=json.loads(row[2])) for row in rows]

    def unfinished(self) -> Mapping[str, Mapping[str, Any]]:
        """By key, the unfinished documents that nothing has followed."""
        with self._lock, self._errors():
            rows = self._connection.execute("SELECT key, document FROM unfinished").fetchall()
        return {key: json.loads(document) for key, document in rows}

    def remove(self, ids: Sequence[int]) -> None:
        """Forget documents; ids that are not there change nothing."""
        with self._lock:
            self._depth -= self._clear(lambda: self._delete(ids))

    def set_aside(self, entry_id: int, reason: str) -> None:
        """Take a document that no database takes out of the way of the others; the file keeps it for a person."""
        copy = (
            "INSERT INTO refused (id, key, document, reason) SELECT id, key, document, ? FROM entries WHERE id = ?"
        )

        def work() -> int:
            self._connection.execute(copy, (reason, entry_id))
            return self._delete([entry_id])

        with self._lock:
            removed = self._clear(work)
            self._depth -= removed
            self._refused += removed

    def close(self) -> None:
        """Close the file; what waits is there the next time."""
        with self._lock, self._errors():
            self._connection.close()

    def _clear(self, work: Callable[[], int]) -> int:
        """Do `work`, which makes room; on a full disk in the room that is reserved for it."""
        try:
            with self._transaction(waits_for_disk=False):
                return work()
        except StoreError:
            if not self._reserve.exists():
                raise
            self._reserve.unlink()
            with self._transaction():
                removed = work()
            with self._errors():
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._keep_reserve()
            return removed

    def _keep_reserve(self) -> None:
        with suppress(OSError), self._reserve.open("wb") as file:  # a full disk has none: then the next time
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)

    def _put(self, texts: Sequence[_Text], *, waits_for_disk: bool, tidies_up: bool = True) -> Sequence[int]:
        with self._transaction(waits_for_disk=waits_for_disk, tidies_up=tidies_up):
            ids = [self._insert(text.key, text.text) for text in texts]
            for text in texts:
                self._remember(text.key, text.text if text.is_unfinished else None)
        self._depth += len(ids)
        return ids

    def _delete(self, ids: Sequence[int]) -> int:
        delete = "DELETE FROM entries WHERE id = ?"
        return self._connection.executemany(delete, [(one,) for one in ids]).rowcount if ids else 0

    def _insert(self, key: str, text: str) -> int:
        insert = "INSERT INTO entries (key, document) VALUES (?, ?)"
        return self._connection.execute(insert, (key, text)).lastrowid or 0

    def _remember(self, key: str, unfinished: str | None) -> None:
        if unfinished is None:
            self._connection.execute("DELETE FROM unfinished WHERE key = ?", (key,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO unfinished VALUES (?, ?)", (key, unfinished))

    def _count(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])

    @contextmanager
    def _transaction(self, *, waits_for_disk: bool = True, tidies_up: bool = True) -> Iterator[None]:
        with self._errors():
            # Of a WAL: after each transaction, or not before it is copied into the file (pragma synchronous).
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if waits_for_disk else 'NORMAL'}")
            # To copy a long WAL into the file takes many waits for the disk.
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {LONG_WAL_PAGES if tidies_up else 0}")
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:  # commits, or rolls back what an error left
                yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"spool {self._path}: {error}") from error
