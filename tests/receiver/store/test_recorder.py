from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lab.database import PrivateMariaDB
from receiver.store.recorder import BATCH, DatabaseState, Recorder
from receiver.store.result_rows import Row
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_result
from schemas.closure import ClosureCheck
from schemas.errors import StoreError
from schemas.result import PathResult
from tests.receiver.paths import REQUEST_ID, result, unanswered, usual

SECOND_NS = 1_000_000_000
LONG_AGO_NS = -3600 * SECOND_NS
"""A failure so long ago holds nothing back."""


def numbered(number: int) -> PathResult:
    return result((usual(0),), identifier=f"{number:032x}")


def ids(store: ResultStore) -> set[int]:
    return {int(one.id, 16) for one in store.latest(10_000)}


class CountedStore(ResultStore):
    """Counts how often a result was brought to the database, with or without success."""

    attempts = 0

    def save_rows(self, rows: Sequence[Row], checks: Sequence[ClosureCheck] = ()) -> None:
        self.attempts += 1
        super().save_rows(rows, checks)


class Point:
    """The store, the spool and the recorder of one point."""

    def __init__(self, url: str, spool_path: Path) -> None:
        self.store = CountedStore(url)
        self.spool = Spool(spool_path)
        self.recorder = Recorder(self.store, self.spool)

    def record(self, result: PathResult) -> None:
        """Keep a result, and bring it to the database at once if that is believed up."""
        self.spool.put(document_from_result(result), result.id)
        if self.recorder.state.database is DatabaseState.UP:
            self.recorder.drain(LONG_AGO_NS)

    def close(self) -> None:
        self.recorder.close()


@pytest.fixture
def point(database_url: str, tmp_path: Path) -> Iterator[Point]:
    point = Point(database_url, tmp_path / "spool.db")
    yield point
    point.close()


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Point]:
    """A point whose database is away until the directory `later` exists."""
    point = Point(f"sqlite:///{tmp_path / 'later' / 'results.db'}", tmp_path / "spool.db")
    yield point
    point.close()


def test_a_result_is_in_the_database_when_record_returns(point: Point) -> None:
    point.record(unanswered())
    point.record(result((usual(0),)))
    assert point.store.get(REQUEST_ID) == result((usual(0),))
    state = point.recorder.state
    assert (state.database, state.spool_depth, state.last_error) == (DatabaseState.UP, 0, None)


def test_a_result_waits_in_the_spool_while_the_database_is_away(away: Point) -> None:
    for number in range(3):
        away.record(numbered(number))
    state = away.recorder.state
    assert (state.database, state.spool_depth) == (DatabaseState.AWAY, 3)
    assert state.last_error is not None and state.last_error.endswith("unable to open database file")


def test_what_waits_is_replayed_when_the_database_is_back(away: Point, tmp_path: Path) -> None:
    away.spool.put_all([(document_from_result(numbered(number)), "key") for number in range(BATCH + 5)])
    (tmp_path / "later").mkdir()
    assert away.recorder.drain(0) == BATCH
    assert away.recorder.drain(0) == 5
    assert away.recorder.drain(0) == 0
    assert ids(away.store) == set(range(BATCH + 5))
    assert away.recorder.state.database is DatabaseState.UP
    assert away.recorder.state.last_error is None


def test_attempts_become_rare_while_the_database_stays_away_and_end_with_its_return(
    away: Point, tmp_path: Path
) -> None:
    away.record(numbered(1))
    attempts_s = []
    for now_s in range(200):
        before = away.store.attempts
        away.recorder.drain(now_s * SECOND_NS)
        attempts_s += [now_s] * (away.store.attempts - before)
    assert attempts_s == [0, 2, 6, 14, 30, 62, 122, 182]
    (tmp_path / "later").mkdir()
    assert away.recorder.drain(241 * SECOND_NS) == 0
    assert away.recorder.drain(242 * SECOND_NS) == 1
    away.record(numbered(2))
    assert ids(away.store) == {1, 2}


def test_results_stay_in_order_so_that_an_answer_follows_its_request(away: Point, tmp_path: Path) -> None:
    away.record(unanswered())
    away.record(result((usual(0), usual(1))))
    (tmp_path / "later").mkdir()
    away.recorder.drain(0)
    assert list(away.store.latest(9)) == [result((usual(0), usual(1)))]


def test_a_crash_between_commit_and_removal_stores_nothing_twice(point: Point, database_url: str) -> None:
    point.spool.put(numbered(1).to_json(), "1")
    point.store.save(numbered(1))  # committed; the crash came before the entry was removed
    point.recorder.drain(0)
    assert list(point.store.latest(9)) == [numbered(1)]
    assert point.spool.depth == 0


def test_what_no_database_takes_does_not_hold_up_the_rest(point: Point) -> None:
    too_long = replace(numbered(1), source="an address that is longer than its column, which MariaDB refuses")
    unreadable = {**numbered(2).to_json(), "status": "unheard of"}
    without_unit = numbered(3).to_json()
    without_unit["composed"]["delay"]["unit"] = None
    for document in (too_long.to_json(), unreadable, without_unit, numbered(4).to_json()):
        point.spool.put(document, "key")
    point.recorder.drain(0)
    state = point.recorder.state
    assert {3, 4} & ids(point.store) == {4}
    assert state.spool_depth == 0
    assert state.refused >= 2
    assert state.database is DatabaseState.UP


def test_a_spool_that_refuses_is_an_error_of_record(point: Point) -> None:
    point.spool.close()
    with pytest.raises(StoreError, match="^spool "):
        point.record(numbered(1))


@pytest.mark.database
def test_a_killed_server_costs_no_result_and_gives_none_twice(mariadb: PrivateMariaDB, tmp_path: Path) -> None:
    point = Point(mariadb.url, tmp_path / "spool.db")
    numbers = [7_000_000 + number for number in range(30)]
    try:
        for number in numbers[:10]:
            point.record(numbered(number))
        mariadb.kill()
        with pytest.raises(StoreError) as caught:
            point.store.get(REQUEST_ID)
        assert "\n" not in str(caught.value) and "***" in str(caught.value)
        for number in numbers[10:]:
            point.record(numbered(number))
        assert (point.recorder.state.database, point.spool.depth) == (DatabaseState.AWAY, 20)
        assert point.recorder.drain(0) == 0
        mariadb.start()
        assert point.recorder.drain(SECOND_NS) == 0  # too early after the last failure
        assert point.recorder.drain(3 * SECOND_NS) == 20
        stored = [int(one.id, 16) for one in point.store.latest(10_000)]
        assert sorted(number for number in stored if number >= numbers[0]) == numbers
        assert (point.recorder.state.database, point.spool.depth) == (DatabaseState.UP, 0)
    finally:
        mariadb.restart()
        point.close()
