"""The servers that one URL names: `mysql+pymysql://user:password@h1:3306,h2,h3:3307/name`."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_PORT = 3306
_MAX_PORT = 65_535
_URL = re.compile(r"(?P<before>[^:]+://(?:[^/]*@)?)(?P<hosts>[^@/?]+)(?P<after>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Host:
    """One server."""

    name: str
    port: int

    @classmethod
    def from_text(cls, text: str) -> Host:
        """`name` or `name:port`.

        Raises:
            ValueError: no name, or no port.
        """
        name, colon, port = text.partition(":")
        number = int(port) if colon else DEFAULT_PORT
        if not name or not 0 < number <= _MAX_PORT:
            raise ValueError(text)
        return cls(name, number)


def split_hosts(url: str) -> tuple[str, tuple[Host, ...]]:
    """The URL with its first server only, and all servers in their order; none unless there are several.

    Raises:
        ValueError: one of several servers is no `name` or `name:port`.
    """
    found = _URL.fullmatch(url)
    if found is None or "," not in found["hosts"]:
        return url, ()
    hosts = tuple(Host.from_text(text) for text in found["hosts"].split(","))
    return f"{found['before']}{hosts[0].name}:{hosts[0].port}{found['after']}", hosts


class Rotation:
    """Which server to try: the one that worked, as long as it does, then the others in turn.

    Args:
        hosts: at least one.
    """

    def __init__(self, hosts: tuple[Host, ...]) -> None:
        self._hosts = hosts
        self._current = 0

    @property
    def current(self) -> Host:
        """The one to try first."""
        return self._hosts[self._current]

    def __len__(self) -> int:
        return len(self._hosts)

    def advance(self, failed: Host) -> None:
        """Leave `failed`, unless somebody else has left it already."""
        if failed == self.current:
            self._current = (self._current + 1) % len(self._hosts)
