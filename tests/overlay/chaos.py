"""Points that are killed, hung and restarted by chance while they are asked and others' traffic passes them.

What happens when comes from a seed; what it meets comes from the machine. All that is found wrong is collected, so
that one run tells all of it.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

from lab.points import point_files, point_pid
from lab.processes import arguments, descendants, is_alive
from lab.topology import Topology
from lab.truth import truth_of
from mp.config import load_configuration
from mp.results.stored_results import StoredResults
from receiver.store.history import ResultFilter
from schemas.errors import InpathError
from schemas.message import SegmentState
from schemas.result import PathResult, ResultStatus
from tests.overlay.network import Network, eventually
from tests.overlay.stream import Stream

POINTS = ("c1", "c2", "c3", "c4", "c5", "c6")
LINK_DELAYS_MS = (10, 20, 40, 15, 30)
CHAIN: dict[str, Any] = {
    "nodes": {"h1": {"host": True}, **{point: {"point": True} for point in POINTS}, "h2": {"host": True}},
    "links": [
        {"a": "h1", "b": "c1", "delay_ms": 1},
        *({"a": a, "b": b, "delay_ms": ms} for (a, b), ms in zip(pairwise(POINTS), LINK_DELAYS_MS, strict=True)),
        {"a": "c6", "b": "h2", "delay_ms": 1},
    ],
}
"""Six points in a row; no sum of some links is near that of others, so that a wrong composition shows."""
ASKERS = (("c1", "c6"), ("c6", "c1"))
EARLY_MS = 0.5
LATE_MS = 8.0
"""How far a mean may lie before and behind the truth: less than one link. Busy machines make packets wait."""
ASK_TIMEOUT_S = 3.0
GAP_S = (0.3, 1.2)
"""Between two troubles; several points may be in trouble at once."""
DOWN_S = (0.1, 2.0)
HUNG_S = (0.2, 5.0)
"""Longer than a packet process may say nothing before it is replaced."""
RECOVERY_S = 40.0
MOST_PACKETS = 12_000
"""Of the stream, which the buffer of its receiver must hold."""
MOST_LINES = 60
"""Of a log, from a fault on."""


class Trouble(StrEnum):
    """What may happen to a point."""

    KILL_SERVICE = "service killed"
    KILL_PACKETS = "packet process killed"
    HANG_SERVICE = "service hung"
    HANG_PACKETS = "packet process hung"
    RESTART = "restarted"
    POWER = "all processes killed"


@dataclass(slots=True)
class Outcome:
    """What a run has seen."""

    troubles: Counter[Trouble] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """By status; `refused` when the point of the asker did not even take the question."""
    wrong: list[str] = field(default_factory=list)
    """One line each; empty when all is well."""
    asked: dict[str, set[str]] = field(default_factory=dict)
    """By point, the ids of all that it answered."""
    stream_sent: int = 0
    stream_lost: list[int] = field(default_factory=list)
    """Their numbers."""
    stream_refused: int = 0
    """Not even taken by the sender's kernel."""
    recovered_s: float = 0.0
    """From the end of the troubles to complete answers over all points, both ways."""

    def to_json(self) -> dict[str, Any]:
        """Without the ids."""
        return {
            "troubles": {str(trouble): count for trouble, count in sorted(self.troubles.items())},
            "answers": dict(sorted(self.answers.items())),
            "wrong": self.wrong,
            "stream": {"sent": self.stream_sent, "lost": len(self.stream_lost), "refused": self.stream_refused},
            "recovered_s": self.recovered_s,
        }


