"""A small run of the benchmark: it fails when an interval or a quantile goes wrong, not when one is a bit off."""

from __future__ import annotations

from random import Random

from benchmarks.composition_coverage import Segment, Tally, true_quantiles_ms
from benchmarks.delay_laws import LAWS


def test_the_truth_of_the_benchmark_is_that_of_its_draws() -> None:
    dice = Random(1)
    for law in (make(dice, 1.0) for make in LAWS):
        sample = sorted(law.draw(dice) for _ in range(20_000))
        assert abs(sum(sample) / 20_000 / law.mean_ms - 1) < 0.05
        (p95_ms,) = true_quantiles_ms([Segment(0.0, law, 0.0)], (0.95,))
        assert abs(sample[19_000] / p95_ms - 1) < 0.06


def test_delay_and_loss_of_95_in_100_random_paths_lie_within_their_intervals() -> None:
    dice, tally = Random(11), Tally()
    for _ in range(80):
        tally.add_path(dice, 10.0, with_quantiles=False)
    for name in ("delay", "loss"):
        assert 88 <= tally.intervals[name].percent < 100, name


def test_jitter_and_p99_of_95_in_100_random_paths_lie_within_their_intervals() -> None:
    dice, tally = Random(12), Tally()
    for _ in range(30):
        tally.add_path(dice, 10.0)
    for name in ("jitter", "distribution"):
        assert tally.intervals[name].percent >= 83, name
    medians = {row.quantity: row.median_error for row in tally.rows() if row.median_error is not None}
    assert medians["p99 by convolution"] < 3
    assert medians["p99 by cumulants"] < 5
    assert medians["p50 by convolution"] < 1
