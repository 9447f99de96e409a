from __future__ import annotations

import random
from dataclasses import replace

from prober.knowledge.advertisement import MAX_LIFETIME_S, Advertisement
from prober.knowledge.origination import DAMPING_MS, Content, Origination
from tests.prober.knowledge.advertisements import record

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
START_MS = 1_700_000_000_000


class Point:
    """Says what it is given, and remembers when."""

    def __init__(self, **options: float) -> None:
        self.origination = Origination(
            A,
            "north",
            first_sequence=START_MS,
            random_source=random.Random(3),
            **options,  # type: ignore[arg-type]
        )
        self.made: list[tuple[int, Advertisement]] = []
        self.area_octets = 0

    def say(self, content: Content, from_ms: int, to_ms: int, *, fresh: bool = False) -> list[int]:
        """Offer it every 100 ms; when it was said."""
        before = len(self.made)
        for now_ms in range(from_ms, to_ms, 100):
            if fresh:
                content = replace(content, segments=(record(B, A, recorded_at_ms=START_MS + now_ms),))
            fragments = self.origination.make(
                content, now_ms=now_ms, created_at_ms=START_MS + now_ms, area_octets=self.area_octets
            )
            self.made += [(now_ms, one) for one in fragments]
        return [now_ms for now_ms, _ in self.made[before:]]


def test_the_first_is_said_at_once_and_begins_with_the_time_of_the_start() -> None:
    point = Point()
    assert point.say(Content(), 0, 200) == [0]
    assert point.made[0][1].sequence == point.made[0][1].revision == START_MS


def test_measured_values_are_said_again_at_the_pace_of_the_refresh() -> None:
    point = Point(refresh_s=15)
    said = point.say(Content(), 0, 120_000, fresh=True)
    pauses = [later - earlier for earlier, later in zip(said, said[1:], strict=False)]
    assert all(12_000 <= pause <= 15_100 for pause in pauses)
    assert len({one.revision for _, one in point.made}) == 1
    assert [one.sequence for _, one in point.made] == list(range(START_MS, START_MS + len(said)))


def test_what_has_not_changed_at_all_is_said_only_to_be_believed_on() -> None:
    point = Point(lifetime_s=60)
    assert point.say(Content(segments=(record(B, A),)), 0, 95_000) == [0, 30_000, 60_000, 90_000]


def test_a_changed_path_is_said_at_once_and_has_a_revision_of_its_own() -> None:
    point = Point()
    point.say(Content(next_points={C: B}), 0, 5_000)
    assert point.say(Content(next_points={C: C}), 5_000, 6_000) == [5_000]
    first, second = (one for _, one in point.made)
    assert (first.revision, second.revision) == (first.sequence, second.sequence)


def test_a_new_segment_is_said_at_once_but_is_no_change_of_paths() -> None:
    point = Point()
    point.say(Content(), 0, 5_000)
    assert point.say(Content(segments=(record(B, A),)), 5_000, 6_000) == [5_000]
    assert point.made[1][1].revision == START_MS


def test_a_path_that_flaps_is_damped_and_its_last_state_is_said() -> None:
    point = Point()
    for now_ms in range(0, 5_000, 200):
        point.say(Content(next_points={C: B if now_ms % 400 else C}), now_ms, now_ms + 100)
    point.say(Content(next_points={C: "192.0.2.9"}), 5_000, 7_000)
    times = [now_ms for now_ms, _ in point.made]
    assert all(later - earlier >= DAMPING_MS for earlier, later in zip(times, times[1:], strict=False))
    assert point.made[-1][1].next_points == {C: "192.0.2.9"}


def test_a_large_area_is_refreshed_less_often_and_believed_longer() -> None:
    point = Point(octets_per_s=1_000)
    point.area_octets = 40_000
    said = point.say(Content(), 0, 150_000, fresh=True)
    assert 48_000 <= said[1] - said[0] <= 60_100
    assert point.made[0][1].lifetime_s == 240
    point.area_octets = 10**9
    point.say(Content(), 200_000, 201_000, fresh=True)
    assert point.made[-1][1].lifetime_s == MAX_LIFETIME_S


def test_a_later_word_of_its_own_is_outdone_soon() -> None:
    point = Point()
    point.say(Content(), 0, 2_000)
    point.origination.jump(START_MS + 10**9)
    assert point.say(Content(), 2_000, 3_000) == [2_000]
    assert point.made[-1][1].sequence == point.made[-1][1].revision == START_MS + 10**9 + 1


def test_the_last_word_takes_all_back() -> None:
    point = Point()
    point.say(Content(next_points={C: B}), 0, 100)
    last = point.origination.withdraw(START_MS + 100)
    assert last.withdrawn
    assert last.sequence == START_MS + 1
    assert not last.next_points
