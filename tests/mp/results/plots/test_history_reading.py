from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mp.results.plots import history_reading
from mp.results.plots.history_reading import HistoryQuery, read_history
from mp.results.plots.path_history import Grain
from mp.results.stored_results import StoredResults
from receiver.store.history import Resolution
from receiver.store.result_store import ResultStore
from receiver.store.retention import Retention
from receiver.store.upkeep import Upkeep
from schemas.result import PathResult, ResultStatus
from tests.mp.results.stored_paths import (
    DESTINATION,
    HOUR_US,
    MINUTE_US,
    NOW_US,
    SECOND_US,
    SOURCE,
    answer,
    failed,
    store_all,
)
from tests.receiver import conftest as databases

database_url = databases.database_url
mariadb_url = databases.mariadb_url
mariadb = databases.mariadb

RETENTION = Retention(results_days=365, minutes_days=365, hours_days=365)
QUERY = HistoryQuery(
    source=SOURCE, destination=DESTINATION, metric="delay", start_us=NOW_US - 3 * HOUR_US, end_us=NOW_US
)
EVERY_TEN_MINUTES = [
    answer(number, NOW_US - (number + 1) * 10 * MINUTE_US, delay_ms=5.0 + number, lost=number)
    for number in range(15)
]


@pytest.fixture
def stored(database_url: str) -> Iterator[StoredResults]:
    store_all(database_url, [])
    reader = ResultStore(database_url)
    reader.prepare()
    reader.close()
    found = StoredResults(database_url)
    yield found
    found.close()


def roll_up(url: str) -> None:
    upkeep = Upkeep(url, RETENTION)
    while upkeep.roll_up(NOW_US + HOUR_US):
        pass
    upkeep.close()


def over_another_point(result: PathResult) -> PathResult:
    """The same values over another middle point."""
    first, last = result.segments
    return replace(result, segments=(replace(first, current="10.0.0.9"), replace(last, upstream="10.0.0.9")))


def test_few_answers_are_read_each_oldest_first(stored: StoredResults, database_url: str) -> None:
    store_all(database_url, [*EVERY_TEN_MINUTES, failed(99, NOW_US - SECOND_US)])
    roll_up(database_url)
    found = read_history(stored, QUERY)
    assert found is not None
    assert found.grain is Grain.ANSWER
    assert found.unit == "ms"
    assert [one.value for one in found.samples] == [*(3 * (5.0 + n) for n in reversed(range(15))), None]
    assert [one.value for one in found.losses][:2] == [pytest.approx(14 / 600), pytest.approx(13 / 600)]


def test_answers_that_are_awaited_are_not_read(stored: StoredResults, database_url: str) -> None:
    pending = replace(failed(99, NOW_US - SECOND_US), status=ResultStatus.PENDING, elapsed_ms=None)
    store_all(database_url, [*EVERY_TEN_MINUTES, pending])
    found = read_history(stored, QUERY)
    assert found is not None and len(found.samples) == 15


def test_many_answers_are_read_rolled_up(
    stored: StoredResults, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_reading, "MAX_ANSWERS", 10)
    store_all(database_url, EVERY_TEN_MINUTES)
    roll_up(database_url)
    by_minute = read_history(stored, QUERY)
    assert by_minute is not None
    assert by_minute.grain is Grain.MINUTE
    assert len(by_minute.samples) == len(by_minute.losses) == 15
    assert by_minute.samples[-1].value == pytest.approx(15.0)
    by_hour = read_history(stored, replace(QUERY, start_us=NOW_US - 30 * HOUR_US))
    assert by_hour is not None
    assert by_hour.grain is Grain.HOUR
    assert [one.start_us for one in by_hour.samples] == [NOW_US - hours * HOUR_US for hours in (3, 2, 1)]
    assert by_hour.losses[0].duration_us == Resolution.HOUR.duration_us


def test_what_is_left_of_answers_that_are_forgotten_is_read(stored: StoredResults, database_url: str) -> None:
    store_all(database_url, EVERY_TEN_MINUTES)
    roll_up(database_url)
    upkeep = Upkeep(database_url, replace(RETENTION, results_days=1))
    now_us = NOW_US + 30 * HOUR_US
    while upkeep.prune(now_us):
        pass
    upkeep.close()
    found = read_history(stored, QUERY)
    assert found is not None
    assert len(found.samples) == 15


def test_many_answers_that_nobody_rolled_up_are_cut(
    stored: StoredResults, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_reading, "MAX_ANSWERS", 10)
    store_all(database_url, EVERY_TEN_MINUTES)
    found = read_history(stored, QUERY)
    assert found is not None
    assert found.is_cut
    assert [one.value for one in found.samples] == [3 * (5.0 + n) for n in reversed(range(10))]


def test_changes_of_the_route_come_in_their_order(stored: StoredResults, database_url: str) -> None:
    changed = [over_another_point(one) if 3 < number < 8 else one for number, one in enumerate(EVERY_TEN_MINUTES)]
    store_all(database_url, changed)
    roll_up(database_url)
    found = read_history(stored, QUERY)
    assert found is not None
    assert [event.at_us for event in found.routes] == [NOW_US - 80 * MINUTE_US, NOW_US - 40 * MINUTE_US]
    assert found.routes[0].new_points == ("10.0.0.1", "10.0.0.9", "10.0.0.3")


def test_nothing_stored_is_no_history(stored: StoredResults, database_url: str) -> None:
    assert read_history(stored, QUERY) is None
    store_all(database_url, [failed(1, NOW_US - SECOND_US)])
    assert read_history(stored, QUERY) is None


def test_the_unit_of_a_plug_in_is_told_by_an_answer(stored: StoredResults, database_url: str) -> None:
    noise = replace(EVERY_TEN_MINUTES[0].composed["delay"], unit="dB")
    store_all(database_url, [replace(EVERY_TEN_MINUTES[0], metrics=("noise",), composed={"noise": noise})])
    found = read_history(stored, replace(QUERY, metric="noise"))
    assert found is not None
    assert found.unit == "dB"
    assert [one.value for one in found.losses] == [None]
