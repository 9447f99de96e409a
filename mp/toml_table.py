"""One table of a TOML file, taken apart key by key, with errors that name key, value and what was expected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")


def key_as_written(key: str) -> str:
    """A TOML key as its file must show it: bare, or else quoted and cut short; no name is empty or wild."""
    if _BARE_KEY.fullmatch(key):
        return key
    return json.dumps(key) if len(key) <= 60 else f"{json.dumps(key[:60])}..."


class TomlTable:
    """One table: each key is asked for once, what is left over is an error.

    Args:
        name: of the table in `content`.
        content: the tables around it.
        path: its name in errors, when it is inside another table.

    Raises:
        ConfigurationError: it is no table; and in each method when a value cannot be meant.
    """

    def __init__(self, name: str, content: Mapping[str, Any], *, path: str | None = None) -> None:
        table = content.get(name, {})
        self._name = path or name
        if not isinstance(table, dict):
            raise ConfigurationError(self._name, table, "a table")
        self._left = dict(table)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def _take(self, key: str, default: Any) -> Any:
        return self._left.pop(key, default)

    def error(self, key: str, value: object, expected: str) -> ConfigurationError:
        """What is wrong with a key of this table."""
        return ConfigurationError(f"{self._name}.{key_as_written(key)}", value, expected)

    def text(self, key: str, default: str, pattern: re.Pattern[str] | None = None, expected: str = "text") -> str:
        """A text that matches `pattern` as a whole."""
        value = self._take(key, default)
        if not isinstance(value, str) or (pattern is not None and pattern.fullmatch(value) is None):
            raise self.error(key, value, expected)
        return value

    def file(self, key: str, default: str) -> Path:
        """The path of a file, which has a name."""
        value = self.text(key, default)
        path = Path(value)
        if not path.name or path.name == ".." or "\0" in value:
            raise self.error(key, value, "the path of a file")
        return path

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of the choices."""
        value = self._take(key, default)
        if value not in choices:
            raise self.error(key, value, f"one of {', '.join(choices)}")
        return str(value)

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number between the bounds."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, value, f"a whole number from {least} to {most}")
        return value

    def integers(self, key: str, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers between the bounds, empty by default."""
        values = self._list(key, [])
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise self.error(key, value, f"whole numbers from {least} to {most}")
        return tuple(values)

    def number(self, key: str, default: float | None, least: float, most: float) -> float | None:
        """A finite number between the bounds, or the default."""
        value = self._take(key, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, value, f"a number from {least:g} to {most:g}")
        if not least <= value <= most:
            raise self.error(key, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def address(self, key: str, default: str | None) -> str | None:
        """A unicast IPv4 address, or the default."""
        value = self._take(key, default)
        return None if value is None else self._address(key, value)

    def truth(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty by default."""
        values = self._list(key, [])
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, values, "a list of texts")
        return tuple(values)

    def rest_of(self, key: str) -> dict[str, Any]:
        """A table in this one, for a `TomlTable` of its own; empty if there is none."""
        return {key: self._left.pop(key)} if key in self._left else {}

    def addresses(self, key: str) -> tuple[str, ...]:
        """A list of such addresses, empty by default."""
        return tuple(self._address(key, value) for value in self._list(key, []))

    def networks(self, key: str, default: tuple[str, ...]) -> tuple[IPv4Network, ...]:
        """A list of IPv4 prefixes."""
        return tuple(self._network(key, value) for value in self._list(key, list(default)))

    def _list(self, key: str, default: list[str]) -> list[Any]:
        value = self._take(key, default)
        if not isinstance(value, list):
            raise self.error(key, value, "a list")
        return value

    def _address(self, key: str, value: object) -> str:
        try:
            address = IPv4Address(value if isinstance(value, str) else "")
        except ValueError:
            raise self.error(key, value, "an IPv4 address") from None
        if address.is_multicast or address.is_unspecified:
            raise self.error(key, value, "a unicast IPv4 address")
        return str(address)

    def _network(self, key: str, value: object) -> IPv4Network:
        try:
            return IPv4Network(value if isinstance(value, str) else "")
        except ValueError:
            raise self.error(key, value, "an IPv4 prefix such as 198.51.100.0/24, without host bits") from None

    def rest(self) -> dict[str, Any]:
        """All keys that were not asked for, as they are."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """No key may be left."""
        if self._left:
            key = min(self._left)
            # The value is not shown: it may be a password under a misspelled key.
            raise self.error(key, "...", "no such key (see `inpath mp example-config`)")
