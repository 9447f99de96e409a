"""Labs whose links take time, as `inpath lab` builds them."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.build import bring_up
from lab.network import Lab
from lab.state import STATE_DIRECTORY_VARIABLE
from lab.teardown import take_down
from lab.topology import topology_from_json


@contextmanager
def lab_place() -> Iterator[str]:
    """The name of a lab and a directory for its state, both for this context alone; nothing of either stays."""
    name = f"b{os.getpid()}{secrets.token_hex(2)}"
    folder = Path(tempfile.mkdtemp(prefix="bench", dir="/tmp"))
    folder.chmod(0o755)  # the HTTP process of a point is another user's
    before = os.environ.get(STATE_DIRECTORY_VARIABLE)
    os.environ[STATE_DIRECTORY_VARIABLE] = str(folder)
    try:
        yield name
    finally:
        os.environ[STATE_DIRECTORY_VARIABLE] = str(folder)
        take_down(name)
        shutil.rmtree(folder)
        if before is None:
            del os.environ[STATE_DIRECTORY_VARIABLE]
        else:
            os.environ[STATE_DIRECTORY_VARIABLE] = before


@contextmanager
def delayed_lab(topology: Mapping[str, Any]) -> Iterator[Lab]:
    """A lab of this topology in which no point runs yet.

    Args:
        topology: nodes and links, without a name.

    Raises:
        HostError: the machine refuses, as it does to all but root.
    """
    with lab_place() as name:
        yield bring_up(topology_from_json({"name": name, **topology}), start_points=False)
