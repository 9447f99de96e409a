from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.message import Message, SegmentRecord, check_consistency
from schemas.metrics import METRICS, Metric, ScalarStatistics, registry_with
from schemas.metrics import Composition as Rule
from schemas.result import Flag, Method, ResultStatus
from tests.messages import messages
from tests.receiver.paths import (
    ALL,
    BASIC,
    NOW_MS,
    composed,
    delay,
    jitter,
    lacking,
    loss,
    measured,
    message,
    pending,
    point,
    queue,
    rtt,
    scalar,
    usual,
)

PATH = (usual(0), usual(1), usual(2))


def segment(index: int) -> tuple[str, str]:
    return point(index), point(index + 1)


def test_a_path_of_measured_segments_has_every_metric() -> None:
    composition = composed(ALL, PATH)
    assert composition.status is ResultStatus.COMPLETE
    assert composition.warnings == ()
    assert composition.composed["delay"].value == 5 + 6 + 7
    assert composition.composed["rtt"].value == 10 + 11 + 12
    assert composition.composed["loss"].value == pytest.approx(1 - (599 / 600) * (598 / 600))
    assert composition.composed["hops"].value == 1 + 2 + 3
    assert composition.composed["mtu"].value == 1500
    assert composition.composed["capacity"].value == 800
    assert composition.composed["utilization"].value == 0.252
    for name, metric in composition.composed.items():
        assert metric.unit == METRICS[name].unit
        assert metric.flags == ()
        assert (metric.value is None) == (name in ("reordering", "duplication"))


def test_only_the_metrics_that_were_asked_for_are_composed_in_their_order() -> None:
    composition = composed(("rtt", "delay"), PATH)
    assert list(composition.composed) == ["rtt", "delay"]
    assert list(composition.segments[0].metrics) == ["rtt", "delay"]


def test_only_the_clock_errors_of_the_two_ends_widen_the_delay() -> None:
    def with_errors(upstream_ms: float, inner_ms: float, current_ms: float) -> float:
        first = replace(
            delay(1.0, variance=0.0), upstream_clock_error_ms=upstream_ms, current_clock_error_ms=inner_ms
        )
        last = replace(
            delay(2.0, variance=0.0), upstream_clock_error_ms=inner_ms, current_clock_error_ms=current_ms
        )
        records = (measured(0, delay=first), measured(1, delay=last))
        metric = composed(("delay",), records).composed["delay"]
        assert metric.low is not None and metric.high is not None
        assert metric.high - 3.0 == pytest.approx(3.0 - metric.low)
        return metric.high - 3.0

    assert with_errors(0.5, 0.0, 0.25) == pytest.approx(0.75)
    assert with_errors(0.5, 9.0, 0.25) == pytest.approx(0.75)


def test_the_round_trip_time_needs_no_clock() -> None:
    records = (measured(0, rtt=rtt(3.0, count=10**6)), measured(1, rtt=rtt(4.0, count=10**6)))
    metric = composed(("rtt",), records).composed["rtt"]
    assert metric.high == pytest.approx(7 + 1.96 * (1 / 10**6) ** 0.5, abs=1e-6)


def test_the_clocks_between_cancel_in_the_mean_delay_but_not_in_its_distribution() -> None:
    def with_clocks(*synchronized: bool) -> list[str]:
        records = [
            measured(index, delay=delay(1.0, synchronized=one), distribution=queue(1.0))
            for index, one in enumerate(synchronized)
        ]
        metrics = composed(("delay", "distribution"), records).composed
        return [name for name, metric in metrics.items() if Flag.UNSYNCHRONIZED in metric.flags]

    assert with_clocks(True, True, True) == []
    assert with_clocks(True, False, True) == ["distribution"]
    assert with_clocks(False, True, True) == ["delay", "distribution"]
    assert with_clocks(True, True, False) == ["delay", "distribution"]


def test_a_pending_segment_leaves_the_whole_path_undefined_and_is_named() -> None:
    composition = composed(BASIC, (usual(0), pending(1), usual(2)))
    assert composition.status is ResultStatus.PARTIAL
    assert composition.warnings == ("segment 10.0.0.2 -> 10.0.0.3 is not measured yet; ask again in a moment",)
    for metric in composition.composed.values():
        assert (metric.value, metric.low, metric.high, metric.count) == (None, None, None, 0)
        assert (metric.quantiles, metric.flags) == (None, (Flag.PARTIAL,))
        assert metric.binding_segment == segment(1)
    assert composition.segments[1].measured_at is None
    assert composition.segments[1].metrics == {}


