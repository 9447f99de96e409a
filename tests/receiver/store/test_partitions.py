from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from receiver.store.partitions import AHEAD_DAYS, MAX_CHANGES, Plan, plan
from receiver.store.result_store import ResultStore
from receiver.store.retention import US_PER_DAY, Retention
from receiver.store.upkeep import Upkeep
from schemas.errors import ConfigurationError
from schemas.rfc3339 import us_from_rfc3339
from tests.receiver.paths import result, usual

TODAY = 20_000
NOW_US = TODAY * US_PER_DAY + 12_345
EXISTING = tuple(range(TODAY - 9, TODAY + AHEAD_DAYS + 2))


def partitions(url: str, table: str) -> list[str]:
    engine = create_engine(url)
    query = "SELECT PARTITION_NAME FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = DATABASE()"
    with engine.connect() as connection:
        names = connection.execute(text(f"{query} AND TABLE_NAME = '{table}' ORDER BY PARTITION_ORDINAL_POSITION"))
        found = list(names.scalars())
    engine.dispose()
    return found


def test_a_new_table_gets_today_and_some_days_ahead() -> None:
    assert plan((), NOW_US, 5) == Plan(make=tuple(range(TODAY + 1, TODAY + AHEAD_DAYS + 2)), drop=())


def test_nothing_is_to_be_done_twice_a_day() -> None:
    assert plan(EXISTING, NOW_US, 10) == Plan((), ())


def test_a_day_later_one_comes_and_one_goes() -> None:
    later_us = NOW_US + US_PER_DAY
    assert plan(EXISTING, later_us, 10) == Plan(make=(TODAY + AHEAD_DAYS + 2,), drop=(TODAY - 9,))


def test_after_a_long_rest_no_days_are_made_only_to_be_dropped() -> None:
    wanted = plan(EXISTING, NOW_US + 1_000 * US_PER_DAY, 10)
    assert wanted.make == tuple(range(TODAY + 991, TODAY + 1_000 + AHEAD_DAYS + 2))
    assert wanted.drop == EXISTING


def test_one_call_changes_only_so_many() -> None:
    wanted = plan((TODAY - 300,), NOW_US, 1_000)
    assert len(wanted.make) == MAX_CHANGES


@pytest.mark.database
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_a_day_of_results_goes_with_its_partition(database_url: str) -> None:
    store = ResultStore(database_url)
    store.save(result((usual(0),), identifier="1" * 32, requested_at="2026-03-01T12:00:00.000000Z"))
    store.save(result((usual(0),), identifier="2" * 32, requested_at="2026-03-09T12:00:00.000000Z"))
    upkeep = Upkeep(database_url, Retention(results_days=7, minutes_days=8))
    day_us = us_from_rfc3339("2026-03-02T01:00:00Z")
    for day in range(9):
        upkeep.prune(day_us + day * US_PER_DAY)
        assert partitions(database_url, "results")[-1] == "later"
    assert [one.id for one in store.latest(9)] == ["2" * 32]
    assert partitions(database_url, "results")[0] == f"d{day_us // US_PER_DAY + 2}"
    assert partitions(database_url, "minutes")[0] == f"d{day_us // US_PER_DAY + 1}"
    upkeep.close()
    store.close()


def test_roll_ups_are_kept_at_least_as_long_as_what_they_are_made_of() -> None:
    with pytest.raises(ConfigurationError, match="minutes_days: got 6"):
        Retention(results_days=7, minutes_days=6)
    with pytest.raises(ConfigurationError, match="hours_days: got 6"):
        Retention(results_days=5, minutes_days=7, hours_days=6)
