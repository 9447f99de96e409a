from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mp.archive import DRAIN_AFTER_S, INTERRUPTED, Archive
from receiver.store.history import Resolution
from receiver.store.result_store import ResultStore
from receiver.store.retention import Retention
from receiver.store.spool import Spool
from schemas.result import ResultStatus
from tests.receiver.paths import NOW_MS, result, unanswered, usual

LIMIT_S = 10.0


def test_a_recorded_answer_is_in_the_database_when_record_returns(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    answer = result((usual(0),))

    async def story() -> tuple[str, ...]:
        archive = Archive(url, tmp_path)
        archive.open()
        assert await archive.record(unanswered()) == ()
        warnings = await archive.record(answer)
        store = ResultStore(url)
        # The very first drain makes the tables too, which may take longer than an answer waits for.
        await archive.close()
        assert store.get(answer.id) == answer
        store.close()
        return warnings

    assert asyncio.run(story()) == ()


def test_a_note_that_a_request_waits_comes_to_the_database_with_what_is_drained_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    before, waiting = result((usual(0),), identifier="f" * 32), unanswered()

    async def story() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.record(before)
        await archive.drain_soon()
        await archive.record(waiting)
        assert archive.waiting == 1
        assert Spool(tmp_path / "spool.db").unfinished().keys() == {waiting.id}
        await archive.drain_soon()  # as housekeeping does
        assert archive.waiting == 0
        await archive.close()

    asyncio.run(story())
    store = ResultStore(url)
    assert store.get(waiting.id) == waiting
    store.close()


def test_an_answer_does_not_wait_for_its_row_which_follows_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    first, second = (result((usual(0),), identifier=one * 32) for one in "ab")
    may_write = threading.Event()
    save_rows = ResultStore.save_rows

    def held(store: ResultStore, *rows: Any) -> None:
        assert may_write.wait(timeout=20)
        save_rows(store, *rows)

    async def story() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.record(first)
        await archive.drain_soon()  # from here on the database is known to be there
        monkeypatch.setattr(ResultStore, "save_rows", held)
        assert await archive.record(second) == ()
        assert archive.waiting == 1
        may_write.set()
        async with asyncio.timeout(20):
            while archive.waiting:
                await asyncio.sleep(0.01)
        await archive.close()

    asyncio.run(story())
    store = ResultStore(url)
    assert store.get(second.id) == second
    store.close()


def test_what_is_recorded_while_it_closes_is_there_the_next_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    raised: list[dict[str, Any]] = []
    answers = [result((usual(0),), identifier=f"{number:032x}") for number in range(20)]

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.record(answers[0])
        await archive.drain_soon()  # from here on the database is known to be there
        recording = [asyncio.create_task(archive.record(answer)) for answer in answers[1:]]
        await asyncio.sleep(0)
        await archive.close()
        await asyncio.gather(*recording, return_exceptions=True)
        await asyncio.sleep(5 * DRAIN_AFTER_S)

    async def next_run() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.drain_soon()
        await archive.close()

    asyncio.run(story())
    gc.collect()  # what a task raised is told when it is forgotten
    asyncio.run(next_run())
    assert raised == []
    store = ResultStore(url)
    assert {one.id for one in store.latest(100)} == {answer.id for answer in answers}
    store.close()


def test_with_the_database_away_the_answer_waits_in_the_spool_and_says_so(tmp_path: Path) -> None:
    async def story() -> tuple[str, ...]:
        archive = Archive(f"sqlite:///{tmp_path / 'later' / 'results.db'}", tmp_path)
        archive.open()
        await archive.record(unanswered())
        await asyncio.sleep(0.5)
        warnings = await archive.record(result((usual(0),)))
        assert archive.state is not None
        assert archive.state.spool_depth == 2
        await archive.close()
        return warnings

    (warning,) = asyncio.run(story())
    assert warning.startswith("database away, the result waits in the spool: sqlite")


def test_what_waited_is_drained_at_the_next_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    answer = result((usual(0),))
    spool = Spool(tmp_path / "spool.db")
    spool.put(answer.to_json(), answer.id)
    spool.close()

    async def story() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        archive.drain_soon()  # as housekeeping does
        await archive.close()

    asyncio.run(story())
    store = ResultStore(url)
    assert store.get(answer.id) == answer
    store.close()


def test_answers_that_come_while_the_disk_is_busy_go_to_the_disk_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    all_came = threading.Event()
    put_all = Spool.put_all

    def counted(spool: Spool, documents: Sequence[tuple[Mapping[str, Any], str]]) -> Sequence[int]:
        batches.append(len(documents))
        assert all_came.wait(LIMIT_S)  # as long as this, the disk is busy
        return put_all(spool, documents)

    monkeypatch.setattr(Spool, "put_all", counted)
    url = f"sqlite:///{tmp_path / 'results.db'}"

    async def story() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        answers = [result((usual(0),), identifier=f"{n:032x}") for n in range(200)]
        recorded = [asyncio.create_task(archive.record(answer)) for answer in answers]
        await asyncio.sleep(0)  # all have begun after it
        all_came.set()
        await asyncio.gather(*recorded)
        await archive.close()

    asyncio.run(story())
    assert sum(batches) == 200 and len(batches) <= 2
    store = ResultStore(url)
    assert len(store.latest(1_000)) == 200
    store.close()


def test_a_request_is_noted_without_another_thread_unless_that_is_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    at_the_disk, may_go = threading.Event(), threading.Event()
    put_all = Spool.put_all

    def slow(spool: Spool, documents: Sequence[tuple[Mapping[str, Any], str]]) -> Sequence[int]:
        with spool._lock:
            at_the_disk.set()
            assert may_go.wait(LIMIT_S)
        return put_all(spool, documents)

    monkeypatch.setattr(Spool, "put_all", slow)

    async def story() -> tuple[bool, ...]:
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.record(replace(unanswered(), id="a" * 32))
        was_alone = not at_the_disk.is_set()
        answer = asyncio.create_task(archive.record(result((usual(0),), identifier="b" * 32)))
        await asyncio.to_thread(at_the_disk.wait, LIMIT_S)
        note = asyncio.create_task(archive.record(replace(unanswered(), id="c" * 32)))
        await asyncio.sleep(0.1)  # a loop that waited for the disk itself would never come back from here
        waited = not note.done()
        may_go.set()
        await asyncio.gather(answer, note)
        await archive.close()
        return was_alone, waited

    assert asyncio.run(story()) == (True, True)
    spool = Spool(tmp_path / "spool.db")
    assert spool.unfinished().keys() == {"a" * 32, "c" * 32}
    spool.close()


def test_an_archive_with_retention_rolls_up_what_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mp.archive.UPKEEP_S", 0.01)
    url = f"sqlite:///{tmp_path / 'results.db'}"
    answer = result((usual(0),))

    async def story() -> None:
        archive = Archive(url, tmp_path, Retention(results_days=365, minutes_days=365, hours_days=36_500))
        archive.open()
        await archive.record(answer)
        reader = ResultStore(url)
        async with asyncio.timeout(20):
            while not reader.history(answer.source, answer.destination, "rtt", 0, 1 << 60, Resolution.HOUR):
                await asyncio.sleep(0.05)
        reader.close()
        await archive.close()

    monkeypatch.setattr("mp.archive.clock.now_ns", lambda: (NOW_MS + 7_200_000) * 1_000_000)
    asyncio.run(story())
    assert Spool(tmp_path / "spool.db").depth == 0


def test_a_request_that_waited_when_the_point_ended_has_failed_at_the_next_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    waiting, answer = unanswered(), result((usual(0),), identifier="f" * 32)

    async def first_run() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.record(waiting)
        await archive.record(replace(unanswered(), id=answer.id))
        await archive.record(answer)
        await archive.close()

    async def next_run() -> bool:
        archive = Archive(url, tmp_path)
        archive.open()
        looks_at_it = bool(archive.waiting)
        archive.drain_soon()  # as housekeeping does
        await archive.close()
        return looks_at_it

    asyncio.run(first_run())
    store = ResultStore(url)
    assert store.get(waiting.id) == waiting
    assert [asyncio.run(next_run()) for _ in range(2)] == [True, False]
    failed = store.get(waiting.id)
    assert failed is not None and failed.elapsed_ms is not None and failed.elapsed_ms > 0
    assert failed == replace(
        waiting, status=ResultStatus.FAILED, warnings=(INTERRUPTED,), elapsed_ms=failed.elapsed_ms
    )
    assert store.get(answer.id) == answer
    store.close()


def test_a_point_that_finds_another_at_its_place_leaves_that_ones_requests_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"

    async def story() -> None:
        running, refused = Archive(url, tmp_path), Archive(url, tmp_path)
        running.open()
        await running.record(unanswered())
        refused.open()
        await refused.close()
        await running.close()

    asyncio.run(story())
    spool = Spool(tmp_path / "spool.db")
    assert list(spool.unfinished()) == [unanswered().id]
    spool.close()
