"""The begin of the daemon: what it may do is checked, the rest given away, and the slowest things begin first."""

from __future__ import annotations

import asyncio
import contextlib

from mp.child_process import packet_process
from mp.logs import configure_logs
from mp.privileges import configured_ports, confine_service, require_capabilities
from mp.service_manager import ServiceManager
from mp.settings import Configuration
from schemas.errors import ConfigurationError, HostError


def run_daemon(configuration: Configuration) -> None:
    """Run a measurement point in the foreground until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the configuration does not fit this host.
        HostError: a capability, port or program is missing.
    """
    if configuration.point is None:
        raise ConfigurationError("point", None, "a table [point] with this point's address")
    configure_logs(configuration.log.level, configuration.log.format)
    require_capabilities(configured_ports(configuration))
    try:
        configuration.point.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"point.state_dir {configuration.point.state_dir}: {error.strerror}") from error
    confine_service(configuration)
    manager = ServiceManager.of_this_process()
    # They import what they need while this process does, and end with it if it has no use for them.
    begun = [packet_process() for _ in range(configuration.measurement.processes)]
    from mp.daemon import serve

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(configuration, configuration.point, manager, begun))
