from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.composition import compose
from schemas.errors import MessageError
from schemas.message import Message, SegmentRecord, check_consistency
from schemas.result import ResultStatus
from tests.messages import messages
from tests.receiver.paths import (
    ALL,
    NOW_MS,
    delay,
    jitter,
    lacking,
    loss,
    measured,
    message,
    pending,
    point,
    rtt,
    usual,
)

PATH = (usual(0), usual(1), usual(2))


def segment(index: int) -> tuple[str, str]:
    return point(index), point(index + 1)


def test_a_path_of_measured_segments_has_every_metric() -> None:
    composition = compose(ALL, PATH, waited_ms=0)
    assert composition.status is ResultStatus.COMPLETE
    assert composition.warnings == ()
    assert composition.composed["delay"].value == 5 + 6 + 7
    assert composition.composed["rtt"].value == 10 + 11 + 12
    assert composition.composed["loss"].value == pytest.approx(1 - (599 / 600) * (598 / 600))
    assert {name: metric.unit for name, metric in composition.composed.items()} == {
        "delay": "ms",
        "loss": "ratio",
        "jitter": "ms",
        "rtt": "ms",
    }


def test_only_the_metrics_that_were_asked_for_are_composed_in_their_order() -> None:
    composition = compose(("rtt", "delay"), PATH, waited_ms=0)
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
        metric = compose(("delay",), records, waited_ms=0).composed["delay"]
        assert metric.low is not None and metric.high is not None
        assert metric.high - 3.0 == pytest.approx(3.0 - metric.low)
        return metric.high - 3.0

    assert with_errors(0.5, 0.0, 0.25) == pytest.approx(0.75)
    assert with_errors(0.5, 9.0, 0.25) == pytest.approx(0.75)


def test_the_round_trip_time_needs_no_clock() -> None:
    records = (measured(0, rtt=rtt(3.0, count=10**6)), measured(1, rtt=rtt(4.0, count=10**6)))
    metric = compose(("rtt",), records, waited_ms=0).composed["rtt"]
    assert metric.high == pytest.approx(7 + 1.96 * (1 / 10**6) ** 0.5, abs=1e-6)


def test_an_unsynchronized_segment_is_named_in_a_warning() -> None:
    records = (measured(0, delay=delay(1.0)), measured(1, delay=delay(2.0, synchronized=False)))
    (warning,) = compose(("delay",), records, waited_ms=0).warnings
    assert "10.0.0.2 -> 10.0.0.3" in warning
    assert "10.0.0.1 ->" not in warning
    assert "not synchronized" in warning


def test_a_pending_segment_leaves_the_whole_path_undefined_and_is_named() -> None:
    composition = compose(ALL, (usual(0), pending(1), usual(2)), waited_ms=0)
    assert composition.status is ResultStatus.PARTIAL
    assert composition.warnings == ("segment 10.0.0.2 -> 10.0.0.3 is not measured yet; ask again in a moment",)
    for metric in composition.composed.values():
        assert (metric.value, metric.low, metric.high, metric.count) == (None, None, None, 0)
        assert metric.binding_segment == segment(1)
    assert composition.segments[1].measured_at is None
    assert composition.segments[1].metrics == {}


def test_a_metric_that_one_segment_cannot_give_is_undefined_and_the_others_are_not() -> None:
    composition = compose(ALL, (usual(0), lacking(1, "jitter")), waited_ms=0)
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
    composition = compose(ALL, records, waited_ms=0)
    assert composition.composed["loss"].value == 1.0
    assert composition.composed["delay"].value is None
    assert composition.warnings == ("segment 10.0.0.2 -> 10.0.0.3 has no sample of delay",)
    assert composition.segments[1].metrics["delay"]["value"] is None


def test_no_records_give_no_value_and_say_so() -> None:
    composition = compose(("delay",), (), waited_ms=0)
    assert composition.status is ResultStatus.PARTIAL
    assert composition.warnings == ("no segment was reported",)
    metric = composition.composed["delay"]
    assert (metric.value, metric.count, metric.binding_segment, metric.oldest_age_s) == (None, 0, None, None)


