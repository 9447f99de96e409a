from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from sqlalchemy import create_engine, text

from receiver.store.result_rows import result_from_row, row_from_result
from receiver.store.result_store import ResultStore
from receiver.store.schema_version import downgrade
from schemas.errors import MessageError, StoreError
from schemas.message import Message
from schemas.result import PathResult, ResultStatus
from tests.messages import messages
from tests.receiver.paths import ALL, REQUEST_ID, composed, lacking, pending, result, unanswered, usual

COMPLETE = result((usual(0), usual(1), usual(2)))
PARTIAL = result((usual(0), pending(1), lacking(2, "jitter", "loss")))


@pytest.fixture
def store(database_url: str) -> Iterator[ResultStore]:
    store = ResultStore(database_url)
    yield store
    store.close()


def count_rows(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        count: int = connection.execute(text("SELECT COUNT(*) FROM results")).scalar_one()
    engine.dispose()
    return count


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param(COMPLETE, id="complete"),
        pytest.param(PARTIAL, id="partial"),
        pytest.param(unanswered(), id="pending"),
        pytest.param(unanswered(status=ResultStatus.FAILED), id="failed"),
        pytest.param(result(()), id="empty"),
        pytest.param(result([usual(index % 200) for index in range(255)]), id="255 segments"),
        pytest.param(
            replace(COMPLETE, metrics=tuple(f"plug-in-{'x' * 22}{n:02d}" for n in range(32))), id="32 metrics"
        ),
        pytest.param(replace(COMPLETE, warnings=("Zürich → 東京 is 'far' \\ 🛰",)), id="any text"),
    ],
)
def test_what_was_saved_comes_back_whole(store: ResultStore, saved: PathResult) -> None:
    store.save(saved)
    assert store.get(saved.id) == saved
    assert list(store.latest(10)) == [saved]


def test_metrics_come_back_in_the_order_of_the_request(store: ResultStore) -> None:
    store.save(COMPLETE)
    loaded = store.get(REQUEST_ID)
    assert loaded is not None
    assert list(loaded.composed) == list(loaded.segments[0].metrics) == list(ALL)


def test_saving_twice_leaves_one_row_of_each(store: ResultStore, database_url: str) -> None:
    store.save(COMPLETE)
    store.save(COMPLETE)
    assert count_rows(database_url) == 1


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (unanswered(), COMPLETE, COMPLETE),
        (COMPLETE, unanswered(), COMPLETE),
        (PARTIAL, unanswered(), PARTIAL),
        (unanswered(status=ResultStatus.FAILED), unanswered(), unanswered(status=ResultStatus.FAILED)),
        (unanswered(status=ResultStatus.FAILED), COMPLETE, COMPLETE),
        (COMPLETE, unanswered(status=ResultStatus.FAILED), COMPLETE),
        (PARTIAL, COMPLETE, COMPLETE),
        (COMPLETE, PARTIAL, COMPLETE),
        (PARTIAL, replace(PARTIAL, elapsed_ms=99.5), replace(PARTIAL, elapsed_ms=99.5)),
    ],
)
def test_what_knows_less_never_replaces_what_knows_more(
    store: ResultStore, database_url: str, first: PathResult, second: PathResult, kept: PathResult
) -> None:
    store.save(first)
    store.save(second)
    assert store.get(REQUEST_ID) == kept
    assert count_rows(database_url) == 1


def test_an_unknown_request_has_no_result(store: ResultStore) -> None:
    store.save(COMPLETE)
    assert store.get("f" * 32) is None


def test_the_latest_results_come_newest_first_and_can_be_limited_to_a_path(store: ResultStore) -> None:
    results = [
        replace(
            result((usual(0),), identifier=f"{index:032x}", requested_at=f"2026-01-01T12:00:0{index}.000000Z"),
            source="10.0.0.1" if index % 2 else "10.0.0.9",
        )
        for index in range(5)
    ]
    for one in results:
        store.save(one)
    assert list(store.latest(3)) == [results[4], results[3], results[2]]
    assert list(store.latest(9, source="10.0.0.1")) == [results[3], results[1]]
    assert list(store.latest(9, source="10.0.0.1", destination="10.1.1.1")) == []
    assert len(store.latest(9, destination="10.9.9.9")) == 5


