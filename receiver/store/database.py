"""One way to open a database: SQLite or MariaDB/MySQL, with the same promises, and one error for all of them.

A URL may name several servers (a Galera cluster, or a primary and its replicas). One is used as long as it works;
when it ends, hangs, leaves its cluster or turns read-only, the next one takes over within `FAILOVER_S`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from receiver.store.hosts import Host, Rotation, split_hosts
from schemas.errors import StoreError

CONNECT_TIMEOUT_S = 2
"""A database that is up answers in milliseconds; results wait in the spool meanwhile."""
STATEMENT_TIMEOUT_S = 10
FAILOVER_S = 3
"""With several servers, the sum of the two below is less."""
FAILOVER_CONNECT_TIMEOUT_S = 0.7
FAILOVER_STATEMENT_TIMEOUT_S = 2
PATIENT_STATEMENT_TIMEOUT_S = 3_600
"""For changes of the tables, which may have to copy them."""
BUSY_TIMEOUT_MS = 2_000
"""How long a writer of SQLite waits for another one."""
RECYCLE_S = 3_600
"""Below the 8 h after which MariaDB closes an idle connection."""
MAX_ATTEMPTS = 5
"""Of a transaction that others keep making impossible; each time one of them got through."""

_MYSQL = "mysql+pymysql"
_SESSION = (
    # In seconds: shorter than a statement may take, so that the server says so before the client hangs up.
    "SET SESSION innodb_lock_wait_timeout = 1, SESSION lock_wait_timeout = 5, "
    # PyMySQL needs a tenth of a millisecond to put a backslash before each quote of a result's JSON.
    "SESSION sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES')"
)

_CONFLICTS = frozenset({1205, 1213})
"""Lock wait timeout; deadlock, as which Galera also reports a certification conflict with another node."""
_OUT_OF_SERVICE = frozenset({1047, 1053, 1290, 1792, 1836})
"""The server answers and cannot serve: outside its cluster's primary component, going down, or read-only."""

Result = TypeVar("Result")