def test_the_binding_segment_has_the_largest_mean_loss_or_variance() -> None:
    records = (
        measured(0, delay=delay(9.0), loss=loss(1), jitter=jitter(1.0, pdv_ms=50.0), rtt=rtt(1.0)),
        measured(1, delay=delay(1.0), loss=loss(5, sent=5000), jitter=jitter(4.0, pdv_ms=3.0), rtt=rtt(3.0)),
    )
    composed = compose(ALL, records, waited_ms=0).composed
    assert {name: metric.binding_segment for name, metric in composed.items()} == {
        "delay": segment(0),
        "loss": segment(0),
        "jitter": segment(1),
        "rtt": segment(1),
    }


def test_the_age_is_that_of_the_oldest_segment_and_of_the_wait() -> None:
    records = (measured(0, age_ms=200, rtt=rtt(1.0)), measured(1, age_ms=1500, rtt=rtt(1.0)))
    composition = compose(("rtt",), records, waited_ms=250)
    assert composition.composed["rtt"].oldest_age_s == 1.75
    assert composition.segments[0].measured_at == "2026-01-01T11:59:59.800Z"


def test_the_sample_count_is_the_smallest() -> None:
    records = (measured(0, loss=loss(0, 600)), measured(1, loss=loss(0, 59)))
    assert compose(("loss",), records, waited_ms=0).composed["loss"].count == 59


def test_a_segment_lists_its_value_and_every_other_statistic_by_name() -> None:
    records = (measured(0, delay=delay(5.0), loss=loss(3)),)
    metrics = compose(("delay", "loss"), records, waited_ms=0).segments[0].metrics
    assert metrics["loss"] == {"value": 0.005, "unit": "ratio", "count": 600, "lost": 3, "threshold_ms": 1000}
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
    ],
)
def test_numbers_that_cannot_be_are_refused(record: SegmentRecord, text: str) -> None:
    with pytest.raises(MessageError, match=text):
        compose(tuple(record.metrics), (record,), waited_ms=0)


@given(messages())
@settings(max_examples=60)
def test_any_consistent_message_composes_or_is_refused(given_message: Message) -> None:
    check_consistency(given_message)
    try:
        composition = compose(given_message.request.metrics, given_message.records, waited_ms=1.0)
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
    forth = compose(ALL, chained(records), waited_ms=0).composed
    back = compose(ALL, chained(shuffled), waited_ms=0).composed
    for name in ALL:
        assert forth[name].value == back[name].value
        assert forth[name].low == pytest.approx(back[name].low)
        assert forth[name].high == pytest.approx(back[name].high)
        assert forth[name].count == back[name].count


@given(segments)
def test_one_segment_composes_to_itself(record: SegmentRecord) -> None:
    composition = compose(ALL, chained([record]), waited_ms=0)
    for name in ALL:
        assert composition.composed[name].value == pytest.approx(composition.segments[0].metrics[name]["value"])


@given(st.lists(segments, min_size=1, max_size=12))
def test_an_interval_contains_its_value(records: list[SegmentRecord]) -> None:
    for metric in compose(ALL, chained(records), waited_ms=0).composed.values():
        assert metric.value is not None and metric.low is not None and metric.high is not None
        assert metric.low <= metric.value <= metric.high


@given(st.lists(segments, min_size=1, max_size=6), segments)
def test_one_more_segment_never_makes_a_path_better(records: list[SegmentRecord], more: SegmentRecord) -> None:
    before = compose(ALL, chained(records), waited_ms=0).composed
    after = compose(ALL, chained([*records, more]), waited_ms=0).composed
    for name in ("delay", "loss", "rtt"):
        small, large = before[name].value, after[name].value
        assert small is not None and large is not None
        assert small <= large + 1e-12


def test_the_records_of_the_examples_are_consistent_messages() -> None:
    check_consistency(message(PATH))
    check_consistency(message((usual(0), lacking(1, "jitter"), pending(2))))
    assert PATH[0].recorded_at_ms == NOW_MS