def test_two_stores_on_one_database_see_each_other(store: ResultStore, database_url: str) -> None:
    other = ResultStore(database_url)
    store.save(unanswered())
    other.save(COMPLETE)
    other.close()
    assert store.get(REQUEST_ID) == COMPLETE


def test_a_time_that_is_none_is_refused_before_the_database_is_touched(tmp_path: Path) -> None:
    store = ResultStore(f"sqlite:///{tmp_path / 'results.db'}")
    with pytest.raises(MessageError, match="time: got 'yesterday'"):
        store.save(replace(COMPLETE, requested_at="yesterday"))
    assert list(tmp_path.iterdir()) == []


@given(messages())
@settings(max_examples=50)
def test_rows_hold_every_result_that_can_be_composed(sent: Message) -> None:
    try:
        composition = composed(sent.request.metrics, sent.records, waited_ms=0.5)
    except MessageError:
        return
    answer = replace(
        COMPLETE,
        id=sent.request.id,
        status=composition.status,
        metrics=sent.request.metrics,
        segments=composition.segments,
        composed=composition.composed,
        warnings=composition.warnings,
    )
    assert result_from_row(row_from_result(answer)) == answer


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_database_that_is_away_is_one_line_without_the_password_and_without_a_long_wait() -> None:
    store = ResultStore("mysql+pymysql://inpath:pa55word@127.0.0.1:1/inpath?ssl_key=s3cret")
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.save(COMPLETE)
    assert time.monotonic() - began < 2.5
    line = one_line(caught.value)
    assert line.startswith("mysql+pymysql://inpath:***@127.0.0.1:1/inpath: Can't connect")
    assert "pa55word" not in line and "s3cret" not in line
    assert "pa55word" not in store.name


@pytest.mark.database
def test_a_wrong_password_is_one_line_that_does_not_show_it(mariadb_url: str) -> None:
    user, rest = mariadb_url.split("@")
    store = ResultStore(f"{user.rsplit(':', 1)[0]}:Wr0ng@{rest}")
    with pytest.raises(StoreError) as caught:
        store.get(REQUEST_ID)
    assert "Access denied" in one_line(caught.value)
    assert "Wr0ng" not in str(caught.value)


def test_a_sqlite_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        ResultStore(f"sqlite:///{tmp_path / 'missing' / 'results.db'}").latest(1)
    assert one_line(caught.value).endswith("results.db: unable to open database file")


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_text("these are no results\n" * 100)
    with pytest.raises(StoreError, match=r"results\.db: file is not a database$"):
        ResultStore(f"sqlite:///{tmp_path / 'results.db'}").latest(1)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://u:pa55@h/d", "got postgresql://u:***@h/d, expected sqlite:///path or mysql+pymysql://"),
        ("sqlite://", "got sqlite://, expected sqlite:///path"),
        ("pa55", "the URL cannot be read, expected sqlite:/// or mysql"),
        ("mysql+pymysql://u:pa55@h:port/d", "the URL cannot be read, expected sqlite:/// or mysql"),
    ],
)
def test_another_kind_of_url_is_refused_at_once(url: str, text: str) -> None:
    with pytest.raises(StoreError) as caught:
        ResultStore(url)
    assert text in one_line(caught.value)
    assert "pa55" not in str(caught.value)


def test_a_store_whose_tables_were_taken_away_makes_them_again(store: ResultStore, database_url: str) -> None:
    store.save(COMPLETE)
    downgrade(database_url, "base")
    with pytest.raises(StoreError):
        store.save(COMPLETE)
    store.save(COMPLETE)
    assert store.get(REQUEST_ID) == COMPLETE
