from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from requestor.e_model import G711, r_factor
from requestor.profile import BUILT_IN_PROFILES, R_FACTOR, Limit, Profile
from requestor.reading import burst_ratio
from requestor.verdict import verdict_of
from schemas.errors import MessageError
from schemas.message import SegmentState
from schemas.metrics import METRICS
from schemas.result import ComposedMetric, Flag, Method, PathResult, Quantiles, ResultStatus, SegmentResult
from schemas.verdict import BEST_FIRST, Answer, Doubt, LimitVerdict, Sense, Verdict
from tests.receiver.paths import (
    delay,
    jitter,
    lacking,
    loss,
    measured,
    pending,
    queue,
    result,
    rtt,
    unanswered,
    usual,
)

VALIDATOR = Draft202012Validator(json.loads((files("schemas") / "verdict.schema.json").read_text()))
VOICE = BUILT_IN_PROFILES["voice"]
FIRST, SECOND = ("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.3")


def metric(
    name: str, value: float | None, low: float | None = None, high: float | None = None, **changes: Any
) -> ComposedMetric:
    """A composed metric, exactly known unless its interval is given."""
    if low is None and high is None:
        low = high = value
    flags = (Flag.PARTIAL,) if value is None else ()
    plain = ComposedMetric(
        value=value,
        unit=METRICS[name].unit,
        low=low,
        high=high,
        oldest_age_s=1.0,
        count=600,
        binding_segment=SECOND,
        method=Method.SUM,
        flags=flags,
    )
    return replace(plain, **changes)


def path(**composed: ComposedMetric) -> PathResult:
    """A result with these metrics; an underscore stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in composed.items()}
    return replace(
        unanswered(status=ResultStatus.COMPLETE),
        elapsed_ms=3.0,
        metrics=tuple(named),
        composed=named,
    )


def purpose(*limits: Limit) -> Profile:
    return Profile(name="mine", limits=limits)


def at_most(name: str, bound: float, quantile: str | None = None) -> Limit:
    return Limit(metric=name, quantile=quantile, sense=Sense.AT_MOST, bound=bound)


def at_least(name: str, bound: float) -> Limit:
    return Limit(metric=name, sense=Sense.AT_LEAST, bound=bound)


def judged(answer: PathResult, limit: Limit) -> LimitVerdict:
    return verdict_of(answer, purpose(limit)).binding


@pytest.mark.parametrize(
    ("limit", "values", "expected", "margin"),
    [
        (at_most("rtt", 100), (90, 85, 95), Answer.YES, 10),
        (at_most("rtt", 100), (90, 85, 100), Answer.YES, 10),
        (at_most("rtt", 100), (99, 90, 108), Answer.UNSURE, 1),
        (at_most("rtt", 100), (101, 90, 108), Answer.UNSURE, -1),
        (at_most("rtt", 100), (100, 100, 108), Answer.UNSURE, 0),
        (at_most("rtt", 100), (110, 101, 120), Answer.NO, -10),
        (at_least("mtu", 1400), (1500, 1500, 1500), Answer.YES, 100),
        (at_least("mtu", 1400), (1500, 1300, 1500), Answer.UNSURE, 100),
        (at_least("mtu", 1400), (1280, 1280, 1300), Answer.NO, -120),
    ],
)
def test_a_limit_is_decided_when_the_whole_interval_lies_on_one_side(
    limit: Limit, values: tuple[float, float, float], expected: Answer, margin: float
) -> None:
    one = judged(path(**{limit.metric: metric(limit.metric, *values)}), limit)
    assert (one.answer, one.margin, one.binding_segment) == (expected, margin, SECOND)
    assert one.doubt is (Doubt.STRADDLES if expected is Answer.UNSURE else None)


@pytest.mark.parametrize(
    ("composed", "doubt"),
    [
        (metric("rtt", None), Doubt.UNDEFINED),
        (metric("rtt", 10.0, flags=(Flag.STALE,)), Doubt.STALE),
        (metric("rtt", 10.0, oldest_age_s=16.0), Doubt.STALE),
        (metric("rtt", 10.0, low=None, high=20.0), Doubt.NO_INTERVAL),
        (metric("rtt", 10.0, flags=(Flag.UNSYNCHRONIZED,)), Doubt.UNSYNCHRONIZED),
    ],
)
def test_a_value_that_cannot_be_relied_on_leaves_it_unsure_and_says_why(
    composed: ComposedMetric, doubt: Doubt
) -> None:
    one = judged(path(rtt=composed), at_most("rtt", 100))
    assert (one.answer, one.doubt) == (Answer.UNSURE, doubt)


def test_a_metric_that_the_result_does_not_hold_is_undefined() -> None:
    assert judged(path(), at_most("rtt", 100)).unit == "ms"
    plugin = judged(path(), at_most("icmp-rtt", 100))
    assert (plugin.answer, plugin.doubt, plugin.unit) == (Answer.UNSURE, Doubt.UNDEFINED, None)


def test_a_slowly_changing_metric_may_be_older() -> None:
    old = {"oldest_age_s": 250.0}
    answer = path(mtu=metric("mtu", 1500.0, **old), available_bandwidth=metric("available-bandwidth", 50.0, **old))
    verdict = verdict_of(answer, purpose(at_least("mtu", 1280), at_least("available-bandwidth", 10)))
    assert verdict.yes


def test_clocks_in_doubt_leave_what_the_round_trip_time_says() -> None:
    wild = metric("delay", -400.0, flags=(Flag.UNSYNCHRONIZED,))
    near = judged(path(delay=wild, rtt=metric("rtt", 20.0, 18.0, 22.0)), at_most("delay", 150))
    assert (near.answer, near.value, near.low, near.high, near.margin) == (Answer.YES, None, 0.0, 22.0, None)
    far = judged(path(delay=wild, rtt=metric("rtt", 200.0, 198.0, 202.0)), at_most("delay", 150))
    assert (far.answer, far.doubt) == (Answer.UNSURE, Doubt.UNSYNCHRONIZED)
    alone = judged(path(delay=wild), at_most("delay", 150))
    assert (alone.answer, alone.doubt, alone.value) == (Answer.UNSURE, Doubt.UNSYNCHRONIZED, None)


QUANTILES = Quantiles(p50=10.0, p95=20.0, p99=24.0, method=Method.CONVOLUTION)


def test_a_quantile_of_the_delay_has_an_interval_of_its_own() -> None:
    answer = path(
        delay=metric("delay", 11.0, 10.9, 11.1, quantiles=QUANTILES),
        distribution=metric("distribution", 24.0, 22.0, 27.0),
    )
    p95 = judged(answer, at_most("delay", 22, "p95"))
    assert (p95.metric, p95.value, p95.answer) == ("delay.p95", 20.0, Answer.YES)
    assert p95.low == pytest.approx(20 - 1.84, abs=0.01)  # 1.96 sqrt(0.95 0.05 / 600) (24 - 20) / 0.04 + 0.1
    assert p95.high == pytest.approx(20 + 1.84, abs=0.01)
    p50 = judged(answer, at_most("delay", 9.5, "p50"))
    assert (p50.value, p50.answer) == (10.0, Answer.UNSURE)
    assert judged(answer, at_most("delay", 9, "p50")).answer is Answer.NO  # the interval begins at 9.01
    p99 = judged(answer, at_most("delay", 26, "p99"))
    assert (p99.value, p99.low, p99.high, p99.answer) == (24.0, 22.0, 27.0, Answer.UNSURE)


@pytest.mark.parametrize(
    ("answer", "doubt"),
    [
        (path(delay=metric("delay", 11.0)), Doubt.UNDEFINED),
        (
            path(delay=metric("delay", 11.0, quantiles=replace(QUANTILES, method=Method.CUMULANTS))),
            Doubt.NO_INTERVAL,
        ),
        (path(delay=metric("delay", None)), Doubt.UNDEFINED),
        (path(), Doubt.UNDEFINED),
        (path(delay=metric("delay", 11.0, flags=(Flag.UNSYNCHRONIZED,))), Doubt.UNSYNCHRONIZED),
    ],
)
@pytest.mark.parametrize("quantile", ["p50", "p95", "p99"])
def test_a_quantile_without_a_distribution_decides_nothing(
    answer: PathResult, doubt: Doubt, quantile: str
) -> None:
    one = judged(answer, at_most("delay", 1000, quantile))
    assert (one.answer, one.doubt) == (Answer.UNSURE, doubt)


def test_one_broken_limit_is_a_no_and_names_the_most_broken_one() -> None:
    limits = (at_most("rtt", 100), at_most("loss", 0.01), at_most("jitter", 50), at_most("hops", 3))
    answer = path(
        rtt=metric("rtt", 110.0),
        loss=metric("loss", 0.03),
        jitter=metric("jitter", None),
        hops=metric("hops", 2.0),
    )
    verdict = verdict_of(answer, purpose(*limits))
    assert verdict.no and not verdict.yes and not verdict.unsure
    assert [limit.answer for limit in verdict.limits] == [Answer.NO, Answer.NO, Answer.UNSURE, Answer.YES]
    assert verdict.binding_metric == "loss"


def test_without_a_broken_limit_a_doubt_is_unsure_and_names_the_least_known() -> None:
    limits = (at_most("rtt", 100), at_most("loss", 0.01), at_most("jitter", 50))
    answer = path(rtt=metric("rtt", 50.0), loss=metric("loss", 0.009, 0.0, 0.02), jitter=metric("jitter", None))
    verdict = verdict_of(answer, purpose(*limits))
    assert verdict.unsure
    assert verdict.binding_metric == "jitter"


def test_where_all_limits_are_kept_the_closest_one_binds() -> None:
    answer = path(rtt=metric("rtt", 90.0), loss=metric("loss", 0.001))
    verdict = verdict_of(answer, purpose(at_most("loss", 0.01), at_most("rtt", 100)))
    assert verdict.yes
    assert verdict.binding_metric == "rtt"


def test_the_r_factor_is_close_to_its_limit_by_what_it_can_reach_at_all() -> None:
    answer = voice_path(delay=metric("delay", 60.0, 59.0, 61.0))  # R 90 of 93.2, and 60 ms of 150
    assert verdict_of(answer, VOICE).binding_metric == "delay"


def lossy_segment(lost: int, runs: int) -> SegmentResult:
    return SegmentResult(
        upstream=FIRST[0],
        current=FIRST[1],
        state=SegmentState.MEASURED,
        measured_at="2026-01-01T00:00:00.000Z",
        metrics={"loss": {"value": lost / 200, "unit": "ratio", "count": 200, "lost": lost, "runs": runs}},
    )


def least_delay(least_ms: float, clock_error_ms: float = 0.0) -> SegmentResult:
    """A segment that says how short its delay can be."""
    errors = {"upstream_clock_error_ms": clock_error_ms, "current_clock_error_ms": clock_error_ms}
    return SegmentResult(
        upstream=FIRST[0],
        current=FIRST[1],
        state=SegmentState.MEASURED,
        measured_at="2026-01-01T00:00:00.000Z",
        metrics={
            "distribution": {"value": 50.0, "unit": "ms", "count": 600, "minimum_ms": least_ms},
            "delay": {"value": 40.0, "unit": "ms", "count": 600, **errors},
        },
    )


def test_the_variation_of_all_but_one_percent_is_free_of_the_clocks() -> None:
    limit = at_most("jitter", 50, "p99")
    for flags in ((), (Flag.UNSYNCHRONIZED,)):
        whole = metric("distribution", 80.0, 30.0, 150.0, flags=flags)
        one = judged(replace(path(distribution=whole), segments=(least_delay(55.0, 20.0),)), limit)
        assert (one.metric, one.unit) == ("jitter.p99", "ms")
        assert (one.value, one.low, one.high, one.doubt) == (25.0, 15.0, 55.0, Doubt.STRADDLES)


@pytest.mark.parametrize(
    ("whole", "segment", "doubt"),
    [
        (None, least_delay(9.0), Doubt.UNDEFINED),
        (metric("distribution", None), least_delay(9.0), Doubt.UNDEFINED),
        (metric("distribution", 80.0), lossy_segment(0, 0), Doubt.UNDEFINED),
        (metric("distribution", 80.0, None, 9.0), least_delay(9.0), Doubt.NO_INTERVAL),
        (metric("distribution", 80.0, flags=(Flag.STALE,)), least_delay(9.0), Doubt.STALE),
    ],
)
def test_without_a_fresh_distribution_the_variation_decides_nothing(
    whole: ComposedMetric | None, segment: SegmentResult, doubt: Doubt
) -> None:
    answer = path() if whole is None else path(distribution=whole)
    one = judged(replace(answer, segments=(segment,)), at_most("jitter", 1000, "p99"))
    assert (one.answer, one.doubt) == (Answer.UNSURE, doubt)


def voice_path(**changes: ComposedMetric) -> PathResult:
    values = {
        "delay": metric("delay", 40.0, 39.0, 41.0, binding_segment=FIRST),
        "loss": metric("loss", 0.001, 0.0, 0.005),
        "jitter": metric("jitter", 10.0, 8.0, 15.0),
        "rtt": metric("rtt", 80.0),
        "distribution": metric("distribution", 50.0, 49.0, 53.0),
    }
    return replace(path(**{**values, **changes}), segments=(least_delay(39.0),))


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


BETTER = {
    **dict.fromkeys(("delay", "loss", "jitter", "rtt", "distribution"), -1.0),
    **dict.fromkeys(("mtu", "available-bandwidth"), 1.0),
}
"""The direction in which a metric is better."""


@st.composite
def numbers(draw: st.DrawFn, most: float) -> tuple[float, float, float]:
    low, value, high = sorted(draw(st.tuples(*[st.floats(0, most)] * 3)))
    return value, low, high


@st.composite
def measured_paths(draw: st.DrawFn) -> PathResult:
    times = {"delay": 300.0, "jitter": 100.0, "rtt": 300.0, "distribution": 100.0}
    scales = {**times, "loss": 1.0, "mtu": 3000.0, "available-bandwidth": 20.0}
    flags = st.sampled_from([(), (), (Flag.UNSYNCHRONIZED,), (Flag.STALE,)])
    whole = path(
        **{
            name: metric(name, *draw(numbers(most)), flags=draw(flags) if name == "delay" else ())
            for name, most in scales.items()
        }
    )
    return replace(whole, segments=(least_delay(0.0),))


def shifted(one: ComposedMetric, step: float) -> ComposedMetric:
    most = 1.0 if one.unit == "ratio" else 1e6

    def moved(value: float | None) -> float:
        assert value is not None
        return min(most, max(0.0, value + step))

    return replace(one, value=moved(one.value), low=moved(one.low), high=moved(one.high))


profiles = st.sampled_from([*BUILT_IN_PROFILES.values()])


@given(measured_paths(), profiles, st.sampled_from(list(BETTER)), st.floats(0, 100))
def test_a_better_value_never_makes_the_verdict_worse(
    answer: PathResult, profile: Profile, name: str, step: float
) -> None:
    step *= 0.01 if name == "loss" else 1.0
    better = {**answer.composed, name: shifted(answer.composed[name], BETTER[name] * step)}
    before, after = verdict_of(answer, profile), verdict_of(replace(answer, composed=better), profile)
    assert BEST_FIRST.index(after.answer) <= BEST_FIRST.index(before.answer)
    for old, new in zip(before.limits, after.limits, strict=True):
        assert BEST_FIRST.index(new.answer) <= BEST_FIRST.index(old.answer)


def is_valid(verdict: Verdict) -> bool:
    document = json.loads(json.dumps(verdict.to_json()))
    assert Verdict.from_json(document) == verdict
    return VALIDATOR.is_valid(document)


@given(measured_paths(), profiles)
@settings(max_examples=40)
def test_every_verdict_is_valid_and_reads_back(answer: PathResult, profile: Profile) -> None:
    assert is_valid(verdict_of(answer, profile))


@pytest.mark.parametrize(
    "answer",
    [
        result((usual(0), usual(1))),
        result((usual(0), pending(1), lacking(2, "loss"))),
        result((measured(0, delay=delay(2.0), loss=loss(0), jitter=jitter(0.1), rtt=rtt(4.0)),)),
        result(()),
        unanswered(status=ResultStatus.FAILED),
    ],
    ids=["complete", "partial", "without distribution", "empty", "failed"],
)
@pytest.mark.parametrize("profile", BUILT_IN_PROFILES.values(), ids=lambda profile: profile.name)
def test_every_kind_of_answer_has_a_verdict(answer: PathResult, profile: Profile) -> None:
    verdict = verdict_of(answer, profile)
    assert is_valid(verdict)
    assert verdict.request_id == answer.id
    if answer.status is ResultStatus.FAILED:
        assert verdict.unsure
        assert {limit.doubt for limit in verdict.limits} == {Doubt.UNDEFINED}


def test_a_composed_path_without_loss_gets_a_yes_for_voice() -> None:
    segments = [
        measured(index, delay=delay(5.0), loss=loss(0), jitter=jitter(0.1), rtt=rtt(10.0), distribution=queue(0.3))
        for index in range(3)
    ]
    asked = result([replace(one, unsupported=("reordering", "duplication", "hops", "mtu", "capacity",
                    "utilization", "available-bandwidth")) for one in segments])  # fmt: skip
    assert verdict_of(asked, VOICE).yes


def test_each_key_of_the_document_is_required_and_no_other_is_allowed() -> None:
    document = verdict_of(voice_path(), VOICE).to_json()
    for key in document:
        assert not VALIDATOR.is_valid({name: value for name, value in document.items() if name != key}), key
    assert not VALIDATOR.is_valid({**document, "more": 1})
    for limits in ([], [{**document["limits"][0], "more": 1}], [{**document["limits"][0], "doubt": "fog"}]):
        assert not VALIDATOR.is_valid({**document, "limits": limits})
    unsure = {**document["limits"][0], "answer": "unsure", "doubt": "straddles"}
    assert not VALIDATOR.is_valid({**document, "limits": [unsure]})


def test_the_schema_is_one_and_knows_every_choice() -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)
    definitions = VALIDATOR.schema["$defs"]  # type: ignore[index]
    assert definitions["answer"]["enum"] == ["yes", "no", "unsure"] == [str(answer) for answer in Answer]
    assert definitions["limit"]["properties"]["sense"]["enum"] == [str(sense) for sense in Sense]
    assert definitions["limit"]["properties"]["doubt"]["enum"] == [*map(str, Doubt), None]


@pytest.mark.parametrize(
    "change", [{"answer": "perhaps"}, {"limits": [{}]}, {"limits": 3}, {"voice_estimate": {}}]
)
def test_a_document_that_nobody_wrote_is_refused(change: dict[str, Any]) -> None:
    document = verdict_of(voice_path(), VOICE).to_json()
    with pytest.raises(MessageError, match="verdict: "):
        Verdict.from_json({**document, **change})
    del document["profile"]
    with pytest.raises(MessageError, match="verdict: KeyError"):
        Verdict.from_json(document)
