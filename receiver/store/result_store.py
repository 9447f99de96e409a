"""What was asked, answered and checked, in a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, delete, insert, literal_column
from sqlalchemy.dialects import mysql, sqlite

from receiver.store.closure_rows import rows_from_check
from receiver.store.database import Database
from receiver.store.history import Resolution
from receiver.store.result_reader import ResultReader
from receiver.store.result_rows import Row, row_from_result
from receiver.store.schema_version import upgrade_database
from receiver.store.tables import CLOSURE_CHECKS, CLOSURE_METRICS, RESULTS, STALE_PERIODS
from schemas.closure import ClosureCheck
from schemas.result import PathResult, ResultStatus

_KNOWLEDGE = (ResultStatus.PENDING, ResultStatus.FAILED, ResultStatus.PARTIAL, ResultStatus.COMPLETE)
"""From the least to the most: what knows less never replaces what knows more, in whatever order they come."""

_WITH_VALUES = frozenset((str(ResultStatus.PARTIAL), str(ResultStatus.COMPLETE)))


class ResultStore(ResultReader):
    """Results by their request.

    The first call also brings the tables to this version; so a point starts while its database is away. Of its
    methods that write, one thread at a time may be in one.

    Args:
        url: as for `Database`.
        upgrade: brings the tables to this version.
    """

    def __init__(self, url: str, upgrade: Callable[[Database], None] = upgrade_database) -> None:
        super().__init__(url)
        self._upgrade = upgrade

    def prepare(self) -> None:
        """Bring the tables to this version, once after each failure: the database may have come back empty."""
        if not self._is_ready:
            self._upgrade(self._database)
            self._is_ready = True

    def save(self, result: PathResult) -> None:
        """As `save_all` for one result."""
        self.save_all([result])

    def save_all(self, results: Sequence[PathResult], checks: Sequence[ClosureCheck] = ()) -> None:
        """Keep results and closure checks, all or none.

        A result replaces what was known of its request unless that was more; a request is known by its id and its
        time. Saving twice changes nothing, so a replay is harmless.

        Raises:
            StoreError: nothing was saved.
            MessageError: a time is not RFC 3339.
        """
        self.save_rows([row_from_result(result) for result in results], checks)

    def save_rows(self, rows: Sequence[Row], checks: Sequence[ClosureCheck] = ()) -> None:
        """As `save_all`, for rows of `row_from_result`."""
        kept = [rows_from_check(check) for check in checks]
        with self._watched():
            self._database.write(lambda connection: _save(connection, rows, kept))

    def save_check(self, check: ClosureCheck) -> None:
        """As `save_all` for one closure check."""
        self.save_all([], [check])


def _save(connection: Connection, rows: Sequence[Row], checks: Sequence[tuple[Row, Sequence[Row]]]) -> None:
    if rows:
        connection.execute(_UPSERTS[connection.dialect.name], rows)
        _mark_minutes(connection, rows)
    for row, metrics in checks:
        connection.execute(delete(CLOSURE_CHECKS).where(CLOSURE_CHECKS.c.id == row["id"]))
        connection.execute(insert(CLOSURE_CHECKS), row)
        if metrics:
            connection.execute(insert(CLOSURE_METRICS), metrics)


def _mark_minutes(connection: Connection, rows: Sequence[Row]) -> None:
    """Note which minutes must be rolled up (again): always in new rows, so that writers never wait for others."""
    minute = Resolution.MINUTE
    starts = {minute.start_us(row["requested_at_us"]) for row in rows if row["status"] in _WITH_VALUES}
    if starts:
        marks = [{"resolution": str(minute), "start_us": start_us} for start_us in sorted(starts)]
        connection.execute(insert(STALE_PERIODS), marks)


def _knowledge(column: str) -> str:
    ranks = " ".join(f"WHEN '{status}' THEN {rank}" for rank, status in enumerate(_KNOWLEDGE))
    return f"(CASE {column} {ranks} END)"


def _upsert_mysql() -> Insert:
    # Plain text, since PyMySQL makes one statement of many rows only where nothing is bound behind VALUES.
    knows_as_much = f"{_knowledge('VALUES(status)')} >= {_knowledge('results.status')}"
    names = [column.name for column in RESULTS.columns if not column.primary_key and column.name != "status"]
    # MariaDB assigns from left to right: the status comes last, because the others look at it.
    changes: list[tuple[str, Any]] = [
        (name, literal_column(f"IF({knows_as_much}, VALUES({name}), results.{name})"))
        for name in (*names, "status")
    ]
    return mysql.insert(RESULTS).on_duplicate_key_update(changes)


def _upsert_sqlite() -> Insert:
    statement = sqlite.insert(RESULTS)
    return statement.on_conflict_do_update(
        index_elements=list(RESULTS.primary_key),
        set_={
            column.name: statement.excluded[column.name] for column in RESULTS.columns if not column.primary_key
        },
        where=literal_column(f"{_knowledge('excluded.status')} >= {_knowledge('results.status')}"),
    )


_UPSERTS = {"mysql": _upsert_mysql(), "sqlite": _upsert_sqlite()}
