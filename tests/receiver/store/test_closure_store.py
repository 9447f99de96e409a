from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from receiver.store.recorder import Recorder
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_check
from schemas.closure import ClosureCheck, ClosureMetric, ClosureVerdict, Interval

CHECK = ClosureCheck(
    id="1" * 32,
    request_id="2" * 32,
    source="10.0.0.1",
    destination="10.0.0.4",
    checked_at="2026-01-01T12:00:00.000001Z",
    duration_s=10.5,
    verdict=ClosureVerdict.DIFFERS,
    metrics={
        "delay": ClosureMetric(
            unit="ms",
            direct=Interval(value=18.25, low=18.0, high=18.5),
            composed=Interval(value=17.0, low=16.5, high=17.25),
            difference=Interval(value=-1.25, low=-1.75, high=-0.5),
            agrees=False,
        ),
        "loss": ClosureMetric(
            unit="ratio",
            direct=Interval(value=0.0, low=0.0, high=0.01),
            composed=Interval(value=None, low=None, high=None),
            difference=Interval(value=None, low=None, high=None),
            agrees=None,
        ),
    },
    warnings=("segment 10.0.0.1 -> 10.0.0.2 is not measured yet",),
)


def test_a_check_comes_back_as_it_was_saved_also_when_saved_twice(database_url: str) -> None:
    store = ResultStore(database_url)
    store.save_check(CHECK)
    store.save_check(CHECK)
    assert store.latest_checks(9) == [CHECK]
    store.close()


def test_the_newest_check_comes_first(database_url: str) -> None:
    store = ResultStore(database_url)
    later = replace(CHECK, id="3" * 32, checked_at="2026-01-01T13:00:00.000000Z", metrics={})
    store.save_check(later)
    store.save_check(CHECK)
    assert store.latest_checks(9) == [later, CHECK]
    assert store.latest_checks(1) == [later]
    store.close()


def test_a_spooled_check_reaches_the_database(tmp_path: Path) -> None:
    store = ResultStore(f"sqlite:///{tmp_path / 'results.db'}")
    spool = Spool(tmp_path / "spool.db")
    recorder = Recorder(store, spool)
    spool.put(document_from_check(CHECK), CHECK.id)
    assert recorder.drain(0) == 1
    assert store.latest_checks(9) == [CHECK]
    recorder.close()
