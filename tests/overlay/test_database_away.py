"""A database that comes late, goes, and comes back: answers do not wait for it, and it misses none of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from lab.addressing import namespace_name
from lab.database import PrivateMariaDB
from mp.config import load_configuration
from receiver.store.result_store import ResultStore
from schemas.result import PathResult, ResultStatus
from tests.overlay.network import Network, eventually, network, new_name, start, state_directory

pytestmark = [pytest.mark.netns, pytest.mark.database]

PAIR = {
    "nodes": {"a": {"point": True}, "b": {"point": True}},
    "links": [{"a": "a", "b": "b", "delay_ms": 2}],
}


class Pair:
    """Two points, of which `a` keeps its results in a MariaDB of its own host."""

    def __init__(self, net: Network, server: PrivateMariaDB) -> None:
        self.net = net
        self.server = server

    def use(self, url: str) -> None:
        """Have `a` start with this database."""
        file = self.net.configuration("a")
        now = load_configuration(file).store_url
        assert file.read_text().count(f'url = "{now}"') == 1
        file.write_text(file.read_text().replace(f'url = "{now}"', f'url = "{url}"'))
        for node in ("a", "b"):
            if self.net.is_running(node):
                self.net.lab.stop_point(node)
        for node in ("b", "a"):
            self.net.lab.start_point(node)

    def tcp_url(self) -> str:
        """The server by its TCP port, which only its host reaches."""
        url = make_url(self.server.url).set(host="127.0.0.1", port=self.server.port, query={})
        return url.render_as_string(hide_password=False)

    def ask_without_database(self) -> PathResult:
        """A complete answer that says that it waits in the spool."""

        def answer() -> PathResult | None:
            result = self.net.ask("a", "b")
            warned = any("waits in the spool" in warning for warning in result.warnings)
            return result if result.status is ResultStatus.COMPLETE and warned else None

        return eventually(answer, "a complete answer with a warning about the database", within_s=15)

    def spooled(self) -> int:
        store = self.net.status("a")["store"]
        return 0 if store is None else int(store["spool_depth"])

    def await_drained(self, *, within_s: float = 20) -> None:
        """Wait for the database to have all; the back-off after some failures is a few seconds."""
        eventually(lambda: self.spooled() == 0, "an empty spool", within_s=within_s)
        store = self.net.status("a")["store"]
        assert (store["database"], store["last_error"], store["refused"]) == ("up", None, 0)

    def stored(self, identifier: str) -> PathResult | None:
        """What the server holds, asked by its Unix socket."""
        store = ResultStore(self.server.url)
        try:
            return store.get(identifier)
        finally:
            store.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    name = new_name()
    with state_directory() as directory:
        (directory / "db").mkdir()
        server = PrivateMariaDB(directory / "db", namespace=namespace_name(name, "a"))
        server.install()
        with network(PAIR, name=name, database=server.url) as net:
            try:
                yield Pair(net, server)
            finally:
                server.stop()


def without_warnings(result: PathResult) -> tuple[object, ...]:
    """A result without what came to be known only after it was kept."""
    document = result.to_json()
    return tuple((key, value) for key, value in document.items() if key != "warnings")


def test_results_of_a_lab_built_with_a_mariadb_are_in_it_when_they_are_given(pair: Pair) -> None:
    pair.server.start()
    start(pair.net)
    pair.net.await_answer("a", "b", ("a", "b"))
    pair.await_drained()
    result = pair.net.ask("a", "b")
    assert result.warnings == ()
    assert pair.stored(result.id) == result


def test_answers_wait_for_a_database_that_is_not_there_yet_and_reach_it(pair: Pair) -> None:
    pair.server.stop()
    pair.use(pair.tcp_url())
    result = pair.ask_without_database()
    shown = pair.net.inpath("a", "request", "a", "b", "--json")
    assert shown.exit_code == 0
    (line,) = shown.stderr.splitlines()
    assert line.startswith("inpath: database away, the result waits in the spool: ")
    assert "***" in line and str(make_url(pair.server.url).password) not in line
    assert pair.spooled() >= 2
    assert pair.net.status("a")["store"]["database"] == "away"

    pair.server.start()
    pair.await_drained()
    for kept in (result, PathResult.from_json(shown.document())):
        stored = pair.stored(kept.id)
        assert stored is not None
        assert without_warnings(stored) == without_warnings(kept)


def test_what_is_spooled_when_database_and_point_are_killed_is_there_in_the_end(pair: Pair) -> None:
    pair.server.restart()
    pair.use(pair.server.url)
    pair.net.await_answer("a", "b", ("a", "b"))
    pair.server.kill()
    result = pair.ask_without_database()
    pair.net.lab.kill_point("a")
    pair.server.start()
    pair.net.lab.start_point("a")
    eventually(lambda: pair.net.status("a")["store"], "a look for the database", within_s=10)
    pair.await_drained()
    stored = pair.stored(result.id)
    assert stored is not None
    assert without_warnings(stored) == without_warnings(result)


def test_an_sqlite_file_whose_directory_comes_later_gets_all_results(pair: Pair, tmp_path: Path) -> None:
    directory = tmp_path / "later"
    pair.use(f"sqlite:///{directory}/results.db")
    result = pair.ask_without_database()
    directory.mkdir()
    pair.await_drained()
    stored = pair.net.stored("a", result.id)
    assert stored is not None
    assert without_warnings(stored) == without_warnings(result)
