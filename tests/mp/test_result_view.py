from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from mp.result_view import number_text, result_view
from schemas.result import PathResult, ResultStatus
from tests.receiver.paths import result, unanswered, usual

NAMES = {"10.0.0.1": "border-1"}


def shown(value: PathResult) -> str:
    console = Console(file=StringIO(), width=100)
    console.print(result_view(value, NAMES))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_segment_metric_and_interval_is_shown_by_name_and_unit() -> None:
    answer = result((usual(0), usual(1)))
    text = shown(answer)
    assert str(answer.status) in text
    assert answer.id in text
    for metric, composed in answer.composed.items():
        assert number_text(metric, composed.value) in text
        assert number_text(metric, composed.low) in text
    assert "delay ms" in text
    assert "loss %" in text
    assert NAMES.get(answer.source, answer.source) in text


def test_ratios_are_read_as_per_cent() -> None:
    assert number_text("loss", 0.0125) == "1.25"
    assert number_text("delay", 12.34567) == "12.346"
    assert number_text("rtt", None) == "-"


def test_warnings_are_shown_unless_they_are_the_error_itself() -> None:
    warned = replace(result((usual(0),)), warnings=("watch out",))
    assert "! watch out" in shown(warned)
    failed = replace(unanswered(), status=ResultStatus.FAILED, elapsed_ms=1.0, warnings=("watch out",))
    assert "watch out" not in shown(failed)
