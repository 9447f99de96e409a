from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mp import clock
from mp.keys.authority import certified_from_pem, is_issued_by, issued, new_authority
from mp.keys.command import keys
from schemas.errors import ConfigurationError, HostError, UsageError

NOW_MS = 1_800_000_000_000
ONE, OTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "point.toml"
    path.write_text(f'[security]\nkeys_dir = "{tmp_path}/keys"\narea = "west"\n')
    (tmp_path / "keys").mkdir(mode=0o700)
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(keys, ["ca", *arguments, "--config", str(config)])


def done(config: Path, *arguments: str) -> Path:
    result = run(config, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return Path(result.stdout.strip())


def context(place: Path, own: str, purpose: ssl.Purpose, authority: str = "ca") -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=place / f"{authority}.pem")
    made.load_cert_chain(place / f"{own}.pem", place / f"{own}-key.pem")
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    return made


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, server_name: str) -> None:
    """Both ends of a connection in memory, until both are content.

    Raises:
        ssl.SSLError: one is not.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=server_name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(5):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends


def test_two_points_prove_themselves_to_each_other(config: Path) -> None:
    place = done(config, "new").parent
    for address in (ONE, OTHER):
        done(config, "issue", address)
    client = context(place, ONE, ssl.Purpose.SERVER_AUTH)
    server = context(place, OTHER, ssl.Purpose.CLIENT_AUTH)
    shake_hands(client, server, OTHER)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(client, server, ONE)


def test_a_point_of_another_authority_is_refused_by_both_ends(config: Path, tmp_path: Path) -> None:
    place = done(config, "new").parent
    strange = tmp_path / "strange"
    done(config, "new", "--directory", str(strange))
    done(config, "issue", ONE)
    done(config, "issue", OTHER, "--directory", str(strange))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(
            context(place, ONE, ssl.Purpose.SERVER_AUTH), context(strange, OTHER, ssl.Purpose.CLIENT_AUTH), OTHER
        )
    trusting = context(strange, OTHER, ssl.Purpose.SERVER_AUTH)
    trusting.load_verify_locations(place / "ca.pem")
    with pytest.raises(ssl.SSLError):
        shake_hands(trusting, context(place, ONE, ssl.Purpose.CLIENT_AUTH), ONE)


def test_keys_are_for_their_owner_and_certificates_for_all(config: Path) -> None:
    place = done(config, "new").parent
    done(config, "issue", ONE)
    assert place == config.parent / "keys" / "tls"
    assert {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()} == {
        **{"ca.pem": 0o644, "ca-key.pem": 0o600},
        **{f"{ONE}.pem": 0o644, f"{ONE}-key.pem": 0o600},
    }


@pytest.mark.parametrize("arguments", [("new",), ("issue", ONE)])
def test_nothing_is_replaced(config: Path, arguments: tuple[str, ...]) -> None:
    place = done(config, "new").parent
    done(config, "issue", ONE)
    before = {path: path.read_bytes() for path in place.iterdir()}
    refused = run(config, *arguments)
    assert isinstance(refused.exception, UsageError)
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def test_a_renewed_certificate_is_for_the_same_key(config: Path) -> None:
    path = done(config, "new").parent / f"{ONE}.pem"
    done(config, "issue", ONE, "--days", "1")
    before = path.read_bytes()
    done(config, "issue", ONE, "--renew", "--days", "30")
    key = (path.parent / f"{ONE}-key.pem").read_bytes()
    old, new = (certified_from_pem(text, key, "file").certificate for text in (before, path.read_bytes()))
    assert new.not_valid_after_utc - old.not_valid_after_utc >= timedelta(days=28)
    assert new.serial_number != old.serial_number


def test_a_certificate_is_valid_from_a_little_before_until_its_day_and_not_longer_than_its_authority() -> None:
    authority = new_authority("test", now_ms=NOW_MS, days=100)
    now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    short, long = (issued(authority, ONE, now_ms=NOW_MS, days=days).certificate for days in (10, 1000))
    assert now - short.not_valid_before_utc == timedelta(minutes=5)
    assert short.not_valid_after_utc - now == timedelta(days=10)
    assert long.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert is_issued_by(short, authority)
    assert not is_issued_by(short, new_authority("test", now_ms=NOW_MS, days=100))
    with pytest.raises(ConfigurationError, match="expected one that is valid still"):
        issued(authority, ONE, now_ms=NOW_MS + 101 * 86_400_000, days=10)


def test_a_point_cannot_certify_others() -> None:
    from cryptography.x509 import BasicConstraints, KeyUsage

    certificate = issued(new_authority("test", now_ms=NOW_MS, days=9), ONE, now_ms=NOW_MS, days=9).certificate
    assert not certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(KeyUsage).value.key_cert_sign


def test_no_private_key_is_in_what_is_printed(config: Path) -> None:
    results = [run(config, *step) for step in (("new",), ("issue", ONE), ("issue", ONE), ("new",))]
    told = "".join(result.output + repr(result.exception) for result in results)
    place = config.parent / "keys" / "tls"
    for path in place.glob("*-key.pem"):
        lines = path.read_text().splitlines()
        assert lines[0] == "-----BEGIN PRIVATE KEY-----"
        assert not any(line in told for line in lines)
    made = new_authority("test", now_ms=clock.now_ms(), days=1)
    assert repr(made) == "Certified(CN=test)"


def test_a_key_that_others_may_read_certifies_nobody(config: Path) -> None:
    (done(config, "new").parent / "ca-key.pem").chmod(0o644)
    refused = run(config, "issue", ONE)
    assert isinstance(refused.exception, ConfigurationError)
    assert "ca-key.pem with mode 0644" in str(refused.exception)


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_pair_is_refused_and_not_repeated(broken: bytes) -> None:
    authority = new_authority("test", now_ms=NOW_MS, days=1)
    for certificate, key in ((broken, authority.key_pem), (authority.certificate_pem, broken)):
        with pytest.raises(ConfigurationError, match=r"got 'f', expected what .inpath keys ca. wrote"):
            certified_from_pem(certificate, key, "f")
    other = new_authority("test", now_ms=NOW_MS, days=1)
    with pytest.raises(ConfigurationError, match="the EC key that belongs to it"):
        certified_from_pem(authority.certificate_pem, other.key_pem, "f")


def test_without_an_authority_nobody_is_certified(config: Path) -> None:
    refused = run(config, "issue", ONE)
    assert isinstance(refused.exception, HostError)
    assert "ca.pem: No such file" in str(refused.exception)


@pytest.mark.parametrize("arguments", [("issue", "192.0.2.300"), ("issue", "../ca"), ("new", "--name", "a\nb")])
def test_what_cannot_be_meant_is_named(config: Path, arguments: tuple[str, ...]) -> None:
    assert isinstance(run(config, *arguments).exception, UsageError)
