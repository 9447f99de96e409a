"""Clients that are slow, silent, greedy or unknown: each is bounded, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from requestor.http import connection, guard, jobs
from requestor.http.callers import LocalPolicy
from requestor.http.limits import RateLimit
from requestor.http.watches import MAX_SUBSCRIBERS_OF_ONE
from tests.requestor.http.fake_point import RESTLESS
from tests.requestor.http.in_process import Inside, inside, read_to_end, until

EVENTS = f"/v1/events?source=here&destination={RESTLESS}&interval_s=0.5"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    monkeypatch.setattr(connection, "HEAD_LIMIT_S", 0.3)
    monkeypatch.setattr(guard, "BODY_LIMIT_S", 0.3)
    monkeypatch.setattr(guard, "SEND_LIMIT_S", 0.3)
    with inside(tmp_path) as running:
        yield running
        assert b"200 OK" in running.get("/healthz")  # whatever the test did, others are served


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_who_does_not_finish_the_header_is_cut(service: Inside, sent: bytes) -> None:
    with service.open() as slow:
        slow.sendall(sent)
        began_s = time.monotonic()
        assert read_to_end(slow) == b""
        assert time.monotonic() - began_s < 2


def test_who_sends_a_second_header_slowly_is_cut_too(service: Inside) -> None:
    with service.request("GET", "/healthz") as slow:
        answer = b""
        while not answer.endswith(b"}"):
            answer += slow.recv(65536)
        slow.sendall(b"GET /hea")
        began_s = time.monotonic()
        assert read_to_end(slow) == b""
        assert time.monotonic() - began_s < 2


def test_who_does_not_finish_the_body_is_told_and_cut(service: Inside) -> None:
    with service.open() as slow:
        slow.sendall(b"POST /v1/paths HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = read_to_end(slow)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:inpath:problem:too-slow" in answer


def test_a_body_that_does_not_say_its_length_is_bounded_all_the_same(service: Inside) -> None:
    with service.open() as endless:
        endless.sendall(b"POST /v1/paths HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        endless.sendall(chunk * 5)
        assert endless.recv(65536).startswith(b"HTTP/1.1 413")


def drain(subscriber: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while subscriber.recv(1 << 20):
            pass


def test_a_subscriber_that_never_reads_is_cut_and_others_go_on(service: Inside) -> None:
    with service.request("GET", EVENTS) as silent, service.request("GET", EVENTS) as reader:
        until(lambda: service.desk.watches.subscribers == 2, "both listen")
        reading = threading.Thread(target=drain, args=(reader,))
        reading.start()
        (watch, _), *_ = service.desk.watches._watches.values()
        told = 0
        while service.desk.watches.subscribers == 2 and told < 400:
            service.loop.call_soon_threadsafe(watch._tell, "path", b"x" * 4096)
            told += 1
            time.sleep(0.005)
        assert told < 400  # 1.6 MB
        time.sleep(0.6)
        assert service.desk.watches.subscribers == 1
        assert len(read_to_end(silent)) < 1 << 18
        reader.shutdown(socket.SHUT_RDWR)
        reading.join()


def test_one_caller_listens_so_often_and_no_more(service: Inside) -> None:
    opened = [service.request("GET", EVENTS) for _ in range(MAX_SUBSCRIBERS_OF_ONE)]
    until(lambda: service.desk.watches.subscribers == MAX_SUBSCRIBERS_OF_ONE, "all listen")
    assert len(service.desk.watches._watches) == 1
    assert service.get(EVENTS).startswith(b"HTTP/1.1 429")
    for subscriber in opened:
        subscriber.close()
    until(lambda: service.desk.watches.subscribers == 0, "all have gone")


def test_one_connection_too_many_is_refused(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(connection, "HEAD_LIMIT_S", 5.0)
    opened = [service.open() for _ in range(3)]
    time.sleep(0.1)
    with service.open() as one_more:
        answer = read_to_end(one_more)
    assert answer.startswith(b"HTTP/1.1 503")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:inpath:problem:too-many"
    for client in opened:
        client.close()
    time.sleep(0.1)


def test_measurements_that_nobody_fetches_take_a_bounded_memory(
    service: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_KEPT_BYTES", 20_000)
    places = []
    for _ in range(40):
        body = b'{"source": "here", "destination": "far"}'
        with service.request("POST", "/v1/measurements", body, "Content-Type: application/json") as client:
            head = client.recv(65536).decode()
        places.append(next(line.split()[1] for line in head.splitlines() if line.lower().startswith("location")))
    until(lambda: b'"done"' in service.get(places[-1]), "the last one is done")
    assert service.desk.jobs.kept_bytes <= 20_000
    assert service.get(places[0]).startswith(b"HTTP/1.1 404")


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    with inside(tmp_path, rate=RateLimit(1.0, 3)) as service:
        answers = [service.get("/v1/profiles")[:12] for _ in range(4)]
        assert answers == [b"HTTP/1.1 200"] * 3 + [b"HTTP/1.1 429"]
        assert b"retry-after: 1\r\n" in service.get("/v1/profiles").lower()


def test_each_pair_of_a_batch_counts(tmp_path: Path) -> None:
    body = json.dumps({"pairs": [{"source": "here", "destination": "far"}] * 10}).encode()
    with inside(tmp_path, rate=RateLimit(1.0, 10)) as service:
        for expected in (b"HTTP/1.1 200", b"HTTP/1.1 429"):
            with service.request("POST", "/v1/batches", body, "Content-Type: application/json") as client:
                assert client.recv(65536).startswith(expected)


def test_a_local_user_who_is_not_listed_is_refused(tmp_path: Path) -> None:
    nobody_at_all = LocalPolicy(users=frozenset(), groups=frozenset())
    with inside(tmp_path, policy=nobody_at_all) as service:
        answer = service.get("/v1/profiles")
        assert answer.startswith(b"HTTP/1.1 403")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["value"] == os.geteuid()
        assert b"200 OK" in service.get("/healthz")


def test_stored_results_come_in_pages_that_join(service: Inside) -> None:
    cursor, seen = "", []
    for _ in range(3):
        page = json.loads(service.get(f"/v1/history?limit=2&metric=loss{cursor}").partition(b"\r\n\r\n")[2])
        assert all(list(result["composed"]) == ["loss"] for result in page["results"])
        seen += [result["id"] for result in page["results"]]
        cursor = f"&cursor={page['next']}"
    assert page["next"] is None
    assert seen == [f"{number:032x}" for number in range(1, 6)]
