"""Brings a database to the tables of this version, and back.

Alembic, which takes 0.2 s to import, is used only when the database is not at `HEAD` already.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files

from sqlalchemy import Connection, inspect, text

from receiver.store.database import Database
from schemas.errors import StoreError

HEAD = "0005"
"""The newest revision in `migrations/versions`."""

VERSION_TABLE = "alembic_version"
_LOCK_NAME = "inpath-schema"
_LOCK_TIMEOUT_S = 5


def upgrade(url: str) -> None:
    """Bring the database at `url` to `HEAD`.

    Raises:
        StoreError: the database is away, refuses, or is of a newer version.
    """
    database = Database(url)
    try:
        upgrade_database(database)
    finally:
        database.close()


def downgrade(url: str, revision: str) -> None:
    """Take the database at `url` back to `revision`; "base" removes all tables and what they hold.

    Raises:
        StoreError: the database is away or refuses, or there is no such revision.
    """
    database = Database(url)
    try:
        _migrate(database, revision, down=True)
    finally:
        database.close()


def upgrade_database(database: Database) -> None:
    """As `upgrade`, for a database that is open already; cheap when there is nothing to do."""
    if current_revision(database) != HEAD:
        _migrate(database, HEAD, down=False)


def upgrade_apart(database: Database) -> None:
    """As `upgrade_database`, in a process of its own that takes the 12 MB of Alembic along when it ends.

    Raises:
        StoreError: as `upgrade`.
    """
    if current_revision(database) == HEAD:
        return
    program = (sys.executable, "-m", "receiver.store.schema_version")
    # Not as an argument, which all may read: it may hold a password.
    done = subprocess.run(program, input=database.url, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
        raise StoreError(reason[0])


def current_revision(database: Database) -> str | None:
    """The revision of the database, None while it has no tables of ours.

    Raises:
        StoreError: the database is away.
    """
    with database.transaction() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if revision is None else str(revision)


def _migrate(database: Database, revision: str, *, down: bool) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    with (
        as_file(files("receiver.store") / "migrations") as scripts,
        database.transaction(patient=True) as connection,
    ):
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            with _only_one(connection, database.name):
                (command.downgrade if down else command.upgrade)(config, revision)
        except CommandError as error:
            raise StoreError(f"{database.name}: {error}; this version knows revisions up to {HEAD}") from error


@contextmanager
def _only_one(connection: Connection, name: str) -> Iterator[None]:
    """Hold a lock of the database: programs that share it may start together, and MariaDB cannot undo DDL."""
    if connection.dialect.name != "mysql":
        # Before the first read: SQLite lets no one trade a read lock up after another program has written.
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        return
    lock = {"name": _LOCK_NAME, "timeout": _LOCK_TIMEOUT_S}
    if connection.execute(text("SELECT GET_LOCK(:name, :timeout)"), lock).scalar() != 1:
        raise StoreError(f"{name}: another program has been changing the tables for {_LOCK_TIMEOUT_S} s")
    try:
        yield
        # Whoever gets the lock next must see the new version, which is a row and not DDL.
        connection.exec_driver_sql("COMMIT")
    finally:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK_NAME})


def main() -> None:
    """Upgrade the database whose URL comes in; what is wrong goes to standard error."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # MariaDB cannot undo half of it; who started it waits for the end
    try:
        upgrade(sys.stdin.read())
    except StoreError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
