"""What was asked, answered and checked, in a database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Column, ColumnElement, Connection, delete, insert, select

from receiver.store.closure_rows import check_from_rows, rows_from_check
from receiver.store.database import Database
from receiver.store.result_rows import ResultRows, Row, result_from_rows, rows_from_result
from receiver.store.schema_version import upgrade_database
from receiver.store.tables import CLOSURE_CHECKS, CLOSURE_METRICS, COMPOSED, REQUESTS, SEGMENT_METRICS, SEGMENTS
from schemas.closure import ClosureCheck
from schemas.errors import StoreError
from schemas.result import PathResult, ResultStatus

_KNOWLEDGE = (ResultStatus.PENDING, ResultStatus.FAILED, ResultStatus.PARTIAL, ResultStatus.COMPLETE)
"""From the least to the most: what knows less never replaces what knows more, in whatever order they come."""


class ResultStore:
    """Results by their request.

    The database is first touched by the first call, which also brings its tables to this version; so a point
    starts while its database is away. For one thread at a time.

    Args:
        url: `sqlite:///path` or `mysql+pymysql://user:password@host:port/name`.

    Raises:
        StoreError: the URL is of another kind.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._is_ready = False

    @property
    def name(self) -> str:
        """The URL without secrets."""
        return self._database.name

    def prepare(self) -> None:
        """Bring the tables to this version, once after each failure: the database may have come back empty.

        Raises:
            StoreError: the database is away, refuses, or is of a newer version.
        """
        if not self._is_ready:
            upgrade_database(self._database)
            self._is_ready = True

    def save(self, result: PathResult) -> None:
        """Keep `result`, in place of what was known of its request unless that was more.

        Saving twice changes nothing, so a replay is harmless.

        Raises:
            StoreError: nothing was saved.
            MessageError: a time in the result is not RFC 3339.
        """
        rows = rows_from_result(result)
        replaceable = [str(status) for status in _KNOWLEDGE[: _KNOWLEDGE.index(result.status) + 1]]
        with self._transaction() as connection:
            # A write comes first, so that SQLite takes its one write lock at once and never has to trade up.
            connection.execute(
                delete(REQUESTS).where(REQUESTS.c.id == result.id, REQUESTS.c.status.in_(replaceable))
            )
            if connection.execute(select(REQUESTS.c.id).where(REQUESTS.c.id == result.id)).first() is None:
                _insert(connection, rows)

    def get(self, request_id: str) -> PathResult | None:
        """The result of one request, None when it was never asked.

        Raises:
            StoreError: the database is away or refuses.
        """
        results = self._load(1, [REQUESTS.c.id == request_id])
        return results[0] if results else None

    def latest(
        self, limit: int, *, source: str | None = None, destination: str | None = None
    ) -> Sequence[PathResult]:
        """The newest results first, of one source or destination if given.

        Raises:
            StoreError: the database is away or refuses.
        """
        wanted = []
        if source is not None:
            wanted.append(REQUESTS.c.source == source)
        if destination is not None:
            wanted.append(REQUESTS.c.destination == destination)
        return self._load(limit, wanted)

    def save_check(self, check: ClosureCheck) -> None:
        """Keep a closure check; saving twice changes nothing.

        Raises:
            StoreError: nothing was saved.
            MessageError: its time is not RFC 3339.
        """
        row, metrics = rows_from_check(check)
        with self._transaction() as connection:
            connection.execute(delete(CLOSURE_CHECKS).where(CLOSURE_CHECKS.c.id == check.id))
            connection.execute(insert(CLOSURE_CHECKS), row)
            if metrics:
                connection.execute(insert(CLOSURE_METRICS), metrics)

    def latest_checks(self, limit: int) -> Sequence[ClosureCheck]:
        """The newest closure checks first.

        Raises:
            StoreError: the database is away or refuses.
        """
        newest = select(CLOSURE_CHECKS).order_by(CLOSURE_CHECKS.c.checked_at_us.desc(), CLOSURE_CHECKS.c.id)
        with self._transaction() as connection:
            checks = connection.execute(newest.limit(limit)).mappings().all()
            metrics = _children(connection, CLOSURE_METRICS.c.check_id, [check["id"] for check in checks])
        return [check_from_rows(check, metrics[check["id"]]) for check in checks]

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.prepare()
        try:
            with self._database.transaction() as connection:
                yield connection
        except StoreError:
            self._is_ready = False
            raise

    def _load(self, limit: int, wanted: Sequence[ColumnElement[bool]]) -> Sequence[PathResult]:
        newest = select(REQUESTS).where(*wanted)
        newest = newest.order_by(REQUESTS.c.requested_at_us.desc(), REQUESTS.c.id).limit(limit)
        with self._transaction() as connection:
            requests = connection.execute(newest).mappings().all()
            ids = [request["id"] for request in requests]
            segments = _children(connection, SEGMENTS.c.request_id, ids)
            metrics = _children(connection, SEGMENT_METRICS.c.request_id, ids)
            composed = _children(connection, COMPOSED.c.request_id, ids)
        return [
            result_from_rows(
                ResultRows(
                    request=request,
                    segments=segments[request["id"]],
                    segment_metrics=metrics[request["id"]],
                    composed=composed[request["id"]],
                )
            )
            for request in requests
        ]


def _insert(connection: Connection, rows: ResultRows) -> None:
    connection.execute(insert(REQUESTS), rows.request)
    for table, children in (
        (SEGMENTS, rows.segments),
        (SEGMENT_METRICS, rows.segment_metrics),
        (COMPOSED, rows.composed),
    ):
        if children:
            connection.execute(insert(table), children)


def _children(connection: Connection, parent: Column[str], ids: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of the table of column `parent` by what they have there."""
    by_parent: dict[str, list[Row]] = defaultdict(list)
    if ids:
        for row in connection.execute(select(parent.table).where(parent.in_(ids))).mappings():
            by_parent[row[parent.name]].append(row)
    return by_parent
