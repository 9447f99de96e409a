"""What a test changes in the configuration files that a lab wrote, before it starts the points."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from tests.overlay.network import Network

Tables = Mapping[str, Mapping[str, Any]]


def configure(net: Network, node: str, changes: Tables) -> None:
    """Set keys of tables in a node's file; what is not named stays.

    Args:
        changes: by table; a value that is a mapping becomes a table of its own below it.
    """
    file = net.configuration(node)
    content = tomllib.loads(file.read_text())
    for name, table in changes.items():
        content[name] = {**content.get(name, {}), **table}
    file.write_text("".join(_table_text(name, table) for name, table in content.items()))


def _table_text(path: str, table: Mapping[str, Any]) -> str:
    """A string, number, truth or list in JSON reads the same in TOML."""
    below = {key: value for key, value in table.items() if isinstance(value, dict)}
    own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if key not in below)
    return f"[{path}]\n{own}\n" + "".join(_table_text(f"{path}.{key}", value) for key, value in below.items())
