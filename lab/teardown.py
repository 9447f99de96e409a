"""Clear a lab away, whole, half-built or crashed."""

from __future__ import annotations

from lab import namespaces
from lab.addressing import namespace_name
from lab.links import user_link_processes
from lab.processes import end_processes
from lab.state import LabDirectory, lab_directory, lab_names
from schemas.errors import InpathError

LINKS_WAIT_S = 30.0
"""The kernel takes about 40 ms for each end of a user-space link; killing the process does not shorten it."""


def take_down(name: str) -> bool:
    """Remove a lab's processes, namespaces and directory, as far as they are there.

    Its processes are found by where they live, in its namespaces, or are about to live, so that none is missed
    which a crash or a signal kept from being written down. Without a readable state the namespaces are found by
    their names.

    Returns:
        Whether there was anything to remove.

    Raises:
        HostError: the machine refuses.
    """
    directory = lab_directory(name)
    remains = namespaces_of(directory)
    existed = bool(remains) or directory.path.exists()
    # Daemons and routing first: while the links carry, they can say goodbye.
    end_processes(namespaces.processes_entering(remains) | namespaces.processes_inside(remains))
    end_processes(user_link_processes(directory.links_control), wait_s=LINKS_WAIT_S)
    namespaces.remove(remains)
    directory.remove()
    return existed


def namespaces_of(directory: LabDirectory) -> set[str]:
    """The existing namespaces of a lab: those of its state or, without one, those of its name.

    Names of other labs may start alike (`net` and `net-2`); what these have recorded is theirs.
    """
    existing = namespaces.existing()
    recorded = _recorded(directory)
    if recorded is not None:
        return recorded & existing
    prefix = namespace_name(directory.name, "")
    candidates = {name for name in existing if name.startswith(prefix)}
    others = (lab_directory(name) for name in lab_names() if name != directory.name)
    return candidates.difference(*(_recorded(other) or _named_by_folders(other) for other in others))


def _recorded(directory: LabDirectory) -> set[str] | None:
    try:
        topology = directory.read().topology
    except InpathError:
        return None
    return {namespace_name(directory.name, node.name) for node in topology.nodes}


def _named_by_folders(directory: LabDirectory) -> set[str]:
    return {namespace_name(directory.name, entry.name) for entry in directory.path.iterdir()}
