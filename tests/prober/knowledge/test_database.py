from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from prober.knowledge import database as module
from prober.knowledge.advertisement import Advertisement
from prober.knowledge.database import TRANSIT_MS, Database, Verdict
from prober.knowledge.datagram import Held
from tests.prober.knowledge.advertisements import plain, record

ME, A, B, C = (f"192.0.2.{number}" for number in range(1, 5))
NOW_MS = 1_000_000


@pytest.fixture
def database() -> Database:
    return Database(ME, "")


def take(database: Database, one: Advertisement, *, age_ms: int = 0, now_ms: int = NOW_MS) -> Verdict:
    return database.take(one, b"sealed", age_ms=age_ms, now_ms=now_ms)


def parts(sequence: int, count: int, *, revision: int = 0, origin: str = A) -> Iterator[Advertisement]:
    """The fragments of one advertisement, each with its own segment and next point."""
    for number in range(count):
        yield plain(
            origin,
            sequence,
            revision=revision,
            fragment=number,
            fragments=count,
            segments=(record(f"10.{sequence}.0.{number}", origin),),
            next_points={f"10.0.0.{number}": f"10.0.1.{revision}"},
        )


def test_the_newest_counts_and_older_ones_are_refused(database: Database) -> None:
    assert take(database, plain(A, 5, next_points={C: B})) is Verdict.NEW
    assert take(database, plain(A, 5)) is Verdict.KNOWN
    assert take(database, plain(A, 4)) is Verdict.OLDER
    assert take(database, plain(A, 6, next_points={C: ME})) is Verdict.NEW
    table = database.table(A, NOW_MS)
    assert table is not None
    assert table.next_points == {C: ME}


def test_what_comes_in_fragments_is_told_when_all_are_there(database: Database) -> None:
    first, second = parts(5, 2)
    take(database, second)
    assert database.table(A, NOW_MS) is None
    assert database.held("") == [Held(A, 5, 0b10)]
    take(database, first)
    table = database.table(A, NOW_MS)
    assert table is not None
    assert set(table.segments) == {"10.5.0.0", "10.5.0.1"}


def test_until_all_fragments_are_there_older_values_stand_but_never_older_paths(database: Database) -> None:
    for one in parts(5, 2, revision=3):
        take(database, one)
    take(database, next(parts(6, 2, revision=3)))
    table = database.table(A, NOW_MS)
    assert table is not None
    assert set(table.segments) == {"10.5.0.0", "10.5.0.1"}
    take(database, next(parts(7, 2, revision=7)))
    assert database.table(A, NOW_MS) is None


def test_a_fragment_that_does_not_belong_to_the_others_is_refused(database: Database) -> None:
    first, second = parts(5, 2)
    take(database, first)
    assert take(database, replace(second, fragments=3)) is Verdict.KNOWN
    assert take(database, replace(second, revision=2)) is Verdict.KNOWN


def test_an_advertisement_lives_for_its_lifetime_less_its_age(database: Database) -> None:
    take(database, plain(A, lifetime_s=60), age_ms=20_000)
    gone_ms = NOW_MS + 40_000 - TRANSIT_MS
    assert database.table(A, gone_ms - 1) is not None
    assert database.table(A, gone_ms) is None
    assert database.expire(gone_ms - 1) == []
    assert database.expire(gone_ms) == [A]
    assert take(database, plain(B, lifetime_s=60), age_ms=60_000) is Verdict.AGED


def test_the_age_of_a_segment_grows_on_this_points_clock(database: Database) -> None:
    take(database, plain(A, segments=(record(B, A, age_ms=40),)), age_ms=5_000)
    table = database.table(A, NOW_MS)
    assert table is not None
    assert table.segments[B].age_ms(NOW_MS + 700) == 40 + 5_000 + TRANSIT_MS + 700


