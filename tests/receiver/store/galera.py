"""A Galera cluster of three servers on the loopback interface; needs the Debian package galera-4 too.

All nodes begin with a copy of the first one's data, so that only what came since has to be transferred, which the
provider does itself. The server wants a script around it all the same; Debian's are in another package.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.database import START_TIMEOUT_S, PrivateMariaDB
from schemas.errors import HostError, LabError

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
SERVER = Path("/usr/sbin/mariadbd")
NODES = 3

# A node that is killed is left behind after a second; with the defaults all others wait for it for five.
_OPTIONS = """\
tmpdir={directory}
wsrep_on=ON
wsrep_provider={provider}
wsrep_cluster_name=inpath
wsrep_cluster_address=gcomm://{members}
wsrep_node_name=node{port}
wsrep_node_address=127.0.0.1
wsrep_sst_method=copied
wsrep_sst_receive_address=127.0.0.1:{port}
wsrep_provider_options="gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{state_port};\
evs.keepalive_period=PT0.2S;evs.inactive_check_period=PT0.2S;evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;\
evs.install_timeout=PT2S;gcache.size=32M"
binlog_format=ROW
default_storage_engine=InnoDB
innodb_autoinc_lock_mode=2
"""

# The two ends of a state transfer that has nothing to transfer: the donor tells the joiner where it stands.
_TRANSFER = """\
#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
        --role) role=$2 ;;
        --address) address=$2 ;;
        --gtid) position=$2 ;;
    esac
    shift
done
place="{directory}/position-$(echo "$address" | tr -dc 0-9)"
if [ "$role" = donor ]; then
    echo "$position" > "$place.new" && mv "$place.new" "$place"
    echo "done $position"
else
    echo "ready $address"
    while [ ! -e "$place" ]; do sleep 0.1; done
    cat "$place"
    rm "$place"
fi
"""


class GaleraNode(PrivateMariaDB):
    """One server of a cluster.

    Args:
        directory: as for `PrivateMariaDB`.
        ports: of all nodes for the traffic between them.
        index: which of them is this one's.
    """

    def __init__(self, directory: Path, ports: list[int], index: int) -> None:
        super().__init__(directory)
        self._ports = ports
        self._index = index
        self.begins_the_cluster = False
        self._position = ""

    def _options(self) -> str:
        return super()._options() + _OPTIONS.format(
            directory=self.directory,
            provider=PROVIDER,
            members=",".join(f"127.0.0.1:{port}" for port in self._ports[:NODES]),
            port=self._ports[self._index],
            state_port=self._ports[NODES + self._index],
        )

    def _arguments(self) -> list[str]:
        begins = ["--wsrep-new-cluster"] if self.begins_the_cluster else []
        return [*super()._arguments(), *begins, *([self._position] if self._position else [])]

    def rejoin(self) -> None:
        """Start again after a kill, as Debian's unit does: see what the data has, then fetch what came since.

        Raises:
            LabError: the data does not say up to where it goes, or the server does not start.
        """
        self.begins_the_cluster = False
        log = self.directory / "recovery.log"
        subprocess.run(
            [SERVER, *self._arguments(), "--wsrep-recover", f"--log-error={log}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_TIMEOUT_S,
            check=True,
        )
        found = re.search(r"WSREP: Recovered position: ([0-9a-f-]{36}:\d+)", log.read_text())
        if found is None:
            raise LabError(f"{log} names no position, expected that of the last commit")
        self._position = f"--wsrep_start_position={found[1]}"
        self.start()

    def copy_of(self, first: GaleraNode) -> None:
        """Become a node with the data and the users of another one, which must not run."""
        self._password = first._password
        shutil.copytree(first.directory / "data", self.directory / "data")
        self.install()
        (self.directory / "access.sql").write_text("")


@contextmanager
def galera_cluster(directory: Path) -> Iterator[list[GaleraNode]]:
    """The nodes, in service; gone with the block.

    Raises:
        HostError: Galera is not installed.
        LabError: a server does not start.
    """
    if not PROVIDER.exists():
        raise HostError(f"{PROVIDER} is not there, expected the Debian package galera-4")
    ports = _free_ports(2 * NODES)
    nodes = []
    for index in range(NODES):
        (directory / f"node{index}").mkdir()
        nodes.append(GaleraNode(directory / f"node{index}", ports, index))
    first = nodes[0]
    first.install()
    script = directory / "wsrep_sst_copied"
    script.write_text(_TRANSFER.format(directory=directory))
    script.chmod(0o700)
    with ExitStack() as stack:
        path = os.environ["PATH"]
        stack.callback(os.environ.update, PATH=path)
        os.environ["PATH"] = f"{directory}:{path}"
        stack.callback(first.stop)
        first.begins_the_cluster = True
        first.start()
        first.stop()
        for other in nodes[1:]:
            other.copy_of(first)
        first.start()
        (first.directory / "access.sql").write_text("")
        for other in nodes[1:]:
            stack.callback(other.stop)
            other.start()
        yield nodes


def cluster_url(nodes: list[GaleraNode]) -> str:
    """One URL for all nodes."""
    first = f"127.0.0.1:{nodes[0].port}"
    return nodes[0].url.replace(first, ",".join(f"127.0.0.1:{node.port}" for node in nodes))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(door.getsockname()[1]) for door in doors]
