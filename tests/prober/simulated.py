"""Measurement points joined by a link of which the truth is known, on a clock that is moved by hand."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Segment
from prober.stamp.datagram import Datagram
from prober.stamp.reflector import Reply
from prober.stamp.session import Probe
from schemas.errors import ProbeError

MS = 1_000_000
S = 1_000_000_000
START_NS = 1_700_000_000 * S
CLOCK = ClockState(synchronized=True, error_ms=0.2)
LOWER, HIGHER = "10.0.0.1", "10.0.0.2"
PORT = 862
SENDER_PORT = 40_000


@dataclass
class Direction:
    """One direction of the link, and what really happened on it."""

    delay_ns: Callable[[random.Random], int] = lambda chance: 10 * MS
    loss: float = 0.0
    duplication: float = 0.0
    delays_ns: list[int] = field(default_factory=list)
    sent: int = 0
    lost: int = 0


class SimulatedLink:
    """Two probers and the link between them; every packet's departure is later than the process believes."""

    def __init__(self, forward: Direction, backward: Direction, *, seed: int = 1, b_ahead_ns: int = 0) -> None:
        self.now_ns = START_NS
        self.chance = random.Random(seed)
        self.directions = {LOWER: forward, HIGHER: backward}
        self.ahead_ns = {LOWER: 0, HIGHER: b_ahead_ns}
        self.points = {address: self._point(address, seed) for address in (LOWER, HIGHER)}
        self.cut = False
        self.kernel_stamps = True
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    @staticmethod
    def _point(address: str, seed: int) -> Prober:
        return Prober(address, random_source=random.Random(f"{address}{seed}"), clock=CLOCK)

    def restart(self, address: str) -> None:
        """The process at the address begins anew, without memory."""
        self.points[address] = self._point(address, 99)

    def clock(self, address: str) -> int:
        return self.now_ns + self.ahead_ns[address]

    def segment(self, address: str) -> Segment:
        segment = self.points[address].segment(HIGHER if address == LOWER else LOWER)
        assert segment is not None
        return segment

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * S)
        while True:
            wakeups = [
                (wakeup_ns - self.ahead_ns[address], address)
                for address, point in self.points.items()
                if (wakeup_ns := point.next_wakeup_ns()) is not None
            ]
            next_ns = min([at_ns for at_ns, _ in wakeups] + [event[0] for event in self._events[:1]] + [end_ns])
            self.now_ns = max(self.now_ns, next_ns)
            if next_ns >= end_ns:
                return
            if self._events and self._events[0][0] <= self.now_ns:
                heapq.heappop(self._events)[2]()
            for at_ns, address in wakeups:
                if at_ns <= self.now_ns:
                    for probe in self.points[address].due(self.clock(address)):
                        self._send_probe(address, probe)

    def _later(self, at_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_ns, next(self._order), action))

    def _cross(self, sender: str, deliver: Callable[[int], None], departed: Callable[[int], None]) -> None:
        """One datagram: `departed` gets its true departure, `deliver` its arrival, each on the point's clock."""
        direction = self.directions[sender]
        left_ns = self.now_ns + round(self.chance.uniform(0, 3) * MS)
        receiver = HIGHER if sender == LOWER else LOWER
        direction.sent += 1
        if self.kernel_stamps:
            self._later(left_ns, lambda: departed(left_ns + self.ahead_ns[sender]))
        if self.cut or self.chance.random() < direction.loss:
            direction.lost += 1
            return
        for copy in range(1 + (self.chance.random() < direction.duplication)):
            delay_ns = direction.delay_ns(self.chance) + copy * MS
            if not copy:
                direction.delays_ns.append(delay_ns)
            arrival_ns = left_ns + delay_ns
            self._later(arrival_ns, partial(deliver, arrival_ns + self.ahead_ns[receiver]))

    def _send_probe(self, sender: str, probe: Probe) -> None:
        point = self.points[sender]
        self._cross(
            sender,
            lambda at_ns: self._probe_arrives(sender, probe, at_ns),
            lambda at_ns: point.probe_transmitted(probe.peer, probe.sequence, at_ns),
        )

    def _probe_arrives(self, sender: str, probe: Probe, at_ns: int) -> None:
        point = self.points[probe.peer]
        reply = point.probe_received(Datagram(probe.data, sender, SENDER_PORT, 254, at_ns), self.clock(probe.peer))
        if reply is None:
            return
        self._cross(
            probe.peer,
            lambda at_ns: self._reply_arrives(probe.peer, reply, at_ns),
            lambda at_ns: point.reply_transmitted(reply.source, reply.number, at_ns),
        )

    def _reply_arrives(self, reflector: str, reply: Reply, at_ns: int) -> None:
        point = self.points[reply.source.address]
        try:
            point.reply_received(Datagram(reply.data, reflector, PORT, 255, at_ns))
        except ProbeError:
            return  # the session of the probe has ended
