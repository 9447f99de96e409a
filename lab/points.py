"""The measurement points of a lab: their configuration files and their daemons."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lab.addressing import Addressing
from lab.links import last_line
from lab.namespaces import processes_inside
from lab.processes import descendants, end_processes, is_alive, kill_processes, start_process
from lab.routes import Routes, neighboring_points, served_nodes
from lab.state import LabDirectory
from lab.topology import Node, Topology
from mp.keys.directory import KeyDirectory
from receiver.store.schema_version import upgrade
from schemas.errors import LabError
from schemas.keyring import HMAC_SECRET_BYTES, HmacKey, KeyIdentity

ASSUMED_CLOCK_ERROR_MS = 0.001
"""All nodes of a lab read the same kernel clock; what is left is the resolution of its time stamps."""

HELLO_INTERVAL_S = 5.0
"""Between two hellos to one destination where points find each other; a daemon's default is a minute."""

START_WAIT_S = 60.0
"""How long a daemon may take to answer: many start at the same time on few cores, beside a hundred that run."""

PARALLEL_STARTS = os.cpu_count() or 1
"""Starting Python keeps a core busy; more at a time only delays each of them."""

POLL_S = 0.02

SOCKET_NAME = "service.sock"
LOG_NAME = "log"
PID_NAME = "pid"
KEYS_NAME = "keys"
RESULTS_NAME = "results.db"

Settings = Mapping[str, Mapping[str, object]]
"""Keys of a configuration file and their values, by table."""
NO_SETTINGS: Settings = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFiles:
    """Where one point keeps what it has."""

    directory: Path
    configuration: Path

    @property
    def control(self) -> Path:
        """The Unix socket of its service."""
        return self.directory / SOCKET_NAME

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.directory / LOG_NAME

    @property
    def results(self) -> Path:
        """Its database, if it has one of its own."""
        return self.directory / RESULTS_NAME

    @property
    def keys(self) -> Path:
        """The directory of the keys that it shares with the other points."""
        return self.directory / KEYS_NAME

    @property
    def pid_file(self) -> Path:
        """The id of the daemon's first process."""
        return self.directory / PID_NAME


def point_files(directory: LabDirectory, node: str) -> PointFiles:
    """The files of a node."""
    return PointFiles(directory=directory.node(node), configuration=directory.configuration(node))


def write_configurations(
    directory: LabDirectory,
    topology: Topology,
    addressing: Addressing,
    routes: Routes,
    database: str | None,
    *,
    discover: bool = False,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Write each node's configuration file; a node without a point gets the names alone.

    Args:
        directory: the lab's directory.
        topology: the network.
        addressing: its addresses.
        routes: the routes it starts with, from which neighbors and served hosts follow.
        database: URL of the one store of all points; None gives each its own SQLite file.
        discover: tell no point its neighbors, but the addresses of all other points.
        settings: what every point's file says besides, or instead.
    """
    key = _shared_key(topology)
    empty = _empty_database() if database is None else None
    names = "[names]\n" + "".join(f'{name} = "{ip}"\n' for name, ip in addressing.identities.items())
    neighbors = neighboring_points(topology, routes)
    served = served_nodes(topology, routes)
    for node in topology.nodes:
        files = point_files(directory, node.name)
        files.directory.mkdir(exist_ok=True)
        tables: dict[str, Mapping[str, object]] = {}
        if node.point:
            prefixes = served_prefixes(node, served[node.name], addressing)
            tables = _own_tables(node, files, addressing.identities[node.name], prefixes, database)
            tables |= _neighbor_tables(node, addressing, neighbors, discover=discover)
            if empty is not None:
                files.results.write_bytes(empty)
            tables["security"] = {"keys_dir": str(files.keys)}
            KeyDirectory(files.keys).add(key)
            tables["interfaces"] = interface_capacities(topology, addressing, node.name)
            tables |= {name: {**tables.get(name, {}), **table} for name, table in settings.items()}
        files.configuration.write_text(_toml_text(tables) + names)


def _empty_database() -> bytes:
    """A database with all its tables: to make them for each point would be most of what its start costs."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / RESULTS_NAME
        upgrade(_sqlite_url(file))
        return file.read_bytes()


def _sqlite_url(file: Path) -> str:
    return f"sqlite:///{file}"


def _shared_key(topology: Topology) -> HmacKey:
    """A key of all points: a lab belongs to one operator."""
    areas = tuple(sorted({node.area for node in topology.nodes}))
    return HmacKey(KeyIdentity(id="lab", areas=areas), secrets.token_bytes(HMAC_SECRET_BYTES))


def served_prefixes(node: Node, attached: Sequence[str], addressing: Addressing) -> list[str]:
    """The prefixes a point answers for: attached hosts, then what the topology names, each once."""
    prefixes = [addressing.identities.get(name, name) for name in (*attached, *node.serves)]
    return list(dict.fromkeys(prefix if "/" in prefix else f"{prefix}/32" for prefix in prefixes))


def interface_capacities(topology: Topology, addressing: Addressing, node: str) -> dict[str, dict[str, float]]:
    """By interface, what a point is told of the rates of its links; one without a limit is left out.

    A link counts its rate over Ethernet frames, so at full packets 1 % less is left for the IP layer.
    """
    capacities = {}
    for link, plan in zip(topology.links, addressing.links, strict=True):
        if node not in (link.a, link.b):
            continue
        rates = {
            "ingress_capacity_mbit_s": link.impairment_from(link.far_end(node)).rate_mbit,
            "egress_capacity_mbit_s": link.impairment_from(node).rate_mbit,
        }
        capacities[plan.end_of(node).interface] = {key: rate for key, rate in rates.items() if rate is not None}
    return {interface: limited for interface, limited in capacities.items() if limited}


def _own_tables(
    node: Node, files: PointFiles, address: str, serves: Sequence[str], database: str | None
) -> dict[str, Mapping[str, object]]:
    return {
        "point": {
            "name": node.name,
            "address": address,
            "area": node.area,
            "serves": list(serves),
            "state_dir": str(files.directory),
        },
        "clock": {"assumed_error_ms": ASSUMED_CLOCK_ERROR_MS},
        "store": {"url": database or _sqlite_url(files.results)},
        "service": {"socket": str(files.control), "listen": address},
    }


def _neighbor_tables(
    node: Node, addressing: Addressing, neighbors: Mapping[str, Sequence[str]], *, discover: bool
) -> dict[str, Mapping[str, object]]:
    if not discover:
        return {"probe": {"neighbors": [addressing.identities[name] for name in neighbors[node.name]]}}
    others = [addressing.identities[name] for name in neighbors if name != node.name]
    return {"discovery": {"destinations": others, "interval_s": HELLO_INTERVAL_S}}


def _toml_text(tables: Mapping[str, Mapping[str, object]]) -> str:
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items()) + "\n"
        for name, table in tables.items()
        if table
    )


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml_value(inner)}' for key, inner in value.items())} }}"
    return json.dumps(value)  # a string, number or list in JSON reads the same in TOML


