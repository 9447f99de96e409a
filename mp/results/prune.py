"""Forget stored results that are older than somebody wants to keep them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from mp.results.stored_results import StoredResults
from receiver.store.database import Database
from receiver.store.retention import US_PER_DAY, Retention
from receiver.store.tables import RESULTS
from receiver.store.upkeep import PRUNED_ROWS, Upkeep

_EVER_DAYS = 1_000_000
"""What is kept so long is not touched."""


def retention_of(days: int, *, with_history: bool) -> Retention:
    """What keeps results for so many days, and roll-ups, events of routes and checks as long or for ever."""
    others = days if with_history else _EVER_DAYS
    return Retention(results_days=days, minutes_days=others, hours_days=others, checks_days=others)


def prune_results(url: str, results: StoredResults, retention: Retention, usual: Retention, now_us: int) -> int:
    """Forget what is older than the retention says, after rolling up what is not rolled up yet; how many results.

    Args:
        url: of the store.
        results: of the same store.
        retention: of `retention_of`.
        usual: what the store is otherwise looked after with.
        now_us: microseconds since the Unix epoch.

    Raises:
        StoreError: the database is away or refuses; what was done is done.
    """
    horizon_us = now_us - retention.results_days * US_PER_DAY
    before = results.count_before(horizon_us)
    _roll_up(url, usual, now_us)
    _prune(url, retention, now_us)
    # MariaDB drops days when they are over; so much of one may be left.
    _forget_rest(url, horizon_us)
    return max(0, before - results.count_before(horizon_us))


def _roll_up(url: str, usual: Retention, now_us: int) -> None:
    """Otherwise the history would never know of results that nobody has rolled up."""
    upkeep = Upkeep(url, usual)
    try:
        while upkeep.roll_up(now_us):
            pass
    finally:
        upkeep.close()


def _prune(url: str, retention: Retention, now_us: int) -> None:
    upkeep = Upkeep(url, retention)
    try:
        while upkeep.prune(now_us):
            pass
    finally:
        upkeep.close()


def _forget_rest(url: str, horizon_us: int) -> None:
    database = Database(url)
    try:
        while database.write(lambda connection: _forget_some(connection, horizon_us)):
            pass
    finally:
        database.close()


def _forget_some(connection: Connection, horizon_us: int) -> bool:
    """Delete the oldest results; whether there are more that are too old."""
    times = RESULTS.c.requested_at_us
    old = select(times).where(times < horizon_us).order_by(times)
    up_to_us = connection.execute(old.offset(PRUNED_ROWS - 1).limit(1)).scalar()
    connection.execute(delete(RESULTS).where(times < horizon_us if up_to_us is None else times <= up_to_us))
    return up_to_us is not None
