from __future__ import annotations

from dataclasses import replace

import pytest

from requestor.profile import Limit
from requestor.verdict import verdict_of
from schemas.authentication import Standing
from schemas.result import ComposedMetric, Flag, Method, PathResult, Quantiles, SegmentResult
from schemas.verdict import Answer, Doubt
from tests.requestor.judged_paths import (
    SECOND,
    VOICE,
    at_least,
    at_most,
    judged,
    least_delay,
    lossy_segment,
    metric,
    path,
    purpose,
    voice_path,
)


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


@pytest.mark.parametrize(("answer", "delay_ms"), [(Answer.YES, 40.0), (Answer.NO, 9000.0)])
def test_of_a_forged_answer_nothing_is_decided(answer: Answer, delay_ms: float) -> None:
    authentic = replace(voice_path(delay=metric("delay", delay_ms)), authenticity=Standing.AUTHENTIC)
    assert verdict_of(authentic, VOICE).answer is answer
    forged = verdict_of(replace(authentic, authenticity=Standing.FORGED), VOICE)
    assert forged.answer is Answer.UNSURE
    assert {limit.doubt for limit in forged.limits} == {Doubt.FORGED}
    assert forged.voice_estimate is None


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
