"""What do 20 sessions at 10 packets a second cost a measurement point?

    python -m benchmarks.probe_cost [--json] [--short] [--role sender|reflector] [--seconds 60] [--neighbors 20]

One point, `inpath mp run` with its two processes, in a namespace of its own; its neighbors are addresses behind a
veth pair, all served by one process of this benchmark, so that what the point does is counted alone. Once the
point sends all probes, once it reflects them. The measuring begins when the windows are full: then they cost most.

CPU is utime + stime of /proc/PID/stat, as a share of one core; memory is the PSS of /proc/PID/smaps_rollup. A veth
pair hands a packet over inside the sender's system call, so the sender is charged with the receiver's side of it
(softirq, IP, UDP, waking the reader), which a network card would leave to the other host. That part is measured
apart by sending to a TUN device, which has no receiver, and is told as `veth`. The limits are on the whole.

Processes of others on the same cores change the result either way: they keep the core awake, so that wake-ups get
cheaper, and they take its caches. Compare two trees by running both at the same time.

The exit code is 0 when each role is within the limits, 1 when one is not, 2 for a wrong option. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import multiprocessing
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.context import ForkContext
from pathlib import Path
from statistics import median

from benchmarks.noise_floor import forked, veth_pair
from lab.namespaces import enter, inside, run_batch
from prober.clock_state import ClockState
from prober.segment import Role
from prober.stamp.direct import DirectSession
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import STAMP_PORT
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reflector import Reflector
from prober.stamp.stamped_socket import StampedSocket
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from prober.windows.window import LONGEST_WINDOW_S
from requestor.client import Client
from schemas.errors import HostError, InpathError

CPU_LIMIT_PERCENT = 5.0
MEMORY_LIMIT_MB = 100.0
RATE_PER_S = 10.0
NETWORK = "10.77.0"
POINT_HOSTS = {Role.SENDER: 1, Role.REFLECTOR: 250}
"""Of two configured neighbors the one with the lower address probes."""
FIRST_PEER_HOST = 101
TUN_NETWORK = "10.78.0"
FILL_S = LONGEST_WINDOW_S + 4
SHORT_FILL_S, SHORT_S = 34.0, 12.0
"""The database is opened 20 to 30 s after the start (`mp.archive`), once: no part of what probing costs."""
START_LIMIT_S = 30.0
ROOT = Path(__file__).parents[1]
CLOCK = ClockState(synchronized=True, error_ms=0.001)
PROBE_BYTES = 44 + 20 + 28
"""Base and the two TLVs of a probe."""
LEAST_RATE_RATIO = 0.9
"""Of the rate asked for; chance alone takes 3 % away in half a minute at most."""
CALIBRATION_ROUNDS, CALIBRATION_SENDS, CALIBRATION_GAP_S = 5, 60, 0.002
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process used, as shares of one core; memory in units of 10**6 octets."""

    user_percent: float
    kernel_percent: float
    wakeups_per_s: float
    pss_mb: float

    @property
    def cpu_percent(self) -> float:
        """User and kernel together."""
        return self.user_percent + self.kernel_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One role of the point."""

    role: str
    neighbors: int
    rate_per_s: float
    seconds: float
    probes_per_s: float
    """Really sent, or answered: below what was asked for, the machine was too busy for a verdict."""
    service: Usage
    packet: Usage
    veth_percent: float
    """What of `kernel_percent` the receivers' side of veth took, as far as the calibration tells."""

    @property
    def cpu_percent(self) -> float:
        """Of both processes."""
        return self.service.cpu_percent + self.packet.cpu_percent

    @property
    def pss_mb(self) -> float:
        """Of both processes."""
        return self.service.pss_mb + self.packet.pss_mb

    @property
    def within_limits(self) -> bool:
        """Whether the figure is reached."""
        return self.is_valid and self.cpu_percent < CPU_LIMIT_PERCENT and self.pss_mb < MEMORY_LIMIT_MB

    @property
    def is_valid(self) -> bool:
        """Whether the point did the work whose cost is wanted."""
        return self.probes_per_s >= LEAST_RATE_RATIO * self.neighbors * self.rate_per_s

    def to_json(self) -> dict[str, object]:
        """With what follows from the fields."""
        follows = {
            "cpu_percent": self.cpu_percent,
            "pss_mb": self.pss_mb,
            "valid": self.is_valid,
            "within_limits": self.within_limits,
        }
        return asdict(self) | follows


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    user_s: float
    kernel_s: float
    wakeups: int

    @classmethod
    def of(cls, pid: int) -> _Reading:
        """Of a running process (proc_pid_stat(5), fields 14 and 15)."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        wakeups = next(line.split()[1] for line in status if line.startswith("voluntary_ctxt_switches:"))
        return cls(time.monotonic(), int(fields[11]) / ticks, int(fields[12]) / ticks, int(wakeups))

    def usage_until(self, later: _Reading, pid: int) -> Usage:
        """What was used in between, and the memory of now."""
        elapsed_s = later.at_s - self.at_s
        return Usage(
            user_percent=100 * (later.user_s - self.user_s) / elapsed_s,
            kernel_percent=100 * (later.kernel_s - self.kernel_s) / elapsed_s,
            wakeups_per_s=(later.wakeups - self.wakeups) / elapsed_s,
            pss_mb=_pss_mb(pid),
        )


def _pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Network:
    """The point's namespace and that of all its neighbors."""

    point: str
    peers: str
    point_address: str
    peer_addresses: tuple[str, ...]


