"""Where a command finds the point that it asks."""

from __future__ import annotations

from pathlib import Path

import click

from mp.config import configuration_from_toml, load_configuration
from mp.settings import Configuration


def configuration_or_names(path: Path) -> Configuration:
    """The file's, or an empty one where the default file does not exist: addresses need no configuration.

    Raises:
        ConfigurationError: the file says what cannot be meant.
    """
    given = click.get_current_context().get_parameter_source("config_path")
    if given is click.core.ParameterSource.DEFAULT and not path.exists():
        return configuration_from_toml("")
    return load_configuration(path)


def service_of(configuration: Configuration, source: str) -> Path | tuple[str, int]:
    """This host's point by its socket, any other by its service address."""
    if configuration.point is not None and configuration.point.address == source:
        return configuration.service.socket
    return source, configuration.service.port