def inpath_program() -> Path:
    """The command `inpath` that belongs to this interpreter.

    Raises:
        LabError: it is not installed beside it.
    """
    program = Path(sys.executable).parent / "inpath"
    if not program.exists():
        raise LabError(f"the command inpath is not installed at {program}")
    return program


def start_points(
    directory: LabDirectory, addressing: Addressing, nodes: Sequence[str], on_started: Callable[[], None]
) -> None:
    """Start the daemons of some nodes, several at a time; return when all answer.

    Raises:
        LabError: one of them has ended or does not answer.
    """
    cancelled = threading.Event()
    with ThreadPoolExecutor(PARALLEL_STARTS) as executor:
        futures = [executor.submit(start_point, directory, addressing, node, cancelled) for node in nodes]
        try:
            for future in as_completed(futures):
                future.result()
                on_started()
        except BaseException:
            cancelled.set()
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def start_point(
    directory: LabDirectory, addressing: Addressing, node: str, cancelled: threading.Event | None = None
) -> None:
    """Start one node's daemon in its namespace, and return when it answers.

    Args:
        directory: the lab's directory, with the node's configuration.
        addressing: the lab's names.
        node: the node's name.
        cancelled: set by somebody who does not want to wait any longer.

    Raises:
        LabError: it runs already, has ended, or does not answer; the error carries the last line of its log.
    """
    files = point_files(directory, node)
    if point_pid(directory, addressing, node) is not None:
        raise LabError(f"the point on {node} runs already")
    files.control.unlink(missing_ok=True)
    # `ip netns exec` becomes the daemon, and gives it the /sys of its namespace too.
    enter = ["ip", "netns", "exec", addressing.namespace(node)]
    command = [*enter, str(inpath_program()), "mp", "run", "--config", str(files.configuration)]
    pid = start_process(command, files.log)
    files.pid_file.write_text(f"{pid}\n")
    if not _answers(files.control, pid, cancelled or threading.Event()):
        end_processes({pid, *descendants(pid)})
        raise LabError(f"the point on {node} does not start: {last_line(files.log)}")


def _answers(control: Path, pid: int, cancelled: threading.Event) -> bool:
    deadline = time.monotonic() + START_WAIT_S
    while is_alive(pid) and time.monotonic() < deadline and not cancelled.is_set():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            try:
                door.connect(str(control))
            except OSError:
                cancelled.wait(POLL_S)
            else:
                return True
    return False


def stop_point(directory: LabDirectory, addressing: Addressing, node: str) -> None:
    """End one node's daemon: politely, and after a wait without asking.

    Raises:
        LabError: it does not run.
    """
    end_processes([_running(directory, addressing, node)])
    _forget(directory, node)


def kill_point(directory: LabDirectory, addressing: Addressing, node: str) -> None:
    """Kill one node's daemon at once, to try what the others do then.

    Raises:
        LabError: it does not run.
    """
    pid = _running(directory, addressing, node)
    # Its children die with it: a router that loses power keeps none.
    kill_processes({pid, *descendants(pid)})
    _forget(directory, node)


def point_pid(directory: LabDirectory, addressing: Addressing, node: str) -> int | None:
    """The process id of a node's daemon; None if it does not run."""
    try:
        pid = int(point_files(directory, node).pid_file.read_text())
    except (OSError, ValueError):
        return None
    # A recorded number may belong to another process by now; that one is not in the namespace.
    return pid if is_alive(pid) and pid in processes_inside([addressing.namespace(node)]) else None


def _running(directory: LabDirectory, addressing: Addressing, node: str) -> int:
    pid = point_pid(directory, addressing, node)
    if pid is None:
        raise LabError(f"no point runs on {node}")
    return pid


def _forget(directory: LabDirectory, node: str) -> None:
    point_files(directory, node).pid_file.unlink(missing_ok=True)
