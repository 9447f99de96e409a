from __future__ import annotations

import shutil
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from lab.database import PrivateMariaDB
from schemas.errors import HostError, LabError

pytestmark = pytest.mark.database


def ask(server: PrivateMariaDB, *statements: str) -> list[object]:
    engine = create_engine(server.url)
    try:
        with engine.begin() as connection:
            answers = [connection.execute(text(statement)) for statement in statements]
            return [answer.scalar() for answer in answers if answer.returns_rows]
    finally:
        engine.dispose()


def test_a_server_keeps_its_data_through_kill_and_restart_and_is_gone_at_the_end(tmp_path: Path) -> None:
    with PrivateMariaDB(tmp_path) as server:
        ask(server, "CREATE TABLE t (n INT) ENGINE=InnoDB", "INSERT INTO t VALUES (7)")
        server.kill()
        with pytest.raises(OperationalError):
            ask(server, "SELECT n FROM t")
        server.start()
        assert ask(server, "SELECT n FROM t") == [7]
        server.restart()
        assert ask(server, "SELECT n FROM t", "SELECT @@bind_address") == [7, "127.0.0.1"]
    with pytest.raises(OperationalError):
        ask(server, "SELECT 1")


def test_nobody_logs_in_without_the_password(tmp_path: Path) -> None:
    with PrivateMariaDB(tmp_path) as server:
        url = make_url(server.url)
        for user, password in (("root", ""), ("", ""), (str(url.username), "")):
            with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
                pymysql.connect(host="127.0.0.1", port=server.port, user=user, password=password)
        assert str(url.password) not in repr(server)
    for name in ("access.sql", "options.cnf"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_a_missing_program_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(
        HostError, match="mariadb-install-db is not installed, expected the Debian package mariadb-"
    ):
        PrivateMariaDB(tmp_path).__enter__()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with PrivateMariaDB(tmp_path) as server:
        server.stop()
        shutil.rmtree(tmp_path / "data" / "mysql")
        with pytest.raises(LabError, match="mariadbd ended with 1: .*mysql"):
            server.start()
