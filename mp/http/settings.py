"""The table [http] of the configuration: where programs ask over HTTP, and who may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from mp.toml_table import TomlTable

DEFAULT_HTTP_PORT = 49_865
"""TCP, beside the other ports of the overlay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How the path-query service is reached over HTTP."""

    is_enabled: bool
    socket: Path
    group: str
    """Of the socket; empty: that of the daemon."""
    users: tuple[str, ...]
    groups: tuple[str, ...]
    """Who may ask on the socket; with both empty, the socket's group."""
    listen: str | None
    port: int
    certificate: Path | None
    key: Path | None
    """Both or neither."""
    token_file: Path
    user: str
    """Whom the process becomes when it is started as root."""
    rate_per_s: float
    burst: int
    """Of one caller."""


def http_settings(content: Mapping[str, Any], service_socket: Path) -> HttpSettings:
    """Check the table.

    Args:
        content: the tables of the file.
        service_socket: of the dialogue; the default of the HTTP socket lies beside it.

    Raises:
        ConfigurationError: naming the key, the value, and what was expected.
    """
    table = TomlTable("http", content)
    settings = HttpSettings(
        is_enabled=table.truth("enabled", True),
        socket=table.file("socket", str(service_socket.with_name("http.sock"))),
        group=table.text("group", ""),
        users=table.texts("users"),
        groups=table.texts("groups"),
        listen=table.address("listen", None),
        port=table.integer("port", DEFAULT_HTTP_PORT, 1, 65_535),
        certificate=_path(table.text("certificate", "")),
        key=_path(table.text("key", "")),
        token_file=table.file("token_file", "/etc/inpath/http-tokens.json"),
        user=table.text("user", "nobody"),
        rate_per_s=table.number("rate_per_s", 50.0, 0.1, 10_000.0) or 50.0,
        burst=table.integer("burst", 100, 1, 10_000),
    )
    table.finish()
    if (settings.certificate is None) != (settings.key is None):
        missing = "certificate" if settings.certificate is None else "key"
        raise table.error(missing, "", "a file: certificate and key, or neither")
    if settings.listen is not None and settings.key is None and not IPv4Address(settings.listen).is_loopback:
        raise table.error(
            "listen", settings.listen, "a loopback address, or http.certificate and http.key as well"
        )
    return settings


def _path(text: str) -> Path | None:
    return Path(text) if text else None
