from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mp.results import command as results_command
from mp.results.command import results
from mp.results.stored_results import PAGE, StoredResults
from receiver.store.history import Resolution, ResultFilter
from schemas.errors import InpathError, StoreError, UsageError
from schemas.result import PathResult
from tests.mp.results.stored_paths import (
    DAY_US,
    DESTINATION,
    HOUR_US,
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

HOURLY = [answer(number, NOW_US - number * HOUR_US) for number in range(5)]


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_command, "now_us_of_host", lambda: NOW_US)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "inpath.toml"
    path.write_text('[names]\nborder-1 = "10.0.0.1"\nborder-2 = "10.9.9.9"\n')
    return path


@pytest.fixture
def run(config: Path, database_url: str) -> Iterator[Runner]:
    yield Runner(config, database_url)


class Runner:
    """`inpath results` on a database."""

    def __init__(self, config: Path, url: str) -> None:
        self._config = config
        self.url = url

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        command = [*arguments, "--database", self.url, "--config", str(self._config)]
        done = CliRunner().invoke(results, command, input=stdin)
        if isinstance(done.exception, InpathError):
            raise done.exception
        return done

    def ids(self, *arguments: str) -> list[int]:
        """The numbers of the answers that a list shows."""
        done = self("list", "--json", *arguments)
        assert done.exit_code == 0, done.output
        return [int(json.loads(line)["id"][:8], 16) for line in done.stdout.splitlines()]

    def count(self) -> int:
        stored = StoredResults(self.url)
        count = stored.count_before(NOW_US + DAY_US)
        stored.close()
        return count


def test_a_list_shows_the_newest_first_with_times_in_utc(run: Runner) -> None:
    store_all(run.url, HOURLY)
    lines = run("list", "--limit", "2").stdout.splitlines()
    rows = [line.split() for line in lines if "2026-01-01" in line]
    assert [row[1:3] for row in rows] == [["12:00:00", "00000000"], ["11:00:00", "00000001"]]
    assert rows[0][3:8] == ["border-1", "border-2", "complete", "15.000", "0.00"]
    assert "asked at (UTC)" in "".join(lines)


def test_a_list_of_one_metric_shows_its_interval(run: Runner) -> None:
    store_all(run.url, HOURLY[:1])
    text = run("list", "--metric", "delay").stdout
    assert "95 % interval" in text
    assert "14.9" in text and " .. " in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [9, 0, 1, 2, 3, 4]),
        (("--limit", "2"), [9, 0]),
        (("--since", "2h"), [9, 0, 1, 2]),
        (("--from", "2026-01-01T09:00:00Z", "--to", "2026-01-01T11:00:00Z"), [2, 3]),
        (("--source", "border-1", "--destination", "10.9.9.9"), [9, 0, 1, 2, 3, 4]),
        (("--source", "border-2"), []),
        (("--metric", "delay", "--limit", "1"), [9]),
        (("--metric", "rtt"), []),
        (("--state", "failed"), [9]),
        (("--state", "complete", "--since", "30m"), [0]),
    ],
)
def test_a_list_can_be_limited(run: Runner, arguments: Sequence[str], expected: list[int]) -> None:
    store_all(run.url, [*HOURLY, failed(9, NOW_US + SECOND_US)])
    assert run.ids(*arguments) == expected