def test_what_has_aged_does_not_come_back_by_a_replay(database: Database) -> None:
    take(database, plain(A, 5))
    database.expire(NOW_MS + 100_000)
    assert take(database, plain(A, 5), now_ms=NOW_MS + 100_000) is Verdict.KNOWN
    assert take(database, plain(A, 6), now_ms=NOW_MS + 100_000) is Verdict.NEW


def test_the_gone_are_remembered_within_bounds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FORGOTTEN", 2)
    for number, origin in enumerate((A, B, C)):
        take(database, plain(origin, 5), now_ms=NOW_MS + number)
        database.expire(NOW_MS + 60_000 + number)
    assert [take(database, plain(origin, 5)) for origin in (C, B, A)] == [
        Verdict.KNOWN,
        Verdict.KNOWN,
        Verdict.NEW,
    ]


def test_a_withdrawn_point_is_unknown_and_its_word_goes_on_being_passed(database: Database) -> None:
    take(database, plain(A, 5))
    assert take(database, plain(A, 6, withdrawn=True)) is Verdict.NEW
    assert database.table(A, NOW_MS) is None
    assert list(database.tables(NOW_MS)) == []
    assert database.stored(A, 0) is not None


def test_own_words_from_others_are_told_only_when_they_are_later(database: Database) -> None:
    database.put_own([(plain(ME, 5), b"mine")], NOW_MS)
    assert take(database, plain(ME, 5)) is Verdict.KNOWN
    assert take(database, plain(ME, 6)) is Verdict.OWN
    stored = database.stored(ME, 0)
    assert stored is not None
    assert stored.sealed == b"mine"


def test_no_other_area_can_tell_of_a_point_of_this_one(database: Database) -> None:
    take(database, plain(A, 5))
    assert take(database, plain(A, 6, area="south")) is Verdict.FOREIGN
    assert take(database, plain(B, 5, area="south")) is Verdict.NEW
    assert take(database, plain(B, 6)) is Verdict.NEW, "it has moved here"


def test_bounds_hold_and_what_is_known_can_still_be_renewed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ORIGINS", 2)
    take(database, plain(A))
    take(database, plain(B))
    assert take(database, plain(C)) is Verdict.FULL
    assert take(database, plain(B, 2)) is Verdict.NEW


@pytest.mark.parametrize(("bound", "field"), [("MAX_SEGMENTS", "segments"), ("MAX_NEXT_POINTS", "next_points")])
def test_segments_and_destinations_are_bounded_over_all_fragments(
    database: Database, monkeypatch: pytest.MonkeyPatch, bound: str, field: str
) -> None:
    monkeypatch.setattr(module, bound, 3)
    first, second, third, fourth = parts(5, 4)
    assert len(getattr(first, field)) == 1
    assert [take(database, one) for one in (first, second, third)] == [Verdict.NEW] * 3
    assert take(database, fourth) is Verdict.FULL
    assert take(database, next(parts(5, 1, origin=B))) is Verdict.FULL
    assert take(database, next(parts(6, 4))) is Verdict.NEW


def test_equal_knowledge_has_equal_digests(database: Database) -> None:
    other = Database(B, "")
    for one in parts(5, 2):
        take(database, one)
        assert database.digest("") != other.digest("")
        take(other, one)
        assert database.digest("") == other.digest("")
    take(other, plain(C, area="south"))
    assert database.digest("") == other.digest("")


def test_the_last_point_is_the_one_that_has_or_serves_the_destination(database: Database) -> None:
    take(database, plain(A, addresses=(A, "10.9.9.9"), serves=(IPv4Network("198.51.100.0/24"),)))
    table = database.table(A, NOW_MS)
    assert table is not None
    assert [table.is_last_for(one) for one in (A, "10.9.9.9", "198.51.100.7", "198.51.101.7")] == [
        *(True, True, True, False)
    ]


def test_the_addresses_of_the_first_fragment_are_those_of_the_point(database: Database) -> None:
    first, second = parts(5, 2)
    take(database, replace(first, addresses=(A, C)))
    take(database, replace(second, addresses=()))
    table = database.table(A, NOW_MS)
    assert table is not None
    assert table.addresses == {A, C}
