"""Several servers in one URL: one that ends, hangs or turns read-only costs no result and less than 3 seconds."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from lab.database import PrivateMariaDB
from receiver.store.database import FAILOVER_S
from receiver.store.recorder import Recorder
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_result
from schemas.errors import StoreError
from tests.receiver.store.galera import cluster_url, galera_cluster
from tests.receiver.store.reports import report

RESULTS = 300
KILLED_AT = 100
JOIN_LIMIT_S = 20.0


class Replica(PrivateMariaDB):
    """A server with the password of another one."""

    def __init__(self, directory: Path, password: str) -> None:
        super().__init__(directory)
        self._password = password


def stored(url: str) -> list[int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        ids = [int(one, 16) for one in connection.execute(text("SELECT id FROM results")).scalars()]
    engine.dispose()
    return sorted(ids)


def await_rows(node: PrivateMariaDB, count: int) -> None:
    """Until the node has so many results; a joining one refuses to be asked before it has fetched all."""
    deadline_s = time.monotonic() + JOIN_LIMIT_S
    while time.monotonic() < deadline_s:
        with suppress(OperationalError):
            if len(stored(node.url)) == count:
                return
        time.sleep(0.05)
    raise AssertionError(f"the node has not {count} results after {JOIN_LIMIT_S:g} s")


def two_servers(url: str, first_port: int) -> str:
    server = url.rpartition("@")[2].partition("/")[0]
    return url.replace(server, f"127.0.0.1:{first_port},{server}")


@pytest.mark.database
def test_a_server_that_refuses_is_passed_over(mariadb_url: str) -> None:
    ResultStore(mariadb_url).prepare()
    store = ResultStore(two_servers(mariadb_url, 1))
    began = time.monotonic()
    store.save(report(1))
    assert store.get(report(1).id) == report(1)
    assert time.monotonic() - began < FAILOVER_S
    store.close()


@pytest.mark.database
def test_a_server_that_hangs_is_passed_over_in_time(mariadb_url: str) -> None:
    ResultStore(mariadb_url).prepare()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        store = ResultStore(two_servers(mariadb_url, int(silent.getsockname()[1])))
        began = time.monotonic()
        store.save(report(2))
        assert time.monotonic() - began < FAILOVER_S
        began = time.monotonic()
        store.save(report(3))  # stays with the one that works
        assert time.monotonic() - began < 1
        store.close()


def test_when_all_servers_are_away_the_error_names_them_and_comes_soon() -> None:
    store = ResultStore("mysql+pymysql://inpath:pa55word@127.0.0.1:1,127.0.0.1:2/inpath")
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"^mysql\+pymysql://inpath:\*\*\*@127.0.0.1:1,127.0.0.1:2/inpath: Can't"):
        store.save(report(1))
    assert time.monotonic() - began < FAILOVER_S
    store.close()


@pytest.mark.database
@pytest.mark.slow
def test_a_server_that_turns_read_only_is_left_for_one_that_writes(mariadb_url: str, tmp_path: Path) -> None:
    ResultStore(mariadb_url).prepare()
    (tmp_path / "replica").mkdir()
    with Replica(tmp_path / "replica", str(make_url(mariadb_url).password)) as replica:
        store = ResultStore(two_servers(mariadb_url, replica.port))
        store.save(report(11))
        assert stored(replica.url) == [11]
        options = replica.directory / "options.cnf"
        options.write_text(f"{options.read_text()}read-only=1\n")
        replica.restart()
        store.save(report(12))
        assert 12 in stored(mariadb_url)
        store.close()


@pytest.mark.database
@pytest.mark.slow
def test_a_killed_node_of_a_galera_cluster_costs_no_result_and_less_than_three_seconds_and_comes_back(
    tmp_path: Path,
) -> None:
    with galera_cluster(tmp_path) as nodes, closing(Spool(tmp_path / "spool.db")) as spool:
        store = ResultStore(cluster_url(nodes))
        store.prepare()
        recorder = Recorder(store, spool)
        stored_at_s = []
        for number in range(RESULTS):
            if number == KILLED_AT:
                nodes[0].kill()
            spool.put(document_from_result(report(number)), "key")
            while not recorder.drain(20 * time.monotonic_ns()):  # back-off passes quickly
                time.sleep(0.01)
            stored_at_s.append(time.monotonic())
        longest_s = max(later - earlier for earlier, later in zip(stored_at_s, stored_at_s[1:], strict=False))
        assert spool.depth == spool.refused == 0
        assert [stored(node.url) for node in nodes[1:]] == [list(range(RESULTS))] * 2
        assert longest_s < FAILOVER_S
        nodes[0].rejoin()
        store.save(report(RESULTS))
        for node in nodes:
            await_rows(node, RESULTS + 1)
        # It is a full member again: the cluster goes on with it when another one is killed.
        nodes[1].kill()
        store.save(report(RESULTS + 1))
        for node in (nodes[0], nodes[2]):
            await_rows(node, RESULTS + 2)
        assert stored(nodes[0].url) == list(range(RESULTS + 2))
        store.close()