def test_a_list_longer_than_a_page_has_each_answer_once(run: Runner) -> None:
    store_all(run.url, (answer(number, NOW_US - number // 3) for number in range(PAGE + 7)))
    found = run.ids("--limit", str(10 * PAGE))
    assert sorted(found) == list(range(PAGE + 7))
    assert run.ids("--limit", str(PAGE + 5)) == found[: PAGE + 5]


def test_nothing_found_is_said_and_no_error(run: Runner) -> None:
    store_all(run.url, HOURLY)
    for command in (("list",), ("list", "--json"), ("export", "--format", "jsonl")):
        done = run(*command, "--source", "border-2")
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr == "inpath: no stored result fits\n"


def test_local_times_are_said_in_utc(run: Runner) -> None:
    store_all(run.url, HOURLY)
    assert "inpath: from 2" in run("list", "--from", "2026-01-01 00:00").stderr
    assert run("list", "--from", "2026-01-01T00:00Z").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--source", "border-3"), "source: got 'border-3'"),
        (("list", "--metric", "Delay!"), "metric: got 'Delay!'"),
        (("list", "--since", "soon"), "since: got 'soon'"),
        (("show", "xyz"), "id: got 'xyz', expected hexadecimal digits"),
        (("show", "ff"), "id: got 'ff', expected the beginning of a stored id"),
        (("show", "0000"), "id: got '0000', expected more digits"),
        (("export", "--format", "parquet"), "format: got 'parquet', expected csv or jsonl"),
        (("prune", "--older-than", "36h", "--yes"), "older-than: got '36h', expected whole days"),
    ],
)
def test_what_cannot_be_meant_is_named(run: Runner, arguments: Sequence[str], said: str) -> None:
    store_all(run.url, HOURLY)
    with pytest.raises(UsageError) as raised:
        run(*arguments)
    assert said in str(raised.value)


def test_show_takes_enough_of_an_id_and_prints_the_whole_answer(run: Runner) -> None:
    store_all(run.url, HOURLY)
    text = run("show", "00000003").stdout
    assert "asked at 2026-01-01 09:00:00 UTC" in text
    assert "border-1 -> border-2" in text
    assert "The whole path, composed" in text
    assert PathResult.from_json(json.loads(run("show", HOURLY[3].id, "--json").stdout)) == HOURLY[3]


def test_why_an_answer_failed_is_said(run: Runner) -> None:
    store_all(run.url, [failed(9, NOW_US)])
    assert "inpath: no answer in 5 s" in run("show", "0").stderr


def test_prune_removes_old_results_and_keeps_their_history(run: Runner) -> None:
    old = [answer(number, NOW_US - 25 * DAY_US - number * SECOND_US) for number in range(20, 23)]
    store_all(run.url, [*HOURLY, *old])
    done = run("prune", "--older-than", "20d", "--yes")
    assert done.exit_code == 0, done.output
    assert done.stdout == "removed 3 results from before 2025-12-12 12:00:00 UTC\n"
    assert run.ids() == [0, 1, 2, 3, 4]
    stored = StoredResults(run.url)
    rolled_up = stored.history(SOURCE, DESTINATION, "delay", 0, NOW_US - 20 * DAY_US, Resolution.HOUR)
    stored.close()
    assert [point.count for point in rolled_up] == [3]


def test_prune_with_history_removes_that_too(run: Runner) -> None:
    store_all(run.url, [*HOURLY, answer(20, NOW_US - 40 * DAY_US)])
    done = run("prune", "--older-than", "4w", "--with-history", "--yes")
    assert "removed 1 results" in done.stdout and "removed roll-ups" in done.stdout
    stored = StoredResults(run.url)
    assert stored.history(SOURCE, DESTINATION, "delay", 0, NOW_US - 30 * DAY_US, Resolution.HOUR) == []
    stored.close()


def test_prune_asks_and_does_nothing_without_a_yes(run: Runner) -> None:
    store_all(run.url, [*HOURLY, answer(20, NOW_US - 40 * DAY_US)])
    refused = run("prune", "--older-than", "30d", stdin="n\n")
    assert refused.exit_code == 1
    assert "Forget 1 results from before 2025-12-02 12:00:00 UTC for good?" in refused.stderr
    assert run.count() == 6
    assert run("prune", "--older-than", "30d", stdin="y\n").exit_code == 0
    assert run.count() == 5


def test_prune_of_nothing_says_so(run: Runner) -> None:
    store_all(run.url, HOURLY)
    done = run("prune", "--older-than", "30d")
    assert (done.exit_code, done.stderr) == (0, "inpath: no stored result fits\n")


def test_a_database_that_is_away_is_named_without_its_password(config: Path) -> None:
    run = Runner(config, "mysql+pymysql://inpath:hidden@127.0.0.1:9/inpath")
    for command in (("list",), ("show", "00"), ("export",), ("prune", "--older-than", "30d")):
        with pytest.raises(StoreError) as raised:
            run(*command)
        assert "127.0.0.1:9" in str(raised.value)
        assert "hidden" not in str(raised.value)
        assert raised.value.exit_code == 1


def test_a_file_that_is_not_there_is_not_made(config: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        Runner(config, f"sqlite:///{tmp_path / 'none.db'}")("list")
    assert not (tmp_path / "none.db").exists()


def test_without_a_database_the_command_says_where_to_name_one(config: Path) -> None:
    done = CliRunner().invoke(results, ["list", "--config", str(config)])
    assert isinstance(done.exception, UsageError)
    assert "expected a URL, or a configuration with [store] or [point]" in str(done.exception)


def test_the_configuration_names_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    store_all(url, HOURLY)
    path = tmp_path / "inpath.toml"
    path.write_text(f'[store]\nurl = "{url}"\n')
    done = CliRunner().invoke(results, ["list", "--config", str(path), "--limit", "1"])
    assert "10.9.9.9" in done.stdout


def test_only_results_asked_for_before_the_first_page_are_listed(database_url: str) -> None:
    store_all(database_url, [answer(number, NOW_US - number * SECOND_US) for number in range(PAGE + 1)])
    stored = StoredResults(database_url)
    found = stored.each(ResultFilter())
    first = next(found)
    store_all(database_url, [answer(9999, NOW_US + SECOND_US)])
    assert len([first, *found]) == PAGE + 1
    stored.close()
