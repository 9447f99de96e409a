from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Insert, TextClause, create_engine, event, inspect, text

from receiver.store import database
from receiver.store.history import Resolution
from receiver.store.result_store import ResultStore
from receiver.store.retention import Retention
from receiver.store.schema_version import (
    HEAD,
    VERSION_TABLE,
    current_revision,
    downgrade,
    upgrade,
    upgrade_apart,
)
from receiver.store.tables import METADATA
from receiver.store.upkeep import Upkeep
from schemas.errors import StoreError
from tests.receiver.paths import NOW_MS, REQUEST_ID, lacking, pending, result, unanswered, usual

ROOT = Path(__file__).parents[3]


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_a_database_goes_up_and_down_and_up_with_data(database_url: str) -> None:
    store = ResultStore(database_url)
    upgrade(database_url)
    store.save(result((usual(0), usual(1))))
    upgrade(database_url)
    assert store.get(REQUEST_ID) == result((usual(0), usual(1)))
    store.close()

    downgrade(database_url, "base")
    assert tables(database_url) == {VERSION_TABLE}

    upgrade(database_url)
    store = ResultStore(database_url)
    assert list(store.latest(9)) == []
    store.save(result((usual(0),)))
    assert store.get(REQUEST_ID) == result((usual(0),))
    store.close()


def test_results_of_the_version_before_say_how_they_came_about(database_url: str) -> None:
    store = ResultStore(database_url)
    answer = result((usual(0), lacking(1, "jitter")))
    store.save(answer)
    store.close()
    downgrade(database_url, "0001")
    engine = create_engine(database_url)
    columns = {column["name"] for column in inspect(engine).get_columns("composed")}
    engine.dispose()
    assert columns.isdisjoint({"method", "flags", "p50", "p95", "p99", "quantile_method"})

    upgrade(database_url)
    store = ResultStore(database_url)
    kept = store.get(REQUEST_ID)
    store.close()
    assert kept is not None
    assert kept.segments == answer.segments
    assert kept.composed["delay"] == replace(answer.composed["delay"], quantiles=None)
    for metric in ("rtt", "loss", "jitter"):
        assert kept.composed[metric] == answer.composed[metric]


def test_results_of_all_kinds_go_down_and_up_unchanged_and_are_rolled_up_then(database_url: str) -> None:
    kept = [
        result((usual(0), usual(1)), identifier=f"{1:032x}"),
        result((usual(0), pending(1), lacking(2, "jitter")), identifier=f"{2:032x}"),
        unanswered(f"{3:032x}"),
        *(result((usual(0),), identifier=f"{number:032x}") for number in range(10, 600)),
    ]
    store = ResultStore(database_url)
    store.save_all(kept)
    store.close()
    downgrade(database_url, "0003")
    assert {"requests", "segments", "segment_metrics", "composed"} < tables(database_url)
    assert "results" not in tables(database_url)

    store = ResultStore(database_url)
    assert sorted(store.latest(1_000), key=lambda one: one.id) == kept
    upkeep = Upkeep(database_url, Retention())
    upkeep.roll_up(NOW_MS * 1_000 + 7_200_000_000)
    (hour,) = store.history(kept[0].source, kept[0].destination, "rtt", 0, 1 << 60, Resolution.HOUR)
    assert hour.count == 591
    upkeep.close()
    store.close()


def test_a_migration_that_broke_off_is_made_whole_the_next_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(database_url)
    answer = result((usual(0),))
    store.save(answer)
    store.close()
    execute = Connection.execute
    for statement in ("INSERT INTO segments", "INSERT INTO composed"):
        with monkeypatch.context() as broken:
            broken.setattr(Connection, "execute", _failing_at(statement, execute))
            with pytest.raises(StoreError, match="broken off"):
                downgrade(database_url, "0003")
    downgrade(database_url, "0003")
    for statement in ("INSERT INTO results_new", "INSERT INTO stale_periods"):
        with monkeypatch.context() as broken:
            broken.setattr(Connection, "execute", _failing_at(statement, execute))
            with pytest.raises(StoreError, match="broken off"):
                upgrade(database_url)
    store = ResultStore(database_url)
    assert list(store.latest(9)) == [answer]
    store.close()


