from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from prober.discovery import FIRST_RETRY_MS, MAX_DESTINATIONS, Discovery, Hello, NeighborChange

INTERVAL_MS = 60_000
FAR = "10.0.0.9"


def discovery(seed: int = 1) -> Discovery:
    return Discovery(random_source=random.Random(seed), interval_ms=INTERVAL_MS)


def only(hellos: list[Hello]) -> Hello:
    (hello,) = hellos
    return hello


def test_a_new_destination_is_greeted_at_once_and_its_neighbor_is_whoever_answers() -> None:
    one = discovery()
    one.seek(FAR, 0)
    hello = only(one.due(0))
    assert hello.destination == FAR
    assert one.is_waiting(hello.id)
    assert one.answered(hello.id, "10.0.0.2", 5) == NeighborChange(FAR, None, "10.0.0.2")
    assert one.neighbors() == {FAR: "10.0.0.2"}
    assert not one.is_waiting(hello.id)


def test_a_neighbor_that_stays_is_greeted_once_an_interval() -> None:
    one = discovery()
    one.seek(FAR, 0)
    sent = 0
    for now_ms in range(0, 10 * INTERVAL_MS, 100):
        for hello in one.due(now_ms):
            sent += 1
            one.answered(hello.id, "10.0.0.2", now_ms)
    assert 9 <= sent <= 12


def test_a_changed_route_changes_the_neighbor() -> None:
    one = discovery()
    one.seek(FAR, 0)
    one.answered(only(one.due(0)).id, "10.0.0.2", 5)
    again = only(one.due(2 * INTERVAL_MS))
    assert one.answered(again.id, "10.0.0.3", 2 * INTERVAL_MS) == NeighborChange(FAR, "10.0.0.2", "10.0.0.3")


def test_the_same_answer_again_is_no_change() -> None:
    one = discovery()
    one.seek(FAR, 0)
    one.answered(only(one.due(0)).id, "10.0.0.2", 5)
    assert one.answered(only(one.due(2 * INTERVAL_MS)).id, "10.0.0.2", 2 * INTERVAL_MS) is None


def test_a_lost_hello_is_repeated_soon_and_then_ever_later() -> None:
    one = discovery()
    one.seek(FAR, 0)
    times = [now_ms for now_ms in range(0, 10 * INTERVAL_MS, 100) if one.due(now_ms)]
    gaps = [later - sooner for sooner, later in zip(times, times[1:], strict=False)]
    assert 0.8 * FIRST_RETRY_MS <= gaps[0] <= 1.3 * FIRST_RETRY_MS
    assert gaps[1] > gaps[0]
    assert all(gap >= 0.8 * INTERVAL_MS for gap in gaps[6:])


def test_a_late_or_forged_answer_changes_nothing() -> None:
    one = discovery()
    one.seek(FAR, 0)
    first = only(one.due(0))
    second = only(one.due(INTERVAL_MS))
    assert one.answered(first.id, "10.0.0.66", INTERVAL_MS + 1) is None
    assert one.answered("0" * 32, "10.0.0.66", INTERVAL_MS + 1) is None
    assert one.neighbors() == {FAR: None}
    assert one.answered(second.id, "10.0.0.2", INTERVAL_MS + 2) is not None


def test_learned_destinations_give_way_and_configured_ones_stay() -> None:
    one = discovery()
    one.seek("192.0.2.1", 0, configured=True)
    for number in range(2 * MAX_DESTINATIONS):
        one.seek(f"10.0.{number // 256}.{number % 256}", 0)
    assert len(one.neighbors()) == MAX_DESTINATIONS
    assert "192.0.2.1" in one.neighbors()
    assert len(one.due(0)) == MAX_DESTINATIONS


steps_of_a_story = st.tuples(
    st.sampled_from(["seek", "due", "answer", "forge"]), st.integers(0, 9), st.integers(0, 10**5)
)


@given(st.lists(steps_of_a_story))
def test_waiting_hellos_are_never_more_than_destinations(steps: list[tuple[str, int, int]]) -> None:
    one = discovery()
    now_ms = 0
    sent: list[Hello] = []
    for step, number, elapsed_ms in steps:
        now_ms += elapsed_ms
        match step:
            case "seek":
                one.seek(f"10.0.0.{number}", now_ms)
            case "due":
                sent += one.due(now_ms)
            case "answer" if sent:
                one.answered(sent[number % len(sent)].id, f"10.1.0.{number}", now_ms)
            case _:
                one.answered(f"{number:032x}", "10.1.0.1", now_ms)
        waiting = sum(one.is_waiting(hello.id) for hello in sent)
        assert waiting <= len(one.neighbors())


def test_in_doubt_all_are_greeted_at_once_and_told_only_after_they_have_answered() -> None:
    one = discovery()
    one.seek(FAR, 0)
    one.seek("10.0.0.8", 0)
    for hello in one.due(0):
        one.answered(hello.id, "10.0.0.2", 5)
    assert one.due(1_000) == []
    one.doubt(1_000)
    assert one.neighbors() == {FAR: None, "10.0.0.8": None}
    hellos = {hello.destination: hello for hello in one.due(1_000)}
    assert one.answered(hellos[FAR].id, "10.0.0.2", 1_020) is None, "it is the same as before"
    assert one.neighbors() == {FAR: "10.0.0.2", "10.0.0.8": None}
    again = only(one.due(1_000 + 3 * FIRST_RETRY_MS))
    assert again.destination == "10.0.0.8", "what is not answered is soon asked again"
