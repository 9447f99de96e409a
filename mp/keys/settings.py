"""The table [security] of the configuration: who is believed, and where the keys are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from mp.toml_table import TomlTable
from schemas.errors import ConfigurationError
from schemas.keyring import Keyring

AREA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MAX_PREFIXES = 512
AREA_NAME_TEXT = "letters, digits, dot, underscore and hyphen, at most 63"


class Authentication(StrEnum):
    """What becomes of a message that nobody known has signed; a wrong tag is never extended."""

    OFF = "off"
    """Nothing is signed, and tags are not looked at."""
    ACCEPTED = "accepted"
    """It is measured, and its result says so."""
    REQUIRED = "required"
    """It is forwarded as any packet, and measured by nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySettings:
    """Who is believed."""

    area: str
    """Of this point: whose keys it signs with."""
    areas: Mapping[str, tuple[IPv4Network, ...]]
    """The prefixes of each; empty: all addresses are in `area`."""
    keys_dir: Path | None
    """None: no keys."""
    authentication: Authentication

    def keyring(self) -> Keyring:
        """The areas, without any key."""
        return Keyring((), area=self.area, areas=self.areas)


def security_settings(content: Mapping[str, Any], *, point_area: str, address: str | None) -> SecuritySettings:
    """Check the table.

    Args:
        content: the tables of the file.
        point_area: what the point's table calls its area, the default.
        address: of the point, None in a file without one.

    Raises:
        ConfigurationError: naming the key, the value, and what was expected.
    """
    table = TomlTable("security", content)
    keys_dir = table.text("keys_dir", "")
    settings = SecuritySettings(
        area=table.text("area", "", AREA_NAME, AREA_NAME_TEXT) if "area" in table else point_area,
        authentication=Authentication(table.choice("authentication", "accepted", tuple(Authentication))),
        keys_dir=Path(keys_dir) if keys_dir else None,
        areas=_areas(table.rest_of("areas")),
    )
    table.finish()
    if settings.keys_dir is None:
        if settings.authentication is Authentication.REQUIRED:
            raise table.error("keys_dir", "", "a directory of keys, since authentication is required")
        return settings
    if AREA_NAME.fullmatch(settings.area) is None:
        raise table.error("area", settings.area, f"the name of this point's area: {AREA_NAME_TEXT}")
    if address is not None and settings.keyring().area_of(address) != settings.area:
        raise table.error("areas", address, f"this point's address in a prefix of its area {settings.area}")
    return settings


def _areas(content: Mapping[str, Any]) -> dict[str, tuple[IPv4Network, ...]]:
    table = TomlTable("areas", content, path="security.areas")
    names = TomlTable("areas", content, path="security.areas").rest()
    areas: dict[str, tuple[IPv4Network, ...]] = {}
    owners: dict[IPv4Network, str] = {}
    for name in names:
        if AREA_NAME.fullmatch(name) is None:
            raise table.error(name, "...", f"a name of {AREA_NAME_TEXT}")
        areas[name] = table.networks(name, ())
        for network in areas[name]:
            if owners.setdefault(network, name) != name:
                raise table.error(name, str(network), f"a prefix that is not in {owners[network]} as well")
    count = sum(max(1, len(networks)) for networks in areas.values())
    if count > MAX_PREFIXES:
        raise ConfigurationError("security.areas", f"{count} prefixes", f"at most {MAX_PREFIXES}")
    return areas
