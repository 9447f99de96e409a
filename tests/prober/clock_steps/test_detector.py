from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.clock_steps.detector import SLOWEST_READ_NS, STEP_NS, ClockStepDetector

MS, S = 1_000_000, 1_000_000_000
WALL_NS, MONOTONIC_NS = 1_700_000_000 * S, 5_000 * S


@pytest.mark.parametrize("step_ns", [2 * MS, -2 * MS, 50 * MS, 3600 * S, -3600 * S])
def test_a_step_is_told_once_with_its_size(step_ns: int) -> None:
    detector = ClockStepDetector()
    found = [
        detector.observe(WALL_NS + n * S // 4 + (step_ns if n >= 5 else 0), MONOTONIC_NS + n * S // 4)
        for n in range(10)
    ]
    assert found == [None] * 5 + [step_ns] + [None] * 4


@given(st.integers(-500, 500), st.lists(st.integers(10 * MS, 3600 * S), max_size=30))
def test_a_clock_that_is_slewed_never_steps(parts_per_million: int, gaps_ns: list[int]) -> None:
    detector = ClockStepDetector()
    elapsed_ns = 0
    for gap_ns in gaps_ns:
        elapsed_ns += gap_ns
        slewed_ns = elapsed_ns * parts_per_million // 1_000_000
        assert detector.observe(WALL_NS + elapsed_ns + slewed_ns, MONOTONIC_NS + elapsed_ns) is None


def test_a_reading_in_which_the_process_was_held_up_is_no_step_and_hides_none() -> None:
    detector = ClockStepDetector()
    assert detector.observe(WALL_NS, MONOTONIC_NS) is None
    assert detector.observe(WALL_NS + S + 30 * MS, MONOTONIC_NS + S, read_took_ns=SLOWEST_READ_NS + 1) is None
    assert detector.observe(WALL_NS + 2 * S, MONOTONIC_NS + 2 * S, read_took_ns=SLOWEST_READ_NS) is None
    late_ns = WALL_NS + 3 * S + 3 * STEP_NS
    assert detector.observe(late_ns, MONOTONIC_NS + 3 * S, read_took_ns=10**9) is None
    assert detector.observe(late_ns + S, MONOTONIC_NS + 4 * S) == 3 * STEP_NS
