from __future__ import annotations

from io import BytesIO

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy import asarray

from mp.results.plots.history import draw_history
from mp.results.plots.path_history import Grain
from mp.results.plots.style import write
from receiver.store.retention import US_PER_DAY
from tests.mp.results.plots.histories import SPAN_MINUTES, at_us, history, route, sample
from tests.mp.results.stored_paths import MINUTE_US, NAMES, NOW_US

EVERY_MINUTE = [sample(minute, 10.0 + minute / 10) for minute in range(SPAN_MINUTES)]
NO_LOSS = [sample(minute, 0.0) for minute in range(SPAN_MINUTES)]
DETOUR = route(20, ("10.0.0.1", "10.0.0.2", "10.9.9.9"), ("10.0.0.1", "10.0.0.7", "10.0.0.8", "10.9.9.9"))


def drawn(figure: Figure) -> Figure:
    write(figure, BytesIO(), "png")
    return figure


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def times(line: Line2D) -> list[float]:
    return [float(one) for one in asarray(line.get_xdata())]


def values(line: Line2D) -> list[float]:
    return [float(one) for one in asarray(line.get_ydata())]


def heights(area: Collection) -> list[float]:
    return [float(one) for one in asarray(area.get_paths()[0].vertices)[:, 1]]


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for container in axes.containers for patch in container if isinstance(patch, Rectangle)]


def test_the_mean_is_a_line_over_the_time_of_the_answers() -> None:
    (axes,) = drawn(draw_history(history(EVERY_MINUTE), NAMES)).axes
    (line,) = axes.get_lines()
    assert values(line) == [one.value for one in EVERY_MINUTE]
    assert times(line) == pytest.approx([one.start_us / US_PER_DAY for one in EVERY_MINUTE], abs=1e-9)
    assert axes.get_ylabel() == "one-way delay, ms"
    assert axes.get_xlabel() == "time (UTC)"
    assert axes.get_xlim() == pytest.approx((at_us(0) / US_PER_DAY, NOW_US / US_PER_DAY), abs=1e-9)
    assert labels(axes) == ["p50 to p95 of the packets", "95 % interval", "mean"]


def test_quantiles_and_interval_are_areas_with_their_ends() -> None:
    (axes,) = draw_history(history(EVERY_MINUTE), NAMES).axes
    band, interval = (heights(collection) for collection in axes.collections)
    assert (min(band), max(band)) == pytest.approx((9.9, 10 + 5.9 + 2.0))
    assert (min(interval), max(interval)) == pytest.approx((9.0, 10 + 5.9 + 1.0))


def test_a_gap_breaks_the_line_and_is_shaded() -> None:
    samples = [one for one in EVERY_MINUTE if not at_us(20) < one.start_us < at_us(30)]
    (axes,) = draw_history(history(samples), NAMES).axes
    assert [len(times(line)) for line in axes.get_lines()] == [21, 30]
    (shade,) = axes.patches
    assert isinstance(shade, Rectangle)
    assert shade.get_x() == pytest.approx(at_us(20) / US_PER_DAY, abs=1e-9)
    assert shade.get_width() == pytest.approx(10 * MINUTE_US / US_PER_DAY, abs=1e-9)
    assert "no data" in labels(axes)


def test_loss_is_bars_in_per_cent_below() -> None:
    losses = [sample(0, 0.0), sample(1, 0.5), sample(2, 0.01)]
    upper, lower = drawn(draw_history(history(EVERY_MINUTE, losses=losses), NAMES)).axes
    assert [bar.get_height() for bar in bars(lower)] == [0.0, 50.0, 1.0]
    assert bars(lower)[1].get_x() == pytest.approx(at_us(1) / US_PER_DAY, abs=1e-9)
    assert lower.get_ylabel() == "loss, %"
    assert lower.get_ylim()[0] == 0.0
    assert upper.get_xlim() == lower.get_xlim()


def test_no_loss_is_said_and_a_loss_that_nobody_asked_for_is_not_drawn() -> None:
    assert "no packet lost" in texts(draw_history(history(EVERY_MINUTE, losses=NO_LOSS), NAMES).axes[1])
    unknown = [sample(minute, None) for minute in range(SPAN_MINUTES)]
    assert len(draw_history(history(EVERY_MINUTE, losses=unknown), NAMES).axes) == 1


def test_a_change_of_the_route_is_marked_numbered_and_told() -> None:
    upper, lower = drawn(draw_history(history(EVERY_MINUTE, losses=NO_LOSS, routes=[DETOUR]), NAMES)).axes
    marks = [line for line in (*upper.get_lines(), *lower.get_lines()) if line.get_label() == "change of route"]
    assert [times(line)[0] for line in marks] == pytest.approx([at_us(20) / US_PER_DAY] * 2, abs=1e-9)
    assert "1" in texts(upper)
    assert "1   2026-01-01 11:20:00   via 10.0.0.7, 10.0.0.8 instead of core-1" in texts(lower)


def test_routes_that_only_grow_or_shrink_are_told_so() -> None:
    routes = [route(10, "af", "abf"), route(40, "abf", "af"), route(50, "af", "abcdef")]
    (axes,) = draw_history(history(EVERY_MINUTE, routes=routes), {}).axes
    told = "\n".join(texts(axes))
    assert "now also via b" in told and "no longer via b" in told
    assert "now also via b, c, d, e" in told


def test_changes_close_together_share_a_number_and_many_are_counted() -> None:
    routes = [route(20 + index / 10, "abc", "adc") for index in range(9)]
    (axes,) = draw_history(history(EVERY_MINUTE, routes=routes), {}).axes
    assert "1-9" in texts(axes)
    assert any("and 3 more changes of the route" in text for text in texts(axes))


def test_a_ratio_is_drawn_in_per_cent() -> None:
    samples = [sample(minute, 0.25, width=0.01) for minute in range(SPAN_MINUTES)]
    (axes,) = draw_history(history(samples, metric="loss", unit="ratio"), NAMES).axes
    assert set(values(axes.get_lines()[0])) == {25.0}
    assert axes.get_ylabel() == "loss, %"


def test_roll_ups_are_stairs_and_say_what_they_are() -> None:
    samples = [sample(minute, duration_us=MINUTE_US) for minute in range(SPAN_MINUTES)]
    (axes,) = drawn(draw_history(history(samples, grain=Grain.MINUTE), NAMES)).axes
    (line,) = axes.get_lines()
    assert line.get_drawstyle() == "steps-post"
    assert times(line)[-1] == pytest.approx(NOW_US / US_PER_DAY, abs=1e-9)
    assert labels(axes) == ["p50 to p95 of the answers", "lowest to highest answer", "mean of a minute's answers"]
    assert any("by minute" in text for text in texts(axes))


def test_one_answer_alone_is_a_dot() -> None:
    (axes,) = drawn(draw_history(history([sample(30)]), NAMES)).axes
    assert axes.get_lines()[0].get_marker() == "o"
    assert len(axes.collections) == 2


def test_the_picture_says_of_what_it_is_and_what_it_leaves_out() -> None:
    wide = [sample(minute, width=500.0) for minute in range(SPAN_MINUTES)]
    (axes,) = draw_history(history(wide, is_cut=True), NAMES).axes
    title, subtitle = texts(axes)
    assert title == "One-way delay  border-1 → border-2"
    assert subtitle.startswith("2026-01-01 11:00:00 to 2026-01-01 12:00:00 UTC, each answer; the newest 60 only")
    assert subtitle.endswith("95 % interval leaves the picture")
