"""What a configuration file can say, as frozen values; `config.py` reads it, the example file is its manual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from mp.http.settings import HttpSettings
from mp.keys.settings import SecuritySettings
from mp.knowledge.settings import KnowledgeSettings
from mp.reports.settings import ReportSettings
from prober.bandwidth.settings import BandwidthSettings
from prober.interfaces.load import ConfiguredCapacity
from receiver.store.retention import Retention
from requestor.profile import Profile
from schemas.metrics import Composition


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
    processes: int
    """How many share the work, each with a queue of its own; `queue` is the first."""
    processors: tuple[int, ...]
    """On which they run, by the kernel's numbers: one each, in turn. None given: wherever the kernel likes."""
    rate_per_s: int
    burst: int
    source_rate_per_s: int
    """Of one source address; 0: it has no limit of its own."""
    source_burst: int
    plain_udp: bool
    """Requests without router alert are taken too."""
    rules: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How segments are measured."""

    neighbors: tuple[str, ...]
    rate_per_s: float
    port: int
    loss_threshold_ms: int
    sleep_after_s: float
    """Without a question for so long, a learned segment is no longer measured."""
    key_file: Path | None
    """With a key, authenticated packets alone are sent, taken and answered."""
    is_stateful: bool
    """The reflector counts its replies, so that loss is known by direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """How neighbors are looked for."""

    destinations: tuple[str, ...]
    interval_s: float
    """Between hellos to one destination; 0 turns them off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthPolicy:
    """Whether, when and within which bounds available bandwidth is measured and streams for it are sent."""

    is_enabled: bool
    port: int
    interval_s: float
    """Between estimates of a segment that nobody asks for; 0: on demand alone."""
    settings: BandwidthSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSettings:
    """When composed paths are held against direct measurements, without being asked."""

    destinations: tuple[str, ...]
    interval_s: float
    """Between two checks of a point; 0 turns them off."""
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Where programs ask."""

    socket: Path
    listen: str | None
    port: int
    allow: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where Prometheus reads the point's state."""

    listen: str | None
    """None: nowhere."""
    port: int
    allow: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """A program that measures a metric."""

    name: str
    unit: str
    composition: Composition
    command: tuple[str, ...]
    interval_s: float
    timeout_s: float


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
    security: SecuritySettings
    reports: ReportSettings
    probe: ProbeSettings
    clock_assumed_error_ms: float | None
    store_url: str
    retention: Retention | None
    """None where somebody else looks after the database."""
    service: ServiceSettings
    http: HttpSettings
    discovery: DiscoverySettings
    knowledge: KnowledgeSettings
    bandwidth: BandwidthPolicy
    verification: VerificationSettings
    capacities: Mapping[str, ConfiguredCapacity]
    """By interface name: what the operator knows of its links."""
    plugins: tuple[str, ...]
    """Names of entry points."""
    commands: tuple[CommandSettings, ...]
    metrics: MetricsSettings
    profiles: Mapping[str, Profile]
    """By name: those that every point knows, and the operator's own."""
    log: LogSettings
    names: Mapping[str, str]