def test_a_metric_that_one_segment_cannot_give_is_undefined_and_the_others_are_not() -> None:
    composition = composed(ALL, (usual(0), lacking(1, "jitter")))
    assert composition.status is ResultStatus.PARTIAL
    assert composition.composed["jitter"].value is None
    assert composition.composed["jitter"].binding_segment == segment(1)
    assert composition.composed["delay"].value == 11
    assert composition.warnings == ("segment 10.0.0.2 -> 10.0.0.3 cannot give jitter",)
    assert composition.segments[1].metrics["jitter"] == {
        "value": None,
        "unit": "ms",
        "count": 0,
        "state": "unsupported",
    }


def test_all_lost_is_a_loss_of_one_while_the_delay_without_samples_is_undefined() -> None:
    records = (usual(0), measured(1, delay=delay(0.0, count=0), loss=loss(600), jitter=jitter(1.0), rtt=rtt(1.0)))
    composition = composed(BASIC, records)
    assert composition.composed["loss"].value == 1.0
    assert composition.composed["delay"].value is None
    assert composition.warnings == ("segment 10.0.0.2 -> 10.0.0.3 has no sample of delay",)
    assert composition.segments[1].metrics["delay"]["value"] is None


def test_no_records_give_no_value_and_say_so() -> None:
    composition = composed(("delay",), ())
    assert composition.status is ResultStatus.PARTIAL
    assert composition.warnings == ("no segment was reported",)
    metric = composition.composed["delay"]
    assert (metric.value, metric.count, metric.binding_segment, metric.oldest_age_s) == (None, 0, None, None)


def test_the_binding_segment_has_the_largest_mean_loss_or_variance() -> None:
    records = (
        measured(0, delay=delay(9.0), loss=loss(1), jitter=jitter(1.0, pdv_ms=50.0), rtt=rtt(1.0)),
        measured(1, delay=delay(1.0), loss=loss(5, sent=5000), jitter=jitter(4.0, pdv_ms=3.0), rtt=rtt(3.0)),
    )
    metrics = composed(BASIC, records).composed
    assert {name: metric.binding_segment for name, metric in metrics.items()} == {
        "delay": segment(0),
        "loss": segment(0),
        "jitter": segment(1),
        "rtt": segment(1),
    }


def test_the_age_is_that_of_the_oldest_segment_and_of_the_wait() -> None:
    records = (measured(0, age_ms=200, rtt=rtt(1.0)), measured(1, age_ms=1500, rtt=rtt(1.0)))
    composition = composed(("rtt",), records, waited_ms=250)
    assert composition.composed["rtt"].oldest_age_s == 1.75
    assert composition.segments[0].measured_at == "2026-01-01T11:59:59.800Z"


def test_a_number_that_is_not_measured_all_the_time_has_its_own_age() -> None:
    records = (
        measured(0, age_ms=200, capacity=scalar(100, measured_at_ms=NOW_MS - 30_000)),
        measured(1, age_ms=200, capacity=scalar(100, measured_at_ms=NOW_MS + 9000)),  # its clock has stepped back
    )
    assert composed(("capacity",), records[:1], waited_ms=500).composed["capacity"].oldest_age_s == 30.5
    assert composed(("capacity",), records[1:], waited_ms=500).composed["capacity"].oldest_age_s == 0.5


@pytest.mark.parametrize(
    ("age_ms", "max_age_ms", "stale"),
    [(4000, 0, False), (5001, 0, True), (5001, 60_000, False), (60_001, 60_000, True)],
)
def test_what_is_older_than_was_accepted_is_stale_but_never_within_5_s(
    age_ms: int, max_age_ms: int, stale: bool
) -> None:
    records = (measured(0, age_ms=age_ms, rtt=rtt(1.0)),)
    flags = composed(("rtt",), records, max_age_ms=max_age_ms).composed["rtt"].flags
    assert flags == ((Flag.STALE,) if stale else ())


def test_the_sample_count_is_the_smallest() -> None:
    records = (measured(0, loss=loss(0, 600)), measured(1, loss=loss(0, 59)))
    assert composed(("loss",), records).composed["loss"].count == 59


