"""Makes roll-ups from results, and those of hours from those of minutes: always a whole period anew.

So it does not matter in which order results come, how often, or where a transaction broke off. Which periods are
to be done says `stale_periods`: each transaction that brings results leaves a row there for each of their minutes,
and the transaction that rolls a period up takes away the rows that it saw. A row that it did not see stays for the
next time; a row that somebody else took away ends it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Table, delete, func, insert, select

from receiver.store.history import Resolution
from receiver.store.rollup import Rollup
from receiver.store.tables import HOURS, MINUTES, RESULTS, STALE_PERIODS
from schemas.errors import StoreError

GRACE_US = 10_000_000
"""A period is rolled up this long after its end: twice as long as most requests live."""
FORGOTTEN = "forgotten"
"""In place of a resolution: no period is made anew that begins before `start_us`."""
_FETCHED_ROWS = 1_000

Pair = tuple[str, str]
"""Source and destination."""
Key = tuple[str, str, str]
"""Source, destination, metric."""


@dataclass(slots=True)
class Minute:
    """What the results of one minute say."""

    results: int = 0
    values: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    routes: dict[Pair, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """When (microseconds since the Unix epoch) and over which points, in the order of time."""


def stale(connection: Connection, resolution: Resolution, now_us: int, limit: int) -> Sequence[int]:
    """Where periods begin that are over and not rolled up, the oldest first."""
    columns = STALE_PERIODS.c
    last_us = now_us - GRACE_US - resolution.duration_us
    wanted = (columns.resolution == str(resolution), columns.start_us <= last_us)
    starts = select(columns.start_us).where(*wanted).distinct().order_by(columns.start_us).limit(limit)
    return connection.execute(starts).scalars().all()


def claim(connection: Connection, resolution: Resolution, start_us: int) -> None:
    """Take away what says that the period is stale; first in a transaction, before the period is looked at.

    Raises:
        StoreError: somebody else is at it.
    """
    columns = STALE_PERIODS.c
    seen = select(columns.id).where(columns.resolution == str(resolution), columns.start_us == start_us)
    ids = connection.execute(seen).scalars().all()
    if connection.execute(delete(STALE_PERIODS).where(columns.id.in_(ids))).rowcount != len(ids):
        raise StoreError(f"{resolution} {start_us}: another program rolls it up")


def note_forgotten(connection: Connection, horizon_us: int) -> None:
    """Keep in mind that results before this time are gone in part; in whole hours, so that it is seldom news."""
    hour = Resolution.HOUR
    up_to_us = hour.start_us(horizon_us + hour.duration_us - 1)
    if up_to_us > forgotten_up_to(connection):
        connection.execute(delete(STALE_PERIODS).where(STALE_PERIODS.c.resolution == FORGOTTEN))
        connection.execute(insert(STALE_PERIODS), {"resolution": FORGOTTEN, "start_us": up_to_us})


def forgotten_up_to(connection: Connection) -> int:
    """Before this time roll-ups know more than the results that are left; 0 when nothing was forgotten yet."""
    noted = select(func.max(STALE_PERIODS.c.start_us)).where(STALE_PERIODS.c.resolution == FORGOTTEN)
    return connection.execute(noted).scalar() or 0


def minute_of(connection: Connection, start_us: int) -> Minute:
    """The results of a minute, read piece by piece: there may be hundreds of thousands."""
    columns = (
        RESULTS.c.source,
        RESULTS.c.destination,
        RESULTS.c.requested_at_us,
        RESULTS.c.points,
        RESULTS.c.composed,
    )
    end_us = start_us + Resolution.MINUTE.duration_us
    query = select(*columns).where(RESULTS.c.requested_at_us >= start_us, RESULTS.c.requested_at_us < end_us)
    minute = Minute()
    ordered = query.order_by(RESULTS.c.requested_at_us, RESULTS.c.id)
    for row in connection.execute(ordered, execution_options={"yield_per": _FETCHED_ROWS}):
        source, destination, at_us, points, composed = row
        minute.results += 1
        if points is not None:
            minute.routes[source, destination].append((at_us, points))
        for metric, document in json.loads(composed).items():
            if document["value"] is not None:
                minute.values[source, destination, metric].append(document["value"])
    return minute


def keep_minute(connection: Connection, start_us: int, minute: Minute) -> None:
    """Put the roll-ups of a minute in place of those that were there; their hour is stale then."""
    _replace(connection, MINUTES, start_us, {key: Rollup.of(values) for key, values in minute.values.items()})
    hour = Resolution.HOUR
    connection.execute(insert(STALE_PERIODS), {"resolution": str(hour), "start_us": hour.start_us(start_us)})


def keep_hour(connection: Connection, start_us: int) -> int:
    """Put the sums of an hour's minutes in place of the roll-ups that were there; from how many."""
    end_us = start_us + Resolution.HOUR.duration_us
    parts: dict[Key, list[Rollup]] = defaultdict(list)
    minutes = select(MINUTES).where(MINUTES.c.start_us >= start_us, MINUTES.c.start_us < end_us)
    for row in connection.execute(minutes).mappings():
        parts[row["source"], row["destination"], row["metric"]].append(Rollup.from_row(row))
    _replace(connection, HOURS, start_us, {key: Rollup.sum_of(rollups) for key, rollups in parts.items()})
    return sum(map(len, parts.values()))


def _replace(connection: Connection, table: Table, start_us: int, rollups: Mapping[Key, Rollup]) -> None:
    connection.execute(delete(table).where(table.c.start_us == start_us))
    rows = list(_rows(start_us, rollups.items()))
    if rows:
        connection.execute(insert(table), rows)


def _rows(start_us: int, rollups: Iterable[tuple[Key, Rollup]]) -> Iterable[Mapping[str, object]]:
    for (source, destination, metric), rollup in rollups:
        whose = {"source": source, "destination": destination, "metric": metric, "start_us": start_us}
        yield {**whose, **rollup.to_row()}
