from __future__ import annotations

from mp import clock


def test_what_the_operator_vouches_for_is_believed() -> None:
    state = clock.read_clock(0.02)
    assert (state.synchronized, state.error_ms) == (True, 0.02)


def test_the_kernels_word_is_within_the_bounds_that_we_set() -> None:
    state = clock.read_clock(None)
    if state.synchronized:
        assert clock.FLOOR_ERROR_MS <= state.error_ms <= clock.MAX_ERROR_MS
    else:
        assert state.error_ms == clock.MAX_ERROR_MS
