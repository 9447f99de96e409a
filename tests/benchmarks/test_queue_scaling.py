"""The benchmark of two queues, which the guard leaves out, runs on the point as it is."""

from __future__ import annotations

import pytest

from benchmarks.suite.benchmark import Effort
from benchmarks.suite.queue_scaling import PROCESSES, ROUNDS, run
from benchmarks.suite.workshop import Workshop


@pytest.mark.netns
def test_filled_queues_are_drained_by_one_process_and_by_two_without_a_loss() -> None:
    stages: list[int] = []
    with Workshop() as workshop:
        outcome = run(Effort.SHORT, lambda _stage, done, _total: stages.append(done), workshop)
    (figures,) = outcome.tables
    assert stages == list(range(ROUNDS[Effort.SHORT]))
    assert list(figures.rows) == ["1 process", f"{PROCESSES} processes"]
    assert all(spread is not None and spread.low > 0 for (spread,) in figures.rows.values())
    assert list(outcome.ratios) == ["rate_two_queues_vs_one"]
