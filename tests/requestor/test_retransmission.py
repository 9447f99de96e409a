from __future__ import annotations

from requestor.retransmission import FIRST_GAP_MS, MAX_COPIES, Retransmission


def schedule(lifetime_ms: int) -> list[int]:
    plan = Retransmission(lifetime_ms=lifetime_ms)
    times = []
    while (due_ms := plan.next_after_ms()) is not None:
        times.append(due_ms)
        plan.sent()
    return times


def test_the_first_copy_leaves_at_once_and_the_gaps_grow() -> None:
    times = schedule(1_000_000)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert times[0] == 0
    assert gaps[0] == FIRST_GAP_MS
    assert gaps == sorted(gaps)
    assert len(times) == MAX_COPIES


def test_nothing_is_sent_after_the_lifetime() -> None:
    assert schedule(FIRST_GAP_MS) == [0]
    assert max(schedule(3000)) < 3000