def _failing_at(statement: str, execute: Callable[..., Any]) -> Callable[..., Any]:
    def instead(connection: Connection, what: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(what, Insert | TextClause) and str(what).startswith(statement):
            raise StoreError("broken off")
        return execute(connection, what, *rest, **options)

    return instead


def test_going_down_cuts_the_list_of_metrics_behind_the_last_that_fits(database_url: str) -> None:
    names = tuple(f"plug-in-{'x' * 22}{number:02d}" for number in range(32))
    store = ResultStore(database_url)
    store.save(replace(result(()), metrics=names))
    store.close()
    downgrade(database_url, "0001")
    upgrade(database_url)
    store = ResultStore(database_url)
    kept = store.get(REQUEST_ID)
    store.close()
    assert kept is not None
    assert kept.metrics == names[:7]


def test_the_migrated_database_has_exactly_the_tables_that_the_code_uses(database_url: str) -> None:
    upgrade(database_url)
    assert tables(database_url) == {*METADATA.tables, VERSION_TABLE}
    engine = create_engine(database_url)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)
    engine.dispose()
    assert differences == []


def test_head_is_the_newest_script() -> None:
    with as_file(files("receiver.store") / "migrations") as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.set_main_option("path_separator", "os")
        assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    upgrade(database_url)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match=f"'9999'; this version knows revisions up to {HEAD}"):
        upgrade(database_url)


def test_going_down_to_a_revision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / '100%.db'}"
    upgrade(url)
    with pytest.raises(StoreError, match="7777"):
        downgrade(url, "7777")
    assert "results" in tables(url)


def test_alembic_is_not_imported_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    upgrade(url)
    program = (
        "import sys; from receiver.store.result_store import ResultStore\n"
        f"store = ResultStore({url!r}); assert list(store.latest(1)) == []; store.close()\n"
        "assert not [name for name in sys.modules if name.startswith('alembic')]"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_new_sqlite_file_gets_its_tables_although_another_program_is_writing(tmp_path: Path) -> None:
    file = tmp_path / "results.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (number INTEGER)")
        commit = Timer(0.5, other.execute, ["COMMIT"])
        commit.start()
        upgrade(f"sqlite:///{file}")
        commit.join()
    assert tables(f"sqlite:///{file}") == {*METADATA.tables, VERSION_TABLE, "theirs"}


def test_a_new_sqlite_file_opens_although_another_program_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 1)
    file = tmp_path / "results.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (number INTEGER)")
        other.execute("BEGIN")
        other.execute("SELECT number FROM theirs").fetchall()
        store = database.Database(f"sqlite:///{file}")
        with store.transaction() as connection:
            assert inspect(connection).get_table_names() == ["theirs"]
        store.close()


@pytest.mark.database
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_whoever_gets_the_lock_of_the_server_next_sees_the_new_version(database_url: str) -> None:
    downgrade(database_url, "base")
    next_one = database.Database(database_url)
    seen: list[str | None] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "RELEASE_LOCK" in statement:
            seen.append(current_revision(next_one))

    event.listen(Engine, "after_cursor_execute", note)
    try:
        upgrade(database_url)
    finally:
        event.remove(Engine, "after_cursor_execute", note)
        next_one.close()
    assert seen == [HEAD]


def test_a_process_of_its_own_takes_alembic_along_when_it_ends(tmp_path: Path) -> None:
    program = (
        "import sys; from receiver.store.result_store import ResultStore\n"
        "from receiver.store.schema_version import upgrade_apart\n"
        f"store = ResultStore('sqlite:///{tmp_path}/results.db', upgrade_apart)\n"
        "assert list(store.latest(1)) == []; store.close()\n"
        "assert not [name for name in sys.modules if name.startswith(('alembic', 'pymysql', 'cryptography'))]"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"results", VERSION_TABLE} <= tables(f"sqlite:///{tmp_path}/results.db")


def test_what_that_process_cannot_do_is_told_in_one_line(database_url: str) -> None:
    upgrade(database_url)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '7777'"))
    engine.dispose()
    opened = database.Database(database_url)
    with pytest.raises(StoreError, match=f"7777.*; this version knows revisions up to {HEAD}$"):
        upgrade_apart(opened)
    opened.close()
