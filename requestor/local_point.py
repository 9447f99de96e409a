"""What the configuration of this host's point tells the programs beside it: where to ask, and which profiles."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from requestor.profile import BUILT_IN_PROFILES, Profile
from requestor.profile_table import profiles_from_configuration
from schemas.errors import ConfigurationError

CONFIG_VARIABLE = "INPATH_CONFIG"
DEFAULT_CONFIG = Path("/etc/inpath/inpath.toml")
DEFAULT_SOCKET = Path("/run/inpath/service.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPoint:
    """How a program reaches the point."""

    socket: Path = DEFAULT_SOCKET
    profiles: Mapping[str, Profile]


def local_point(environment: Mapping[str, str]) -> LocalPoint:
    """Read the file that INPATH_CONFIG names, or the default one.

    A default file that does not exist, or that this program may not read (it can hold the store's password),
    leaves the default socket and the built-in profiles.

    Raises:
        ConfigurationError: the named file cannot be read, or what a program needs of it cannot be meant.
    """
    named = environment.get(CONFIG_VARIABLE)
    path = Path(named) if named else DEFAULT_CONFIG
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        if not named and isinstance(error, FileNotFoundError | PermissionError):
            return LocalPoint(profiles=BUILT_IN_PROFILES)
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError("config", str(path), f"a readable file ({reason})") from error
    return local_point_from_toml(text, origin=str(path))


def local_point_from_toml(text: str, *, origin: str) -> LocalPoint:
    """The same of a text; tables that programs do not need are left to the point to check.

    Raises:
        ConfigurationError: no TOML, no socket, or a profile that cannot be meant.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("config", origin, f"a TOML file ({error})") from error
    service = content.get("service", {})
    if not isinstance(service, dict):
        raise ConfigurationError("service", service, "a table")
    socket = service.get("socket", str(DEFAULT_SOCKET))
    if not isinstance(socket, str):
        raise ConfigurationError("service.socket", socket, "the path of a Unix socket")
    return LocalPoint(socket=Path(socket), profiles=profiles_from_configuration(content))
