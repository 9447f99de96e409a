"""One way to open a database: SQLite or MariaDB/MySQL, with the same promises, and one error for all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from schemas.errors import StoreError

CONNECT_TIMEOUT_S = 2
"""A database that is up answers in milliseconds; results wait in the spool meanwhile."""
STATEMENT_TIMEOUT_S = 10
BUSY_TIMEOUT_MS = 2_000
"""How long a writer of SQLite waits for another one."""
RECYCLE_S = 3_600
"""Below the 8 h after which MariaDB closes an idle connection."""

_MYSQL = "mysql+pymysql"


class Database:
    """The door to one database.

    Args:
        url: `sqlite:///path` or `mysql+pymysql://user:password@host:port/name`.

    Raises:
        StoreError: the URL is of another kind; its text never shows a password.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self.name = masked(self._url)
        """The URL without secrets, for messages."""
        if self._url.drivername == _MYSQL:
            self._engine = _open_mysql(self._url)
        else:
            self._engine = _open_sqlite(self._url)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection whose work is kept when the block ends and undone when it raises.

        Raises:
            StoreError: for whatever the database says, in one line.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(self._line(error)) from error
        except RuntimeError as error:
            # What PyMySQL raises when the server's way to log in needs a package that is not installed.
            if "cryptography" not in str(error):
                raise
            raise StoreError(f"{self.name}: {error}") from error

    def close(self) -> None:
        """Close all connections; the next transaction opens one again."""
        self._engine.dispose()

    def _line(self, error: SQLAlchemyError) -> str:
        reason = error.orig if isinstance(error, DBAPIError) else error
        text = " ".join(str(part) for part in getattr(reason, "args", ())[-1:]) or str(reason)
        if self._url.password:
            text = text.replace(str(self._url.password), "***")
        return f"{self.name}: {' '.join(text.split())}"


def masked(url: URL) -> str:
    """The URL without password and without options, which may hold secrets too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError) as error:
        # The text itself may hold a password, so it is not shown.
        raise StoreError(
            "result store: the URL cannot be read, expected sqlite:/// or mysql+pymysql://"
        ) from error
    if url.drivername == _MYSQL:
        return url
    if url.drivername in ("sqlite", "sqlite+pysqlite") and url.database not in (None, "", ":memory:"):
        return url
    raise StoreError(f"result store: got {masked(url)}, expected sqlite:///path or mysql+pymysql://user@host/name")


def _open_mysql(url: URL) -> Engine:
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_S,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": STATEMENT_TIMEOUT_S,
            "write_timeout": STATEMENT_TIMEOUT_S,
        },
    )


def _open_sqlite(url: URL) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own transactions leave out DDL; with None it begins none, and _begin_sqlite does.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    with suppress(sqlite3.OperationalError):
        # "locked": another program is switching the same new file, and once is enough; the file remembers it.
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
