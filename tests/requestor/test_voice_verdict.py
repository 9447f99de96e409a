from __future__ import annotations

from dataclasses import replace

import pytest

from requestor.e_model import G711, r_factor
from requestor.profile import R_FACTOR
from requestor.reading import burst_ratio
from requestor.verdict import verdict_of
from schemas.result import Flag
from tests.requestor.judged_paths import FIRST, SECOND, VOICE, lossy_segment, metric, path, voice_path


def test_voice_estimates_r_from_the_worst_to_the_best_of_delay_jitter_and_loss() -> None:
    verdict = verdict_of(voice_path(), VOICE)
    assert verdict.yes
    estimate = verdict.voice_estimate
    assert estimate is not None
    assert estimate.codec == "g711"
    assert estimate.r_low == r_factor(G711, delay_ms=41, buffer_ms=15, late_ratio=0.001, loss_ratio=0.005)
    assert estimate.r_high == r_factor(G711, delay_ms=39, buffer_ms=8, late_ratio=0.001, loss_ratio=0)
    assert estimate.r_factor == r_factor(G711, delay_ms=40, buffer_ms=10, late_ratio=0.001, loss_ratio=0.001)
    assert estimate.mos is not None and estimate.mos_low < estimate.mos < estimate.mos_high < 4.5
    limit = verdict.limits[-1]
    assert (limit.metric, limit.unit, limit.binding_segment) == (R_FACTOR, "R", FIRST)


def test_a_tail_that_nobody_can_tell_does_not_spoil_the_estimate() -> None:
    verdict = verdict_of(voice_path(jitter=metric("jitter", 13.0, 0.0, 2e8)), VOICE)
    assert verdict.yes
    assert verdict.voice_estimate is not None
    expected = r_factor(G711, delay_ms=41, buffer_ms=14, late_ratio=0.01, loss_ratio=0.005)
    assert verdict.voice_estimate.r_low == expected


def test_what_costs_the_most_names_the_segment_of_the_r_factor() -> None:
    lossy = verdict_of(voice_path(loss=metric("loss", 0.05, 0.04, 0.06, binding_segment=SECOND)), VOICE)
    assert lossy.limits[-1].binding_segment == SECOND
    wavering = verdict_of(voice_path(distribution=metric("distribution", 130.0, binding_segment=SECOND)), VOICE)
    assert wavering.limits[-1].binding_segment == SECOND


def test_without_synchronized_clocks_there_are_bounds_of_r_and_no_value() -> None:
    verdict = verdict_of(voice_path(delay=metric("delay", 9e9, flags=(Flag.UNSYNCHRONIZED,))), VOICE)
    assert verdict.yes
    estimate = verdict.voice_estimate
    assert estimate is not None
    assert (estimate.r_factor, estimate.mos) == (None, None)
    assert estimate.r_low == r_factor(G711, delay_ms=80, buffer_ms=15, late_ratio=0.001, loss_ratio=0.005)


@pytest.mark.parametrize("missing", [("delay",), ("loss",), ("jitter", "distribution")])
def test_nothing_is_estimated_where_a_part_is_missing(missing: tuple[str, ...]) -> None:
    verdict = verdict_of(voice_path(**{name: metric(name, None) for name in missing}), VOICE)
    assert verdict.unsure
    assert verdict.voice_estimate is None


def test_a_path_that_loses_everything_is_a_no() -> None:
    unknown = {name: metric(name, None) for name in ("delay", "jitter", "distribution")}
    lost = voice_path(**unknown, loss=metric("loss", 1.0, 0.99, 1.0))
    verdict = verdict_of(lost, VOICE)
    assert verdict.no
    assert verdict.binding_metric == "loss"


@pytest.mark.parametrize(
    ("lost", "runs", "expected"), [(0, 0, 1.0), (9, 1, 1.0), (20, 20, 1.0), (20, 5, 4 * 0.9), (200, 1, 1.0)]
)
def test_bursts_are_rows_longer_than_chance_makes_them(lost: int, runs: int, expected: float) -> None:
    answer = replace(path(), segments=(lossy_segment(lost, runs),))
    assert burst_ratio(answer) == pytest.approx(expected)
    assert burst_ratio(path()) == 1.0


def test_bursts_make_the_estimate_worse() -> None:
    values = {"loss": metric("loss", 0.1, 0.08, 0.12)}
    random_loss = verdict_of(
        replace(voice_path(**values), segments=(lossy_segment(20, 20),)), VOICE
    ).voice_estimate
    bursty = verdict_of(replace(voice_path(**values), segments=(lossy_segment(20, 5),)), VOICE).voice_estimate
    assert random_loss is not None and bursty is not None
    assert bursty.r_high < random_loss.r_high
