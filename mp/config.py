"""The configuration file: TOML text to frozen values, checked once; `inpath.example.toml` is its manual."""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from interceptor.rule import MAXIMUM_BURST, MAXIMUM_QUEUES, MAXIMUM_RATE_PER_S
from mp.http.settings import http_settings
from mp.keys.settings import security_settings
from mp.knowledge.settings import knowledge_settings
from mp.reports.settings import report_settings
from mp.settings import (
    BandwidthPolicy,
    CommandSettings,
    Configuration,
    DiscoverySettings,
    LogSettings,
    MeasurementSettings,
    MetricsSettings,
    PointSettings,
    ProbeSettings,
    ServiceSettings,
    VerificationSettings,
)
from mp.toml_table import TomlTable, key_as_written
from prober.bandwidth.settings import BANDWIDTH_PORT, BandwidthSettings
from prober.discovery import DEFAULT_INTERVAL_S
from prober.interfaces.load import ConfiguredCapacity
from prober.stamp.packet import STAMP_PORT
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS
from receiver.store.retention import Retention
from requestor.dialogue import DEFAULT_SERVICE_PORT
from requestor.profile_table import profiles_from_configuration
from schemas.errors import ConfigurationError
from schemas.message import MEASUREMENT_PORT
from schemas.metrics import Composition

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_TABLES = (
    *("point", "measurement", "reports", "security", "probe", "discovery", "interfaces", "bandwidth", "plugins"),
    *("verify", "knowledge", "clock", "store", "service", "http", "metrics", "profiles", "log", "names"),
)
_COMPOSITIONS = ("sum", "complement-product", "minimum", "maximum", "listed")
_CAPACITY_RANGE = (0.001, 1e9)
"""In Mbit/s, from a radio's trickle to more than any link."""
MAXIMUM_PROCESSOR = 4095
DEFAULT_METRICS_PORT = 49_866
"""TCP, beside the other ports of the overlay."""
_PRIVATE = ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


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
    for name in content:
        if name not in _TABLES:
            # The content is not shown: it may hold a password under a misspelled name.
            raise ConfigurationError(key_as_written(name), "...", f"one of the tables {', '.join(_TABLES)}")
    point = _point(content)
    clock = TomlTable("clock", content)
    assumed = clock.number("assumed_error_ms", None, 1e-6, 10_000)
    clock.finish()
    plugins, commands = _plugins(content)
    store_url, retention = _store(content, point)
    service = _service(content)
    return Configuration(
        point=point,
        measurement=_measurement(content),
        security=security_settings(
            content,
            point_area="" if point is None else point.area,
            address=None if point is None else point.address,
        ),
        reports=report_settings(content),
        probe=_probe(content, point),
        clock_assumed_error_ms=assumed,
        store_url=store_url,
        retention=retention,
        service=service,
        http=http_settings(content, service.socket),
        discovery=_discovery(content),
        knowledge=knowledge_settings(content, address=None if point is None else point.address),
        bandwidth=_bandwidth(content),
        verification=_verification(content),
        capacities=_capacities(content),
        plugins=plugins,
        commands=commands,
        metrics=_metrics(content),
        profiles=profiles_from_configuration(content),
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
    processes = table.integer("processes", 1, 1, MAXIMUM_QUEUES)
    settings = MeasurementSettings(
        port=table.integer("port", MEASUREMENT_PORT, 1, 65_535),
        queue=table.integer("queue", 4986, 0, 65_536 - processes),
        processes=processes,
        processors=table.integers("processors", 0, MAXIMUM_PROCESSOR),
        rate_per_s=table.integer("rate_per_s", 1000, 1, MAXIMUM_RATE_PER_S),
        burst=table.integer("burst", 200, 1, MAXIMUM_BURST),
        source_rate_per_s=table.integer("source_rate_per_s", 500, 0, MAXIMUM_RATE_PER_S),
        source_burst=table.integer("source_burst", 200, 1, MAXIMUM_BURST),
        plain_udp=table.truth("plain_udp", True),
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
        loss_threshold_ms=table.integer("loss_threshold_ms", DEFAULT_LOSS_THRESHOLD_MS, 10, 4000),
        sleep_after_s=table.number("sleep_after_s", 900.0, 1.0, 86_400.0) or 900.0,
        key_file=Path(key_file) if (key_file := table.text("key_file", "")) else None,
        is_stateful=table.choice("reflector", "stateful", ("stateful", "stateless")) == "stateful",
    )
    table.finish()
    if point is not None and point.address in settings.neighbors:
        raise ConfigurationError("probe.neighbors", point.address, "addresses of other points")
    return settings


def _discovery(content: Mapping[str, Any]) -> DiscoverySettings:
    table = TomlTable("discovery", content)
    settings = DiscoverySettings(
        destinations=table.addresses("destinations"), interval_s=_interval(table, DEFAULT_INTERVAL_S, 1.0)
    )
    table.finish()
    return settings


def _interval(table: TomlTable, default_s: float, least_s: float) -> float:
    """Seconds of at least `least_s`, or 0 for never."""
    interval_s = table.number("interval_s", default_s, 0.0, 86_400.0) or 0.0
    if 0 < interval_s < least_s:
        raise table.error("interval_s", interval_s, f"0, or a number from {least_s:g} to 86400")
    return interval_s


def _bandwidth(content: Mapping[str, Any]) -> BandwidthPolicy:
    table = TomlTable("bandwidth", content)
    usual = BandwidthSettings()
    policy = BandwidthPolicy(
        is_enabled=table.truth("enabled", True),
        port=table.integer("port", BANDWIDTH_PORT, 1, 65_535),
        interval_s=_interval(table, 0.0, 60.0),
        settings=BandwidthSettings(
            max_rate_mbit_s=table.number("max_rate_mbit_s", usual.max_rate_mbit_s, 1.0, 1000.0) or 1.0,
            max_octets_per_hour=table.integer("max_octets_per_hour", usual.max_octets_per_hour, 10**5, 10**12),
            max_octets_per_hour_and_neighbor=table.integer(
                "max_octets_per_hour_and_neighbor", usual.max_octets_per_hour_and_neighbor, 10**5, 10**12
            ),
        ),
    )
    table.finish()
    return policy


def _verification(content: Mapping[str, Any]) -> VerificationSettings:
    table = TomlTable("verify", content)
    settings = VerificationSettings(
        destinations=table.addresses("destinations"),
        interval_s=_interval(table, 3600.0, 60.0),
        duration_s=table.number("duration_s", 10.0, 2.0, 60.0) or 10.0,
    )
    table.finish()
    return settings


def _capacities(content: Mapping[str, Any]) -> dict[str, ConfiguredCapacity]:
    interfaces = TomlTable("interfaces", content).rest()
    capacities = {}
    for name in interfaces:
        table = TomlTable(name, interfaces, path=f"interfaces.{key_as_written(name)}")
        both = table.number("capacity_mbit_s", None, *_CAPACITY_RANGE)
        capacities[name] = ConfiguredCapacity(
            ingress_mbit_s=table.number("ingress_capacity_mbit_s", both, *_CAPACITY_RANGE),
            egress_mbit_s=table.number("egress_capacity_mbit_s", both, *_CAPACITY_RANGE),
        )
        table.finish()
    return capacities


def _plugins(content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[CommandSettings, ...]]:
    table = TomlTable("plugins", content)
    enabled = table.texts("enabled")
    programs = TomlTable("commands", table.rest_of("commands"), path="plugins.commands").rest()
    table.finish()
    return enabled, tuple(_command(name, programs) for name in programs)


def _command(name: str, programs: Mapping[str, Any]) -> CommandSettings:
    table = TomlTable(name, programs, path=f"plugins.commands.{key_as_written(name)}")
    settings = CommandSettings(
        name=name,
        unit=table.text("unit", ""),
        composition=Composition(table.choice("composition", "", _COMPOSITIONS)),
        command=table.texts("command"),
        interval_s=table.number("interval_s", 60.0, 1.0, 86_400.0) or 60.0,
        timeout_s=table.number("timeout_s", 10.0, 0.1, 600.0) or 10.0,
    )
    table.finish()
    return settings


def _store(content: Mapping[str, Any], point: PointSettings | None) -> tuple[str, Retention | None]:
    table = TomlTable("store", content)
    default = "sqlite://" if point is None else f"sqlite:///{(point.state_dir / 'results.db').absolute()}"
    url = table.text("url", default)
    upkeep = table.truth("upkeep", True)
    usual = Retention()
    retention = Retention(
        results_days=table.integer("results_days", usual.results_days, 1, 365),
        minutes_days=table.integer("minutes_days", usual.minutes_days, 1, 365),
        hours_days=table.integer("hours_days", usual.hours_days, 1, 36_500),
        checks_days=table.integer("checks_days", usual.checks_days, 1, 36_500),
    )
    table.finish()
    if not url.startswith(("sqlite://", "mysql+pymysql://")):
        scheme = url.partition(":")[0]  # the rest may hold a password
        raise ConfigurationError(
            "store.url", f"{scheme}:...", "sqlite:////FILE or mysql+pymysql://USER:PASSWORD@HOST/DB"
        )
    return url, retention if upkeep else None


def _service(content: Mapping[str, Any]) -> ServiceSettings:
    table = TomlTable("service", content)
    settings = ServiceSettings(
        socket=table.file("socket", "/run/inpath/service.sock"),
        listen=table.address("listen", None),
        port=table.integer("port", DEFAULT_SERVICE_PORT, 1, 65_535),
        allow=table.networks("allow", _PRIVATE),
    )
    table.finish()
    return settings


def _metrics(content: Mapping[str, Any]) -> MetricsSettings:
    table = TomlTable("metrics", content)
    settings = MetricsSettings(
        listen=table.address("listen", None),
        port=table.integer("port", DEFAULT_METRICS_PORT, 1, 65_535),
        allow=table.networks("allow", ("127.0.0.0/8",)),
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
