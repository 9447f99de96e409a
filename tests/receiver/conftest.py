from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from lab.database import PrivateMariaDB
from receiver.store.database import Database
from receiver.store.schema_version import HEAD, current_revision
from receiver.store.tables import METADATA


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    with PrivateMariaDB(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_url(mariadb: PrivateMariaDB) -> str:
    """One server for all tests; what a test leaves in it, the next one finds."""
    return mariadb.url


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.database)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that results can be kept in."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / f'results-{secrets.token_hex(4)}.db'}"
    url: str = request.getfixturevalue("mariadb_url")
    _empty(url)
    return url


def _empty(url: str) -> None:
    database = Database(url)
    revision = current_revision(database)
    with database.transaction() as connection:
        if revision == HEAD:  # the tables go only when a test left others: making them takes a third of a second
            for table in reversed(METADATA.sorted_tables):
                connection.execute(table.delete())
        else:
            connection.execute(text("DROP DATABASE inpath"))
            connection.execute(text("CREATE DATABASE inpath CHARACTER SET utf8mb4"))
    database.close()