class Chaos:
    """One run on a network of `CHAIN` that is up.

    Args:
        net: all its points run.
        seed: of what happens when, and to whom.
    """

    def __init__(self, net: Network, *, seed: int) -> None:
        self.outcome = Outcome()
        self._net = net
        self._random = Random(seed)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._services: dict[str, int] = {}
        self._due: list[tuple[float, str, Trouble, int]] = []
        """When a point's trouble ends, on the monotonic clock; the process that hangs, if one does."""
        self._starts = ThreadPoolExecutor(len(POINTS))
        self._starting: dict[str, Future[None]] = {}
        self._packet_troubles: Counter[str] = Counter()
        """Of the service that runs now, how often its packet process was touched."""

    def run(self, duration_s: float) -> Outcome:
        """Make trouble for so long, then see that all comes back and that everything is told as it was."""
        for point in POINTS:
            self._noticed(point)
        gap_s = max(0.005, duration_s / MOST_PACKETS)
        with self._load(), Stream(self._net, "h1", "h2", gap_s=gap_s) as stream, self._starts:
            until_s = time.monotonic() + duration_s
            while time.monotonic() < until_s:
                self._begin()
                self._wait(min(until_s, time.monotonic() + self._random.uniform(*GAP_S)))
            while self._due:
                self._wait(self._due[0][0])
            for start in self._starting.values():
                start.result()
        self.outcome.stream_sent, self.outcome.stream_lost = stream.sent, stream.missing
        self.outcome.stream_refused = stream.refused
        self._look_at_processes()
        self._recover()
        self._look_at_logs()
        self._look_at_stores()
        return self.outcome

    def _begin(self) -> None:
        """One more trouble for a point that has none; the start of one may take its time on a busy machine."""
        troubled = {point for _, point, _, _ in self._due}
        troubled |= {point for point, start in self._starting.items() if not start.done()}
        if troubled == set(POINTS):
            return
        point = self._random.choice([one for one in POINTS if one not in troubled])
        trouble = self._random.choice(list(Trouble))
        down_s, hung_s = self._random.uniform(*DOWN_S), self._random.uniform(*HUNG_S)
        self._look_at(point)
        self.outcome.troubles[trouble] += 1
        hung = self._cause(point, trouble)
        ends_s = time.monotonic() + (hung_s if hung else down_s)
        self._due = sorted((*self._due, (ends_s, point, trouble, hung)))

    def _cause(self, point: str, trouble: Trouble) -> int:
        """The process that hangs now; 0 when none does."""
        service, packets = self._services[point], self._packet_process(point)
        match trouble:
            case Trouble.KILL_SERVICE:
                self._signal(service, signal.SIGKILL)
            case Trouble.RESTART:
                self._net.lab.stop_point(point)
            case Trouble.POWER:
                self._net.lab.kill_point(point)
            case Trouble.HANG_SERVICE:
                self._signal(service, signal.SIGSTOP)
                return service
            case Trouble.KILL_PACKETS | Trouble.HANG_PACKETS if packets:
                self._packet_troubles[point] += 1
                is_kill = trouble is Trouble.KILL_PACKETS
                self._signal(packets, signal.SIGKILL if is_kill else signal.SIGSTOP)
                return 0 if is_kill else packets
        return 0

    def _end(self, point: str, trouble: Trouble, hung: int) -> None:
        if hung:
            self._signal(hung, signal.SIGCONT)
        elif trouble in (Trouble.KILL_SERVICE, Trouble.RESTART, Trouble.POWER):
            self._starting[point] = self._starts.submit(self._start, point)

    def _start(self, point: str) -> None:
        # The packet process of a service that was killed ends by itself, and takes the rules along.
        eventually(lambda: not self._net.processes(point), f"no process on {point}", within_s=5)
        self._net.lab.start_point(point)
        self._noticed(point)

    def _wait(self, until_s: float) -> None:
        """Let time pass, and end the troubles that are due."""
        while self._due and self._due[0][0] <= until_s:
            ends_s, point, trouble, hung = self._due.pop(0)
            time.sleep(max(0.0, ends_s - time.monotonic()))
            self._end(point, trouble, hung)
        time.sleep(max(0.0, until_s - time.monotonic()))

    def _noticed(self, point: str) -> None:
        pid = point_pid(self._net.lab.directory, self._net.lab.addressing, point)
        assert pid is not None
        self._services[point] = pid
        self._packet_troubles[point] = 0

    def _packet_process(self, point: str) -> int | None:
        return min(
            (pid for pid in descendants(self._services[point]) if "mp.packet_process" in arguments(pid)),
            default=None,
        )

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # a packet process that hung was replaced meanwhile
            os.kill(pid, number)

    def _say(self, fault: str) -> None:
        with self._lock:
            self.outcome.wrong.append(fault)

    def _look_at(self, point: str) -> None:
        """Nobody ended its service, so that it lives."""
        if not is_alive(self._services[point]):
            self._say(f"{point}: its service ended, and nobody had asked it to")

    def _look_at_processes(self) -> None:
        for point in POINTS:
            self._look_at(point)
            restarts = self._net.status(point)["packet_process"]["restarts"]
            if restarts > self._packet_troubles[point]:
                self._say(
                    f"{point}: {restarts} packet processes were replaced, {self._packet_troubles[point]} hit"
                )

    @contextlib.contextmanager
    def _load(self) -> Iterator[None]:
        askers = [threading.Thread(target=self._ask, args=asker) for asker in ASKERS]
        for asker in askers:
            asker.start()
        try:
            yield
        finally:
            self._stop.set()
            for asker in askers:
                asker.join()

    def _ask(self, source: str, destination: str) -> None:
        while not self._stop.is_set():
            try:
                result = self._net.ask(source, destination, timeout_s=ASK_TIMEOUT_S)
            except InpathError:  # its point is not there, or ended while it waited
                with self._lock:
                    self.outcome.answers["refused"] += 1
                self._stop.wait(0.1)
            else:
                self._take(source, destination, result)

    def _take(self, source: str, destination: str, result: PathResult) -> None:
        with self._lock:
            self.outcome.answers[str(result.status)] += 1
            self.outcome.asked.setdefault(source, set()).add(result.id)
        order = POINTS if source == POINTS[0] else POINTS[::-1]
        for fault in faults_of(self._net.lab.topology, self._net.lab.addressing.identities, order, result):
            self._say(f"{result.id} {source} - {destination}: {fault}")

    def _recover(self) -> None:
        began_s = time.monotonic()
        for source, destination in ASKERS:
            order = POINTS if source == POINTS[0] else POINTS[::-1]
            result = self._net.await_answer(source, destination, order, within_s=RECOVERY_S)
            self._take(source, destination, result)
        self.outcome.recovered_s = time.monotonic() - began_s

    def _look_at_logs(self) -> None:
        for point in POINTS:
            lines = point_files(self._net.lab.directory, point).log.read_text(errors="replace").splitlines()
            for number, line in enumerate(lines):
                if "Traceback" in line or "never retrieved" in line:
                    self._say("\n".join((f"{point}: its log has", *lines[number : number + MOST_LINES])))

    def _look_at_stores(self) -> None:
        """What was answered is stored, and nothing waits for ever."""
        for point, identifiers in self.outcome.asked.items():
            eventually(partial(self._is_stored, point), f"nothing that waits at {point}", within_s=10)
            known = statuses(self._net, point)
            for identifier in identifiers - known.keys():
                self._say(f"{point}: {identifier} was answered, and is not stored")
            pending = [identifier for identifier, status in known.items() if status is ResultStatus.PENDING]
            if pending:
                self._say(f"{point}: {len(pending)} requests wait for ever, as {pending[0]}")

    def _is_stored(self, point: str) -> bool:
        store = self._net.status(point)["store"]
        return store is not None and store["spool_depth"] == 0