def test_the_method_says_what_made_the_value() -> None:
    methods = {name: metric.method for name, metric in composed(ALL, PATH).composed.items()}
    assert methods == {
        "delay": Method.SUM,
        "loss": Method.COMPLEMENT_PRODUCT,
        "jitter": Method.CUMULANTS,  # 600 samples do not show a quantile of 99.9 %
        "rtt": Method.SUM,
        "distribution": Method.CONVOLUTION,
        "reordering": Method.LISTED,
        "duplication": Method.LISTED,
        "hops": Method.SUM,
        "mtu": Method.MINIMUM,
        "capacity": Method.MINIMUM,
        "utilization": Method.MAXIMUM,
        "available-bandwidth": Method.MINIMUM,
    }


def test_quantiles_of_the_delay_come_from_the_distributions_where_all_segments_give_them() -> None:
    def method_of(*metrics: str, lacking_one: bool = False) -> Method:
        records = [usual(0), lacking(1, "distribution") if lacking_one else usual(1)]
        quantiles = composed(metrics, [only(record, metrics) for record in records]).composed["delay"].quantiles
        assert quantiles is not None
        assert quantiles.p50 < quantiles.p95 < quantiles.p99
        return quantiles.method

    assert method_of("delay") is Method.CUMULANTS
    assert method_of("delay", "distribution") is Method.CONVOLUTION
    assert method_of("delay", "distribution", lacking_one=True) is Method.CUMULANTS


def only(record: SegmentRecord, metrics: Sequence[str]) -> SegmentRecord:
    return replace(record, metrics={name: one for name, one in record.metrics.items() if name in metrics})


def test_a_listed_metric_has_no_value_and_is_whole_all_the_same() -> None:
    composition = composed(("reordering",), PATH)
    assert composition.status is ResultStatus.COMPLETE
    metric = composition.composed["reordering"]
    assert (metric.value, metric.binding_segment, metric.count, metric.flags) == (None, None, 600, ())
    assert composed(("reordering",), (usual(0), lacking(1, "reordering"))).status is ResultStatus.PARTIAL


def test_a_capacity_of_0_is_unknown_and_a_full_link_is_not() -> None:
    def value(name: str) -> float | None:
        records = [replace(measured(0), metrics={name: scalar(one)}) for one in (0.0, 9.0)]
        return composed((name,), records).composed[name].value

    assert value("capacity") is None
    assert value("mtu") is None
    assert value("available-bandwidth") == 0.0


def test_the_least_segment_binds_a_minimum_and_the_greatest_a_maximum() -> None:
    records = (
        measured(0, capacity=scalar(100), utilization=scalar(0.1)),
        measured(1, capacity=scalar(10), utilization=scalar(0.9)),
        measured(2, capacity=scalar(1000), utilization=scalar(0.2)),
    )
    metrics = composed(("capacity", "utilization"), records).composed
    assert metrics["capacity"].binding_segment == metrics["utilization"].binding_segment == segment(1)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Rule.SUM, 0.75),
        (Rule.COMPLEMENT_PRODUCT, 0.625),
        (Rule.MINIMUM, 0.25),
        (Rule.MAXIMUM, 0.5),
        (Rule.LISTED, None),
    ],
)
def test_a_plug_in_composes_by_the_rule_that_it_names(rule: Rule, value: float | None) -> None:
    metric = Metric(name="noise", unit="ratio", statistics=ScalarStatistics, composition=rule, source="test")
    records = (measured(0, noise=scalar(0.25, 0.2, 0.3)), measured(1, noise=scalar(0.5, 0.4, 0.6)))
    composition = composed(("noise",), records, registry=registry_with([metric]))
    noise = composition.composed["noise"]
    assert (noise.value, noise.unit, noise.method) == (value, "ratio", Method(rule))
    assert composition.status is ResultStatus.COMPLETE
    if value is not None:
        assert noise.low is not None and noise.high is not None
        assert noise.low < value < noise.high


