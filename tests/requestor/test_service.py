"""The service and its client over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from requestor.client import Client
from requestor.dialogue import MAX_LINE_BYTES, RemoteError
from requestor.query import PathQuery
from requestor.service import Service
from schemas.errors import HostError, UsageError
from schemas.result import PathResult, ResultStatus

QUERY = PathQuery(source="10.0.0.1", destination="10.0.0.2", metrics=("loss",), timeout_s=5.0, max_age_s=1.0)
RESULT = PathResult(
    id="0" * 32,
    status=ResultStatus.PARTIAL,
    source="10.0.0.1",
    destination="10.0.0.2",
    metrics=("loss",),
    requested_at="2026-01-01T00:00:00.000000Z",
    elapsed_ms=1.5,
    segments=(),
    composed={},
    warnings=("no records",),
)
LOOPBACK = (IPv4Network("127.0.0.0/8"),)


async def answer(question: dict[str, Any]) -> dict[str, Any]:
    match question:
        case {"ask": "path", "query": query}:
            assert PathQuery.from_json(query, {}) == QUERY
            return {"result": RESULT.to_json()}
        case {"ask": "status"}:
            return {"status": {"ok": True}}
    if question.get("ask") == "bug":
        raise ZeroDivisionError("not raised on purpose")
    raise UsageError("ask", question.get("ask"), "path or status")


@contextmanager
def running(path: Path, allow: tuple[IPv4Network, ...] = LOOPBACK) -> Iterator[int]:
    """A service in a thread; gives its TCP port."""
    ready = threading.Event()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        service = Service(answer, allow)
        await service.listen_unix(path)
        await service.listen_tcp("127.0.0.1", port)
        ready.set()
        await stop.wait()
        await service.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(5)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def test_a_client_asks_over_the_unix_socket_and_over_tcp(tmp_path: Path) -> None:
    with running(tmp_path / "s.sock") as port:
        for where in (tmp_path / "s.sock", ("127.0.0.1", port)):
            with Client(where) as client:
                assert client.path(QUERY) == RESULT
                assert client.status() == {"ok": True}


def test_the_socket_is_for_owner_and_group_alone(tmp_path: Path) -> None:
    with running(tmp_path / "s.sock"):
        assert (tmp_path / "s.sock").stat().st_mode & 0o777 == 0o660


def test_a_question_that_cannot_be_meant_gets_its_error_and_the_connection_lives(tmp_path: Path) -> None:
    with running(tmp_path / "s.sock"), Client(tmp_path / "s.sock") as client:
        with pytest.raises(RemoteError, match="ask: got 'weather'"):
            client._ask({"ask": "weather"}, 2.0)
        assert client.status() == {"ok": True}


def test_a_question_that_breaks_the_service_gets_an_answer_and_the_connection_lives(tmp_path: Path) -> None:
    with running(tmp_path / "s.sock"), Client(tmp_path / "s.sock") as client:
        with pytest.raises(RemoteError, match="the point's log says why"):
            client._ask({"ask": "bug"}, 2.0)
        assert client.status() == {"ok": True}


def test_a_tcp_client_from_elsewhere_is_told_why_it_may_not_ask(tmp_path: Path) -> None:
    elsewhere = (IPv4Network("10.0.0.0/8"),)
    with running(tmp_path / "s.sock", elsewhere) as port, Client(("127.0.0.1", port)) as client:
        caught = pytest.raises(RemoteError, client.status)
        assert "service.allow: got '127.0.0.1'" in str(caught.value)


def test_an_endless_line_is_cut_off_and_others_are_served(tmp_path: Path) -> None:
    with running(tmp_path / "s.sock"):
        with socket.socket(socket.AF_UNIX) as flood:
            flood.connect(str(tmp_path / "s.sock"))
            flood.settimeout(5)
            with pytest.raises(OSError):
                for _ in range(64):
                    flood.sendall(b"x" * (MAX_LINE_BYTES // 8))
                while flood.recv(65536):
                    pass
                raise ConnectionError("closed by the service")
        with Client(tmp_path / "s.sock") as client:
            assert client.status() == {"ok": True}


def test_where_nobody_listens_the_error_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"nobody\.sock"):
        Client(tmp_path / "nobody.sock")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async def collide(port: int) -> None:
        await Service(answer, LOOPBACK).listen_tcp("127.0.0.1", port)

    with running(tmp_path / "s.sock") as port, pytest.raises(HostError, match=f"127.0.0.1:{port}"):
        asyncio.run(collide(port))
