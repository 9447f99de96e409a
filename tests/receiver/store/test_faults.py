"""Nothing lost and nothing twice while everything around the recorder fails."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from lab.database import PrivateMariaDB
from receiver.store.recorder import DatabaseState, Recorder
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_result
from tests.receiver.store.reports import report

ROOT = Path(__file__).parents[3]
SECOND_NS = 1_000_000_000
REPORTS = 2_000
DATABASE_DEATHS = 5
RECORDER_DEATHS = (700, 1_400)
"""The recorder is killed after so many acknowledgements."""

RECORDER = """
import sys, threading, time
from receiver.store.recorder import Recorder
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_result
from tests.receiver.store.reports import report
spool = Spool(sys.argv[2])
recorder = Recorder(ResultStore(sys.argv[1]), spool)
def drain():
    while True:
        recorder.drain(20 * time.monotonic_ns())  # back-off passes quickly
        time.sleep(0.01)
threading.Thread(target=drain, daemon=True).start()
for line in sys.stdin:
    spool.put(document_from_result(report(int(line))), line)
    print(line, end="", flush=True)
"""

FILL = """
import sys, logging
from pathlib import Path
from receiver.store.recorder import Recorder
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_result
from schemas.errors import StoreError
from tests.receiver.store.reports import report
place, other = Path(sys.argv[1]), Path(sys.argv[2])
logging.disable()
"""

FULL_SPOOL = (
    FILL
    + """
spool = Spool(place / "spool.db")
kept = []
try:
    while True:
        spool.put(document_from_result(report(len(kept))), "key")
        kept.append(len(kept))
except StoreError as error:
    assert "full" in str(error), error
assert len(kept) > 50 and spool.depth == len(kept)
recorder = Recorder(ResultStore(f"sqlite:///{other / 'results.db'}"), spool)
while recorder.drain(0): pass
assert spool.depth == 0, recorder.state
spool.put(document_from_result(report(len(kept))), "key")  # there is room again
assert recorder.drain(0) == 1
ids = sorted(int(one.id, 16) for one in ResultStore(f"sqlite:///{other / 'results.db'}").latest(100_000))
assert ids == [*kept, len(kept)], (len(ids), len(kept))
"""
)

FULL_DATABASE = (
    FILL
    + """
filler = place / "filler"
spool = Spool(other / "spool.db")
recorder = Recorder(ResultStore(f"sqlite:///{place / 'results.db'}"), spool)
recorder.drain(0)
spool.put(document_from_result(report(0)), "key")
assert recorder.drain(0) == 1
with filler.open("wb", buffering=0) as file:
    try:
        while True: file.write(bytes(4096))
    except OSError: pass
for number in range(1, 200): spool.put(document_from_result(report(number)), "key")
now = 0
assert recorder.drain(now) == 0
assert "full" in recorder.state.last_error and spool.depth == 199, recorder.state
filler.unlink()
while recorder.drain(now := now + 100_000_000_000): pass
assert spool.depth == 0, recorder.state
ids = sorted(int(one.id, 16) for one in ResultStore(f"sqlite:///{place / 'results.db'}").latest(100_000))
assert ids == list(range(200)), ids
"""
)


def stored(url: str) -> list[int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        ids = [int(one, 16) for one in connection.execute(text("SELECT id FROM results")).scalars()]
    engine.dispose()
    return sorted(ids)


class Reporter:
    """Sends reports to a recorder in a process of its own, again and again until each is acknowledged."""

    def __init__(self, url: str, spool: Path) -> None:
        self._command = [sys.executable, "-c", RECORDER, url, str(spool)]
        self.acknowledged: set[int] = set()
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def send(self, numbers: range) -> None:
        """Send some at once; the caller sends again what is not acknowledged when the recorder dies."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("".join(f"{number}\n" for number in numbers))
            self._process.stdin.flush()
        for _ in numbers:
            line = self._process.stdout.readline()
            if not line.endswith("\n"):
                return
            self.acknowledged.add(int(line))

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def kill_and_start(server: PrivateMariaDB) -> None:
    for _ in range(DATABASE_DEATHS):
        server.kill()
        server.start()