@contextmanager
def network(role: Role, neighbors: int) -> Iterator[Network]:
    """Two namespaces and a veth pair, which are gone afterwards."""
    point = f"{NETWORK}.{POINT_HOSTS[role]}"
    peers = tuple(f"{NETWORK}.{FIRST_PEER_HOST + number}" for number in range(neighbors))
    with veth_pair("cost", (point,), peers) as names:
        yield Network(*names, point, peers)


def serve_peers(built: Network, *, sending: bool) -> None:
    """All neighbors, in a process of their own, until it is terminated."""
    enter(built.peers)
    asyncio.run(_serve_peers(built, sending=sending))


async def _serve_peers(built: Network, *, sending: bool) -> None:
    for address in built.peer_addresses:
        faults: Counter[ProbeFault] = Counter()
        answering = LoneReflector(Reflector(lambda _: None, faults=faults), CLOCK, faults)
        UdpReflector(answering, address, STAMP_PORT, now_ns=time.time_ns).start()
    sessions = [_session(address, built.point_address) for address in built.peer_addresses if sending]
    await asyncio.gather(asyncio.Event().wait(), *(session.run(duration_s=1e6) for session in sessions))


def _session(address: str, point: str) -> DirectSession:
    return DirectSession(
        point,
        clock=CLOCK,
        now_ns=time.time_ns,
        random_source=random.Random(),
        rate_per_s=RATE_PER_S,
        probe_format=ProbeFormat(ssid=0),
        address=address,
    )


@contextmanager
def point_process(built: Network, folder: Path) -> Iterator[tuple[int, Path]]:
    """The daemon: its process id and its service's socket, ended afterwards."""
    socket = folder / "service.sock"
    configuration = folder / "point.toml"
    configuration.write_text(
        f'[point]\naddress = "{built.point_address}"\nstate_dir = "{folder}"\n'
        f"[probe]\nrate_per_s = {RATE_PER_S:g}\nneighbors = {json.dumps(list(built.peer_addresses))}\n"
        f'[clock]\nassumed_error_ms = 0.001\n[service]\nsocket = "{socket}"\n[log]\nlevel = "warning"\n'
    )
    command = [sys.executable, "-m", "mp.cli", "mp", "run", "--config", str(configuration)]
    process = inside(built.point, lambda: subprocess.Popen(command, cwd=ROOT))
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise HostError("the measurement point did not start")
            time.sleep(0.05)
        yield process.pid, socket
    finally:
        process.terminate()
        process.wait()


def measure(role: Role, *, neighbors: int, fill_s: float, seconds: float, veth_us: float) -> Row:
    """One role."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        built = stack.enter_context(network(role, neighbors))
        context = multiprocessing.get_context("fork")
        stack.enter_context(forked(context, partial(serve_peers, built, sending=role is Role.REFLECTOR)))
        pid, socket = stack.enter_context(point_process(built, folder))
        _wait(f"{role}: until the windows are full", fill_s)
        pids = pid, _packet_pid(socket)
        sent_before = _probes(socket, role, neighbors=None)
        before = [_Reading.of(one) for one in pids]
        _wait(f"{role}: measuring", seconds)
        after = [_Reading.of(one) for one in pids]
        service, packet = (
            earlier.usage_until(later, one) for earlier, later, one in zip(before, after, pids, strict=True)
        )
        probes = _probes(socket, role, neighbors=neighbors) - sent_before
    return Row(
        role=role.value,
        neighbors=neighbors,
        rate_per_s=RATE_PER_S,
        seconds=seconds,
        probes_per_s=probes / (after[0].at_s - before[0].at_s),
        service=service,
        packet=packet,
        veth_percent=neighbors * RATE_PER_S * veth_us / 1e6 * 100,
    )


def _packet_pid(socket: Path) -> int:
    with Client(socket) as client:
        return int(client.status()["packet_process"]["pid"])


def _probes(socket: Path, role: Role, *, neighbors: int | None) -> int:
    """Probes sent or answered so far; checks that so many segments are measured, if told."""
    with Client(socket) as client:
        found = client.status()["neighbors"]
    good = [one for one in found if one["role"] == role.value and one["state"] == "measured"]
    if neighbors is not None and len(good) != neighbors:
        states = Counter(f"{one['role']} {one['state']}" for one in found)
        raise HostError(f"{len(good)} of {neighbors} segments were measured as {role}: {dict(states)}")
    return sum(one["counters"]["sent"] for one in found)


def _wait(what: str, seconds: float) -> None:
    print(f"{what}, {seconds:g} s", file=sys.stderr, flush=True)
    time.sleep(seconds)


def receiving_cost_us(context: ForkContext) -> float:
    """What the receivers' side of veth adds to sending one probe: the median of some rounds, in microseconds."""
    results = context.SimpleQueue()
    with network(Role.SENDER, 1) as built, forked(context, partial(serve_peers, built, sending=False)):
        process = context.Process(target=lambda: results.put(_calibrate(built)), daemon=True)
        process.start()
        process.join()
        if process.exitcode:
            raise HostError("sending could not be calibrated")
        return float(results.get())


