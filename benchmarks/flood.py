"""What a flood of requests costs other people's traffic, with the daemon and without.

    attacker --- router --- sink
    friend ------'

The attacker sends requests with router alert from spoofed sources as fast as one core can, all of them such as a
point would answer; the friend sends ordinary datagrams as fast as another core can. The kernel counts at the sink
what was forwarded of both. Each round measures with the daemon of the router running and then without it.

Where other work shares the machine, what is forwarded in a second tells little. What a packet costs does: the
kernel carries it through all three routers on the account of its sender, so the sender's processor time by its
packets is the cost of a packet on its whole way, whoever else is busy.

    python -m benchmarks.flood [--rounds N] [--seconds S] [--stream-per-s N] [--json FILE]
    python -m benchmarks.flood --memory PACKETS

Needs root and a C compiler; the second form does not. It shows so many requests, each from another source, to a
packet process without a kernel, and tells what it keeps after each tenth of them. A day at the usual limit brings
86 million, which takes hours; but whatever would grow with packets grows with the first of them, so that what the
later tenths add bounds what a day can.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median

from benchmarks.suite.message import ROUTER_ALERT, internet_checksum
from benchmarks.suite.programs import compiled
from benchmarks.suite.veth_lab import veth_lab
from interceptor.memory_queue import MemoryQueue
from lab.addressing import LinkEnd
from lab.namespaces import inside, run_batch
from lab.network import Lab
from lab.points import point_files
from mp import clock
from mp.bridge import MAX_EVENT_BYTES, Setup
from mp.packet_process import PacketProcess
from requestor.client import Client
from schemas.message import MEASUREMENT_PORT, MeasureRequest, Message
from schemas.xml_writer import message_to_xml

ATTACKER, FRIEND, ROUTER, SINK = "attacker", "friend", "router", "sink"
TOPOLOGY = {
    "nodes": {ATTACKER: {}, FRIEND: {}, ROUTER: {"point": True}, SINK: {}},
    "links": [{"a": ATTACKER, "b": ROUTER}, {"a": FRIEND, "b": ROUTER}, {"a": ROUTER, "b": SINK}],
}
FIRST_SPOOFED = IPv4Address("198.18.0.0")
"""Of the range for benchmarks (RFC 2544), as many addresses as there are sources."""
SPOOFED_PREFIX = "198.18.0.0/15"
VICTIM = "203.0.113.1"
"""Where flood and stream go; nobody is there (RFC 5737)."""
SOURCES = 8192
STREAM_PORT = 40_000
STREAM_BYTES = 512
METRICS = ("delay", "loss", "jitter", "rtt")
SETUP = Setup(
    address="10.0.0.1",
    own_addresses=("10.0.0.1",),
    serves=(),
    port=MEASUREMENT_PORT,
    queue=0,
    rate_per_s=1000,
    burst=200,
    rules="auto",
    room=1400,
    log_level="info",
    log_format="text",
    credentials={"is_required": False, "area": "", "areas": {}, "keys": []},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What came of one run."""

    flood_sent_per_s: float
    flood_forwarded_per_s: float
    flood_packet_us: float
    """Processor time that a packet of the flood costs all the way to the sink, in the kernel."""
    stream_sent_per_s: float
    stream_forwarded_per_s: float
    stream_packet_us: float
    """The same of the other traffic."""
    back_bytes_per_s: float
    """What the router sent toward the spoofed sources."""
    packet_cpu: float
    service_cpu: float
    """Of the two processes of the daemon, as shares of one core; 0 without it."""

    @property
    def stream_arrived(self) -> float:
        """The share of the stream that was forwarded."""
        return self.stream_forwarded_per_s / self.stream_sent_per_s


