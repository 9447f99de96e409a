"""Looks at everything that a measurement point needs of this host, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from interceptor.firewall import InterceptionRule
from mp.clock import read_clock
from mp.config import configuration_from_toml, load_configuration
from mp.doctor import checks, facts
from mp.doctor.finding import Finding
from mp.host import read_host_state
from mp.keys.settings import Authentication
from mp.settings import Configuration
from receiver.store.schema_version import HEAD
from schemas.errors import ConfigurationError

ANY_ADDRESS = "0.0.0.0"
"""Where ports are tried as long as the point's own address is not there."""
_FIRST_LOW_PORT_FREE_FOR_ALL = 1024


def examine(path: Path) -> list[Finding]:
    """All findings, in the order in which they are best mended.

    Args:
        path: the configuration file; without a usable one, the defaults are looked at.
    """
    try:
        configuration, refusal = load_configuration(path), None
    except ConfigurationError as error:
        configuration, refusal = configuration_from_toml(""), error
    return [
        checks.judge_configuration(str(path), configuration.point, refusal),
        checks.judge_secrecy(facts.mode_of(path), has_password=facts.has_password(configuration.store_url)),
        *_kernel(configuration),
        *_network(configuration),
        *_storage(configuration),
    ]


def _kernel(configuration: Configuration) -> Iterator[Finding]:
    as_root, measurement = facts.is_root(), configuration.measurement
    status, refusal = facts.daemon_status(configuration.service.socket)
    rule = InterceptionRule(
        queue_number=measurement.queue,
        queues=measurement.processes,
        port=measurement.port,
        plain_udp=measurement.plain_udp,
        rate_per_s=measurement.rate_per_s,
        burst=measurement.burst,
        source_rate_per_s=measurement.source_rate_per_s,
        source_burst=measurement.source_burst,
    )
    needs_low_port = configuration.probe.port < _FIRST_LOW_PORT_FREE_FOR_ALL
    yield checks.judge_daemon(status, refusal, version("inpath"))
    yield checks.judge_capabilities(facts.effective_capabilities(), is_root=as_root, needs_low_port=needs_low_port)
    yield checks.judge_interception(facts.try_rules(rule, as_root=as_root), measurement.rules)
    yield checks.judge_queue(measurement.queue, facts.taken_queues(), daemon_runs=status is not None)
    for port in facts.ports_of(configuration, _own_address(configuration)):
        taken, is_forbidden = facts.try_port(port)
        yield checks.judge_port(port, taken, is_forbidden=is_forbidden, daemon_runs=status is not None)


def _own_address(configuration: Configuration) -> str:
    point = configuration.point
    return point.address if point and point.address in read_host_state().addresses else ANY_ADDRESS


def _network(configuration: Configuration) -> Iterator[Finding]:
    host = read_host_state()
    if configuration.point is not None:
        yield checks.judge_address(configuration.point.address, host.addresses)
    yield checks.judge_forwarding(facts.forwards())
    yield checks.judge_rp_filter(facts.rp_filters())
    yield checks.judge_mtu(host.smallest_mtu_bytes)
    yield checks.judge_clock(read_clock(configuration.clock_assumed_error_ms))


def _storage(configuration: Configuration) -> Iterator[Finding]:
    keys, refusal = facts.keyring(configuration.security)
    yield checks.judge_key(facts.key_file(configuration.probe.key_file), has_keys=bool(keys))
    is_required = configuration.security.authentication is Authentication.REQUIRED
    yield checks.judge_keyring(keys, is_required=is_required, refusal=refusal)
    if configuration.point is None:
        return
    directory = facts.state_directory(configuration.point.state_dir)
    yield checks.judge_state_directory(directory, is_root=facts.is_root())
    name, revision, refusal = facts.database_revision(configuration.store_url)
    yield checks.judge_database(name, revision, HEAD, refusal)