def test_a_segment_lists_its_value_and_every_other_statistic_by_name() -> None:
    records = (measured(0, delay=delay(5.0), loss=loss(3)),)
    metrics = composed(("delay", "loss"), records).segments[0].metrics
    assert metrics["loss"] == {
        "value": 0.005,
        "unit": "ratio",
        "count": 600,
        "lost": 3,
        "threshold_ms": 1000,
        "runs": 3,
        "longest_run": 1,
    }
    assert metrics["delay"] == {
        "value": 5.0,
        "unit": "ms",
        "count": 600,
        "minimum_ms": 2.5,
        "variance_ms2": 0.25,
        "third_moment_ms3": 0.1,
        "upstream_clock_error_ms": 0.01,
        "current_clock_error_ms": 0.02,
        "synchronized": True,
    }


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (measured(0, loss=loss(7, sent=6)), "loss of 10.0.0.2: got 7 lost of 6, expected at most all"),
        (
            measured(0, delay=delay(1.0, variance=-1.0)),
            "delay of 10.0.0.2: got variance_ms2 -1.0, expected 0 or more",
        ),
        (
            measured(0, delay=replace(delay(1.0), current_clock_error_ms=-0.5)),
            "delay of 10.0.0.2: got current_clock_error_ms -0.5, expected 0 or more",
        ),
        (replace(usual(0), recorded_at_ms=10**15 - 1), "time: got 999999999999999000 us"),
        (measured(0, hops=scalar(3, 4, 5)), "hops of 10.0.0.2: got 3 between 4 and 5, expected the value within"),
        (measured(0, x=loss(1)), "x of 10.0.0.2: got LossStatistics, expected ScalarStatistics"),
        (measured(0, distribution=replace(queue(1.0), bins="0")), "bins: got 0, expected a count"),
    ],
)
def test_numbers_that_cannot_be_are_refused(record: SegmentRecord, text: str) -> None:
    with pytest.raises(MessageError, match=text):
        composed(tuple(record.metrics), (record,))


@given(messages())
@settings(max_examples=60)
def test_any_consistent_message_composes_or_is_refused(given_message: Message) -> None:
    check_consistency(given_message)
    try:
        composition = composed(given_message.request.metrics, given_message.records, waited_ms=1.0)
    except MessageError:
        return
    assert len(composition.segments) == len(given_message.records)
    for metric in composition.composed.values():
        if metric.value is not None and metric.low is not None and metric.high is not None:
            assert metric.low <= metric.value <= metric.high


segments = st.builds(
    lambda mean, lost, variance, skew: measured(
        0,
        delay=replace(delay(mean, variance=variance), current_clock_error_ms=0.01),
        loss=loss(lost),
        jitter=jitter(variance, skew=skew),
        rtt=rtt(mean),
    ),
    st.floats(0.01, 500),
    st.integers(0, 600),
    st.floats(0.0001, 100),
    st.floats(-1, 5),
)


def chained(records: Sequence[SegmentRecord]) -> list[SegmentRecord]:
    return [
        replace(record, upstream=point(index), current=point(index + 1)) for index, record in enumerate(records)
    ]


@given(st.lists(segments, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_segments_changes_no_value(records: list[SegmentRecord], dice: random.Random) -> None:
    shuffled = list(records)
    dice.shuffle(shuffled)
    forth = composed(BASIC, chained(records)).composed
    back = composed(BASIC, chained(shuffled)).composed
    for name in BASIC:
        assert forth[name].value == back[name].value
        assert forth[name].low == pytest.approx(back[name].low)
        assert forth[name].high == pytest.approx(back[name].high)
        assert forth[name].count == back[name].count


@given(segments)
def test_one_segment_composes_to_itself(record: SegmentRecord) -> None:
    composition = composed(BASIC, chained([record]))
    for name in BASIC:
        assert composition.composed[name].value == pytest.approx(composition.segments[0].metrics[name]["value"])


@given(st.lists(segments, min_size=1, max_size=12))
def test_an_interval_contains_its_value(records: list[SegmentRecord]) -> None:
    for metric in composed(BASIC, chained(records)).composed.values():
        assert metric.value is not None and metric.low is not None and metric.high is not None
        assert metric.low <= metric.value <= metric.high


@given(st.lists(segments, min_size=1, max_size=6), segments)
def test_one_more_segment_never_makes_a_path_better(records: list[SegmentRecord], more: SegmentRecord) -> None:
    before = composed(BASIC, chained(records)).composed
    after = composed(BASIC, chained([*records, more])).composed
    for name in ("delay", "loss", "rtt"):
        small, large = before[name].value, after[name].value
        assert small is not None and large is not None
        assert small <= large + 1e-12


def test_the_records_of_the_examples_are_consistent_messages() -> None:
    check_consistency(message(PATH))
    check_consistency(message((usual(0), lacking(1, "jitter"), pending(2))))
    assert PATH[0].recorded_at_ms == NOW_MS
