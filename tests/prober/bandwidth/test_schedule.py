from __future__ import annotations

from prober.bandwidth.schedule import BandwidthSchedule

S = 10**9
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def schedule(*upstreams: str) -> BandwidthSchedule:
    made = BandwidthSchedule(interval_s=600, demand_interval_s=60)
    made.set_upstreams(frozenset(upstreams))
    return made


def test_segments_take_turns_and_never_run_together() -> None:
    plan = schedule(A, B)
    assert plan.start(0) == A
    assert plan.start(0) is None
    plan.finish(10 * S, is_told=True)
    assert plan.start(10 * S) == B
    plan.finish(20 * S, is_told=True)
    assert plan.start(20 * S) is None
    assert plan.start(609 * S) is None
    assert plan.start(610 * S) == A


def test_the_oldest_estimate_is_renewed_first() -> None:
    plan = schedule(A, B, C)
    for at_s in (10, 20, 30):
        plan.start(at_s * S)
        plan.finish(at_s * S, is_told=True)
    plan.set_upstreams(frozenset({B, C}))
    assert plan.start(10_000 * S) == B
    plan.finish(10_010 * S, is_told=True)
    assert plan.start(10_010 * S) == C


def test_a_wish_goes_before_the_turn_and_has_an_interval_of_its_own() -> None:
    plan = schedule(A, B)
    plan.demand(B)
    assert plan.start(0) == B
    plan.finish(10 * S, is_told=True)
    assert plan.start(10 * S) == A
    plan.finish(20 * S, is_told=True)
    plan.demand(B)
    assert plan.start(69 * S) is None
    assert plan.start(70 * S) == B
    plan.finish(80 * S, is_told=True)
    assert plan.start(80 * S) is None


def test_unknown_and_forgotten_segments_are_not_measured() -> None:
    plan = schedule(A)
    plan.demand(B)
    assert plan.start(0) == A
    plan.set_upstreams(frozenset())
    plan.finish(10 * S, is_told=True)
    assert plan.running is None
    assert plan.start(10_000 * S) is None


def test_without_an_interval_only_wishes_are_served() -> None:
    plan = BandwidthSchedule(interval_s=None)
    plan.set_upstreams(frozenset({A}))
    assert plan.start(10_000 * S) is None
    plan.demand(A)
    assert plan.start(10_000 * S) == A
    plan.finish(10_001 * S, is_told=True)
    plan.demand(A)
    assert plan.start(10_002 * S) is None
    assert plan.start(10_100 * S) == A


def test_a_wish_is_tried_again_soon_after_an_estimate_that_gave_nothing() -> None:
    plan = BandwidthSchedule(interval_s=None)
    plan.set_upstreams(frozenset({A}))
    plan.demand(A)
    assert plan.start(0) == A
    plan.finish(14 * S, is_told=False)
    plan.demand(A)
    assert plan.start(20 * S) is None
    assert plan.start(24 * S) == A
    plan.finish(38 * S, is_told=True)
    plan.demand(A)
    assert plan.start(60 * S) is None
    assert plan.start(98 * S) == A
