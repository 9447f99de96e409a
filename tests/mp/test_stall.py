from __future__ import annotations

import pytest

from mp.stall import StallWatch


def test_a_turn_that_takes_too_long_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = StallWatch("the service", 1500)
    for now_ms in (10, 1010, 2510, 6600, 7600):
        watch.look(now_ms)
    assert caplog.messages == ["the service did not run for 4.1 s"]
    assert watch.stalls == 1