class Database:
    """The door to one database; for several threads.

    Args:
        url: `sqlite:///path` or `mysql+pymysql://user:password@host:port/name`, or with `host:port,host:port`.

    Raises:
        StoreError: the URL is of another kind; its text never shows a password.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        """As given: it may hold a password."""
        self._url, hosts = _parse(url)
        self._rotation = Rotation(hosts or (Host(self._url.host or "", self._url.port or 0),))
        self.name = masked(self._url, hosts)
        """The URL without secrets, for messages."""

    @property
    def has_partitions(self) -> bool:
        """The large tables are in daily partitions there."""
        return self._url.drivername == _MYSQL

    @contextmanager
    def transaction(self, *, writes: bool = False, patient: bool = False) -> Iterator[Connection]:
        """A connection whose work is kept when the block ends and undone when it raises.

        Args:
            writes: take SQLite's one write lock at once: a reader cannot trade up after another one has written.
            patient: statements may take as long as a change of large tables does.

        Raises:
            StoreError: for whatever the database says, in one line.
        """
        engine = self._patient if patient else self._engine
        host = self._rotation.current
        try:
            with (engine.execution_options(writes=True) if writes else engine).begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            if _is_out_of_service(error):
                self._leave(host)
            raise StoreError(self._line(error)) from error
        except RuntimeError as error:
            # What PyMySQL raises when the server's way to log in needs a package that is not installed.
            if "cryptography" not in str(error):
                raise
            raise StoreError(f"{self.name}: {error}") from error

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """As `write`, for work that only asks.

        Raises:
            StoreError: no server answers.
        """
        return self._done(work, writes=False)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work` in a transaction; again when others were in its way, or on the next server when one fails.

        A connection may be lost while the server commits, so `work` may be done twice: it must not mind.

        Raises:
            StoreError: nothing of it was kept, or it is not known.
        """
        return self._done(work, writes=True)

    def close(self) -> None:
        """Close all connections; the next transaction opens one again."""
        for name in ("_engine", "_patient"):
            if name in self.__dict__:
                self.__dict__[name].dispose()

    @cached_property
    def _engine(self) -> Engine:
        several = len(self._rotation) > 1
        return self._open(FAILOVER_STATEMENT_TIMEOUT_S if several else STATEMENT_TIMEOUT_S)

    @cached_property
    def _patient(self) -> Engine:
        if self._url.drivername != _MYSQL:
            return self._engine
        return self._open(PATIENT_STATEMENT_TIMEOUT_S)

    def _open(self, statement_timeout_s: float) -> Engine:
        if self._url.drivername != _MYSQL:
            return _open_sqlite(self._url)
        several = len(self._rotation) > 1
        engine = create_engine(
            self._url,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_S,
            pool_timeout=CONNECT_TIMEOUT_S,
            connect_args={
                "connect_timeout": FAILOVER_CONNECT_TIMEOUT_S if several else CONNECT_TIMEOUT_S,
                "read_timeout": statement_timeout_s,
                "write_timeout": statement_timeout_s,
                "init_command": _SESSION,
            },
        )
        if several:
            event.listen(engine, "do_connect", self._connect)
        return engine

    def _connect(self, dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> Any:
        """A connection to the first server that takes one, from the current one on."""
        from pymysql.err import OperationalError  # with its ciphers it takes 10 MB, which SQLite need not have

        for attempt in range(1, len(self._rotation) + 1):
            host = self._rotation.current
            try:
                return dialect.connect(**{**options, "host": host.name, "port": host.port})
            except OperationalError:
                self._rotation.advance(host)
                if attempt == len(self._rotation):
                    raise
        raise AssertionError("there is at least one server")

    def _done(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self.transaction(writes=writes) as connection:
                    return work(connection)
            except StoreError as error:
                cause = error.__cause__
                others = attempt < len(self._rotation) and _is_out_of_service(cause)
                if attempt == MAX_ATTEMPTS or not (others or _code(cause) in _CONFLICTS):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _leave(self, host: Host) -> None:
        if len(self._rotation) > 1:
            self._rotation.advance(host)
            self.close()  # connections to the server that was left must not come back from the pool

    def _line(self, error: SQLAlchemyError) -> str:
        reason = error.orig if isinstance(error, DBAPIError) else error
        text = " ".join(str(part) for part in getattr(reason, "args", ())[-1:]) or str(reason)
        if self._url.password:
            text = text.replace(str(self._url.password), "***")
        return f"{self.name}: {' '.join(text.split())}"


def masked(url: URL, hosts: tuple[Host, ...] = ()) -> str:
    """The URL without password and without options, which may hold secrets too."""
    text = url.set(query={}).render_as_string(hide_password=True)
    if not hosts:
        return text
    first, *others = (f"{host.name}:{host.port}" for host in hosts)
    return text.replace(f"{first}/", f"{','.join((first, *others))}/", 1)


def _code(error: BaseException | None) -> int | None:
    arguments = getattr(error.orig, "args", ()) if isinstance(error, DBAPIError) else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _is_out_of_service(error: BaseException | None) -> bool:
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or _code(error) in _OUT_OF_SERVICE


def _parse(text: str) -> tuple[URL, tuple[Host, ...]]:
    try:
        single, hosts = split_hosts(text)
        url = make_url(single)
    except (SQLAlchemyError, ValueError) as error:
        # The text itself may hold a password, so it is not shown.
        raise StoreError(
            "result store: the URL cannot be read, expected sqlite:/// or mysql+pymysql://"
        ) from error
    if url.drivername == _MYSQL:
        return url, hosts
    if url.drivername in ("sqlite", "sqlite+pysqlite") and url.database not in (None, "", ":memory:"):
        return url, ()
    raise StoreError(f"result store: got {masked(url)}, expected sqlite:///path or mysql+pymysql://user@host/name")


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
    connection.execute("PRAGMA cache_size = -256")  # KiB: the kernel caches the file for all who read it


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
