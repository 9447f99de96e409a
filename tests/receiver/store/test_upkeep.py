from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from sqlalchemy import Connection, Delete, Executable, delete, event, select, text

from receiver.store.database import Database
from receiver.store.history import HistoryPoint, Resolution, ResultFilter, RouteEvent
from receiver.store.result_reader import ResultReader
from receiver.store.result_store import ResultStore
from receiver.store.retention import US_PER_DAY, Retention
from receiver.store.rollups import GRACE_US, claim
from receiver.store.schema_version import downgrade
from receiver.store.tables import RESULTS, STALE_PERIODS
from receiver.store.upkeep import Upkeep
from schemas.errors import StoreError
from schemas.result import PathResult, ResultStatus
from schemas.rfc3339 import rfc3339_from_us, us_from_rfc3339
from tests.receiver.paths import pending, point, result, unanswered, usual

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
NOON_US = us_from_rfc3339("2026-01-01T12:00:00Z")
LATER_US = NOON_US + 3 * HOUR_US
PAIR = (point(0), "10.9.9.9")
SHORT = (usual(0), usual(1))
LONG = (usual(0), usual(1), usual(2))


class Store:
    """A store and who looks after it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.results = ResultStore(url)
        self.upkeep = Upkeep(url, Retention())

    def history(self, resolution: Resolution = Resolution.MINUTE, metric: str = "delay") -> Sequence[HistoryPoint]:
        return self.results.history(*PAIR, metric, 0, LATER_US, resolution)

    def events(self) -> list[RouteEvent]:
        return list(reversed(self.results.route_events(source=PAIR[0], destination=PAIR[1])))

    def close(self) -> None:
        self.results.close()
        self.upkeep.close()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    yield store
    store.close()


def at(offset_us: int, number: int, *, delay_ms: float = 10.0, over: Sequence[object] = SHORT) -> PathResult:
    """Result `number`, this long after noon, with this delay of the whole path."""
    whole = result(over, identifier=f"{number:032x}", requested_at=rfc3339_from_us(NOON_US + offset_us))  # type: ignore[arg-type]
    return replace(whole, composed={"delay": replace(whole.composed["delay"], value=delay_ms)})


def test_the_results_of_a_minute_become_one_point_when_it_is_over(store: Store) -> None:
    store.results.save_all([at(number, number, delay_ms=1.0 + number) for number in range(100)])
    assert store.upkeep.roll_up(NOON_US + MINUTE_US + GRACE_US - 1) == 0
    assert store.history() == []
    assert store.upkeep.roll_up(NOON_US + MINUTE_US + GRACE_US) == 1
    (minute,) = store.history()
    assert (minute.start_us, minute.count, minute.minimum, minute.maximum) == (NOON_US, 100, 1.0, 100.0)
    assert math.isclose(minute.mean, 50.5)
    assert [round(minute.p50), round(minute.p95), round(minute.p99)] == [
        pytest.approx(exact, rel=1 / 50) for exact in (50, 95, 99)
    ]


def test_an_hour_is_the_sum_of_its_minutes(store: Store) -> None:
    offsets = (0, MINUTE_US, 59 * MINUTE_US, HOUR_US)
    store.results.save_all([at(offset, number, delay_ms=2.0 + number) for number, offset in enumerate(offsets)])
    store.upkeep.roll_up(LATER_US)
    hours = store.history(Resolution.HOUR)
    assert [(hour.start_us - NOON_US, hour.count, hour.minimum, hour.maximum) for hour in hours] == [
        (0, 3, 2.0, 4.0),
        (HOUR_US, 1, 5.0, 5.0),
    ]
    assert hours[0].mean == 3.0
    assert (hours[1].p50, hours[1].p99) == (5.0, 5.0)


def test_what_comes_late_or_twice_is_in_its_minute_and_hour_once(store: Store) -> None:
    store.results.save(at(0, 1, delay_ms=4.0))
    store.upkeep.roll_up(LATER_US)
    before = (store.history(), store.history(Resolution.HOUR))
    store.results.save(at(0, 1, delay_ms=4.0))
    assert store.upkeep.roll_up(LATER_US) == 2
    assert (store.history(), store.history(Resolution.HOUR)) == before
    store.results.save(at(1, 2, delay_ms=8.0))
    store.upkeep.roll_up(LATER_US)
    for resolution in Resolution:
        (period,) = store.history(resolution)
        assert (period.count, period.mean) == (2, 6.0)
    assert store.upkeep.roll_up(LATER_US) == 0


def test_an_answer_without_a_value_makes_no_point_and_its_completion_does(store: Store) -> None:
    asked = unanswered(f"{1:032x}")
    partial = replace(result((usual(0), pending(1)), identifier=asked.id), requested_at=asked.requested_at)
    store.results.save_all([asked, partial])
    store.upkeep.roll_up(LATER_US)
    assert store.history() == []
    store.results.save(replace(result(SHORT, identifier=asked.id), requested_at=asked.requested_at))
    store.upkeep.roll_up(LATER_US)
    assert [minute.count for minute in store.history()] == [1]


def test_a_roll_up_that_broke_off_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.results.save_all([at(0, 1), at(MINUTE_US, 2)])

    def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("receiver.store.upkeep.keep_routes", crash)
        with pytest.raises(KeyboardInterrupt):
            store.upkeep.roll_up(LATER_US)
    assert store.history() == []
    store.upkeep.roll_up(LATER_US)
    assert [minute.count for minute in store.history()] == [1, 1]


@pytest.mark.database
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_who_comes_second_to_a_period_leaves_it_to_the_first(store: Store, database_url: str) -> None:
    store.results.save(at(0, 1))
    database = Database(database_url)
    with database.transaction() as connection:
        (mark,) = connection.execute(select(STALE_PERIODS)).all()

    def execute(connection: Connection, statement: Executable, *_rest: object) -> None:
        if isinstance(statement, Delete):  # between the first look of the second and its claim
            with database.transaction(writes=True) as first:
                first.execute(STALE_PERIODS.delete().where(STALE_PERIODS.c.id == mark.id))

    with database.transaction() as connection:
        event.listen(connection, "before_execute", execute)
        with pytest.raises(StoreError, match="another program rolls it up"):
            claim(connection, Resolution.MINUTE, NOON_US)
    assert store.upkeep.roll_up(LATER_US) == 0
    database.close()


ROUTED = [at(0, 1), at(5 * MINUTE_US, 2, over=LONG), at(9 * MINUTE_US, 3, over=LONG), at(20 * MINUTE_US, 4)]
SHORT_POINTS = tuple(point(index) for index in range(3))
LONG_POINTS = tuple(point(index) for index in range(4))
EVENTS = [
    RouteEvent(
        source=PAIR[0],
        destination=PAIR[1],
        at_us=NOON_US + 5 * MINUTE_US,
        old_points=SHORT_POINTS,
        new_points=LONG_POINTS,
        duration_us=None,
    ),
    RouteEvent(
        source=PAIR[0],
        destination=PAIR[1],
        at_us=NOON_US + 20 * MINUTE_US,
        old_points=LONG_POINTS,
        new_points=SHORT_POINTS,
        duration_us=15 * MINUTE_US,
    ),
]


def test_a_route_that_changes_is_an_event_with_how_long_the_old_one_stood(store: Store) -> None:
    store.results.save_all(ROUTED)
    store.upkeep.roll_up(LATER_US)
    assert store.events() == EVENTS
    assert list(store.results.route_events(destination="10.0.0.77")) == []
    assert list(store.results.route_events(limit=1)) == [EVENTS[1]]
    assert list(store.results.route_events(start_us=0, end_us=EVENTS[1].at_us)) == [EVENTS[0]]


def test_events_do_not_depend_on_the_order_in_which_results_come(store: Store) -> None:
    for order in permutations(ROUTED):
        for one in order:
            store.results.save(one)
            store.upkeep.roll_up(LATER_US)
        store.results.save_all(order)  # and once more
        store.upkeep.roll_up(LATER_US)
        assert store.events() == EVENTS, [one.id[-1] for one in order]
        empty(store.url)


def test_a_result_between_two_moves_the_event_that_it_makes_untrue(store: Store) -> None:
    store.results.save_all([ROUTED[0], ROUTED[2], ROUTED[3]])
    store.upkeep.roll_up(LATER_US)
    assert [event.at_us for event in store.events()] == [ROUTED_US[2], ROUTED_US[3]]
    assert store.events()[1].duration_us == 11 * MINUTE_US
    store.results.save(ROUTED[1])
    store.upkeep.roll_up(LATER_US)
    assert store.events() == EVENTS


ROUTED_US = [us_from_rfc3339(one.requested_at) for one in ROUTED]


def test_an_incomplete_result_says_nothing_of_the_route(store: Store) -> None:
    cut = replace(at(7 * MINUTE_US, 9, over=(usual(0),)), status=ResultStatus.PARTIAL)
    store.results.save_all([*ROUTED, cut])
    store.upkeep.roll_up(LATER_US)
    assert store.events() == EVENTS


def test_each_kind_is_forgotten_in_its_own_time(database_url: str) -> None:
    downgrade(database_url, "base")  # partitions of other tests go too
    store = Store(database_url)
    store.upkeep = Upkeep(database_url, Retention(results_days=2, minutes_days=4, hours_days=6))
    store.results.save_all(ROUTED)
    store.upkeep.step(LATER_US)
    kept = []
    for day in range(1, 12):
        while store.upkeep.step(LATER_US + day * US_PER_DAY):
            pass
        found = (store.results.latest(1), store.history(), store.history(Resolution.HOUR), store.events())
        kept.append("".join(name for name, rows in zip("rmhe", found, strict=True) if rows))
    assert kept[0] == "rmhe"
    assert list(dict.fromkeys(kept)) == ["rmhe", "mhe", "he", ""]
    store.close()


def test_a_result_older_than_all_others_leaves_the_roll_ups_of_its_time_alone(store: Store) -> None:
    store.results.save_all([at(0, 1), at(1, 2)])
    store.upkeep.roll_up(LATER_US)
    much_later_us = LATER_US + 40 * US_PER_DAY
    store.results.save(at(2, 3))
    store.upkeep.roll_up(much_later_us)
    assert [minute.count for minute in store.history()] == [2]
    assert store.upkeep.roll_up(much_later_us) == 0


def test_a_result_that_comes_after_others_of_its_time_were_pruned_leaves_their_roll_ups_alone(
    store: Store,
) -> None:
    store.results.save_all([*ROUTED, at(1, 80), at(2, 81)])
    later_us = LATER_US + 2 * US_PER_DAY
    store.upkeep.step(later_us)
    before = (store.history(), store.history(Resolution.HOUR), store.events())
    pruner = Upkeep(store.url, Retention(results_days=1))
    pruner.prune(later_us)
    pruner.close()
    forget_results(store.url)  # on MariaDB they go with their day, and the first one is long
    store.results.save(at(3, 82, delay_ms=99.0))
    while store.upkeep.step(later_us):
        pass
    assert (store.history(), store.history(Resolution.HOUR), store.events()) == before


def forget_results(url: str) -> None:
    database = Database(url)
    database.write(lambda connection: connection.execute(delete(RESULTS)))
    database.close()


def test_results_come_page_by_page_and_each_once(store: Store) -> None:
    store.results.save_all([at(number // 3, number) for number in range(50)])
    seen: list[str] = []
    page = store.results.results(limit=7)
    while page.next is not None:
        seen += [one.id for one in page.results]
        store.results.save(at(HOUR_US + len(seen), 1000 + len(seen)))  # newer than the page
        page = store.results.results(limit=7, after=page.next)
    seen += [one.id for one in page.results]
    assert seen == [f"{number:032x}" for number in reversed(range(50))]


def test_results_are_found_by_pair_time_metric_and_status(store: Store) -> None:
    other = replace(at(5, 2), destination="10.9.9.8", metrics=("loss", "rtt"))
    cut = replace(at(9, 3), status=ResultStatus.PARTIAL, metrics=("delay",))
    whole = at(1, 1)
    store.results.save_all([whole, other, cut])

    def found(**wanted: object) -> list[int]:
        page = store.results.results(ResultFilter(**wanted))  # type: ignore[arg-type]
        return [int(one.id, 16) for one in page.results]

    assert found() == [3, 2, 1]
    assert found(destination="10.9.9.8") == [2]
    assert found(source=PAIR[0], destination=PAIR[1]) == [3, 1]
    assert found(metric="delay") == [3, 1]
    assert found(metric="rtt") == [2, 1]
    assert found(metric="del") == found(metric="%") == []
    assert found(status=ResultStatus.PARTIAL) == [3]
    assert found(start_us=NOON_US + 1, end_us=NOON_US + 9) == [2, 1]


def test_a_reader_sees_what_the_store_has_and_makes_no_tables(database_url: str) -> None:
    database = Database(database_url)
    with database.transaction(writes=True) as connection:
        connection.execute(text("SELECT 1"))
    database.close()
    store = Store(database_url)
    reader = ResultReader(database_url)
    if database_url.startswith("sqlite"):
        with pytest.raises(StoreError, match=r"its tables are of revision None, expected"):
            reader.latest(1)
    store.results.save_all(ROUTED)
    store.upkeep.roll_up(LATER_US)
    assert reader.latest(9) == store.results.latest(9)
    assert reader.get(ROUTED[0].id) == ROUTED[0]
    assert list(reader.route_events()) == list(reversed(EVENTS))
    assert len(reader.history(*PAIR, "delay", 0, LATER_US, Resolution.HOUR)) == 1
    reader.close()
    store.close()


def empty(url: str) -> None:
    database = Database(url)
    with database.transaction(writes=True) as connection:
        for table in ("results", "minutes", "hours", "route_events", "latest_routes", "stale_periods"):
            connection.execute(text(f"DELETE FROM {table}"))
    database.close()
