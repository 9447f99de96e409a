"""The table [knowledge] of the configuration: what points tell each other of what they measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mp.toml_table import TomlTable
from prober.knowledge.advertisement import MAX_LIFETIME_S
from prober.knowledge.datagram import KNOWLEDGE_PORT
from prober.knowledge.origination import (
    DEFAULT_LIFETIME_S,
    DEFAULT_OCTETS_PER_S,
    DEFAULT_REFRESH_S,
    LIFETIME_REFRESHES,
)
from schemas.errors import ConfigurationError

MAX_REFRESH_S = MAX_LIFETIME_S / LIFETIME_REFRESHES


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeSettings:
    """What is shared, with whom, how often."""

    is_enabled: bool
    answers: bool
    """Requests that accept it are answered from what is known, here and on their way."""
    port: int
    refresh_s: float
    lifetime_s: int
    octets_per_s: int
    borders: tuple[str, ...]


def knowledge_settings(content: Mapping[str, Any], *, address: str | None) -> KnowledgeSettings:
    """Check the table.

    Args:
        content: the tables of the file.
        address: of the point, None in a file without one.

    Raises:
        ConfigurationError: naming the key, the value, and what was expected.
    """
    table = TomlTable("knowledge", content)
    settings = KnowledgeSettings(
        is_enabled=table.truth("enabled", True),
        answers=table.truth("answer_from_cache", True),
        port=table.integer("port", KNOWLEDGE_PORT, 1, 65_535),
        refresh_s=table.number("refresh_s", DEFAULT_REFRESH_S, 1.0, MAX_REFRESH_S) or DEFAULT_REFRESH_S,
        lifetime_s=table.integer("lifetime_s", DEFAULT_LIFETIME_S, 4, MAX_LIFETIME_S),
        octets_per_s=table.integer("octets_per_s", DEFAULT_OCTETS_PER_S, 100, 10**8),
        borders=table.addresses("borders"),
    )
    table.finish()
    if settings.lifetime_s < 2 * settings.refresh_s:
        raise table.error("lifetime_s", settings.lifetime_s, f"at least twice refresh_s ({settings.refresh_s:g})")
    if address is not None and address in settings.borders:
        raise ConfigurationError("knowledge.borders", address, "addresses of other points")
    return settings
