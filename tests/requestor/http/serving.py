"""The HTTP process as a point runs it, in front of a point that is none, and programs that ask it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mp.config import configuration_from_toml
from mp.http.link import HttpLink
from schemas.metrics import METRICS
from tests.requestor.http.fake_point import NAMES, OWN, FakePoint

LIMIT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def document(self) -> Any:
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LIMIT_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running service."""

    folder: Path
    place: Path
    """Of the Unix socket."""
    port: int
    point: FakePoint
    link: HttpLink
    loop: asyncio.AbstractEventLoop

    @property
    def token_file(self) -> Path:
        return self.folder / "tokens.json"

    @property
    def configuration(self) -> Path:
        return self.folder / "point.toml"

    def ask(
        self, method: str, target: str, document: object = None, *, headers: dict[str, str] | None = None
    ) -> Reply:
        """Over the Unix socket, on a connection of its own."""
        connection = UnixConnection(self.place)
        return reply_of(connection, method, target, document, headers or {})

    def ask_tcp(self, method: str, target: str, document: object = None, *, token: str | None = None) -> Reply:
        """Over TCP without TLS."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        return reply_of(connection, method, target, document, headers)

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The program, on the Unix socket."""
        command = ["curl", "-sS", "--max-time", str(LIMIT_S), "--unix-socket", str(self.place), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def open(self) -> socket.socket:
        """A bare connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(LIMIT_S)
        connection.connect(str(self.place))
        return connection


def reply_of(
    connection: http.client.HTTPConnection, method: str, target: str, document: object, headers: dict[str, str]
) -> Reply:
    body = None if document is None else json.dumps(document)
    given = {**({} if body is None else {"Content-Type": "application/json"}), **headers}
    try:
        connection.request(method, target, body=body, headers=given)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Reply(status=response.status, headers=named, body=response.read())
    finally:
        connection.close()


@contextmanager
def short_folder() -> Iterator[Path]:
    """With a short path, since Unix sockets lie in it, and one that the process may pass."""
    path = Path(tempfile.mkdtemp(prefix="ht", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def served(folder: Path, http_table: str = "", *, tcp: bool = False) -> Iterator[Served]:
    """The process, with more keys in the table [http] if given."""
    port = free_port()
    names = "".join(f'{name} = "{address}"\n' for name, address in NAMES.items())
    listen = 'listen = "127.0.0.1"' if tcp else ""
    text = (
        f'[point]\naddress = "{OWN}"\nstate_dir = "{folder}"\n[service]\nsocket = "{folder}/s"\n'
        f'[http]\nsocket = "{folder}/h"\ntoken_file = "{folder}/tokens.json"\nport = {port}\n'
        f'{http_table}\n{listen}\n[log]\nlevel = "warning"\n[names]\n{names}'
    )
    (folder / "point.toml").write_text(text)
    loop, ready = asyncio.new_event_loop(), threading.Event()
    point, stop = FakePoint(), asyncio.Event()
    link = HttpLink(configuration_from_toml(text), METRICS)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            service = await point.serve(folder / "s")
            stack.push_async_callback(service.close)
            await link.start(stack)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(5)
    try:
        yield Served(folder=folder, place=folder / "h", port=port, point=point, link=link, loop=loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)
        loop.close()


def pss_mb(pid: int) -> float:
    """Memory of a process, what it shares counted in part, in units of 10**6 octets."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024 / 1e6


def status_fields(pid: int) -> dict[str, str]:
    """Of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def free_port() -> int:
    """A TCP port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(pid: int) -> bool:
    """Whether a process of that id is there and no zombie."""
    try:
        os.kill(pid, 0)
        return status_fields(pid)["State"][0] != "Z"
    except (OSError, KeyError):
        return False
