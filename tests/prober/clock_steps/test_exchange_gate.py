from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from prober.clock_steps.exchange_gate import AGREEING, Exchange, ExchangeGate

MS, S = 1_000_000, 1_000_000_000
Draw = Callable[[random.Random], float]
JITTERS: dict[str, Draw] = {
    "constant": lambda chance: 0,
    "quiet": lambda chance: chance.uniform(0, 0.1),
    "exponential": lambda chance: chance.expovariate(1 / 2),
    "wild": lambda chance: chance.uniform(0, 400),
    "rare peaks": lambda chance: 0 if chance.random() < 0.9 else 80,
    "Pareto": lambda chance: chance.paretovariate(1.5),
}


class Path:
    """Exchanges over a path of which all is known, ten a second."""

    def __init__(self, *, seed: int = 1, jitter: Draw = JITTERS["quiet"], drift_ppm: float = 0) -> None:
        self.gate = ExchangeGate()
        self.chance = random.Random(seed)
        self.jitter = jitter
        self.drift_ppm = drift_ppm
        self.there_ms, self.back_ms, self.peer_ahead_ms = 10.0, 20.0, 0.0
        self.number = 0
        self.at_ns = 1_700_000_000 * S
        self.counted: list[Exchange] = []
        self.steps_ms: list[float] = []
        self.dropped = 0

    def send(self, exchanges: int = 1, *, gap_ms: int = 100) -> None:
        for _ in range(exchanges):
            self.at_ns += gap_ms * MS
            self.peer_ahead_ms += gap_ms * self.drift_ppm / 1e6
            self.take(
                self.there_ms + self.jitter(self.chance) + self.peer_ahead_ms,
                self.back_ms + self.jitter(self.chance) - self.peer_ahead_ms,
            )

    def take(self, outbound_ms: float, inbound_ms: float) -> None:
        self.number += 1
        out_ns, in_ns = round(outbound_ms * MS), round(inbound_ms * MS)
        exchange = Exchange(out_ns, in_ns, self.number, self.number, self.at_ns, self.at_ns)
        judgement = self.gate.judge(exchange)
        if judgement is None:
            self.counted.append(exchange)
            return
        self.counted += judgement.samples
        self.dropped += judgement.dropped
        if judgement.step_ns is not None:
            self.steps_ms.append(judgement.step_ns / MS)


@pytest.mark.parametrize("step_ms", [1, -1, 5, -50, 50, 3_600_000, -3_600_000])
def test_a_step_of_the_peers_clock_is_known_after_some_exchanges_and_nothing_is_lost(step_ms: int) -> None:
    path = Path()
    path.send(100)
    path.peer_ahead_ms += step_ms
    path.send(AGREEING - 1)
    assert (len(path.counted), path.steps_ms) == (100, [])
    path.send()
    assert path.steps_ms == [pytest.approx(step_ms, abs=0.1)]
    path.send(100)
    assert (len(path.counted), len(path.steps_ms), path.dropped) == (200 + AGREEING, 1, 0)


@pytest.mark.parametrize("jitter", JITTERS.values(), ids=list(JITTERS))
def test_chance_alone_is_no_step(jitter: Draw) -> None:
    for seed in range(5):
        path = Path(seed=seed, jitter=jitter)
        path.send(1200)
        assert path.steps_ms == []
        assert path.dropped <= 3


@pytest.mark.parametrize("drift_ppm", [500, -500, 100])
def test_a_clock_that_drifts_or_is_slewed_does_not_step(drift_ppm: float) -> None:
    path = Path(drift_ppm=drift_ppm)
    path.send(600)
    path.send(200, gap_ms=1000)
    path.send(100)
    assert (path.steps_ms, path.dropped) == ([], 0)


@pytest.mark.parametrize("drift_ppm", [190, -190])
def test_clocks_that_drifted_apart_during_an_outage_did_not_step(drift_ppm: float) -> None:
    path = Path(drift_ppm=drift_ppm)
    path.send(600)
    path.send(3, gap_ms=60_000)
    path.send(100)
    assert (path.steps_ms, path.dropped) == ([], 0)


@pytest.mark.parametrize("jitter", ["constant", "quiet", "exponential"])
@pytest.mark.parametrize(("there_ms", "back_ms"), [(5, 0), (-5, 0), (0, 60), (0, -15), (7, 3), (-8, -15), (9, -1)])
def test_a_route_change_with_asymmetric_delay_is_no_step(jitter: str, there_ms: int, back_ms: int) -> None:
    for seed in range(20):
        path = Path(seed=seed, jitter=JITTERS[jitter])
        path.send(200)
        path.there_ms += there_ms
        path.back_ms += back_ms
        path.send(200)
        assert path.steps_ms == []
        assert len(path.counted) + path.dropped >= 400
        assert path.dropped < 8


@pytest.mark.parametrize(
    ("outbound_ms", "inbound_ms"), [(3_600_010, -3_599_980), (-40, 70), (15, 15), (10, -(10**12)), (-(10**12), 20)]
)
def test_a_single_outlying_exchange_is_dropped(outbound_ms: float, inbound_ms: float) -> None:
    path = Path()
    path.send(50)
    path.take(outbound_ms, inbound_ms)
    path.send(50)
    assert (len(path.counted), path.dropped, path.steps_ms) == (100, 1, [])


def test_outliers_that_disagree_are_no_step_however_many_they_are() -> None:
    path = Path()
    path.send(50)
    for power in range(3, 12):
        path.take(10 + 10**power, 20 - 10**power)
    path.send(50)
    assert (len(path.counted), path.dropped, path.steps_ms) == (100, 9, [])


@pytest.mark.parametrize("ms_per_exchange", [1, 5, 20, 150])
def test_a_queue_that_drains_is_no_step_and_loses_no_sample(ms_per_exchange: int) -> None:
    path = Path()
    path.there_ms = 400
    path.send(100)
    while path.there_ms > 10:
        path.there_ms = max(10, path.there_ms - ms_per_exchange)
        path.send()
    path.send(100)
    assert (path.steps_ms, path.dropped, len(path.counted)) == ([], 0, path.number)


def test_two_steps_in_a_row_are_both_seen() -> None:
    path = Path()
    path.send(100)
    path.peer_ahead_ms += 30
    path.send(40)
    path.peer_ahead_ms -= 30
    path.send(40)
    assert path.steps_ms == [pytest.approx(30, abs=0.1), pytest.approx(-30, abs=0.1)]


def test_after_a_restart_any_delay_is_usual() -> None:
    path = Path()
    path.send(100)
    path.gate.restart()
    path.peer_ahead_ms = 1e6
    path.send(100)
    assert (path.steps_ms, path.dropped, len(path.counted)) == ([], 0, 200)
