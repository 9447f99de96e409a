"""What is remembered of a lab between two commands: a directory with one JSON file and one folder per node.

STATE_DIR/lab/NAME/state.json      the topology with its present impairments
STATE_DIR/lab/NAME/links.sock      control of the user-space links, and links.log
STATE_DIR/lab/NAME/NODE/           inpath.toml; of a point also its log and results, of a router BIRD's files
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from lab.links import LinkKind
from lab.topology import Topology, topology_from_json, topology_to_json
from schemas.errors import InpathError, LabError

DEFAULT_STATE_DIRECTORY = Path("/run/inpath")
STATE_DIRECTORY_VARIABLE = "INPATH_STATE_DIR"


class Phase(StrEnum):
    """How far the building of a lab has come."""

    BUILDING = "building"
    UP = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """What is known of a lab."""

    topology: Topology
    link_kind: LinkKind
    phase: Phase

    def with_topology(self, topology: Topology) -> LabState:
        """The same lab with other links or points."""
        return replace(self, topology=topology)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reverses it."""
        return {
            "phase": self.phase.value,
            "link_kind": self.link_kind.value,
            "topology": topology_to_json(self.topology),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LabState:
        """Read what `to_json` wrote.

        Raises:
            UsageError, KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            topology=topology_from_json(document["topology"]),
            link_kind=LinkKind(document["link_kind"]),
            phase=Phase(document["phase"]),
        )


@dataclass(frozen=True, slots=True)
class LabDirectory:
    """The directory of one lab."""

    path: Path

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.path.name

    @property
    def links_control(self) -> Path:
        """The control socket of the user-space links."""
        return self.path / "links.sock"

    @property
    def links_log(self) -> Path:
        """What the process of the user-space links says."""
        return self.path / "links.log"

    def node(self, name: str) -> Path:
        """The folder of one node."""
        return self.path / name

    def configuration(self, node: str) -> Path:
        """The file that `inpath` reads on a node."""
        return self.node(node) / "inpath.toml"

    def create(self, state: LabState) -> None:
        """Make the directory, which reserves the lab's name.

        Raises:
            LabError: a lab of this name exists, or the directory cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise LabError(
                f"a lab named {self.name} exists; take it down with: inpath lab down {self.name}"
            ) from None
        except OSError as error:
            raise LabError(f"cannot make {self.path}: {error.strerror}") from None
        self.write(state)

    def write(self, state: LabState) -> None:
        """Replace the state; a reader sees the old or the new one, never a half."""
        temporary = self.path / "state.json.new"
        temporary.write_text(json.dumps(state.to_json(), indent=1))
        temporary.replace(self.path / "state.json")

    def read(self) -> LabState:
        """Return the state.

        Raises:
            LabError: it is missing or broken.
        """
        try:
            return LabState.from_json(json.loads((self.path / "state.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError, InpathError) as error:
            raise LabError(
                f"the state of lab {self.name} cannot be read ({type(error).__name__}: {error}); "
                f"clear it away with: inpath lab down {self.name}"
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from changing the same lab meanwhile."""
        with (self.path / "state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def remove(self) -> None:
        """Delete the directory with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def state_directory() -> Path:
    """The directory of all state, from the environment or the default."""
    return Path(os.environ.get(STATE_DIRECTORY_VARIABLE) or DEFAULT_STATE_DIRECTORY).absolute()


def lab_directory(name: str) -> LabDirectory:
    """The directory of a lab, which need not exist."""
    return LabDirectory(state_directory() / "lab" / name)


def lab_names() -> list[str]:
    """The names of all labs that have a directory, whole or half-built."""
    try:
        return sorted(entry.name for entry in (state_directory() / "lab").iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []
