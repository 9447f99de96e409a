from __future__ import annotations

import pytest

from mp.flood_watch import FLOOD_SHARE, NAP_MS, PAUSE_MS, FloodWatch

RATE_PER_S, BURST = 1000, 200
TURN_MS = 5


def looks(per_s: float, *, watch: FloodWatch, seconds: float, at_once: int = 0, begin_ms: int = 0) -> list[bool]:
    """Of each turn, while so many packets a second come to the pipeline, and some at the beginning."""
    turns = range(0, round(seconds * 1000), TURN_MS)
    return [watch.look(begin_ms + now_ms, at_once + round(now_ms * per_s / 1000)) for now_ms in turns]


def test_what_uses_up_the_rule_is_a_flood_as_long_as_it_lasts_and_a_moment_longer() -> None:
    watch = FloodWatch(RATE_PER_S, BURST)
    during = looks(RATE_PER_S, watch=watch, seconds=5, at_once=BURST)
    assert during.index(True) * TURN_MS <= 50
    assert all(during[during.index(True) :])
    handled = BURST + 5 * RATE_PER_S
    after = [watch.look(5000 + now_ms, handled) for now_ms in range(0, 1000, TURN_MS)]
    assert after[0]
    assert after.index(False) * TURN_MS <= 1000 * BURST / (FLOOD_SHARE * RATE_PER_S) + 50
    assert not any(after[after.index(False) :])


def test_a_flood_without_a_burst_before_it_is_found_too() -> None:
    assert looks(RATE_PER_S, watch=FloodWatch(RATE_PER_S, BURST), seconds=3)[-1]


def test_a_short_look_now_and_then_is_enough_to_tell_whether_a_flood_goes_on() -> None:
    """Of a clock that stands still between the looks."""
    watch = FloodWatch(RATE_PER_S, BURST)
    looks(RATE_PER_S, watch=watch, seconds=2, at_once=BURST)
    now_ms, handled = 2000, watch.handled
    for _ in range(50):
        now_ms, handled = now_ms + NAP_MS, handled + round(NAP_MS * RATE_PER_S / 1000)
        assert watch.look(now_ms, handled)
    after = [watch.look(now_ms + NAP_MS * (number + 1), handled) for number in range(50)]
    assert after.index(False) * (NAP_MS + PAUSE_MS) < 2000
    assert not any(after[after.index(False) :])


@pytest.mark.parametrize("per_s", [0, 10, 0.97 * FLOOD_SHARE * RATE_PER_S])
@pytest.mark.parametrize("at_once", [0, BURST])
def test_less_is_none_and_nor_is_what_the_rule_lets_through_at_once(per_s: float, at_once: int) -> None:
    assert not any(looks(per_s, watch=FloodWatch(RATE_PER_S, BURST), seconds=10, at_once=at_once))


def test_what_comes_at_once_after_a_pause_counts_in_full() -> None:
    watch = FloodWatch(RATE_PER_S, BURST)
    assert not watch.look(0, 0)
    assert not watch.look(10_000, BURST)
    assert watch.look(10_040, BURST + 40)
    assert watch.look(10_080, BURST + 80)
    assert not watch.look(60_000, BURST + 80)
    assert watch.look(90_000, 2 * BURST + 81)
