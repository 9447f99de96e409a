"""What subscribers hear of a path, as server-sent events."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requestor.http import watches
from tests.requestor.http.fake_point import MIDDLE, OWN, RESTLESS
from tests.requestor.http.in_process import Inside, inside, until


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    monkeypatch.setattr(watches, "ALIVE_S", 0.2)
    with inside(tmp_path) as running:
        yield running


class Subscriber:
    """Reads events one by one."""

    def __init__(self, service: Inside, destination: str, *headers: str, source: str = OWN) -> None:
        target = f"/v1/events?source={source}&destination={destination}&interval_s=0.5&profile=game"
        self.socket: socket.socket = service.request("GET", target, b"", "Accept: text/event-stream", *headers)
        self._pending = b""
        self.head = self._until(b"\r\n\r\n")

    def _until(self, end: bytes) -> bytes:
        while end not in self._pending:
            data = self.socket.recv(65536)
            assert data, self._pending
            self._pending += data
        found, _, self._pending = self._pending.partition(end)
        return found

    def block(self) -> str:
        """One event or comment, without the framing of HTTP's chunks."""
        size = int(self._until(b"\r\n"), 16)
        while len(self._pending) < size + 2:
            self._pending += self.socket.recv(65536)
        block, self._pending = self._pending[:size], self._pending[size + 2 :]
        return block.decode()

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """Id, name and data of the next event."""
        while (block := self.block()).startswith(":"):
            pass
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line)
        return fields["id"], fields["event"], json.loads(fields["data"])


def test_the_first_answer_is_told_and_then_each_change(service: Inside) -> None:
    subscriber = Subscriber(service, RESTLESS)
    assert b"content-type: text/event-stream" in subscriber.head.lower()
    identifier, name, data = subscriber.event()
    assert (name, data["changes"], data["result"]["destination"]) == ("path", ["first"], RESTLESS)
    assert data["verdict"]["profile"] == "game"
    following, name, data = subscriber.event()
    assert "value" in data["changes"]
    watch, number = identifier.split("-")
    assert following == f"{watch}-{int(number) + 1}"
    subscriber.socket.close()


def test_a_path_that_stays_the_same_is_told_once_and_the_stream_says_that_it_lives(service: Inside) -> None:
    subscriber = Subscriber(service, "far")
    assert subscriber.event()[2]["changes"] == ["first"]
    assert subscriber.block() == subscriber.block() == ": alive\n\n"
    until(lambda: service.point.asked >= 2, "it is asked about again")
    subscriber.socket.close()


def test_who_comes_again_gets_what_was_missed(service: Inside) -> None:
    first = Subscriber(service, RESTLESS)
    identifier = first.event()[0]
    first.socket.close()
    until(lambda: service.point.asked >= 4, "the watch goes on")
    again = Subscriber(service, RESTLESS, f"Last-Event-ID: {identifier}")
    watch, number = identifier.split("-")
    assert [again.event()[0] for _ in range(3)] == [f"{watch}-{int(number) + step}" for step in (1, 2, 3)]
    again.socket.close()


def test_an_id_that_means_nothing_gets_the_newest_event(service: Inside) -> None:
    first = Subscriber(service, RESTLESS)
    first.event()
    newest = first.event()[0]
    other = Subscriber(service, RESTLESS, "Last-Event-ID: ffffffff-99999999")
    assert other.event()[0] == newest
    for subscriber in (first, other):
        subscriber.socket.close()


def test_what_the_point_refuses_is_told_once_as_a_problem(service: Inside) -> None:
    subscriber = Subscriber(service, "far", source=MIDDLE)
    _, name, data = subscriber.event()
    assert (name, data["status"]) == ("problem", 422)
    until(lambda: service.point.asked >= 3, "it is asked about again")
    assert subscriber.block() == ": alive\n\n"
    subscriber.socket.close()


def test_a_watch_ends_when_nobody_listens(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "LINGER_S", 0.1)
    subscriber = Subscriber(service, "far")
    subscriber.event()
    subscriber.socket.close()
    until(lambda: not service.desk.watches._watches, "the watch ends")
