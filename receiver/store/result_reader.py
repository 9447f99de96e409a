"""Questions to the result store, for any process that may read it; nothing here writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, literal, or_, select

from receiver.store.closure_rows import check_from_rows
from receiver.store.database import Database
from receiver.store.history import Cursor, HistoryPoint, Resolution, ResultFilter, ResultPage, RouteEvent
from receiver.store.result_rows import Row, result_from_row
from receiver.store.schema_version import HEAD, current_revision
from receiver.store.tables import CLOSURE_CHECKS, CLOSURE_METRICS, HOURS, MINUTES, RESULTS, ROUTE_EVENTS
from schemas.closure import ClosureCheck
from schemas.errors import StoreError
from schemas.result import PathResult
from schemas.rfc3339 import us_from_rfc3339

ROLLUPS: dict[Resolution, Table] = {Resolution.MINUTE: MINUTES, Resolution.HOUR: HOURS}
_ANY = ResultFilter()


class ResultReader:
    """Results, their history and closure checks. Needs no more than SELECT on the tables.

    The database is first touched by the first call. May be used by several threads.

    Args:
        url: as for `Database`.

    Raises:
        StoreError: the URL is of another kind; each method: the database is away, refuses, or has another version.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._is_ready = False

    @property
    def name(self) -> str:
        """The URL without secrets."""
        return self._database.name

    def prepare(self) -> None:
        """Make sure that the tables are those of this version, once after each failure."""
        if self._is_ready:
            return
        revision = current_revision(self._database)
        if revision != HEAD:
            raise StoreError(f"{self.name}: its tables are of revision {revision}, expected {HEAD}")
        self._is_ready = True

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def get(self, request_id: str) -> PathResult | None:
        """The result of one request, None when it was never asked."""
        found = self._load(1, [RESULTS.c.id == request_id])
        return found[0] if found else None

    def latest(
        self, limit: int, *, source: str | None = None, destination: str | None = None
    ) -> Sequence[PathResult]:
        """The newest results first, of one source or destination if given."""
        return self.results(ResultFilter(source=source, destination=destination), limit=limit).results

    def results(self, wanted: ResultFilter = _ANY, *, limit: int = 100, after: Cursor | None = None) -> ResultPage:
        """A page of results, newest first.

        Args:
            wanted: which ones.
            limit: at most so many.
            after: `next` of the page before.
        """
        conditions = _conditions(wanted)
        if after is not None:
            conditions += _behind(after)
        found = self._load(limit, conditions)
        last = _cursor(found[-1]) if len(found) == limit else None
        return ResultPage(results=found, next=last)

    def history(
        self, source: str, destination: str, metric: str, start_us: int, end_us: int, resolution: Resolution
    ) -> Sequence[HistoryPoint]:
        """Values of a metric by period, oldest first; a period without values is left out.

        A period is there a few seconds after its end, and again right after results that came late.

        Args:
            source: first point.
            destination: as asked for.
            metric: by name.
            start_us: periods that begin at this time or later, in microseconds since the Unix epoch.
            end_us: and before this one.
            resolution: the length of the periods.
        """
        table = ROLLUPS[resolution]
        query = select(table).where(
            table.c.source == source,
            table.c.destination == destination,
            table.c.metric == metric,
            table.c.start_us >= start_us,
            table.c.start_us < end_us,
        )
        return [HistoryPoint.from_row(row) for row in self._rows(query.order_by(table.c.start_us))]

    def route_events(
        self,
        *,
        source: str | None = None,
        destination: str | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
        limit: int = 100,
    ) -> Sequence[RouteEvent]:
        """Changes of routes, newest first; known about as late as the history of the minute."""
        columns = ROUTE_EVENTS.c
        wanted = _pair(columns.source, columns.destination, source, destination)
        wanted += _between(columns.at_us, start_us, end_us)
        query = select(ROUTE_EVENTS).where(*wanted).order_by(columns.at_us.desc()).limit(limit)
        return [RouteEvent.from_row(row) for row in self._rows(query)]

    def latest_checks(self, limit: int) -> Sequence[ClosureCheck]:
        """The newest closure checks first."""
        newest = select(CLOSURE_CHECKS).order_by(CLOSURE_CHECKS.c.checked_at_us.desc(), CLOSURE_CHECKS.c.id)
        checks = self._rows(newest.limit(limit))
        ids = [check["id"] for check in checks]
        metrics: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows(select(CLOSURE_METRICS).where(CLOSURE_METRICS.c.check_id.in_(ids))):
            metrics[row["check_id"]].append(row)
        return [check_from_rows(check, metrics[check["id"]]) for check in checks]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A transaction for what a subclass asks besides."""
        with self._watched(), self._database.transaction() as connection:
            yield connection

    def _rows(self, query: Select[Any]) -> Sequence[Row]:
        with self._watched():
            return self._database.read(lambda connection: connection.execute(query).mappings().all())

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """After a failure the database may come back empty, or as another one."""
        self.prepare()
        try:
            yield
        except StoreError:
            self._is_ready = False
            raise

    def _load(self, limit: int, wanted: Sequence[ColumnElement[bool]]) -> tuple[PathResult, ...]:
        # Both in the same direction, so that the tables' own order serves and nothing is sorted.
        newest = select(RESULTS).where(*wanted).order_by(RESULTS.c.requested_at_us.desc(), RESULTS.c.id.desc())
        return tuple(result_from_row(row) for row in self._rows(newest.limit(limit)))


def _conditions(wanted: ResultFilter) -> list[ColumnElement[bool]]:
    conditions = _pair(RESULTS.c.source, RESULTS.c.destination, wanted.source, wanted.destination)
    conditions += _between(RESULTS.c.requested_at_us, wanted.start_us, wanted.end_us)
    if wanted.status is not None:
        conditions.append(RESULTS.c.status == str(wanted.status))
    if wanted.metric is not None:
        names = literal(" ") + RESULTS.c.metrics + literal(" ")
        conditions.append(names.contains(f" {wanted.metric} ", autoescape=True))
    return conditions


def _pair(
    source_column: Column[str], destination_column: Column[str], source: str | None, destination: str | None
) -> list[ColumnElement[bool]]:
    pairs = ((source_column, source), (destination_column, destination))
    return [column == value for column, value in pairs if value is not None]


def _between(column: Column[int], start_us: int | None, end_us: int | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if start_us is not None:
        conditions.append(column >= start_us)
    if end_us is not None:
        conditions.append(column < end_us)
    return conditions


def _behind(cursor: Cursor) -> list[ColumnElement[bool]]:
    time_us, identifier = RESULTS.c.requested_at_us, RESULTS.c.id
    older = time_us < cursor.requested_at_us
    # The first condition says nothing new; it lets MariaDB skip the partitions that are newer.
    return [
        time_us <= cursor.requested_at_us,
        or_(older, and_(time_us == cursor.requested_at_us, identifier < cursor.id)),
    ]


def _cursor(result: PathResult) -> Cursor:
    return Cursor(us_from_rfc3339(result.requested_at), result.id)