def _calibrate(built: Network) -> float:
    enter(built.point)
    differences_us = []
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)  # closes with the process, and takes the device along
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"cost0", _IFF_TUN_NO_PI))
    run_batch("ip", [f"address add {TUN_NETWORK}.1/24 dev cost0", "link set cost0 up"])
    over_veth = StampedSocket[int](built.point_address, 0, now_ns=time.time_ns)
    over_tun = StampedSocket[int](f"{TUN_NETWORK}.1", 0, now_ns=time.time_ns)
    for _ in range(CALIBRATION_ROUNDS):
        with_receiver_us = _send_us(over_veth, built.peer_addresses[0])
        differences_us.append(with_receiver_us - _send_us(over_tun, f"{TUN_NETWORK}.2"))
    return max(0.0, median(differences_us))


def _send_us(opened: StampedSocket[int], address: str) -> float:
    """CPU time of one send; paced, as those of a point are."""
    packet, spent_ns = bytes(PROBE_BYTES), []
    for number in range(CALIBRATION_SENDS):
        time.sleep(CALIBRATION_GAP_S)
        began_ns = time.thread_time_ns()
        opened.send(packet, address, STAMP_PORT, number)
        spent_ns.append(time.thread_time_ns() - began_ns)
        opened.stamps()
    opened.discard()
    return median(spent_ns) / 1e3


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    lines = ["role       process   user %  kernel %  (veth %)   sum %  wake-ups/s  PSS MB  verdict"]
    for row in rows:
        for name, usage, veth in (
            ("service", row.service, f"{row.veth_percent:8.2f}"),
            ("packet", row.packet, ""),
        ):
            lines.append(
                f"{row.role:9}  {name:8}  {usage.user_percent:6.2f}  {usage.kernel_percent:8.2f}  {veth:>8}"
                f"  {usage.cpu_percent:6.2f}  {usage.wakeups_per_s:10.0f}  {usage.pss_mb:6.1f}"
            )
        verdict = "within" if row.within_limits else "OUTSIDE" if row.is_valid else "NO VERDICT, machine too busy"
        lines.append(
            f"{row.role:9}  {f'both, {row.probes_per_s:.0f} probes/s':38}  {row.cpu_percent:6.2f}  {'':10}"
            f"  {row.pss_mb:6.1f}  {verdict}"
        )
    return "\n".join(
        [*lines, f"limits: CPU < {CPU_LIMIT_PERCENT:g} % of one core, memory < {MEMORY_LIMIT_MB:g} MB, each role"]
    )


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="CPU and memory of a point with 20 sessions at 10 packets/s.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_S:g} s each, windows not full, two minutes")
    parser.add_argument(
        "--role", choices=[role.value for role in POINT_HOSTS], help="one role; both are the default"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement [60]")
    parser.add_argument("--fill", type=float, default=float(FILL_S), help=f"seconds before it [{FILL_S}]")
    parser.add_argument("--neighbors", type=int, default=20, help="how many [20]")
    options = parser.parse_args()
    if not 1 <= options.seconds <= 3600 or not 5 <= options.fill <= 600:
        parser.error("--seconds must lie between 1 and 3600, --fill between 5 and 600")
    if not 1 <= options.neighbors <= 100:
        parser.error("--neighbors must lie between 1 and 100")
    fill_s, seconds = (SHORT_FILL_S, SHORT_S) if options.short else (options.fill, options.seconds)
    roles = [Role(options.role)] if options.role else list(POINT_HOSTS)
    try:
        print("what sending over veth costs", file=sys.stderr)
        veth_us = receiving_cost_us(multiprocessing.get_context("fork"))
        rows = [
            measure(role, neighbors=options.neighbors, fill_s=fill_s, seconds=seconds, veth_us=veth_us)
            for role in roles
        ]
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"veth_us_per_packet": veth_us, "rows": [row.to_json() for row in rows]}, indent=2))
    else:
        print(table(rows))
    return 0 if all(row.within_limits for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
