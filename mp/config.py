"""The configuration file: TOML text to frozen values, checked once; `inpath.example.toml` is its manual."""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from mp.toml_table import TomlTable
from prober.packet import STAMP_PORT
from requestor.dialogue import DEFAULT_SERVICE_PORT
from schemas.errors import ConfigurationError
from schemas.message import MEASUREMENT_PORT

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_PRIVATE = ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSettings:
    """Who this point is."""

    address: str
    name: str
    area: str
    serves: tuple[IPv4Network, ...]
    state_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementSettings:
    """How requests are intercepted and where reports arrive."""

    port: int
    queue: int
    rate_per_s: int
    burst: int
    rules: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How segments are measured."""

    neighbors: tuple[str, ...]
    rate_per_s: float
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Where programs ask."""

    socket: Path
    listen: str | None
    port: int
    allow: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged and how."""

    level: str
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One file, read once."""

    point: PointSettings | None
    """None in a file that only gives names to the command line."""
    measurement: MeasurementSettings
    probe: ProbeSettings
    clock_assumed_error_ms: float | None
    store_url: str
    service: ServiceSettings
    log: LogSettings
    names: Mapping[str, str]


def example_text() -> str:
    """The commented example: the manual of the file."""
    return files("mp").joinpath("inpath.example.toml").read_text()


def load_configuration(path: Path) -> Configuration:
    """Read and check a file.

    Raises:
        ConfigurationError: the file cannot be read, is no TOML, or says what cannot be meant; names the key.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError("config", str(path), f"a readable file ({reason})") from error
    return configuration_from_toml(text, origin=str(path))


def configuration_from_toml(text: str, *, origin: str = "configuration") -> Configuration:
    """Check a text.

    Args:
        origin: where it came from, for errors.

    Raises:
        ConfigurationError: see `load_configuration`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("config", origin, f"a TOML file ({error})") from error
    known = ("point", "measurement", "probe", "clock", "store", "service", "log", "names")
    for name in content:
        if name not in known:
            # The content is not shown: it may hold a password under a misspelled name.
            raise ConfigurationError(name, "...", f"one of the tables {', '.join(known)}")
    point = _point(content)
    clock = TomlTable("clock", content)
    assumed = clock.number("assumed_error_ms", None, 1e-6, 10_000)
    clock.finish()
    return Configuration(
        point=point,
        measurement=_measurement(content),
        probe=_probe(content, point),
        clock_assumed_error_ms=assumed,
        store_url=_store_url(content, point),
        service=_service(content),
        log=_log(content),
        names=_names(content),
    )


def _point(content: Mapping[str, Any]) -> PointSettings | None:
    if "point" not in content:
        return None
    table = TomlTable("point", content)
    address = table.address("address", None)
    if address is None:
        raise ConfigurationError("point.address", None, "this point's IPv4 address")
    settings = PointSettings(
        address=address,
        name=table.text("name", socket.gethostname(), _NAME, "letters, digits, dots and hyphens, at most 63"),
        area=table.text("area", ""),
        serves=table.networks("serves", ()),
        state_dir=Path(table.text("state_dir", "/var/lib/inpath")),
    )
    table.finish()
    return settings


def _measurement(content: Mapping[str, Any]) -> MeasurementSettings:
    table = TomlTable("measurement", content)
    settings = MeasurementSettings(
        port=table.integer("port", MEASUREMENT_PORT, 1, 65_535),
        queue=table.integer("queue", 4986, 0, 65_535),
        rate_per_s=table.integer("rate_per_s", 1000, 1, 10_000),
        burst=table.integer("burst", 200, 1, 10_000),
        rules=table.choice("rules", "auto", ("auto", "iptables", "nft")),
    )
    table.finish()
    return settings


def _probe(content: Mapping[str, Any], point: PointSettings | None) -> ProbeSettings:
    table = TomlTable("probe", content)
    settings = ProbeSettings(
        neighbors=table.addresses("neighbors"),
        rate_per_s=table.number("rate_per_s", 10.0, 0.1, 100.0) or 10.0,
        port=table.integer("port", STAMP_PORT, 1, 65_535),
    )
    table.finish()
    if point is not None and point.address in settings.neighbors:
        raise ConfigurationError("probe.neighbors", point.address, "addresses of other points")
    return settings


def _store_url(content: Mapping[str, Any], point: PointSettings | None) -> str:
    table = TomlTable("store", content)
    default = "sqlite://" if point is None else f"sqlite:///{(point.state_dir / 'results.db').absolute()}"
    url = table.text("url", default)
    table.finish()
    if not url.startswith(("sqlite://", "mysql+pymysql://")):
        scheme = url.partition(":")[0]  # the rest may hold a password
        raise ConfigurationError(
            "store.url", f"{scheme}:...", "sqlite:////FILE or mysql+pymysql://USER:PASSWORD@HOST/DB"
        )
    return url


def _service(content: Mapping[str, Any]) -> ServiceSettings:
    table = TomlTable("service", content)
    settings = ServiceSettings(
        socket=Path(table.text("socket", "/run/inpath/service.sock")),
        listen=table.address("listen", None),
        port=table.integer("port", DEFAULT_SERVICE_PORT, 1, 65_535),
        allow=table.networks("allow", _PRIVATE),
    )
    table.finish()
    return settings


def _log(content: Mapping[str, Any]) -> LogSettings:
    table = TomlTable("log", content)
    settings = LogSettings(
        level=table.choice("level", "info", ("debug", "info", "warning", "error")),
        format=table.choice("format", "text", ("text", "json")),
    )
    table.finish()
    return settings


def _names(content: Mapping[str, Any]) -> dict[str, str]:
    table = TomlTable("names", content)
    names = {}
    for name in table.rest():
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError("names", name, "names of letters, digits, dots and hyphens, at most 63")
        one = TomlTable("names", content)
        address = one.address(name, None)
        assert address is not None  # the key is there
        names[name] = address
    return names
