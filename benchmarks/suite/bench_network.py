"""A small overlay in namespaces, of which one point at a time stands in the way of packets that are counted.

    p1 --- quiet --- sink          quiet   a point that has nothing else to do
     `---- busy ----'              busy    a point that measures 20 neighbors, and whose HTTP service is asked
            |  `- p3               p3      where the asked paths end
          peers `- spare           spare   a point that is started and stopped
                                   peers   the 20 neighbors: addresses of one process

Packets are put on the link from p1 to a point, as if p1 had just appended its record, and go on to the sink, where
the kernel counts and drops them. Whose queue they meet on their way is one rule in front of the point's own: that
one's rate limit would be all that is measured.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.suite.message import (
    CAPACITY_PORT,
    DESTINATION,
    BenchMessages,
    MessageKind,
    bench_messages,
)
from benchmarks.suite.veth_lab import veth_lab
from lab.addressing import LinkEnd
from lab.namespaces import inside, run_batch
from lab.network import Lab
from lab.points import PointFiles, point_files, start_points
from mp.keys.directory import KeyDirectory
from requestor.client import Client
from schemas.errors import HostError
from schemas.keyring import Keyring
from schemas.message import MEASUREMENT_PORT

FEEDER, QUIET, BUSY, FAR, SPARE, SINK, PEERS = NODES = ("p1", "quiet", "busy", "p3", "spare", "sink", "peers")
TOPOLOGY = {
    "nodes": {name: {"point": name not in (SINK, PEERS)} for name in NODES},
    "links": [
        {"a": FEEDER, "b": QUIET},
        {"a": QUIET, "b": SINK},
        {"a": FEEDER, "b": BUSY},
        {"a": BUSY, "b": SINK, "cost": 100},  # so that quiet and busy meet over p1, which is a point
        {"a": BUSY, "b": FAR},
        {"a": BUSY, "b": PEERS},
        {"a": FAR, "b": SPARE},
    ],
}
QUEUE_STATISTICS = "/proc/thread-self/net/netfilter/nfnetlink_queue"
READY_LIMIT_S = 30.0
HOUSEKEEPING_S = 1.2
DRAIN_LIMIT_S = 10.0
POLL_S = 0.002
MATCH = f"-d {DESTINATION} -p udp --dport {MEASUREMENT_PORT}"


@contextmanager
def bench_network() -> Iterator[BenchNetwork]:
    """The network above, in which no point runs yet."""
    with veth_lab(TOPOLOGY) as lab:
        network = BenchNetwork(lab)
        try:
            yield network
        finally:
            network.close()


@dataclass(frozen=True, slots=True)
class RunningPoint:
    """A daemon of the network."""

    pid: int
    """Of the service process."""
    packet_pids: tuple[int, ...]
    """Of the packet processes."""

    @property
    def packet_pid(self) -> int:
        """Of the first of them, mostly the only one."""
        return self.packet_pids[0]


class BenchNetwork:
    """What the benchmarks do with the network."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._folder = lab.directory.path
        for point in (QUIET, BUSY):
            self._lead_to_sink(point)
            self._require_authentication(point)
        self._statistics = {
            point: inside(self.namespace(point), lambda: os.open(QUEUE_STATISTICS, os.O_RDONLY | os.O_CLOEXEC))
            for point in (QUIET, BUSY)
        }
        self._running: dict[str, RunningPoint] = {}
        self._counted = 0
        self._messages: dict[tuple[MessageKind, int], BenchMessages] = {}

    def close(self) -> None:
        """Let go of what the kernel holds for us."""
        for descriptor in self._statistics.values():
            os.close(descriptor)

    def namespace(self, node: str) -> str:
        """The network namespace of a node."""
        return self.lab.addressing.namespace(node)

    def address(self, node: str) -> str:
        """The identity of a node."""
        return self.lab.addressing.identities[node]

    def files(self, node: str) -> PointFiles:
        """Where a point keeps what it has."""
        return point_files(self.lab.directory, node)

    def start(self, *nodes: str) -> None:
        """Start points side by side, those that do not run yet.

        Then wait until the quiet and the busy one know the segment from the feeder and its MTU: until then they
        deflate messages that may be longer than the path lets through.
        """
        anew = [node for node in nodes if node not in self._running]
        start_points(self.lab.directory, self.lab.addressing, anew, lambda: None)
        for node in anew:
            self._running[node] = self._settled(node)
        if anew:
            time.sleep(HOUSEKEEPING_S)  # then the packet processes have heard of it

    def point(self, node: str) -> RunningPoint:
        """A point that was started."""
        return self._running[node]

    def _settled(self, node: str) -> RunningPoint:
        with Client(self.files(node).control) as client:
            deadline_s = time.monotonic() + READY_LIMIT_S
            while not self._knows_feeder(status := client.status()) and node in (QUIET, BUSY):
                if time.monotonic() > deadline_s:
                    raise HostError(f"the point {node} did not get to know {FEEDER}")
                time.sleep(0.1)
        return RunningPoint(pid=status["pid"], packet_pids=tuple(status["packet_process"]["pids"]))

    def add_tables(self, node: str, text: str) -> None:
        """Add tables to a point's configuration, before the names at its end."""
        file = self.files(node).configuration
        head, names, tail = file.read_text().partition("[names]\n")
        file.write_text(head + text + names + tail)

    def _require_authentication(self, node: str) -> None:
        file = self.files(node).configuration
        file.write_text(file.read_text().replace("[security]\n", '[security]\nauthentication = "required"\n'))

    def keyring(self, node: str) -> Keyring:
        """What the point holds: the key that all of a lab share."""
        keys = KeyDirectory(self.files(node).keys).read()
        return Keyring(keys.values(), area=self.lab.topology.node(node).area)

    def _knows_feeder(self, status: Mapping[str, Any]) -> bool:
        measured = (one for one in status["neighbors"] if one["state"] == "measured")
        known = {one["address"] for one in measured if "mtu" in one["last_60_s"]}
        return self.address(FEEDER) in known

    def counters(self, node: str) -> dict[str, int]:
        """What the point says of its packets; up to a second old."""
        with Client(self.files(node).control) as client:
            return dict(client.status()["packet_process"]["counters"])

    def messages(self, kind: MessageKind, sources: int = 1) -> BenchMessages:
        """Messages on their way to a point behind the feeder; made once for each kind and number of sources."""
        if (kind, sources) not in self._messages:
            now_ms, last_point, keyring = time.time_ns() // 1_000_000, self.address(FEEDER), self.keyring(FEEDER)
            self._messages[kind, sources] = bench_messages(
                kind, last_point=last_point, now_ms=now_ms, keyring=keyring, sources=sources
            )
        return self._messages[kind, sources]

    def frames(self, kind: MessageKind, point: str, source_port: int, sources: int = 1) -> Path:
        """These messages on the link to `point`, in a file for the programs that send; made once."""
        file = self._folder / f"{kind.label.replace(' ', '-')}-{sources}-{point}-{source_port}.frames"
        if not file.exists():
            near, far = self.ends(FEEDER, point)
            file.write_bytes(self.messages(kind, sources).frames(near.mac, far.mac, source_port))
        return file

    def ends(self, node: str, neighbor: str) -> tuple[LinkEnd, LinkEnd]:
        """The two ends of a link, the node's first."""
        plan = next(one for one in self.lab.addressing.links_of(node) if one.far_end_of(node).node == neighbor)
        return plan.end_of(node), plan.far_end_of(node)

    def intercept(self, queue: int | None, point: str = QUIET, *, queues: int = 1) -> None:
        """From now on the packets at `point` go into this queue, or into it and those behind, or are forwarded."""
        target = "ACCEPT" if queue is None else f"NFQUEUE --queue-num {queue}"
        if queue is not None and queues > 1:
            target = f"NFQUEUE --queue-balance {queue}:{queue + queues - 1}"
        self._iptables(point, f"-t mangle -R PREROUTING 1 {MATCH} -j {target}")

    def count_arrivals(self, *, unlike_bytes: int | None, point: str = QUIET) -> None:
        """Count packets of the capacity runs that arrive at the sink: all, or those of another length than this.

        Whoever deflates all of a message anew may make less of it than had come, though it holds more.
        """
        changed = "" if unlike_bytes is None else f"-m length ! --length {unlike_bytes}"
        interface = self.ends(SINK, point)[0].interface
        self._iptables(SINK, "-t raw -F PREROUTING")
        self._iptables(
            SINK, f"-t raw -A PREROUTING -i {interface} {MATCH} --sport {CAPACITY_PORT} {changed} -j DROP"
        )
        self._iptables(SINK, f"-t raw -A PREROUTING {MATCH} --sport {CAPACITY_PORT} -j DROP")
        self._iptables(SINK, f"-t raw -A PREROUTING {MATCH} -j DROP")
        self._counted = 0

    def delivered(self) -> tuple[int, int]:
        """How many that count have arrived since the last call, and how many others in all."""
        lines = self._iptables(SINK, "-t raw -nvxL PREROUTING").splitlines()[2:]
        arrived, others = (int(line.split()[0]) for line in lines[:2])
        new, self._counted = arrived - self._counted, arrived
        return new, others

    def waiting(self, point: str = QUIET) -> int:
        """Packets without a verdict in all queues of a point."""
        return sum(self.waiting_by_queue(point).values())

    def waiting_by_queue(self, point: str = QUIET) -> dict[int, int]:
        """The same by the number of the queue."""
        text = os.pread(self._statistics[point], 65536, 0).decode()
        lines = (line.split() for line in text.splitlines())
        return {int(queue): int(waiting) for queue, _, waiting, *_ in lines}

    def await_empty(self, point: str = QUIET) -> None:
        """Until all packets have their verdict."""
        deadline_s = time.monotonic() + DRAIN_LIMIT_S
        while self.waiting(point):
            if time.monotonic() > deadline_s:
                raise HostError(f"{self.waiting(point)} packets wait for a verdict and get none")
            time.sleep(POLL_S)
        time.sleep(POLL_S)  # the last one is still on its way to the sink

    def _lead_to_sink(self, point: str) -> None:
        far = self.ends(point, SINK)[1]
        command = f"route add {DESTINATION}/32 via {far.address} dev {self.ends(point, SINK)[0].interface}"
        inside(self.namespace(point), lambda: run_batch("ip", [command]))
        self._iptables(point, f"-t mangle -I PREROUTING 1 {MATCH} -j ACCEPT")

    def _iptables(self, node: str, arguments: str) -> str:
        command = ["ip", "netns", "exec", self.namespace(node), "iptables", "-w", "5", *arguments.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HostError(f"iptables {arguments}: {done.stderr.strip()}")
        return done.stdout
