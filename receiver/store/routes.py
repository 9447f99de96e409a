"""Events of routes: where the points of a pair's complete results change. Made anew for each minute with news.

A minute says something about itself and about the first complete result after it, since that may now follow
another one; so results may come in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, tuple_, update

from receiver.store.history import RouteEvent
from receiver.store.rollups import Pair
from receiver.store.tables import LATEST_ROUTES, RESULTS, ROUTE_EVENTS

Sighting = tuple[int, str]
"""When a complete result was asked for (microseconds since the Unix epoch), and its points with spaces between."""

_NEVER: Sighting = (0, "")
_PAIRS = 500
"""Looked up at once."""


def changes(pair: Pair, sightings: Iterable[Sighting]) -> list[RouteEvent]:
    """The events among results in the order of time, without how long each old route had stood."""
    events: list[RouteEvent] = []
    before: Sighting | None = None
    for sighting in sightings:
        if before is not None and sighting[0] == before[0]:
            continue  # two at the same microsecond have no order
        if before is not None and sighting[1] != before[1]:
            events.append(_event(pair, sighting[0], before[1], sighting[1]))
        before = sighting
    return events


def with_durations(events: Iterable[RouteEvent], previous_us: int | None) -> list[RouteEvent]:
    """The events, each with the time since the one before it.

    Args:
        events: in the order of time.
        previous_us: of the event before the first, None when there is none.
    """
    timed = []
    for event in events:
        duration_us = None if previous_us is None else event.at_us - previous_us
        timed.append(replace(event, duration_us=duration_us))
        previous_us = event.at_us
    return timed


def keep_routes(connection: Connection, routes: Mapping[Pair, Sequence[Sighting]]) -> None:
    """Put the events of a minute in place of those that were there.

    Args:
        connection: in a transaction.
        routes: all sightings of the minute, by source and destination, in the order of time.
    """
    pairs = iter(routes)
    while some := list(islice(pairs, _PAIRS)):
        latest = _latest(connection, some)
        for pair in some:
            _keep_route(connection, pair, routes[pair], latest.get(pair))
        newest = {pair: routes[pair][-1] for pair in some}
        _keep_latest(connection, {pair: one for pair, one in newest.items() if one > latest.get(pair, _NEVER)})


def _keep_route(
    connection: Connection, pair: Pair, sightings: Sequence[Sighting], latest: Sighting | None
) -> None:
    if latest is not None and latest[0] >= sightings[0][0]:
        _keep_late_route(connection, pair, sightings)
        return
    # As nearly always: nothing newer is known, so nothing has to be corrected.
    known = sightings if latest is None else (latest, *sightings)
    events = changes(pair, known)
    if events:
        _insert(connection, pair, events)


def _keep_late_route(connection: Connection, pair: Pair, sightings: Sequence[Sighting]) -> None:
    before = _neighbor(connection, _before(pair, sightings[0][0]))
    after = _neighbor(connection, _after(pair, sightings[-1][0]))
    known = [one for one in (before, *sightings, after) if one is not None]
    last_us = known[-1][0]
    columns = ROUTE_EVENTS.c
    within = columns.at_us.between(sightings[0][0], last_us)
    connection.execute(delete(ROUTE_EVENTS).where(*_of(pair), within))
    _insert(connection, pair, changes(pair, known))
    next_us = _time(connection, select(func.min(columns.at_us)).where(*_of(pair), columns.at_us > last_us))
    if next_us is not None:
        previous_us = _previous(connection, pair, next_us)
        duration_us = None if previous_us is None else next_us - previous_us
        here = (*_of(pair), columns.at_us == next_us)
        connection.execute(update(ROUTE_EVENTS).where(*here).values(duration_us=duration_us))


def _insert(connection: Connection, pair: Pair, events: Sequence[RouteEvent]) -> None:
    if events:
        timed = with_durations(events, _previous(connection, pair, events[0].at_us))
        connection.execute(insert(ROUTE_EVENTS), [event.to_row() for event in timed])


def _latest(connection: Connection, pairs: Sequence[Pair]) -> dict[Pair, Sighting]:
    columns = LATEST_ROUTES.c
    query = select(columns.source, columns.destination, columns.at_us, columns.points)
    # Locked, so that two who look after the same database do not both think theirs the newest.
    rows = connection.execute(
        query.where(tuple_(columns.source, columns.destination).in_(pairs)).with_for_update()
    )
    return {(source, destination): (at_us, points) for source, destination, at_us, points in rows}


def _keep_latest(connection: Connection, latest: Mapping[Pair, Sighting]) -> None:
    if not latest:
        return
    connection.execute(
        delete(LATEST_ROUTES).where(tuple_(LATEST_ROUTES.c.source, LATEST_ROUTES.c.destination).in_(list(latest)))
    )
    rows = [
        {"source": source, "destination": destination, "at_us": at_us, "points": points}
        for (source, destination), (at_us, points) in latest.items()
    ]
    connection.execute(insert(LATEST_ROUTES), rows)


def _event(pair: Pair, at_us: int, old: str, new: str) -> RouteEvent:
    return RouteEvent(
        source=pair[0],
        destination=pair[1],
        at_us=at_us,
        old_points=tuple(old.split()),
        new_points=tuple(new.split()),
        duration_us=None,
    )


def _sightings(pair: Pair, when: ColumnElement[bool]) -> Select[tuple[int, str]]:
    columns = RESULTS.c
    here = (columns.source == pair[0], columns.destination == pair[1], columns.points.is_not(None))
    return select(columns.requested_at_us, columns.points).where(*here, when)


def _before(pair: Pair, time_us: int) -> Select[tuple[int, str]]:
    columns = RESULTS.c
    query = _sightings(pair, columns.requested_at_us < time_us)
    return query.order_by(columns.requested_at_us.desc(), columns.id.desc()).limit(1)


def _after(pair: Pair, time_us: int) -> Select[tuple[int, str]]:
    columns = RESULTS.c
    query = _sightings(pair, columns.requested_at_us > time_us)
    return query.order_by(columns.requested_at_us, columns.id).limit(1)


def _neighbor(connection: Connection, query: Select[tuple[int, str]]) -> Sighting | None:
    row = connection.execute(query).first()
    return None if row is None else (row[0], row[1])


def _of(pair: Pair) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ROUTE_EVENTS.c.source == pair[0], ROUTE_EVENTS.c.destination == pair[1]


def _previous(connection: Connection, pair: Pair, time_us: int) -> int | None:
    at_us = ROUTE_EVENTS.c.at_us
    return _time(connection, select(func.max(at_us)).where(*_of(pair), at_us < time_us))


def _time(connection: Connection, query: Select[tuple[int | None]]) -> int | None:
    return connection.execute(query).scalar()
