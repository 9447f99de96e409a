"""The plug-ins that a configuration enables, and the metrics that they add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mp.settings import Configuration
from schemas.metrics import METRICS, Registry, registry_with

if TYPE_CHECKING:
    from prober.plugins.plugin import MetricPlugin


def plugins_of(configuration: Configuration) -> tuple[MetricPlugin, ...]:
    """Load what is enabled.

    Raises:
        ConfigurationError: a name that nothing is installed under, or a program that cannot be meant.
        HostError: a plug-in that cannot be loaded.
    """
    if not configuration.plugins and not configuration.commands:
        return ()
    # Looking for entry points takes longer than most commands.
    from prober.plugins.command_metric import command_metric
    from prober.plugins.plugin import load_plugins

    commands = [
        command_metric(
            one.name,
            unit=one.unit,
            composition=one.composition,
            command=one.command,
            interval_s=one.interval_s,
            timeout_s=one.timeout_s,
        )
        for one in configuration.commands
    ]
    return load_plugins(configuration.plugins, commands)


def registry_of(configuration: Configuration) -> Registry:
    """The metrics of every point, and those of the plug-ins.

    Raises:
        ConfigurationError, HostError: as `plugins_of`.
    """
    plugins = plugins_of(configuration)
    return registry_with(plugin.metric for plugin in plugins) if plugins else METRICS
