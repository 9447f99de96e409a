"""What has to be done to a store from time to time: roll-ups, events of routes, partitions, and forgetting.

Several points may share a database and each may look after it: what one has done, the others find done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sqlalchemy import Column, Connection, Table, delete, select

from receiver.store import partitions
from receiver.store.database import Database
from receiver.store.history import Resolution
from receiver.store.retention import US_PER_DAY, Retention
from receiver.store.rollups import (
    claim,
    forgotten_up_to,
    keep_hour,
    keep_minute,
    minute_of,
    note_forgotten,
    stale,
)
from receiver.store.routes import keep_routes
from receiver.store.schema_version import upgrade_database
from receiver.store.tables import CLOSURE_CHECKS, HOURS, LATEST_ROUTES, MINUTES, RESULTS, ROUTE_EVENTS

PERIODS = 60
"""Rolled up in one call of `roll_up`: a second's work where a few results come each second."""
ROLLED_ROWS = 5_000
"""Read in one transaction before it ends with the period that it is at."""
PRUNED_ROWS = 5_000
"""Forgotten in one transaction of `prune`, in each table."""


class Upkeep:
    """Looks after one store; for one thread, which may wait long for the database.

    Args:
        url: as for `Database`.
        retention: how long what is kept.
        upgrade: brings the tables to this version.
    """

    def __init__(
        self, url: str, retention: Retention, upgrade: Callable[[Database], None] = upgrade_database
    ) -> None:
        self._database = Database(url)
        self._upgrade = upgrade
        self._retention = retention
        self._stopping = False

    def stop(self) -> None:
        """Let a step that is under way in another thread end with the period that it is at."""
        self._stopping = True

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def step(self, now_us: int) -> bool:
        """A bounded part of all that is to be done; whether it is worth to come back at once.

        Args:
            now_us: microseconds since the Unix epoch.

        Raises:
            StoreError: the database is away or refuses; what was done is done.
        """
        pruned = self.prune(now_us)
        return self.roll_up(now_us) >= PERIODS or pruned

    def roll_up(self, now_us: int) -> int:
        """Roll up periods that are over, the oldest first and at most `PERIODS` of each length; how many.

        Raises:
            StoreError: see `step`, or another program is at the same period.
        """
        self._upgrade(self._database)
        return sum(self._roll_up(resolution, now_us) for resolution in (Resolution.MINUTE, Resolution.HOUR))

    def _roll_up(self, resolution: Resolution, now_us: int) -> int:
        with self._database.transaction() as connection:
            starts = stale(connection, resolution, now_us, PERIODS)
        work = partial(_roll, resolution=resolution, horizon_us=self._horizon_us(now_us))
        done = 0
        while done < len(starts) and not self._stopping:
            done += self._database.write(partial(work, starts=starts[done:]))
        return done

    def _horizon_us(self, now_us: int) -> int:
        """Older results are forgotten."""
        return now_us - self._retention.results_days * US_PER_DAY

    def prune(self, now_us: int) -> bool:
        """Forget a bounded part of what is too old, and make partitions ahead; whether there is more to forget.

        Raises:
            StoreError: see `step`.
        """
        self._upgrade(self._database)
        # First, and for all who look after the store: they may be told to keep results for longer.
        self._database.write(partial(note_forgotten, horizon_us=self._horizon_us(now_us)))
        keep = self._retention
        daily = {RESULTS: keep.results_days, MINUTES: keep.minutes_days}
        rows: dict[Column[int], int] = {
            HOURS.c.start_us: keep.hours_days,
            ROUTE_EVENTS.c.at_us: keep.hours_days,
            LATEST_ROUTES.c.at_us: keep.hours_days,
            CLOSURE_CHECKS.c.checked_at_us: keep.checks_days,
        }
        if self._database.has_partitions:
            self._tend_partitions(daily, now_us)
        else:
            rows |= {RESULTS.c.requested_at_us: keep.results_days, MINUTES.c.start_us: keep.minutes_days}
        more = [self._forget(column, now_us - days * US_PER_DAY) for column, days in rows.items()]
        return any(more)

    def _tend_partitions(self, kept_days: Mapping[Table, int], now_us: int) -> None:
        for table, days in kept_days.items():
            with self._database.transaction(patient=True) as connection:
                partitions.tend(connection, table, now_us, days)

    def _forget(self, column: Column[int], horizon_us: int) -> bool:
        return self._database.write(lambda connection: _forget(connection, column, horizon_us))


def _roll(connection: Connection, *, resolution: Resolution, starts: Sequence[int], horizon_us: int) -> int:
    """Roll up the first of the periods, as many as fit in one transaction; how many."""
    roll = _roll_minute if resolution is Resolution.MINUTE else keep_hour
    # The results of an older period are gone in part, and its roll-up knows more than they do.
    oldest_us = max(horizon_us, forgotten_up_to(connection))
    rows = done = 0
    while done < len(starts) and rows < ROLLED_ROWS:
        start_us = starts[done]
        claim(connection, resolution, start_us)
        if start_us >= oldest_us:
            rows += roll(connection, start_us)
        done += 1
    return done


def _roll_minute(connection: Connection, start_us: int) -> int:
    minute = minute_of(connection, start_us)
    keep_minute(connection, start_us, minute)
    keep_routes(connection, minute.routes)
    return minute.results


def _forget(connection: Connection, column: Column[int], horizon_us: int) -> bool:
    """Delete the oldest rows of the column's table; whether there are more that are too old."""
    # The time up to which so many rows lie: neither database takes a LIMIT everywhere.
    old = select(column).where(column < horizon_us).order_by(column)
    up_to_us = connection.execute(old.offset(PRUNED_ROWS - 1).limit(1)).scalar()
    too_old = column < horizon_us if up_to_us is None else column <= up_to_us
    connection.execute(delete(column.table).where(too_old))
    return up_to_us is not None
