"""Processor time for each packet, and how many packets a second a point takes without losing one."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.suite.bench_network import QUIET, BenchNetwork
from benchmarks.suite.benchmark import Effort, Figures, Outcome, Progress
from benchmarks.suite.handler import (
    ALL_HANDLERS,
    C_APPEND,
    INPATH,
    KERNEL,
    LXML,
    SCAPY,
    Handler,
    handlers,
    stopped,
)
from benchmarks.suite.message import CAPACITY_PORT, HEADLINE, KINDS, MessageKind
from benchmarks.suite.programs import sender_command
from benchmarks.suite.ratio import Spread
from benchmarks.suite.witness import witness
from benchmarks.suite.workshop import Workshop
from schemas.errors import HostError

MOST_FILLED, LEAST_FILLED = 2_000, 50
"""Packets that wait when the clock starts: far below what the queue and its buffer hold."""
FILLED_US = 60_000
"""How long they keep a handler busy: far below the 200 ms after which a point passes packets unprocessed."""
SENDER_CORE = 0
PRIORITY = 1
"""Of sender and handler among the real-time processes, so that other programs of the machine are not measured."""
TRIES = 3
"""For a reading that fails since the machine stood still."""
LONGEST_BACKLOG_RATIO = 0.01
LEAST_REACHED_RATIO = 0.97
"""A sender that is slower than asked has not tried the rate."""
FASTEST_PER_S = 2_000_000.0
HEARTBEAT_S = 1.2
LEAST_PER_S = 100.0
FIRST_GUESS_US = {KERNEL: 1.5}
RATE_RATIOS = {"rate_vs_lxml_rebuild": LXML, "rate_vs_scapy": SCAPY}
DEFAULT_QUESTION = KINDS[-1]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    kinds: tuple[MessageKind, ...]
    names: tuple[str, ...]
    cpu_rounds: int
    rate_rounds: int
    trial_s: float
    step: float
    """How near the greatest lossless rate is told."""


PLANS = {
    Effort.FULL: Plan(KINDS, ALL_HANDLERS, cpu_rounds=7, rate_rounds=5, trial_s=0.1, step=1.05),
    Effort.SHORT: Plan(
        (HEADLINE,), (C_APPEND, INPATH, LXML, SCAPY), cpu_rounds=7, rate_rounds=5, trial_s=0.05, step=1.06
    ),
}


_ByKind = dict[tuple[MessageKind, str], list[float]]
"""By message and handler, a reading for each round."""


@dataclass(slots=True)
class _Readings:
    cpu_us: _ByKind = field(default_factory=lambda: defaultdict(list))
    rate_per_s: _ByKind = field(default_factory=lambda: defaultdict(list))
    sizes: list[str] = field(default_factory=list)
    """Of each message, for people."""


def run(effort: Effort, progress: Progress, workshop: Workshop) -> Outcome:
    """Measure all handlers in turns, a different one first in each round.

    Raises:
        HostError: packets were lost or passed unprocessed where none may be.
    """
    plan, readings = PLANS[effort], _Readings()
    network, point = workshop.network, workshop.quiet
    before = network.counters(QUIET)
    with handlers(network, point, plan.names) as ready:
        for place, kind in enumerate(plan.kinds):
            path = PacketPath(network, kind)
            readings.sizes.append(f"{path.messages.packet_bytes} octets ({kind.label})")
            for one in ready:
                path.look_at(one)
            rounds = plan.cpu_rounds + plan.rate_rounds
            for number in range(rounds):
                is_cpu = number < plan.cpu_rounds
                stage = "processor time" if is_cpu else "lossless rate"
                progress(f"{stage}, {kind.label}", place * rounds + number, len(plan.kinds) * rounds)
                for one in turned(ready, number):
                    _read(path, one, plan, readings, is_cpu=is_cpu)
    time.sleep(HEARTBEAT_S)  # the point's counters are a second old at most
    counters = {name: count - before.get(name, 0) for name, count in network.counters(QUIET).items()}
    return _outcome(plan, readings, counters)


def _read(path: PacketPath, handler: Handler, plan: Plan, readings: _Readings, *, is_cpu: bool) -> None:
    key = path.messages.kind, handler.name
    if not is_cpu:
        guess = _guess_per_s(readings, *key)
        readings.rate_per_s[key].append(path.lossless_rate_per_s(handler, guess, plan.trial_s, plan.step))
    elif handler.queue is not None:
        readings.cpu_us[key].append(path.cpu_us(handler))


def turned(ready: list[Handler], number: int) -> list[Handler]:
    """The handlers in another order for each round."""
    turn = number % len(ready)
    return ready[turn:] + ready[:turn]


def _guess_per_s(readings: _Readings, kind: MessageKind, name: str) -> float:
    """Where to look first: the rate of the last round, or what the processor time allows."""
    earlier = readings.rate_per_s[kind, name]
    if earlier:
        return earlier[-1]
    spent = readings.cpu_us[kind, name]
    return 0.8e6 / (min(spent) if spent else FIRST_GUESS_US[name])


class PacketPath:
    """Runs of one message through one handler after the other.

    Args:
        network: with its quiet point running.
        kind: of the message.
    """

    def __init__(self, network: BenchNetwork, kind: MessageKind) -> None:
        self._network = network
        self.messages = network.messages(kind)
        self._frames = network.frames(kind, QUIET, CAPACITY_PORT)
        self._counts_changed: bool | None = None
        self._cost_us: dict[str, float] = {}

    def look_at(self, handler: Handler) -> None:
        """Check that the handler does its work, and find out roughly how long that takes."""
        self._let_meet(handler)
        witness(self._network, handler, self.messages, self._frames)
        if handler.queue is not None:
            self.cpu_us(handler)

    def cost_us(self, handler: Handler) -> float:
        """Processor time for one packet, as last read."""
        return self._cost_us[handler.name]

    def cpu_us(self, handler: Handler) -> float:
        """Processor time for one packet of a queue that was filled before, microseconds.

        Raises:
            HostError: not all that was sent has arrived, and with a record more where that is the work.
        """
        self._let_meet(handler)
        count = max(LEAST_FILLED, min(MOST_FILLED, round(FILLED_US / self._cost_us.get(handler.name, 1e3))))
        for _ in range(TRIES):  # the machine may have stood still, and the point passed packets meanwhile
            with _undisturbed(handler.packet_pid):
                spent_us, delivered = self._drained(handler, count)
            if delivered == count:
                self._cost_us[handler.name] = spent_us / count
                return spent_us / count
        raise HostError(f"{handler.name}: {delivered} of {count} packets arrived as they should")

    def _drained(self, handler: Handler, count: int) -> tuple[float, int]:
        """Processor time of a drain in microseconds, and how many packets arrived as they should."""
        with stopped(handler.packet_pid):
            sent, _, waiting = self._send(count, 0)
            if waiting != count:
                raise HostError(f"{handler.name}: {waiting} of {sent} packets wait, expected all")
            before_ns = handler.cpu_ns()
        self._network.await_empty()
        return (handler.cpu_ns() - before_ns) / 1e3, self._delivered()

    def lossless_rate_per_s(self, handler: Handler, guess: float, trial_s: float, step: float) -> float:
        """The greatest rate at which all packets arrive as they should and none waits long.

        A rate has two tries, since a core that is taken away for a moment says nothing of the handler.
        """
        self._let_meet(handler)
        with _undisturbed(handler.packet_pid):
            low, high = 0.0, FASTEST_PER_S
            rate, factor = guess, 1.15
            while low == 0.0 or high / low > step:
                if any(self._is_lossless(handler, rate, trial_s) for _ in range(2)):
                    low = rate
                else:
                    high = rate
                if high < LEAST_PER_S:
                    raise HostError(f"{handler.name}: loses packets at {high:.0f} a second")
                if low == 0.0:
                    rate = high / factor
                elif high == FASTEST_PER_S:
                    rate = min(low * factor, FASTEST_PER_S / step)
                else:
                    rate = (low * high) ** 0.5
                factor = min(factor * 1.1, 2)
            return low

    def _is_lossless(self, handler: Handler, rate: float, trial_s: float) -> bool:
        count = max(100, round(rate * trial_s))
        sent, took_ns, waiting = self._send(count, rate)
        self._network.await_empty()
        reached = sent / (took_ns / 1e9)
        return (
            self._delivered() == sent
            and waiting <= max(5, LONGEST_BACKLOG_RATIO * sent)
            and reached >= LEAST_REACHED_RATIO * rate
        )

    def _let_meet(self, handler: Handler) -> None:
        self._network.await_empty()  # whoever had packets before must be at rest, and wait for more
        self._network.intercept(handler.queue)
        if self._counts_changed != handler.appends:
            self._counts_changed = handler.appends
            self._network.count_arrivals(unlike_bytes=self.messages.packet_bytes if handler.appends else None)
        self._delivered()

    def _delivered(self) -> int:
        return self._network.delivered()[0]

    def _send(self, count: int, rate: float) -> tuple[int, int, int]:
        return send(self._network, self._frames, count, rate)


def send(network: BenchNetwork, frames: Path, count: int, rate: float) -> tuple[int, int, int]:
    """Send so many at once, or at a rate: how many were sent, in how many ns, and how many wait then."""
    command = [
        "chrt",
        "-f",
        str(PRIORITY),
        "taskset",
        "-c",
        str(SENDER_CORE),
        *sender_command(network, frames, count, rate, "busy"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"packet_sender: {done.stderr.strip()}")
    sent, took_ns, waiting = map(int, done.stdout.split())
    return sent, took_ns, waiting


@contextmanager
def _undisturbed(pid: int) -> Iterator[None]:
    """The process has a core that the sender does not use, and other programs do not take it away meanwhile."""
    others = os.sched_getaffinity(0) - {SENDER_CORE}
    if not pid or not others:
        yield
        return
    cores, policy, priority = os.sched_getaffinity(pid), os.sched_getscheduler(pid), os.sched_getparam(pid)
    os.sched_setaffinity(pid, others)
    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(pid, policy, priority)
        os.sched_setaffinity(pid, cores)


def _outcome(plan: Plan, readings: _Readings, counters: Mapping[str, int]) -> Outcome:
    cpu = _figures("Processor time for each packet, from a filled queue", "us", plan, readings.cpu_us)
    rate = _figures("Greatest rate without loss, one queue", "packets/s", plan, readings.rate_per_s)
    ratios = {"service_vs_c_append": _ratio(readings.cpu_us, HEADLINE, C_APPEND)}
    ratios |= {name: _ratio(readings.rate_per_s, HEADLINE, peer) for name, peer in RATE_RATIOS.items()}
    if DEFAULT_QUESTION in plan.kinds:
        ratios["service_vs_c_append_compressed"] = _ratio(readings.cpu_us, DEFAULT_QUESTION, C_APPEND)
    unprocessed = {name: counters.get(name, 0) for name in ("passed", "overloaded", "handler_failed")}
    notes = (
        f"inpath: {counters.get('forwarded', 0)} packets extended by its own count",
        f"inpath: not extended while the limit was searched above capacity: {unprocessed}",
        f"IPv4 packets as they come to the point: {', '.join(readings.sizes)}",
        "kernel forwarding is as fast as the one core that sends",
    )
    return Outcome(tables=(cpu, rate), ratios=ratios, notes=notes)


def _figures(title: str, unit: str, plan: Plan, readings: _ByKind) -> Figures:
    rows = {}
    for name in plan.names:
        found = [readings.get((kind, name)) for kind in plan.kinds]
        if any(found):
            rows[name] = tuple(Spread.of(one) if one else None for one in found)
    return Figures(title=title, unit=unit, columns=tuple(kind.label for kind in plan.kinds), rows=rows)


def _ratio(readings: _ByKind, kind: MessageKind, peer: str) -> Spread:
    return Spread.of_ratio(readings[kind, INPATH], readings[kind, peer])
