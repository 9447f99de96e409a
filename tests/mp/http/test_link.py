"""The process from its first client to its end: started, watched, started again, reached by TLS and by token."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mp import clock
from mp.config import configuration_from_toml
from mp.http import link as http_link
from mp.http.link import HttpLink
from mp.token_command import token
from receiver.store.result_store import ResultStore
from schemas.errors import ConfigurationError, HostError, InpathError, UsageError
from schemas.metrics import METRICS
from tests.requestor.http.fake_point import FAR, OWN
from tests.requestor.http.in_process import STORED, until
from tests.requestor.http.serving import Reply, Served, is_alive, served, short_folder

QUESTION = {"source": "here", "destination": "far"}


def new_token(service: Served, *arguments: str) -> str:
    from click.testing import CliRunner

    made = CliRunner().invoke(token, ["new", "t", *arguments, "--config", str(service.configuration)])
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


def test_it_runs_only_once_somebody_asks_and_ends_with_the_point() -> None:
    with short_folder() as folder:
        with served(folder) as service:
            assert service.link.pid is None
            assert service.ask("GET", "/healthz").status == 200
            pid = service.link.pid
            assert pid is not None and is_alive(pid)
            assert (folder / "h").stat().st_mode & 0o777 == 0o660
        assert not is_alive(pid)
        assert not (folder / "h").exists()


def test_all_that_it_needs_is_loaded_before_its_rights_to_read_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # each module that is loaded is told on standard error
    caplog.set_level(logging.INFO)
    with short_folder() as folder, served(folder) as service, service.open():
        until(lambda: "serves on" in caplog.text, "a process that serves")
        assert "import time:" in capfd.readouterr().err
        for target in ("/healthz", "/readyz", "/v1/history?limit=1", "/v1/neighbors", "/v1/none", "/openapi.json"):
            service.ask("GET", target)
        for document in (QUESTION, {**QUESTION, "profile": "voice"}, {"source": 1}, None):
            service.ask("POST", "/v1/paths", document)
        with service.open() as stream:
            stream.sendall(b"GET /v1/events?source=here&destination=far HTTP/1.1\r\nHost: x\r\n\r\n")
            with stream.makefile("rb") as events:
                assert any(line.startswith(b"event: path") for line in events)
        late = [line for line in capfd.readouterr().err.splitlines() if line.startswith("import time:")]
    assert late == []


def test_a_process_that_dies_is_started_again_and_no_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_link, "FIRST_BACK_OFF_S", 0.3)
    with short_folder() as folder, served(folder) as service:
        assert service.ask("GET", "/healthz").status == 200
        first = service.link.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: service.link.pid is None, "its end is seen")
        assert service.ask("POST", "/v1/paths", QUESTION).status == 200
        assert service.link.pid not in (None, first)
        assert service.link.restarts == 1


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_link, "LOOK_S", 0.1)
    monkeypatch.setattr(http_link, "STOP_LIMIT_S", 0.1)
    with short_folder() as folder, served(folder) as service:
        assert service.ask("GET", "/healthz").status == 200
        first = service.link.pid
        assert first is not None
        monkeypatch.setattr(http_link, "HANG_LIMIT_MS", 300)
        os.kill(first, signal.SIGSTOP)
        until(lambda: not is_alive(first), "it is killed")


def test_a_daemon_that_stood_still_itself_ends_no_process_for_what_it_did_not_hear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_link, "LOOK_S", 0.1)
    with short_folder() as folder, served(folder) as service:
        assert service.ask("GET", "/healthz").status == 200
        first, monotonic_ms = service.link.pid, clock.monotonic_ms
        monkeypatch.setattr(clock, "monotonic_ms", lambda: monotonic_ms() + 2 * http_link.HANG_LIMIT_MS)
        time.sleep(1)  # many looks
        assert service.ask("GET", "/healthz").status == 200
        assert (service.link.pid, service.link.restarts) == (first, 0)


def test_it_asks_a_point_that_was_started_anew() -> None:
    with short_folder() as folder, served(folder) as service:
        assert service.ask("POST", "/v1/paths", QUESTION).status == 200
        anew = asyncio.run_coroutine_threadsafe(service.point.serve(folder / "s2"), service.loop).result(5)
        (folder / "s2").rename(folder / "s")
        assert service.ask("POST", "/v1/paths", QUESTION).status == 200
        (folder / "s").unlink()
        asyncio.run_coroutine_threadsafe(anew.close(), service.loop).result(5)


def test_a_point_that_is_away_is_told_and_the_process_lives() -> None:
    with short_folder() as folder, served(folder) as service:
        (folder / "s").unlink()
        reply = service.ask("POST", "/v1/paths", QUESTION)
        assert (reply.status, reply.document()["type"]) == (502, "urn:inpath:problem:point-away")
        assert service.ask("GET", "/readyz").status == 503
        assert service.ask("GET", "/healthz").status == 200


def test_over_tcp_a_token_decides_until_it_is_revoked() -> None:
    with short_folder() as folder, served(folder, tcp=True) as service:
        assert service.ask_tcp("GET", "/healthz").status == 200
        unknown = service.ask_tcp("POST", "/v1/paths", QUESTION)
        assert (unknown.status, unknown.headers["www-authenticate"]) == (401, 'Bearer realm="inpath"')
        text = new_token(service)
        until(lambda: service.ask_tcp("POST", "/v1/paths", QUESTION, token=text).status == 200, "it is known")
        wrong_scope = service.ask_tcp("GET", "/v1/point", token=text)
        assert (wrong_scope.status, wrong_scope.document()["field"]) == (403, "scope")
        where = service.ask_tcp("POST", "/v1/measurements", QUESTION, token=text).headers["location"]
        other = new_token(service)
        known = "the other is known"
        until(lambda: service.ask_tcp("POST", "/v1/paths", QUESTION, token=other).status == 200, known)
        assert service.ask_tcp("GET", where, token=text).status == 200
        assert service.ask_tcp("GET", where, token=other).status == 404
        service.token_file.unlink()
        until(lambda: service.ask_tcp("GET", where, token=text).status == 401, "it is revoked")


def test_with_a_certificate_it_is_reached_by_tls_whatever_the_process_may_read() -> None:
    with short_folder() as folder:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-keyout", str(folder / "key"), "-out", str(folder / "crt"), "-days", "1", "-subj", "/CN=localhost"]
            + ["-addext", "subjectAltName=IP:127.0.0.1"],
            check=True,
            capture_output=True,
        )
        (folder / "key").chmod(0o600)
        table = f'certificate = "{folder}/crt"\nkey = "{folder}/key"\n'
        with served(folder, table, tcp=True) as service:
            text = new_token(service)
            url = f"https://127.0.0.1:{service.port}/v1/profiles"
            command = ["curl", "-sS", "--cacert", str(folder / "crt"), "-H", f"Authorization: Bearer {text}", url]

            def said() -> str:
                return subprocess.run(command, check=True, capture_output=True, text=True).stdout

            until(lambda: '"voice"' in said(), "the token is known")
            with socket.create_connection(("127.0.0.1", service.port), 5) as plain:
                plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200" not in plain.recv(1000)


@pytest.mark.parametrize(
    ("table", "kind", "reason"),
    [
        ('user = "root"', ConfigurationError, "http.user: got 'root', expected another user"),
        ('user = "no-such-user"', ConfigurationError, "http.user: got 'no-such-user', expected a user"),
        ('group = "no-such-group"', ConfigurationError, "http.group: got 'no-such-group'"),
        ('users = ["no-such-user"]', ConfigurationError, "http.users: got 'no-such-user'"),
        ('certificate = "/none"\nkey = "/none"\nlisten = "127.0.0.1"', HostError, "/none: No such file"),
        ('socket = "/proc/none/h"', HostError, "http.socket /proc/none/h"),
        ('listen = "127.0.0.1"\ntoken_file = "/etc/hostname"', UsageError, "mode 0600"),
        (
            'listen = "127.0.0.1"\nport = 1\ntoken_file = "/none"\nsocket = "{taken}"',
            HostError,
            "in use by another",
        ),
    ],
)
def test_what_cannot_work_ends_the_start(tmp_path: Path, table: str, kind: type[InpathError], reason: str) -> None:
    async def start(text: str) -> None:
        async with AsyncExitStack() as stack:
            await HttpLink(configuration_from_toml(text), METRICS).start(stack)

    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "t"))
        taken.listen()
        text = f'[service]\nsocket = "{tmp_path}/s"\n[http]\n' + table.format(taken=tmp_path / "t")
        with pytest.raises(kind, match=reason):
            asyncio.run(start(text))


def test_it_can_be_turned_off() -> None:
    with short_folder() as folder, served(folder, "enabled = false") as service:
        assert not service.place.exists()


def test_stored_results_are_read_without_any_right_to_write() -> None:
    with short_folder() as folder, served(folder) as service:
        assert service.ask("GET", "/v1/history").document() == {"results": [], "next": None}
        store = ResultStore(f"sqlite:///{folder}/results.db")
        store.save_all(STORED)
        for kept in folder.glob("results.db*"):
            assert kept.stat().st_uid == 0
        seen, cursor = [], ""
        while cursor is not None:
            target = f"/v1/history?source={OWN}&destination={FAR}&from=2026-01-01T00:00:00Z&limit=2"
            reply: Reply = service.ask("GET", target + (f"&cursor={cursor}" if cursor else ""))
            assert reply.status == 200, reply.body
            seen += [result["id"] for result in reply.document()["results"]]
            cursor = reply.document()["next"]
        assert seen == [result.id for result in reversed(STORED)]
        assert service.ask("GET", "/v1/history?to=2026-01-01T00:00:00Z").document()["results"] == []
        store.close()


def test_a_store_that_is_away_is_told() -> None:
    with short_folder() as folder, served(folder) as service:
        (folder / "results.db").write_bytes(b"this is no database at all, however long it may be")
        reply = service.ask("GET", "/v1/history")
        assert (reply.status, reply.document()["type"]) == (503, "urn:inpath:problem:store-away")
        assert service.ask("POST", "/v1/paths", QUESTION).status == 200
