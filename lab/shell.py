"""Run a command on a node of a lab."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NoReturn

from lab.network import Lab
from lab.points import inpath_program
from schemas.errors import LabError, UsageError

CONFIGURATION_VARIABLE = "INPATH_CONFIG"
"""Where the command `inpath` finds its configuration, and with it the names of the nodes."""


def become(lab: Lab, node: str, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, in the node's namespace.

    Raises:
        UsageError: the node is unknown, or there is no such command.
        LabError: the machine refuses.
    """
    lab.topology.node(node, "NODE")
    environment = node_environment(lab, node)
    if not command or shutil.which(command[0], path=environment["PATH"]) is None:
        raise UsageError("COMMAND", command[0] if command else "", "a program that exists")
    enter = ["ip", "netns", "exec", lab.addressing.namespace(node)]
    try:
        os.execvpe(enter[0], [*enter, *command], environment)
    except OSError as error:
        raise LabError(f"cannot run ip netns exec: {error.strerror}") from None


def node_environment(lab: Lab, node: str) -> Mapping[str, str]:
    """The environment of a command on a node: this `inpath` first, with the node's configuration."""
    programs = inpath_program().parent
    return os.environ | {
        CONFIGURATION_VARIABLE: str(lab.directory.configuration(node)),
        "PATH": os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath))),
    }
