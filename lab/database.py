"""A MariaDB server of one's own: a fresh data directory, loopback only, gone with the block that made it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pymysql

from schemas.errors import HostError, LabError

_PACKAGE = "mariadb-server-core"
DATABASE = "inpath"
USER = "inpath"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02

# Small buffers make a start quick; the durability of a commit stays that of a production server.
_OPTIONS = """\
[mysqld]
datadir={data}
socket={directory}/mariadb.sock
tmpdir={directory}
pid-file={directory}/mariadb.pid
log-error={directory}/mariadb.log
bind-address=127.0.0.1
port={port}
skip-name-resolve
skip-log-bin
performance-schema=OFF
max-connections=32
innodb-buffer-pool-size=16M
innodb-log-file-size=4M
innodb-log-buffer-size=1M
innodb-flush-log-at-trx-commit=1
aria-pagecache-buffer-size=1M
key-buffer-size=1M
table-open-cache=64
"""

# Runs in the server at each start. Only the user of the URL can log in: root would have no password.
_ACCESS = """\
CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4;
DELETE FROM mysql.global_priv WHERE User NOT IN ('mariadb.sys', '{user}');
FLUSH PRIVILEGES;
CREATE OR REPLACE USER '{user}'@'127.0.0.1' IDENTIFIED BY '{password}';
CREATE OR REPLACE USER '{user}'@'localhost' IDENTIFIED BY '{password}';
GRANT ALL ON {database}.* TO '{user}'@'127.0.0.1', '{user}'@'localhost';
"""


class PrivateMariaDB:
    """One server; use it as a context manager.

    Args:
        directory: an existing directory for data, socket and log; best an empty one.
        namespace: a network namespace to live in, and so to end with; it is reached by its Unix socket then.

    Raises:
        HostError: on entering, when MariaDB is not installed.
        LabError: on entering, when it does not start; the text holds the end of its log.
    """

    def __init__(self, directory: Path | str, *, namespace: str | None = None) -> None:
        self.directory = Path(directory).resolve()
        self._namespace = namespace
        self.port = 0
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For SQLAlchemy, with the password."""
        access = f"mysql+pymysql://{USER}:{self._password}"
        if self._namespace is not None:
            return f"{access}@localhost/{DATABASE}?unix_socket={self._socket}"
        return f"{access}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _socket(self) -> Path:
        return self.directory / "mariadb.sock"

    def __enter__(self) -> PrivateMariaDB:
        self.install()
        self.start()
        return self

    def install(self) -> None:
        """Make options, access and the data directory, unless that is there from an earlier time.

        Raises:
            HostError: MariaDB is not installed.
            LabError: it cannot make its data directory.
        """
        self.port = _free_port()
        self._write_private("options.cnf", self._options())
        self._write_private("access.sql", _ACCESS.format(database=DATABASE, user=USER, password=self._password))
        self._make_data()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server on the port it had before, and wait until it answers."""
        enter = [] if self._namespace is None else ["ip", "netns", "exec", self._namespace]
        self._process = subprocess.Popen(
            [*enter, _program("mariadbd"), *self._arguments(), f"--init-file={self.directory / 'access.sql'}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_until_it_answers(self._process)
        except LabError:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in order; by force if it takes longer than `STOP_TIMEOUT_S`."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server as a loss of power would: no order, no last write."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop if it runs, and start again with the same data."""
        self.stop()
        self.start()

    def _options(self) -> str:
        return _OPTIONS.format(data=self.directory / "data", directory=self.directory, port=self.port)

    def _arguments(self) -> list[str]:
        user = ["--user=root"] if os.geteuid() == 0 else []
        return [f"--defaults-file={self.directory / 'options.cnf'}", *user]

    def _write_private(self, name: str, text: str) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)

    def _make_data(self) -> None:
        if (self.directory / "data" / "mysql").exists():
            return
        done = subprocess.run(
            [
                _program("mariadb-install-db"),
                *self._arguments(),
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"mariadb-install-db: {self._end_of_log() or ' '.join(done.stderr.split())[-300:]}")

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LabError(f"mariadbd ended with {process.returncode}: {self._end_of_log()}")
            if self._answers():
                return
            time.sleep(_POLL_S)
        raise LabError(f"mariadbd does not answer after {START_TIMEOUT_S:.0f} s: {self._end_of_log()}")

    def _answers(self) -> bool:
        # First by hand: PyMySQL leaves its socket open when a Unix socket refuses.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            if door.connect_ex(str(self._socket)) != 0:
                return False
        try:
            pymysql.connect(
                unix_socket=str(self._socket), user=USER, password=self._password, database=DATABASE
            ).close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _end_of_log(self) -> str:
        log = self.directory / "mariadb.log"
        return " ".join(log.read_text(errors="replace").split())[-300:] if log.exists() else ""


def _program(name: str) -> str:
    # Debian keeps servers in /usr/sbin, which is not on everybody's path.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise HostError(f"{name} is not installed, expected the Debian package {_PACKAGE}")
    return found


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
