from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from mp.result_view import interval_text, number_text, result_view
from schemas.authentication import Standing
from schemas.message import Carrier
from schemas.metrics import Composition as Rule
from schemas.metrics import Metric, ScalarStatistics, registry_with
from schemas.result import PathResult, ResultStatus
from tests.receiver.paths import composed, delay, lacking, measured, pending, result, scalar, unanswered, usual

NAMES = {"10.0.0.1": "border-1"}


def shown(value: PathResult, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(result_view(value, NAMES))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def of(answer: PathResult, *metrics: str) -> PathResult:
    """The same answer to a request for less."""
    return replace(
        answer, metrics=metrics, composed={name: answer.composed[name] for name in metrics}, warnings=()
    )


@pytest.mark.parametrize("width", [80, 100])
def test_every_segment_metric_and_interval_is_shown_by_name_and_unit(width: int) -> None:
    answer = result((usual(0), usual(1)))
    text = shown(answer, width)
    assert str(answer.status) in text
    assert answer.id in text
    for metric in answer.composed.values():
        assert number_text(metric.unit, metric.value) in text
        assert interval_text(metric) in text
    assert max(map(len, text.splitlines())) <= width
    assert "Mbit/s" in text and "octets" in text
    assert NAMES.get(answer.source, answer.source) in text


def test_few_metrics_are_columns_of_the_segments() -> None:
    text = shown(of(result((usual(0), usual(1))), "delay", "loss"))
    assert "delay ms" in text
    assert "loss %" in text


def test_a_value_says_how_it_came_about_and_which_segment_binds_it() -> None:
    (line,) = [
        line for line in shown(result((usual(0), usual(1)))).splitlines() if "sum" in line and "delay" in line
    ]
    assert line.split()[-2:] == ["#2", "sum"]


def test_quantiles_of_the_delay_are_one_line_with_their_method() -> None:
    answer = result((usual(0), usual(1)))
    quantiles = answer.composed["delay"].quantiles
    assert quantiles is not None
    wanted = f"p50 / p95 / p99 = {quantiles.p50:.3f} / {quantiles.p95:.3f} / {quantiles.p99:.3f} ms (convolution)"
    assert wanted in shown(answer)


def test_flags_are_shown_where_there_are_any() -> None:
    assert "partial" not in shown(result((usual(0), usual(1))))
    text = shown(result((measured(0, delay=delay(1.0, synchronized=False)), pending(1), lacking(2, "loss"))))
    assert "partial" in text and "unsynchronized" in text
    assert "pending" in text and "unsupported" in text


def test_a_plug_in_is_shown_in_its_own_unit() -> None:
    noise = Metric(name="noise", unit="dB", statistics=ScalarStatistics, composition=Rule.MAXIMUM, source="test")
    composition = composed(
        ("noise",), (measured(0, noise=scalar(-61.5, -70.0, -60.0)),), registry=registry_with([noise])
    )
    answer = replace(
        result((usual(0),)),
        metrics=("noise",),
        segments=composition.segments,
        composed=composition.composed,
    )
    text = shown(answer)
    assert "noise dB" in text
    assert "-70 .. -60" in text


def test_ratios_are_read_as_per_cent_and_whole_numbers_as_such() -> None:
    assert number_text("ratio", 0.0125) == "1.25"
    assert number_text("ms", 12.34567) == "12.346"
    assert number_text("ms", 3.0) == "3.000"
    assert number_text("Mbit/s", 1000.0) == "1000"
    assert number_text("Mbit/s", 12345.678) == "12345.7"
    assert number_text("ms", None) == "-"


def test_warnings_are_shown_unless_they_are_the_error_itself() -> None:
    warned = replace(result((usual(0),)), warnings=("watch out",))
    assert "! watch out" in shown(warned)
    failed = replace(unanswered(), status=ResultStatus.FAILED, elapsed_ms=1.0, warnings=("watch out",))
    assert "watch out" not in shown(failed)


def test_the_way_of_the_request_and_who_told_of_a_segment_are_shown_where_they_are_news() -> None:
    plain = result((usual(0), usual(1)))
    assert " by " not in shown(replace(plain, carrier=Carrier.ROUTER_ALERT)).splitlines()[0]
    first, second = plain.segments
    told = replace(plain, carrier=Carrier.UDP, segments=(first, replace(second, told_by="10.0.0.1")))
    text = shown(told)
    assert " by udp" in text.splitlines()[0]
    assert "(told by border-1)" in text


@pytest.mark.parametrize(
    ("standing", "is_shown"), [(Standing.AUTHENTIC, True), (Standing.UNSIGNED, False), (Standing.FORGED, True)]
)
def test_an_answer_says_whether_it_is_authentic_or_forged(standing: Standing, is_shown: bool) -> None:
    headline = shown(replace(result((usual(0),)), authenticity=standing), 200).splitlines()[0]
    assert (f" {standing}" in headline) is is_shown
