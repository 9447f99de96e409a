from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mp.results.plots.segment_bars import NO_SAMPLES, PENDING, UNSUPPORTED, waterfall_of
from mp.results.plots.style import BLUE, write
from mp.results.plots.waterfall import draw_waterfall
from schemas.errors import UsageError
from schemas.result import PathResult
from tests.mp.results.stored_paths import NAMES, NOW_US, answer, failed
from tests.receiver.paths import composed, delay, lacking, loss, measured, pending, result, usual

ANSWER = answer(1, NOW_US, delay_ms=5.0, lost=6)
PARTIAL = result((usual(0), pending(1), lacking(2, "delay"), measured(3, delay=delay(0.0, count=0)), usual(4)))


def axes_of(answered: PathResult, metric: str = "delay") -> Axes:
    figure = draw_waterfall(waterfall_of(answered, metric), NAMES)
    write(figure, BytesIO(), "png")
    (axes,) = figure.axes
    return axes


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for container in axes.containers for patch in container if isinstance(patch, Rectangle)]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def of_delays(*means_ms: float, synchronized: bool = True, error_ms: float = 0.01) -> PathResult:
    statistics = [
        replace(delay(mean, synchronized=synchronized), upstream_clock_error_ms=error_ms) for mean in means_ms
    ]
    records = [measured(index, delay=one, loss=loss(0)) for index, one in enumerate(statistics)]
    whole = composed(("delay", "loss"), records)
    return replace(
        ANSWER, segments=whole.segments, composed=whole.composed, status=whole.status, warnings=whole.warnings
    )


def test_bars_follow_each_other_and_end_at_the_value_of_the_path() -> None:
    waterfall = waterfall_of(ANSWER, "delay")
    assert [(bar.start, bar.value) for bar in waterfall.bars] == [(0.0, 5.0), (5.0, 10.0)]
    assert [bar.share for bar in waterfall.bars] == pytest.approx([1 / 3, 2 / 3])
    assert [bar.loss_ratio for bar in waterfall.bars] == [0.01, 0.0]
    assert waterfall.known == waterfall.whole.value == 15.0


def test_a_segment_has_the_interval_of_a_path_of_its_own() -> None:
    alone = of_delays(5.0)
    (bar,) = waterfall_of(alone, "delay").bars
    assert (bar.low, bar.high) == pytest.approx((alone.composed["delay"].low, alone.composed["delay"].high))
    for metric in ("rtt", "hops"):
        whole = result((usual(0),))
        (bar,) = waterfall_of(whole, metric).bars
        assert (bar.low, bar.high) == pytest.approx((whole.composed[metric].low, whole.composed[metric].high))


def test_what_is_missing_says_why() -> None:
    bars_of = waterfall_of(PARTIAL, "delay").bars
    assert [bar.missing for bar in bars_of] == ["", PENDING, UNSUPPORTED, NO_SAMPLES, ""]
    assert [bar.start for bar in bars_of] == [0.0, 5.0, 5.0, 5.0, 5.0]
    assert {bar.share for bar in bars_of} == {None}


def test_statistics_of_another_version_give_no_interval() -> None:
    segments = tuple(
        replace(segment, metrics={"delay": {"value": 5.0, "unit": "ms", "count": 3}})
        for segment in ANSWER.segments
    )
    assert {bar.low for bar in waterfall_of(replace(ANSWER, segments=segments), "delay").bars} == {None}


@pytest.mark.parametrize(
    ("answered", "metric", "said"),
    [
        (failed(1, NOW_US), "delay", "an answer with segments; this one is failed"),
        (ANSWER, "rtt", "one of the answer that segments add up to: delay"),
        (ANSWER, "loss", "one of the answer that segments add up to: delay"),
    ],
)
def test_what_cannot_be_drawn_is_refused(answered: PathResult, metric: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        waterfall_of(answered, metric)


def test_the_picture_has_a_bar_for_each_segment_and_one_for_the_path() -> None:
    axes = axes_of(ANSWER)
    assert [(bar.get_x(), bar.get_width()) for bar in bars(axes)] == [(0.0, 5.0), (5.0, 10.0), (0.0, 15.0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "border-1 → core-1",
        "core-1 → 10.0.0.3",
        "whole path",
    ]
    assert [bar.get_facecolor() for bar in bars(axes)].index(
        Rectangle((0, 0), 1, 1, color=BLUE).get_facecolor()
    ) == 1
    assert axes.get_xlabel() == "one-way delay along the path, ms"
    assert axes.get_xlim()[1] > 15.0


def test_the_numbers_stand_beside_the_bars() -> None:
    said = texts(axes_of(ANSWER))
    whole = ANSWER.composed["delay"]
    for text in (
        "5.000",
        "33 %",
        "1.00",
        "10.000",
        "67 %",
        "0.00",
        "15.000",
        f"{whole.low:.3f} .. {whole.high:.3f}",
    ):
        assert text in said
    assert any("p50 / p95 / p99" in text for text in said)
    assert "One-way delay by segment  border-1 → border-2" in said
    assert f"complete, asked at 2026-01-01 12:00:00 UTC, request {ANSWER.id}" in said


def test_missing_segments_are_hatched_and_the_path_is_not_made_up() -> None:
    axes = axes_of(PARTIAL)
    assert [bool(bar.get_hatch()) for bar in bars(axes)] == [False, True, True, True, False, True]
    said = texts(axes)
    for text in (PENDING, UNSUPPORTED, NO_SAMPLES, "not known as a whole"):
        assert text in said
    assert any("Flags: partial" in text for text in said)


def test_a_pending_last_segment_is_inside_the_picture() -> None:
    axes = axes_of(result((usual(0), pending(1))))
    assert all(bar.get_x() + bar.get_width() <= axes.get_xlim()[1] for bar in bars(axes))


def test_nothing_measured_at_all_is_a_picture_too() -> None:
    axes = axes_of(result((pending(0), pending(1))))
    assert len(bars(axes)) == 3


def test_clocks_that_disagree_neither_flatten_the_bars_nor_make_shares() -> None:
    axes = axes_of(of_delays(-2.0, 12.0, synchronized=False, error_ms=16_000.0))
    left, right = axes.get_xlim()
    assert -10 < left <= -2 and 10 <= right < 20
    assert [(bar.get_x(), bar.get_width()) for bar in bars(axes)] == [(0.0, -2.0), (-2.0, 12.0), (0.0, 10.0)]
    assert any("Flags: unsynchronized" in text for text in texts(axes))


def test_a_long_path_with_long_names_stays_readable() -> None:
    long = of_delays(*(1.0 for _ in range(60)))
    names = {f"10.0.0.{index}": f"{'very-' * 11}long-{index}" for index in range(1, 62)}
    figure = draw_waterfall(waterfall_of(long, "delay"), names)
    target = BytesIO()
    write(figure, target, "svg")
    assert figure.get_figheight() > 60 * 0.3
    assert all(len(label.get_text()) < 60 for label in figure.axes[0].get_yticklabels())
