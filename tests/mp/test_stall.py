from __future__ import annotations

import pytest

from mp.stall import Silence, StallWatch


def test_a_turn_that_takes_too_long_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = StallWatch("the service", 1500)
    for now_ms in (10, 1010, 2510, 6600, 7600):
        watch.look(now_ms)
    assert caplog.messages == ["the service did not run for 4.1 s"]
    assert watch.stalls == 1


def test_a_silence_grows_until_something_is_heard() -> None:
    silence = Silence(1500)
    silence.heard(10_000)
    assert [silence.look(now_ms) for now_ms in (11_000, 12_000, 13_500)] == [1000, 2000, 3500]
    silence.heard(14_000)
    assert silence.look(14_200) == 200


def test_a_silence_begins_anew_when_nobody_could_listen() -> None:
    silence = Silence(1500)
    silence.heard(10_000)
    assert [silence.look(now_ms) for now_ms in (11_000, 12_501, 13_000)] == [1000, 0, 499]
