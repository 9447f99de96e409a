"""Reports over loopback between points with good and bad certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mp.reporter import Reporter
from mp.reports.settings import ReportTls
from mp.reports.tls import ReportContexts, report_contexts
from processor.decision import Report
from receiver.admission import AdmissionLimits
from receiver.server import ReportServer, Trouble
from schemas.errors import ConfigurationError, HostError
from schemas.message import MeasureRequest, Message
from schemas.xml_writer import message_to_xml
from tests.mp.reports.points import DAY_MS, authority, certified, now_ms

SOURCE, LAST = "127.0.0.1", "127.0.0.9"
REQUEST = MeasureRequest(
    source=SOURCE,
    destination=LAST,
    id="5" * 32,
    metrics=("loss",),
    created_at_ms=1,
    lifetime_ms=1,
    max_age_ms=0,
)
REPORT = Report(
    asker=SOURCE,
    id=REQUEST.id,
    copy=0,
    part=0,
    final=True,
    lifetime_ms=1,
    payload=message_to_xml(Message(request=REQUEST)),
)


async def take(message: Message, final: bool) -> bool:
    return message.request.id == REQUEST.id


def carried(
    server_side: ssl.SSLContext | None, client_side: ssl.SSLContext | None
) -> tuple[Reporter, ReportServer]:
    """One attempt to bring a report, to its end."""

    async def story() -> tuple[Reporter, ReportServer]:
        server = ReportServer(SOURCE, 0, take, tls=server_side)
        await server.start()
        reporter = Reporter(LAST, server.port, client_side)
        reporter.submit(REPORT)
        async with asyncio.timeout(10):
            while not reporter.counters:
                await asyncio.sleep(0.01)
        await reporter.close()
        await server.close()
        return reporter, server

    return asyncio.run(story())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def points(folder: Path) -> dict[str, ReportTls]:
    """The asker and the last point of one authority, strangers of another, and one whose time is over."""
    ours, theirs = authority(), authority("others")
    return {
        "asker": certified(folder / "ours", ours, SOURCE),
        "last": certified(folder / "ours", ours, LAST),
        "stranger": certified(folder / "theirs", theirs, LAST),
        "impostor": certified(folder / "theirs", theirs, SOURCE),
        "late": certified(folder / "late", ours, LAST, made_at_ms=now_ms() - 3 * DAY_MS),
    }


@pytest.fixture(scope="module")
def contexts(points: dict[str, ReportTls]) -> dict[str, ReportContexts]:
    return {name: report_contexts(files) for name, files in points.items()}


def test_points_of_one_authority_exchange_reports(contexts: dict[str, ReportContexts]) -> None:
    reporter, server = carried(contexts["asker"].server, contexts["last"].client)
    assert reporter.counters == {"acknowledged": 1}
    assert server.counters == {"taken": 1}


def test_a_point_gives_no_report_to_an_address_that_the_certificate_does_not_name(
    contexts: dict[str, ReportContexts], caplog: pytest.LogCaptureFixture
) -> None:
    reporter, server = carried(contexts["last"].server, contexts["last"].client)
    assert reporter.counters == {"given_up": 1}
    assert server.counters["taken"] == 0
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in caplog.text


def test_a_point_gives_no_report_to_a_server_of_another_authority(
    contexts: dict[str, ReportContexts], caplog: pytest.LogCaptureFixture
) -> None:
    reporter, server = carried(contexts["impostor"].server, contexts["last"].client)
    assert (reporter.counters["given_up"], server.counters["taken"]) == (1, 0)
    assert "certificate verify failed" in caplog.text


@pytest.mark.parametrize("who", ["stranger", "late"])
def test_no_report_is_taken_from_who_has_no_valid_certificate_of_the_authority(
    contexts: dict[str, ReportContexts], who: str
) -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client = contexts[who].client
    assert client is not None
    if who == "stranger":  # it would not even talk to a server that it does not know
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    reporter, server = carried(contexts["asker"].server, client)
    assert reporter.counters == {"given_up": 1}
    assert server.counters == {Trouble.BROKEN_OFF: 1}
    without, server = carried(contexts["asker"].server, trusting)
    assert (without.counters, server.counters) == ({"given_up": 1}, {Trouble.BROKEN_OFF: 1})


def test_reports_in_the_clear_are_not_taken_with_tls_nor_with_tls_in_the_clear(
    contexts: dict[str, ReportContexts],
) -> None:
    reporter, server = carried(contexts["asker"].server, None)
    assert (reporter.counters, server.counters) == ({"given_up": 1}, {Trouble.BROKEN_OFF: 1})
    reporter, server = carried(None, contexts["last"].client)
    assert (reporter.counters, server.counters) == ({"given_up": 1}, {Trouble.MALFORMED: 1})


def test_an_older_tls_is_not_spoken(contexts: dict[str, ReportContexts], points: dict[str, ReportTls]) -> None:
    old = report_contexts(points["last"]).client
    assert old is not None
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    reporter, server = carried(contexts["asker"].server, old)
    assert (reporter.counters, server.counters) == ({"given_up": 1}, {Trouble.BROKEN_OFF: 1})


def test_who_shakes_no_hands_holds_a_place_and_is_cut_off(
    contexts: dict[str, ReportContexts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.server.HANDSHAKE_LIMIT_S", 0.2)

    async def story() -> ReportServer:
        limits = AdmissionLimits(connections=1)
        server = ReportServer(SOURCE, 0, take, tls=contexts["asker"].server, limits=limits)
        await server.start()
        silent, writer = await asyncio.open_connection(SOURCE, server.port)
        turned_away, other = await asyncio.open_connection(SOURCE, server.port)
        assert await turned_away.read() == b""
        assert await silent.read() == b""
        for one in (writer, other):
            one.close()
        await server.close()
        return server

    assert asyncio.run(story()).counters == {Trouble.TURNED_AWAY: 1, Trouble.BROKEN_OFF: 1}


def no_ca(files: ReportTls, folder: Path) -> ReportTls:
    return replace(files, ca=folder / "missing.pem")


def rubbish_ca(files: ReportTls, folder: Path) -> ReportTls:
    (folder / "rubbish.pem").write_text("-----BEGIN CERTIFICATE-----\nhunter2\n")
    return replace(files, ca=folder / "rubbish.pem")


def no_certificate(files: ReportTls, folder: Path) -> ReportTls:
    return replace(files, certificate=folder / "missing.pem")


def key_as_certificate(files: ReportTls, _: Path) -> ReportTls:
    return replace(files, certificate=files.key)


def key_of_another(files: ReportTls, folder: Path) -> ReportTls:
    return replace(files, key=certified(folder / "another", authority(), SOURCE).key)


def open_key(files: ReportTls, folder: Path) -> ReportTls:
    key = folder / "open-key.pem"
    key.write_bytes(files.key.read_bytes())
    key.chmod(0o644)
    return replace(files, key=key)


def rubbish_key(files: ReportTls, folder: Path) -> ReportTls:
    key = folder / "rubbish-key.pem"
    key.touch(mode=0o600)
    key.write_text("hunter2")
    return replace(files, key=key)


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (no_ca, r"reports\.ca: got '.*missing\.pem', expected .* in PEM form \(No such file"),
        (rubbish_ca, r"reports\.ca: got '.*rubbish\.pem', expected a file of certificates in PEM form"),
        (no_certificate, r"reports\.certificate: got '.*missing\.pem', expected .* \(No such file"),
        (
            key_as_certificate,
            r"reports\.certificate: got .*, expected a certificate in PEM form, and in .* its key",
        ),
        (key_of_another, r"reports\.key: got .*, expected the key of .*127\.0\.0\.9\.pem"),
        (
            open_key,
            r"reports\.key: got '.*open-key\.pem with mode 0644', expected a file that others may not touch",
        ),
        (rubbish_key, r"reports\.certificate: got .*, and in .*rubbish-key\.pem its key, without a passphrase"),
    ],
)
def test_a_bad_file_is_named_with_its_key_and_what_is_wrong(
    folder: Path, points: dict[str, ReportTls], spoiled: Callable[[ReportTls, Path], ReportTls], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        report_contexts(spoiled(points["last"], folder))
    assert "hunter2" not in str(caught.value)


def test_a_missing_key_is_named(folder: Path, points: dict[str, ReportTls]) -> None:
    with pytest.raises(HostError, match=r"reports\.key .*none\.pem: No such file"):
        report_contexts(replace(points["last"], key=folder / "none.pem"))


def test_a_key_with_a_passphrase_asks_nobody_for_it(folder: Path, points: dict[str, ReportTls]) -> None:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(points["last"].key.read_bytes(), None)
    locked = folder / "locked-key.pem"
    locked.touch(mode=0o600)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    with pytest.raises(ConfigurationError, match="its key, without a passphrase"):
        report_contexts(replace(points["last"], key=locked))


def test_without_files_reports_travel_in_the_clear() -> None:
    assert report_contexts(None) == ReportContexts(None, None)
