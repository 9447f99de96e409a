from __future__ import annotations

import json

import pytest

from benchmarks.suite.baseline import FILE, LIMITS, Verdict, baseline_from_text, changes
from benchmarks.suite.ratio import Spread
from schemas.errors import UsageError


def spread(median: float, low: float | None = None, high: float | None = None) -> Spread:
    return Spread(median=median, low=median if low is None else low, high=median if high is None else high)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (spread(1.5), Verdict.FINE),
        (spread(2.39), Verdict.FINE),
        (spread(2.4), Verdict.WORSE),
        (spread(3.9), Verdict.WORSE),
        (spread(4.0), Verdict.HALVED),
    ],
)
def test_a_cost_is_judged_by_how_much_it_grew(now: Spread, verdict: Verdict) -> None:
    assert (
        changes({"service_vs_c_append": now}, {"service_vs_c_append": 2.0})["service_vs_c_append"].verdict
        is verdict
    )


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (spread(50), Verdict.FINE),
        (spread(34), Verdict.FINE),
        (spread(33), Verdict.WORSE),
        (spread(21), Verdict.WORSE),
        (spread(20), Verdict.HALVED),
    ],
)
def test_a_gain_is_judged_by_how_much_it_shrank(now: Spread, verdict: Verdict) -> None:
    assert changes({"rate_vs_scapy": now}, {"rate_vs_scapy": 40.0})["rate_vs_scapy"].verdict is verdict


def test_one_good_reading_shows_that_the_machine_was_disturbed() -> None:
    found = changes({"memory_mb": spread(90, low=50, high=99)}, {"memory_mb": 40.0})["memory_mb"]
    assert (found.verdict, found.factor) == (Verdict.WORSE, 2.25)
    assert found.text == "2.25 TIMES WORSE THAN THE BASELINE"


def test_what_has_no_baseline_yet_is_held_against_its_limit_alone() -> None:
    found = changes({"memory_mb": spread(150), "new": spread(9)}, {})
    assert (found["memory_mb"].verdict, found["memory_mb"].text) == (Verdict.FINE, "NOT REACHED")
    assert (found["new"].text, found["new"].is_reached) == ("", True)


def test_the_baseline_that_is_kept_has_every_figure_to_reach() -> None:
    assert set(LIMITS) <= set(baseline_from_text(FILE.read_text()))


def test_a_run_reads_as_a_baseline() -> None:
    ratios = {"memory_mb": spread(90, low=80, high=99).to_json()}
    assert baseline_from_text(json.dumps({"ratios": ratios, "effort": "short"})) == {"memory_mb": 90}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ratios": {"memory_mb": 3}}', '{"ratios": {"memory_mb": {}}}'])
def test_what_is_no_baseline_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="baseline"):
        baseline_from_text(text)