@pytest.mark.database
@pytest.mark.slow
def test_every_acknowledged_report_is_stored_once_although_database_and_recorder_die(tmp_path: Path) -> None:
    (tmp_path / "database").mkdir()
    with PrivateMariaDB(tmp_path / "database") as server:
        ResultStore(server.url).prepare()
        reporter = Reporter(server.url, tmp_path / "spool.db")
        deaths = threading.Thread(target=kill_and_start, args=(server,))
        deaths.start()
        killed = list(RECORDER_DEATHS)
        while len(reporter.acknowledged) < REPORTS or deaths.is_alive():
            missing = min(set(range(REPORTS)) - reporter.acknowledged, default=0)
            if killed and len(reporter.acknowledged) >= killed[0]:
                killed.pop(0)
                threading.Timer(0.02, reporter.kill).start()
                reporter.send(range(missing, missing + 200))
                time.sleep(0.5)
                reporter.start()
            else:
                reporter.send(range(missing, missing + 10))
                time.sleep(0.01)
        deaths.join()
        reporter.kill()
        assert (reporter.acknowledged >= set(range(REPORTS)), killed) == (True, [])
        spool = Spool(tmp_path / "spool.db")
        recorder = Recorder(ResultStore(server.url), spool)
        while recorder.drain(0):
            pass
        assert spool.depth == spool.refused == 0
        numbers = stored(server.url)
        recorder.close()
    assert numbers == sorted(set(numbers))
    assert reporter.acknowledged <= set(numbers)


@contextmanager
def slow_way(port: int, delay_s: float) -> Iterator[int]:
    """A port of this machine that leads to another one, each piece late by `delay_s`."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = []

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                time.sleep(delay_s)
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.database
@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_a_slow_database_takes_everything_in_few_rounds(
    database_url: str, mariadb: PrivateMariaDB, tmp_path: Path
) -> None:
    ResultStore(database_url).prepare()
    url = make_url(database_url)
    with slow_way(mariadb.port, 0.1) as port:
        spool = Spool(tmp_path / "spool.db")
        slow = url.set(port=port).render_as_string(hide_password=False)
        recorder = Recorder(ResultStore(slow), spool)
        spool.put_all([(document_from_result(report(number)), "key") for number in range(300)])
        began = time.monotonic()
        assert recorder.drain(0) == 300
        assert 0.5 < time.monotonic() - began < 10
        recorder.close()
    assert stored(database_url) == list(range(300))


@pytest.mark.database
@pytest.mark.slow
def test_while_the_database_is_read_only_results_wait(tmp_path: Path) -> None:
    (tmp_path / "database").mkdir()
    with PrivateMariaDB(tmp_path / "database") as server, closing(Spool(tmp_path / "spool.db")) as spool:
        store = ResultStore(server.url)
        recorder = Recorder(store, spool)
        spool.put(document_from_result(report(0)), "key")
        assert recorder.drain(0) == 1
        options = server.directory / "options.cnf"
        writable = options.read_text()
        options.write_text(f"{writable}read-only=1\n")
        server.restart()
        spool.put(document_from_result(report(1)), "key")
        assert recorder.drain(0) == 0
        state = recorder.state
        assert (state.database, state.spool_depth, state.refused) == (DatabaseState.AWAY, 1, 0)
        assert state.last_error is not None and "read-only" in state.last_error
        assert store.get(report(0).id) == report(0)  # reading goes on
        options.write_text(writable)
        server.restart()
        assert recorder.drain(2 * SECOND_NS) == 1
        assert stored(server.url) == [0, 1]
        store.close()


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("program", [FULL_SPOOL, FULL_DATABASE], ids=["spool", "database"])
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, program: str) -> None:
    small, other = tmp_path / "small", tmp_path / "other"
    small.mkdir()
    other.mkdir()
    mount = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" -c "$3" "$1" "$4"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", str(small), sys.executable, program, str(other)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