def statuses(net: Network, point: str) -> Mapping[str, ResultStatus]:
    """Of all that the point has stored, by the request's id; nothing is there twice."""
    with contextlib.closing(StoredResults(load_configuration(net.configuration(point)).store_url)) as store:
        stored = [(result.id, result.status) for result in store.each(ResultFilter())]
    assert len(dict(stored)) == len(stored)
    return dict(stored)


def faults_of(
    topology: Topology, addresses: Mapping[str, str], order: Sequence[str], result: PathResult
) -> Iterator[str]:
    """What cannot be true of an answer: a part may be unknown and a point missing, but what is told must be so.

    Args:
        topology: the lab's.
        addresses: of its nodes.
        order: the points from the asker to the destination.
        result: the answer.
    """
    places = {addresses[point]: place for place, point in enumerate(order)}
    ends = [(places[segment.upstream], places[segment.current]) for segment in result.segments]
    if any(before[1] != after[0] for before, after in pairwise(ends)) or any(a >= b for a, b in ends):
        yield f"its segments do not join: {ends}"
        return
    if result.segments and (ends[0][0], ends[-1][1]) != (0, len(order) - 1):
        yield f"its path ends elsewhere: {ends}"
        return
    for segment, (here, there) in zip(result.segments, ends, strict=True):
        if segment.state is SegmentState.MEASURED:
            yield from _untrue(topology, order[here : there + 1], _values(segment.metrics))
    values = {name: metric.value for name, metric in result.composed.items()}
    if result.status is ResultStatus.COMPLETE:
        yield from _untrue(topology, order, values)
        yield from _badly_composed(result, values)
    elif any(segment.state is not SegmentState.MEASURED for segment in result.segments):
        yield from (
            f"{name} of a path with an unknown segment is {value}" for name, value in values.items() if value
        )


def _values(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    return {name: metric.get("value") for name, metric in metrics.items()}


def _untrue(topology: Topology, path: Sequence[str], values: Mapping[str, float | None]) -> Iterator[str]:
    truth = truth_of(topology, path, path[::-1])
    for name, true_ms in (("delay", truth.delay_ms), ("rtt", truth.rtt_ms)):
        value = values.get(name)
        assert true_ms is not None
        if value is not None and not true_ms - EARLY_MS <= value <= true_ms + LATE_MS:
            yield f"{name} of {' - '.join(path)} is {value:.3f} ms, in truth {true_ms:g} ms"


def _badly_composed(result: PathResult, values: Mapping[str, float | None]) -> Iterator[str]:
    """The rules of RFC 6049, worked out a second time from what the answer says of its segments."""
    parts = [_values(segment.metrics) for segment in result.segments]
    for name, whole in values.items():
        known = [part[name] for part in parts]
        if whole is None or None in known:
            yield f"{name} of a complete answer is {whole}, of its segments {known}"
            continue
        numbers = [number for number in known if number is not None]
        expected = {"loss": 1 - math.prod(1 - one for one in numbers), "jitter": None}.get(
            name, math.fsum(numbers)
        )
        if expected is not None and not math.isclose(whole, expected, rel_tol=1e-3, abs_tol=1e-3):
            yield f"{name} is {whole}, but of its segments {numbers}"
