from __future__ import annotations

from collections.abc import Sequence

import pytest

from mp.results.plots.path_history import OUTER_ROOM, Sample, detour_of, sample_from_answer, value_limits
from tests.mp.results.plots.histories import at_us, history, route, sample
from tests.mp.results.stored_paths import MINUTE_US, NOW_US, answer, failed


def minutes_of(runs: Sequence[Sequence[Sample]]) -> list[list[int]]:
    return [[round((one.start_us - at_us(0)) / MINUTE_US) for one in run] for run in runs]


def test_an_answer_becomes_a_sample_with_interval_and_quantiles() -> None:
    whole = answer(1, NOW_US).composed["delay"]
    assert whole.quantiles is not None
    one = sample_from_answer(answer(1, NOW_US), "delay")
    assert (one.start_us, one.value, one.low, one.high) == (NOW_US, whole.value, whole.low, whole.high)
    assert (one.p50, one.p95) == (whole.quantiles.p50, whole.quantiles.p95)
    assert sample_from_answer(failed(1, NOW_US), "delay").value is None


def test_regular_samples_are_one_run_and_one_lost_answer_is_no_gap() -> None:
    known = history([sample(minute) for minute in (*range(0, 30), *range(31, 60))])
    assert len(known.runs) == 1
    assert known.gaps == []


def test_a_long_silence_is_a_gap_and_so_is_an_answer_without_value() -> None:
    samples = [
        *(sample(m) for m in range(10, 20)),
        *(sample(m) for m in range(30, 40)),
        sample(40, None),
        sample(41),
    ]
    known = history(samples)
    assert minutes_of(known.runs) == [list(range(10, 20)), list(range(30, 40)), [41]]
    assert known.gaps == [
        (at_us(19), at_us(30)),
        (at_us(39), at_us(41)),
        (at_us(0), at_us(10)),
        (at_us(41), NOW_US),
    ]


def test_rare_answers_are_no_gaps() -> None:
    assert len(history([sample(minute) for minute in (5, 20, 36, 50)]).runs) == 1


def test_a_gap_of_periods_begins_where_the_last_one_ends() -> None:
    samples = [sample(minute, duration_us=MINUTE_US) for minute in (*range(0, 20), *range(30, 60))]
    assert history(samples).gaps == [(at_us(20), at_us(30))]


def test_without_a_sample_all_is_a_gap() -> None:
    assert history([]).gaps == [(at_us(0), NOW_US)]


def test_the_axis_follows_values_but_not_intervals_that_would_flatten_them() -> None:
    calm = history([sample(0, 10.0), sample(1, 20.0)])
    least, most = value_limits(calm)
    assert least < 9.0 and most > 22.0
    unsynchronized = history([sample(0, 10.0), sample(1, 20.0, width=16_000.0)])
    least, most = value_limits(unsynchronized)
    taken = 22.0 - 9.9
    assert least == pytest.approx(max(least, 9.9 - (OUTER_ROOM + 0.3) * taken))
    assert 22.0 < most < 22.0 + (OUTER_ROOM + 0.3) * taken


def test_an_axis_of_positive_values_does_not_begin_below_zero() -> None:
    assert value_limits(history([sample(0, 1.0, width=0.0), sample(1, 100.0, width=0.0)]))[0] == 0.0
    assert value_limits(history([sample(0, 0.0, width=0.0), sample(1, 0.0, width=0.0)]))[1] > 0.0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("abcf", "abdef", ("c", "de")),
        ("abc", "abxc", ("", "x")),
        ("abxc", "abc", ("x", "")),
        ("abbc", "abc", ("b", "")),
        ("ac", "ac", ("", "")),
    ],
)
def test_a_detour_is_what_differs_between_the_common_ends(old: str, new: str, expected: tuple[str, str]) -> None:
    assert detour_of(route(1, old, new)) == (tuple(expected[0]), tuple(expected[1]))
