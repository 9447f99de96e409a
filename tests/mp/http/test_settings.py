from __future__ import annotations

import pytest

from mp.config import configuration_from_toml
from schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rate_per_s = 0\n", "http.rate_per_s: got 0, expected a number from 0.1 to 10000"),
        ("port = 0\n", "http.port: got 0, expected a whole number from 1"),
        ('enabled = "no"\n', "http.enabled: got 'no', expected true or false"),
        (
            'listen = "192.0.2.1"\n',
            "http.listen: got '192.0.2.1', expected a loopback address, or http.certificate",
        ),
        ('listen = "127.0.0.1"\nkey = "/k"\n', "http.certificate: got '', expected a file: certificate and key"),
        ('certificate = "/c"\n', "http.key: got '', expected a file: certificate and key"),
        ('users = "root"\n', "http.users: got 'root', expected a list"),
        ('tokens = "x"\n', r"http.tokens: got '\.\.\.', expected no such key"),
    ],
)
def test_a_mistake_is_named(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        configuration_from_toml(f"[http]\n{text}")


def test_the_socket_lies_beside_that_of_the_service_unless_it_is_named() -> None:
    service = '[service]\nsocket = "/run/a/service.sock"\n'
    assert str(configuration_from_toml(service).http.socket) == "/run/a/http.sock"
    named = configuration_from_toml(service + '[http]\nsocket = "/run/b"\n')
    assert str(named.http.socket) == "/run/b"


def test_tcp_without_tls_is_for_this_host_alone() -> None:
    assert configuration_from_toml('[http]\nlisten = "127.0.0.2"\n').http.listen == "127.0.0.2"
    elsewhere = configuration_from_toml('[http]\nlisten = "192.0.2.1"\ncertificate = "/c"\nkey = "/k"\n')
    assert elsewhere.http.listen == "192.0.2.1"