def spoofed_requests(count: int, *, seed: int, now_ms: int, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """Sources from that of a number on, and the payload of a request of each."""
    dice = random.Random(seed)
    for number in range(first, first + count):
        source = str(FIRST_SPOOFED + number)
        request = MeasureRequest(
            source=source,
            destination=VICTIM,
            id=f"{dice.getrandbits(128):032x}",
            metrics=METRICS,
            created_at_ms=now_ms,
            lifetime_ms=60_000,
            max_age_ms=60_000,
        )
        yield source, message_to_xml(Message(request=request))


def datagram(payload: bytes, *, source: str, port: int, options: bytes = b"") -> bytes:
    """An IPv4 packet to the victim, whose sender computed no UDP checksum (RFC 768)."""
    head_bytes = 20 + len(options)
    total = (head_bytes + 8 + len(payload)).to_bytes(2)
    head = bytes((0x40 + head_bytes // 4, 0)) + total + bytes.fromhex("000140003f11")
    ends = IPv4Address(source).packed + IPv4Address(VICTIM).packed + options
    checksum = internet_checksum(head + b"\0\0" + ends).to_bytes(2)
    udp = port.to_bytes(2) * 2 + (8 + len(payload)).to_bytes(2) + b"\0\0"
    return head + checksum + ends + udp + payload


class FloodNetwork:
    """The network above, whose router's point is not started yet."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        toward_sink = self._gateway(ROUTER, SINK)
        toward_attacker = self._gateway(ROUTER, ATTACKER)
        self._route(f"{VICTIM}/32 via {toward_sink}")
        self._route(f"{SPOOFED_PREFIX} via {toward_attacker}")
        self._count(SINK, f"-d {VICTIM} -p udp --dport {MEASUREMENT_PORT}")
        self._count(SINK, f"-d {VICTIM} -p udp --dport {STREAM_PORT}")
        self._count(ATTACKER, f"-d {SPOOFED_PREFIX}")
        self.flood = self._frames(
            ATTACKER,
            [
                datagram(payload, source=source, port=MEASUREMENT_PORT, options=ROUTER_ALERT)
                for source, payload in spoofed_requests(SOURCES, seed=os.getpid(), now_ms=time.time_ns() // 10**6)
            ],
        )
        stream = datagram(bytes(STREAM_BYTES), source=self._gateway(ROUTER, FRIEND), port=STREAM_PORT)
        self.stream = self._frames(FRIEND, [stream])

    def namespace(self, node: str) -> str:
        """The network namespace of a node."""
        return self.lab.addressing.namespace(node)

    @contextmanager
    def daemon(self) -> Iterator[Client]:
        """The router's point runs."""
        self.lab.start_point(ROUTER)
        try:
            with Client(point_files(self.lab.directory, ROUTER).control) as client:
                yield client
        finally:
            self.lab.stop_point(ROUTER)

    def run(self, seconds: float, processes: Sequence[int] = (), *, stream_per_s: float = 0) -> Reading:
        """Send both at once, and count what was forwarded.

        Args:
            seconds: how long.
            stream_per_s: packets of the stream; 0: as many as a core can.
            processes: ids of the packet and the service process, if they run.
        """
        before, busy_s = self._counts(), [cpu_s(process) for process in processes]
        senders = [
            self._sender(ATTACKER, self.flood, seconds, 0, core=0),
            self._sender(FRIEND, self.stream, seconds, stream_per_s, core=(os.cpu_count() or 1) - 1),
        ]
        flood_sent, stream_sent = (_sent(sender) for sender in senders)
        cpu = [(cpu_s(process) - used_s) / seconds for process, used_s in zip(processes, busy_s, strict=True)]
        (flood, _), (stream, _), (_, back_bytes) = (
            (packets - packets_before, octets - octets_before)
            for (packets, octets), (packets_before, octets_before) in zip(self._counts(), before, strict=True)
        )
        return Reading(
            flood_sent_per_s=flood_sent.rate_per_s,
            flood_forwarded_per_s=flood / seconds,
            flood_packet_us=flood_sent.packet_us,
            stream_sent_per_s=stream_sent.rate_per_s,
            stream_forwarded_per_s=stream / seconds,
            stream_packet_us=stream_sent.packet_us,
            back_bytes_per_s=back_bytes / seconds,
            packet_cpu=cpu[0] if cpu else 0.0,
            service_cpu=cpu[1] if cpu else 0.0,
        )

    def back_bytes(self) -> int:
        """All octets of IP packets so far that came to the attacker for the spoofed sources."""
        return self._counts()[2][1]

    def interface(self, node: str) -> str:
        """Of a node, toward the router."""
        return self._ends(node, ROUTER)[0].interface

    def _sender(
        self, node: str, frames: Path, seconds: float, rate_per_s: float, *, core: int
    ) -> subprocess.Popen[str]:
        program = compiled("flood_sender")
        return subprocess.Popen(
            [
                program,
                self.namespace(node),
                self.interface(node),
                frames,
                str(seconds),
                str(rate_per_s),
                str(core),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    def _counts(self) -> tuple[tuple[int, int], ...]:
        """Packets and octets of the flood and of the stream at the sink, and of what came to the attacker."""
        return tuple(
            (int(packets), int(octets))
            for node in (SINK, ATTACKER)
            for packets, octets in re.findall(r"-c (\d+) (\d+) -j DROP", self._iptables(node, "-t raw -vS"))
        )

    def _ends(self, node: str, neighbor: str) -> tuple[LinkEnd, LinkEnd]:
        plan = next(one for one in self.lab.addressing.links_of(node) if one.far_end_of(node).node == neighbor)
        return plan.end_of(node), plan.far_end_of(node)

    def _gateway(self, node: str, neighbor: str) -> str:
        return self._ends(node, neighbor)[1].address

    def _route(self, route: str) -> None:
        inside(self.namespace(ROUTER), lambda: run_batch("ip", [f"route add {route}"]))

    def _frames(self, node: str, packets: Sequence[bytes]) -> Path:
        near, far = self._ends(node, ROUTER)
        ethernet = bytes.fromhex((far.mac + near.mac).replace(":", "")) + b"\x08\x00"
        path = self.lab.directory.path / f"{node}.frames"
        frames = (ethernet + packet for packet in packets)
        path.write_bytes(b"".join(len(frame).to_bytes(2) + frame for frame in frames))
        return path

    def _count(self, node: str, match: str) -> None:
        self._iptables(node, f"-t raw -A PREROUTING {match} -j DROP")

    def _iptables(self, node: str, arguments: str) -> str:
        command = ["ip", "netns", "exec", self.namespace(node), "iptables", "-w", "5", *arguments.split()]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cpu_s(process: int) -> float:
    """Processor time that a process has used, in user space and in the kernel (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Sent:
    rate_per_s: float
    packet_us: float


def _sent(sender: subprocess.Popen[str]) -> _Sent:
    """What a sender says at its end."""
    said, _ = sender.communicate()
    if sender.returncode != 0:
        raise subprocess.CalledProcessError(sender.returncode, "flood_sender")
    packets, took_ns, processor_ns = map(int, said.split())
    return _Sent(packets * 1e9 / took_ns, processor_ns / 1e3 / packets)


@contextmanager
def flood_network() -> Iterator[FloodNetwork]:
    """The network; nothing of it stays."""
    with veth_lab(TOPOLOGY) as lab:
        yield FloodNetwork(lab)


def measure(rounds: int, seconds: float, stream_per_s: float) -> dict[str, list[Reading]]:
    """Readings with the daemon and without, in turn."""
    readings: dict[str, list[Reading]] = {"with": [], "without": []}
    with flood_network() as network:
        for _ in range(rounds):
            with network.daemon() as client:
                status = client.status()
                processes = (status["packet_process"]["pid"], status["pid"])
                readings["with"].append(network.run(seconds, processes, stream_per_s=stream_per_s))
            readings["without"].append(network.run(seconds, stream_per_s=stream_per_s))
    return readings


def table(readings: Mapping[str, Sequence[Reading]]) -> dict[str, dict[str, float]]:
    """Of each figure: medians with and without the daemon, and the median of the ratios of the rounds."""
    found = {}
    for figure in (one.name for one in fields(Reading)):
        values = {which: [getattr(one, figure) for one in all_of_it] for which, all_of_it in readings.items()}
        pairs = zip(values["with"], values["without"], strict=True)
        ratios = [present / absent for present, absent in pairs if absent]
        found[figure] = {which: median(all_of_it) for which, all_of_it in values.items()}
        found[figure]["ratio"] = median(ratios) if ratios else float("nan")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a packet process holds after some packets."""

    packets: int
    blocks: int
    """Of memory, that the interpreter has given out."""
    resident_bytes: int


def kept_in_memory(packets: int) -> Iterator[Kept]:
    """Show requests to a packet process whose service reads what it says; ten readings."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        process = PacketProcess(theirs, SETUP)
        queue = MemoryQueue(process.handle)
        for tenth in range(10):
            each = packets // 10
            _show(process, queue, ours, first=tenth * each, count=each)
            gc.collect()
            resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
            yield Kept(
                packets=(tenth + 1) * each,
                blocks=sys.getallocatedblocks(),
                resident_bytes=resident_pages * os.sysconf("SC_PAGE_SIZE"),
            )
        assert queue.handled == 10 * each and queue.failed == 0


def _show(process: PacketProcess, queue: MemoryQueue, service: socket.socket, *, first: int, count: int) -> None:
    requests = spoofed_requests(count, seed=first, now_ms=time.time_ns() // 10**6, first=first)
    for source, payload in requests:
        process.turn_began_ms = clock.monotonic_ms()  # so that it is never late
        queue.put(datagram(payload, source=source, port=MEASUREMENT_PORT, options=ROUTER_ALERT))
        queue.process_pending()
        queue.take_verdicts()
        with suppress(BlockingIOError):
            service.recv(MAX_EVENT_BYTES)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="What a flood costs other traffic.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument(
        "--stream-per-s", type=float, default=0, help="packets of the other traffic; 0: all it can"
    )
    parser.add_argument("--json", type=Path, help="where the table goes too")
    parser.add_argument("--memory", type=int, metavar="PACKETS", help="what they leave in memory, and no more")
    options = parser.parse_args()
    if options.memory:
        for kept in kept_in_memory(options.memory):
            print(f"{kept.packets:12,} packets {kept.blocks:12,} blocks {kept.resident_bytes:15,} octets resident")
        return
    found = table(measure(options.rounds, options.seconds, options.stream_per_s))
    print(f"{'':24}{'with':>12}{'without':>12}{'ratio':>8}")
    for figure, values in found.items():
        print(f"{figure:24}{values['with']:12.2f}{values['without']:12.2f}{values['ratio']:8.3f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
