"""Trouble of every kind, by chance, under load: nobody else is hurt, and nothing untrue is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.topology import topology_from_json
from schemas.message import SegmentState
from schemas.result import ComposedMetric, Method, PathResult, ResultStatus, SegmentResult
from tests.overlay.chaos import CHAIN, LINK_DELAYS_MS, POINTS, Chaos, faults_of
from tests.overlay.network import network, start

SEED = 20_260
CHAOS_S = 40.0
LEAST_TROUBLES = 12
"""On a machine with time for it there are three times as many."""
LOSS = 0.1


@pytest.mark.netns
@pytest.mark.slow
def test_points_that_die_hang_and_come_back_under_load_tell_nothing_untrue_and_hurt_nobody() -> None:
    with network(CHAIN) as net:
        start(net)
        outcome = Chaos(net, seed=SEED).run(CHAOS_S)
    assert outcome.wrong == []
    assert outcome.troubles.total() >= LEAST_TROUBLES
    assert outcome.answers[ResultStatus.COMPLETE] and outcome.answers[ResultStatus.PARTIAL]
    assert (outcome.stream_lost, outcome.stream_refused) == ([], 0)
    assert outcome.stream_sent > CHAOS_S * 50


def segment(index: int) -> SegmentResult:
    delay_ms = LINK_DELAYS_MS[index]
    values = {"delay": delay_ms, "rtt": 2 * delay_ms, "loss": LOSS}
    return SegmentResult(
        upstream=POINTS[index],
        current=POINTS[index + 1],
        state=SegmentState.MEASURED,
        measured_at="2026-01-01T12:00:00.000Z",
        metrics={name: {"value": value} for name, value in values.items()},
    )


def composed(value: float | None) -> ComposedMetric:
    return ComposedMetric(
        value=value,
        unit="any",
        low=None,
        high=None,
        oldest_age_s=None,
        count=1,
        binding_segment=None,
        method=Method.SUM,
        flags=(),
    )


SEGMENTS = tuple(segment(index) for index in range(len(LINK_DELAYS_MS)))
WHOLE = {"delay": composed(115.0), "rtt": composed(230.0), "loss": composed(1 - (1 - LOSS) ** 5)}
UNKNOWN = replace(SEGMENTS[0], state=SegmentState.PENDING, measured_at=None, metrics={})
TRUE = PathResult(
    id="0" * 32,
    status=ResultStatus.COMPLETE,
    source=POINTS[0],
    destination=POINTS[-1],
    metrics=tuple(WHOLE),
    requested_at="2026-01-01T12:00:00.000000Z",
    elapsed_ms=1.0,
    segments=SEGMENTS,
    composed=WHOLE,
    warnings=(),
)


def faults(result: PathResult) -> list[str]:
    topology = topology_from_json({"name": "chaos", **CHAIN})
    return list(faults_of(topology, dict(zip(POINTS, POINTS, strict=True)), POINTS, result))


def test_a_true_answer_has_no_fault_whole_or_in_part() -> None:
    assert faults(TRUE) == []
    nothing = dict.fromkeys(WHOLE, composed(None))
    part = replace(TRUE, status=ResultStatus.PARTIAL, segments=(UNKNOWN, *SEGMENTS[1:]), composed=nothing)
    assert faults(part) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"segments": SEGMENTS[:2] + SEGMENTS[3:]}, "do not join"),
        ({"segments": SEGMENTS[:-1]}, "ends elsewhere"),
        ({"segments": SEGMENTS[::-1]}, "do not join"),
        (
            {"segments": (replace(SEGMENTS[0], metrics=SEGMENTS[2].metrics), *SEGMENTS[1:])},
            "delay of c1 - c2 is 40",
        ),
        ({"composed": {**WHOLE, "delay": composed(95.0)}}, "in truth 115 ms"),
        ({"composed": {**WHOLE, "rtt": composed(115.0)}}, "in truth 230 ms"),
        ({"composed": {**WHOLE, "loss": composed(LOSS)}}, "loss is 0.1"),
        ({"composed": {**WHOLE, "loss": composed(None)}}, "loss of a complete answer is None"),
        ({"status": ResultStatus.PARTIAL, "segments": (UNKNOWN, *SEGMENTS[1:])}, "with an unknown segment is 115"),
    ],
)
def test_an_untrue_answer_is_seen_as_such(changes: dict[str, Any], fault: str) -> None:
    assert any(fault in one for one in faults(replace(TRUE, **changes)))
