from __future__ import annotations

from dataclasses import replace

import pytest

from receiver.closure import METRICS_COMPARED, STAMP_ERROR_MS, compare, verdict_of
from schemas.closure import ClosureCheck, ClosureVerdict
from schemas.errors import MessageError
from schemas.message import SegmentRecord
from tests.receiver.paths import delay, loss, measured, rtt, usual

PATH = (usual(0), usual(1), usual(2))


def direct(*, mean_ms: float = 18.0, lost: int = 3) -> SegmentRecord:
    """The path of three `usual` segments, measured as one: 5 + 6 + 7 ms, and 0 + 1 + 2 of 600 lost."""
    whole = measured(0, delay=delay(mean_ms, variance=0.75), loss=loss(lost), rtt=rtt(33.0))
    return replace(whole, current=PATH[-1].current)


def test_a_path_that_is_the_sum_of_its_segments_agrees() -> None:
    metrics = compare(direct(), PATH)
    assert list(metrics) == list(METRICS_COMPARED)
    assert metrics["delay"].agrees is metrics["loss"].agrees is metrics["rtt"].agrees is True
    assert metrics["delay"].difference.value == pytest.approx(0.0, abs=1e-9)
    assert metrics["jitter"].agrees is None  # the direct record has none
    assert verdict_of(metrics) is ClosureVerdict.AGREES


@pytest.mark.parametrize(
    ("whole", "culprit"), [(direct(mean_ms=25.0), "delay"), (direct(lost=120), "loss")], ids=["delay", "loss"]
)
def test_what_the_segments_do_not_hold_is_found(whole: SegmentRecord, culprit: str) -> None:
    metrics = compare(whole, PATH)
    assert metrics[culprit].agrees is False
    assert verdict_of(metrics) is ClosureVerdict.DIFFERS


def test_the_clocks_of_the_ends_are_the_same_for_both_and_widen_nothing() -> None:
    def with_clocks(one: SegmentRecord, error_ms: float) -> SegmentRecord:
        measured = replace(
            delay(one.metrics["delay"].mean_ms, variance=0.25),  # type: ignore[union-attr]
            upstream_clock_error_ms=error_ms,
            current_clock_error_ms=error_ms,
        )
        return replace(one, metrics={**one.metrics, "delay": measured})

    exact = compare(with_clocks(direct(), 0.0), [with_clocks(one, 0.0) for one in PATH])["delay"].difference
    loose = compare(with_clocks(direct(), 9.0), [with_clocks(one, 9.0) for one in PATH])["delay"].difference
    assert loose == exact


def test_what_time_stamps_may_be_off_is_no_difference() -> None:
    constant = [measured(index, delay=delay(5.0, variance=0.0), loss=loss(0), rtt=rtt(10.0)) for index in range(2)]
    tolerance_ms = 6 * STAMP_ERROR_MS
    for off_ms, agrees in ((0.9 * tolerance_ms, True), (1.1 * tolerance_ms, False)):
        whole = replace(measured(0, delay=delay(10.0 + off_ms, variance=0.0)), current=constant[-1].current)
        assert compare(whole, constant)["delay"].agrees is agrees


def test_without_any_value_the_verdict_is_unknown() -> None:
    assert verdict_of(compare(replace(direct(), metrics={}), PATH)) is ClosureVerdict.UNKNOWN


def test_a_check_survives_json() -> None:
    metrics = compare(direct(), PATH)
    check = ClosureCheck(
        id="1" * 32,
        request_id="2" * 32,
        source="10.0.0.1",
        destination="10.0.0.4",
        checked_at="2026-01-01T12:00:00.000001Z",
        duration_s=10.0,
        verdict=verdict_of(metrics),
        metrics=metrics,
        warnings=("one",),
    )
    assert ClosureCheck.from_json(check.to_json()) == check
    for key in check.to_json():
        document = check.to_json()
        del document[key]
        with pytest.raises(MessageError, match="closure check"):
            ClosureCheck.from_json(document)
