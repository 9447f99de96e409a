"""Finds steps of either clock in exchanges of four times, and holds single absurd ones back.

With delays f there and b back and the other clock ahead by o, the apparent delays are f + o and b - o. No delay
falls below the least one of its path. So when one apparent delay falls below its recent least and the other one
rises by as much, a clock has stepped; when one falls alone, the path has changed. In terms of the offset
((T2 - T1) + (T3 - T4)) / 2 this says that it changes by more than half of what the round trip changes by.
When the two directions of a path change at once, by about as much and contrariwise, that looks the same.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from prober.clock_steps.judgement import Judgement
from prober.timestamp import NS_PER_S

LEAST_STEP_NS = 500_000
"""A smaller step is none that matters; beside it stands the mean of the delay above its least."""
AGREEING = 4
"""Exchanges in a row that show the same change, before it is believed: 0.4 s at the usual rate."""
_BLOCK = 16
"""Recent are the last 16 to 32 exchanges: few, since two clocks drift apart meanwhile."""
_DRIFT_PARTS = 5000
"""Two free clocks drift apart by at most 1 part in 5000, each by 100 ppm."""
_LONGEST_DRIFT_NS = 120 * NS_PER_S
_BEYOND_NS = 1 << 80
"""Greater than any difference of two times of 64 bits."""
_Side = Literal["outbound", "inbound"]


class Exchange(NamedTuple):
    """The delays of one probe and its reply, as far as both clocks agree."""

    outbound_ns: int
    """This point -> peer."""
    inbound_ns: int
    """Peer -> this point."""
    outbound_sequence: int
    inbound_sequence: int
    at_ns: int
    """Receive time on the own clock."""
    arrived_there_ns: int
    """Receive time on the peer's clock."""

    @property
    def round_trip_ns(self) -> int:
        """Two-way delay, without the time inside the reflector."""
        return self.outbound_ns + self.inbound_ns


class _Recent:
    """The least of the recent delays of one direction, and how far below it a delay is strange."""

    __slots__ = (
        "_before",
        "_count",
        "_count_before",
        "_least",
        "_total",
        "_total_before",
        "bound_ns",
        "least_ns",
        "tolerance_ns",
    )

    def __init__(self) -> None:
        self._least = self._before = self.least_ns = _BEYOND_NS
        self._total = self._total_before = self._count = self._count_before = self.tolerance_ns = 0
        self.bound_ns = -_BEYOND_NS

    def add(self, delay_ns: int) -> None:
        if self._count == _BLOCK:
            self._before, self._total_before, self._count_before = self._least, self._total, self._count
            self._least, self._total, self._count = delay_ns, 0, 0
        self._count += 1
        self._total += delay_ns
        if delay_ns < self._least:
            self._least = delay_ns
        self.least_ns = least_ns = self._least if self._least < self._before else self._before
        mean_ns = (self._total + self._total_before) // (self._count + self._count_before)
        self.tolerance_ns = LEAST_STEP_NS + mean_ns - least_ns
        if self._count_before or self._count == _BLOCK:
            self.bound_ns = least_ns - self.tolerance_ns


class ExchangeGate:
    """Judges the exchanges of one segment, in the order in which they became known."""

    def __init__(self) -> None:
        self._outbound = _Recent()
        self._inbound = _Recent()
        self._held: list[Exchange] = []
        self._accepted_at_ns = 0

    def judge(self, exchange: Exchange) -> Judgement[Exchange] | None:
        """None when the exchange counts and nothing is strange about it."""
        outbound, inbound = self._outbound, self._inbound
        if exchange.outbound_ns < outbound.bound_ns or exchange.inbound_ns < inbound.bound_ns:
            fallen = self._fallen(exchange)
            if fallen is not None:
                return self._hold(exchange, fallen)
        outbound.add(exchange.outbound_ns)
        inbound.add(exchange.inbound_ns)
        self._accepted_at_ns = exchange.at_ns
        if not self._held:
            return None
        dropped = len(self._held)
        self._held = []
        return Judgement(samples=(exchange,), dropped=dropped)

    def restart(self) -> None:
        """Forget what the delays were."""
        self._outbound, self._inbound = _Recent(), _Recent()
        self._held = []

    def _fallen(self, exchange: Exchange) -> _Side | None:
        """The direction whose delay fell too far, even when the clocks drifted apart since the last exchange."""
        first = self._held[0] if self._held else exchange
        elapsed_ns = min(abs(first.at_ns - self._accepted_at_ns), _LONGEST_DRIFT_NS)
        outbound_ns = self._outbound.bound_ns - exchange.outbound_ns
        inbound_ns = self._inbound.bound_ns - exchange.inbound_ns
        if max(outbound_ns, inbound_ns) <= elapsed_ns // _DRIFT_PARTS:
            return None
        return "outbound" if outbound_ns > inbound_ns else "inbound"

    def _hold(self, exchange: Exchange, fallen: _Side) -> Judgement[Exchange]:
        dropped = 0
        if self._held and not self._agree(exchange, fallen):
            dropped = len(self._held)
            self._held = []
        self._held.append(exchange)
        if len(self._held) < AGREEING:
            return Judgement(dropped=dropped)
        samples = tuple(self._held)
        step_ns = self._step_ns(samples, fallen)
        self.restart()
        for sample in samples:
            self._outbound.add(sample.outbound_ns)
            self._inbound.add(sample.inbound_ns)
        self._accepted_at_ns = exchange.at_ns
        return Judgement(samples=samples, dropped=dropped, step_ns=step_ns)

    def _agree(self, exchange: Exchange, fallen: _Side) -> bool:
        """Whether the exchange shows a change like the last held one: the same direction, at most twice as far.

        A queue that drains makes each delay shorter than the one before.
        """
        last = self._held[-1]
        if self._fallen(last) != fallen:
            return False
        recent = self._recent(fallen)
        fall_ns = recent.least_ns - _delay_ns(last, fallen)
        difference_ns = abs(_delay_ns(exchange, fallen) - _delay_ns(last, fallen))
        return difference_ns <= max(recent.tolerance_ns, fall_ns)

    def _step_ns(self, samples: tuple[Exchange, ...], fallen: _Side) -> int | None:
        """How far the clocks were moved, or None when the path changed."""
        risen: _Side = "inbound" if fallen == "outbound" else "outbound"
        fall_ns = self._recent(fallen).least_ns - min(_delay_ns(sample, fallen) for sample in samples)
        rise_ns = min(_delay_ns(sample, risen) for sample in samples) - self._recent(risen).least_ns
        if rise_ns <= self._recent(risen).tolerance_ns or 2 * min(rise_ns, fall_ns) < max(rise_ns, fall_ns):
            return None
        size_ns = (fall_ns + rise_ns) // 2
        return size_ns if fallen == "inbound" else -size_ns

    def _recent(self, direction: _Side) -> _Recent:
        return self._outbound if direction == "outbound" else self._inbound


def _delay_ns(exchange: Exchange, direction: _Side) -> int:
    return exchange.outbound_ns if direction == "outbound" else exchange.inbound_ns
