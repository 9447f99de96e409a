"""Read a topology from a file of either format."""

from __future__ import annotations

from pathlib import Path

from lab.graphml import topology_from_graphml
from lab.topology import Topology, topology_from_toml
from schemas.errors import ConfigurationError

_BLANK_AND_BYTE_ORDER_MARK = b"\xef\xbb\xbf \t\r\n"


def read_topology(file: str) -> Topology:
    """Return the network that a file describes: GraphML if its first character is `<`, else TOML.

    Raises:
        ConfigurationError: the file cannot be read, or says what cannot be meant.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError("FILE", file, f"a topology file ({error.strerror})") from None
    if data.lstrip(_BLANK_AND_BYTE_ORDER_MARK).startswith(b"<"):
        return topology_from_graphml(data, file)
    return topology_from_toml(data, file)
