from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.plugins.schedule import PluginSchedule, Turn


def schedule(**intervals_s: float) -> PluginSchedule:
    return PluginSchedule(intervals_s, random_source=random.Random(1))


def starts(plugins: PluginSchedule, *, until_s: float, takes_s: float = 0.0) -> list[tuple[float, Turn]]:
    """When each turn begins; each takes the same time and succeeds."""
    begun: list[tuple[float, Turn]] = []
    running: list[tuple[float, Turn]] = []
    now_s = 0.0
    while now_s < until_s:
        for ends_at_s, turn in [one for one in running if one[0] <= now_s]:
            running.remove((ends_at_s, turn))
            plugins.succeeded(turn, now_s)
        for turn in plugins.begin(now_s):
            begun.append((now_s, turn))
            running.append((now_s + takes_s, turn))
        now_s += 0.1
    return begun


def test_each_segment_is_measured_soon_and_then_once_an_interval() -> None:
    plugins = schedule(a=60)
    plugins.keep(["1", "2"], 0.0)
    begun = starts(plugins, until_s=1200)
    for peer in ("1", "2"):
        times_s = [at_s for at_s, turn in begun if turn.peer == peer]
        assert times_s[0] <= 10.2
        gaps_s = [after - before for before, after in zip(times_s, times_s[1:], strict=False)]
        assert min(gaps_s) >= 44.9
        assert max(gaps_s) <= 75.3
        assert sum(gaps_s) / len(gaps_s) == pytest.approx(60, rel=0.1)


def test_a_short_interval_is_not_stretched_at_the_start() -> None:
    plugins = schedule(a=2)
    plugins.keep(["1"], 0.0)
    assert starts(plugins, until_s=3)[0][0] <= 2.1


def test_many_segments_do_not_start_together() -> None:
    plugins = schedule(a=60)
    plugins.keep([str(number) for number in range(30)], 0.0)
    later = [at_s for at_s, _ in starts(plugins, until_s=900) if at_s > 600]
    assert 120 <= len(later) <= 180
    per_10_s = [sum(1 for at_s in later if begin <= at_s < begin + 10) for begin in range(600, 900, 10)]
    assert max(per_10_s) <= 3 * 5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.floats(0.1, 30))
def test_a_plug_in_has_one_turn_at_a_time_and_all_together_two(count: int, peers: int, takes_s: float) -> None:
    plugins = schedule(**{f"p{number}": 10.0 for number in range(count)})
    plugins.keep([str(number) for number in range(peers)], 0.0)
    begun = starts(plugins, until_s=60, takes_s=takes_s)
    assert begun
    for at_s, turn in begun:
        running = [other for began_s, other in begun if began_s <= at_s < began_s + takes_s - 0.1]
        assert len(running) <= 2
        assert sum(1 for other in running if other.metric == turn.metric) <= 1


def test_when_there_is_more_to_do_than_time_everybody_still_has_a_turn() -> None:
    plugins = schedule(a=10, b=10, c=10)
    plugins.keep([str(number) for number in range(5)], 0.0)
    begun = [turn for _, turn in starts(plugins, until_s=200, takes_s=10)]
    assert len(begun) <= 2 * 21
    counts = [begun.count(turn) for turn in set(begun)]
    assert len(counts) == 15
    assert max(counts) - min(counts) <= 2


def one_turn() -> tuple[PluginSchedule, Turn]:
    plugins = schedule(a=10)
    plugins.keep(["1"], 0.0)
    assert plugins.begin(10.0) == (Turn("a", "1"),)
    return plugins, Turn("a", "1")


def test_a_value_is_withdrawn_once_after_three_intervals() -> None:
    plugins, turn = one_turn()
    assert plugins.succeeded(turn, 11.0)
    assert plugins.withdrawn(41.0) == ()
    assert plugins.withdrawn(41.1) == (turn,)
    assert plugins.withdrawn(50.0) == ()


def test_a_value_is_withdrawn_after_three_failures_in_a_row() -> None:
    plugins, turn = one_turn()
    plugins.succeeded(turn, 11.0)
    assert [plugins.failed(turn), plugins.failed(turn)] == [1, 2]
    assert plugins.withdrawn(12.0) == ()
    assert plugins.failed(turn) == 3
    assert plugins.withdrawn(12.0) == (turn,)


def test_a_success_between_failures_starts_the_count_again() -> None:
    plugins, turn = one_turn()
    plugins.failed(turn)
    plugins.failed(turn)
    plugins.succeeded(turn, 11.0)
    assert plugins.failed(turn) == 1
    assert plugins.withdrawn(12.0) == ()


def test_failures_without_a_value_withdraw_nothing() -> None:
    plugins, turn = one_turn()
    for _ in range(5):
        plugins.failed(turn)
    assert plugins.withdrawn(1000.0) == ()


def test_a_segment_that_is_gone_takes_its_value_along_and_has_no_turn_any_more() -> None:
    plugins, turn = one_turn()
    plugins.succeeded(turn, 11.0)
    plugins.keep([], 12.0)
    assert plugins.withdrawn(12.0) == (turn,)
    assert plugins.withdrawn(12.0) == ()
    assert plugins.begin(1000.0) == ()


def test_what_comes_for_a_segment_that_is_gone_is_not_wanted() -> None:
    plugins, turn = one_turn()
    plugins.keep([], 12.0)
    assert not plugins.succeeded(turn, 13.0)
    assert plugins.failed(turn) == 0


def test_a_segment_that_comes_back_waits_for_the_measurement_that_still_runs() -> None:
    plugins, turn = one_turn()
    plugins.keep([], 12.0)
    plugins.keep(["1"], 13.0)
    assert plugins.begin(100.0) == ()
    assert plugins.succeeded(turn, 101.0)
    assert plugins.begin(101.0) == (turn,)


def test_a_new_value_of_a_segment_that_came_back_is_not_withdrawn_for_the_old_one() -> None:
    plugins, turn = one_turn()
    plugins.succeeded(turn, 11.0)
    plugins.keep([], 12.0)
    plugins.keep(["1"], 12.0)
    assert plugins.begin(30.0) == (turn,)
    plugins.succeeded(turn, 31.0)
    assert plugins.withdrawn(31.0) == ()
