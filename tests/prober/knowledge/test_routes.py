from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from prober.knowledge.database import Database, Table
from prober.knowledge.demand import Demand, demand_on
from prober.knowledge.routes import route
from prober.knowledge.tails import far_path, tail
from schemas.metrics import ScalarStatistics
from tests.prober.knowledge.advertisements import plain, record

A, B, C, D = (f"192.0.2.{number}" for number in range(1, 5))
HOST = "198.51.100.9"
WALL_MS = 1_700_000_000_000


def tables(
    next_points: dict[str, dict[str, str]], *, served_by_d: tuple[IPv4Network, ...] = ()
) -> dict[str, Table]:
    """What each point says; every point has a segment from each other."""
    database = Database("10.255.255.255", "")
    for origin, toward in next_points.items():
        segments = tuple(record(other, origin, age_ms=40) for other in (A, B, C, D) if other != origin)
        one = plain(origin, next_points=toward, segments=segments, serves=served_by_d if origin == D else ())
        database.take(one, b"", age_ms=0, now_ms=0)
    return {table.origin: table for table in database.tables(0)}


CHAIN = tables({A: {D: B}, B: {D: C}, C: {D: D}, D: {}})


def path(found: tuple[Table, ...] | None) -> list[str] | None:
    return None if found is None else [table.origin for table in found]


def test_a_route_follows_each_points_next_point_to_the_last() -> None:
    assert path(route(CHAIN.get, A, D)) == [B, C, D]
    assert path(route(CHAIN.get, C, D)) == [D]
    assert path(route(CHAIN.get, D, D)) == []


def test_a_host_is_reached_at_the_point_that_serves_it() -> None:
    served = tables({A: {HOST: C}, C: {HOST: D}, D: {}}, served_by_d=(IPv4Network("198.51.100.0/24"),))
    assert path(route(served.get, A, HOST)) == [C, D]


@pytest.mark.parametrize(
    "next_points",
    [
        {A: {D: B}, B: {D: A}, D: {}},
        {A: {D: B}, B: {D: C}, C: {D: B}, D: {}},
        {A: {D: A}, D: {}},
        {A: {D: B}, B: {}, D: {}},
        {A: {D: B}, D: {}},
        {A: {D: B}, B: {D: D}},
        {B: {D: D}, D: {}},
    ],
    ids=["loop", "later loop", "itself", "silent", "unknown", "last unknown", "first unknown"],
)
def test_where_the_points_contradict_each_other_there_is_no_route(next_points: dict[str, dict[str, str]]) -> None:
    assert route(tables(next_points).get, A, D) is None
    assert far_path(tables(next_points).get, A, D, now_ms=0, wall_ms=WALL_MS) is None


def test_a_tail_names_each_segment_its_age_and_who_tells_it() -> None:
    told_path = far_path(CHAIN.get, A, D, now_ms=700, wall_ms=WALL_MS)
    records = tail(told_path, metrics=("loss",), max_age_ms=1_000, told_by=A, now_ms=WALL_MS + 50)
    assert records is not None
    assert [(one.upstream, one.current, one.told_by) for one in records] == [(A, B, A), (B, C, A), (C, D, A)]
    assert {one.age_ms for one in records} == {40 + 100 + 700 + 50}
    assert {one.recorded_at_ms for one in records} == {WALL_MS + 50}


@pytest.mark.parametrize(("metrics", "max_age_ms"), [(("loss",), 839), (("loss", "rtt"), 60_000), (("loss",), 0)])
def test_a_tail_that_is_too_old_or_lacks_a_metric_is_not_told(metrics: tuple[str, ...], max_age_ms: int) -> None:
    told_path = far_path(CHAIN.get, A, D, now_ms=700, wall_ms=WALL_MS)
    assert tail(told_path, metrics=metrics, max_age_ms=max_age_ms, told_by=A, now_ms=WALL_MS) is None
    assert tail(told_path, metrics=("loss",), max_age_ms=840, told_by=A, now_ms=WALL_MS)


def test_a_path_that_ends_here_has_no_tail() -> None:
    assert far_path(CHAIN.get, D, D, now_ms=0, wall_ms=WALL_MS) is None


def test_a_path_over_a_segment_that_nobody_measures_is_not_told() -> None:
    database = Database("10.255.255.255", "")
    database.take(plain(A, next_points={B: B}), b"", age_ms=0, now_ms=0)
    database.take(plain(B, segments=(record(C, B),)), b"", age_ms=0, now_ms=0)
    found = {table.origin: table for table in database.tables(0)}
    assert path(route(found.get, A, B)) == [B]
    assert far_path(found.get, A, B, now_ms=0, wall_ms=WALL_MS) is None


def test_a_single_measurement_keeps_its_age_on_another_clock() -> None:
    measured = ScalarStatistics(count=1, value=1500, low=1500, high=1500, measured_at_ms=993_000)
    segment = replace(record(A, B, recorded_at_ms=1_000_000, age_ms=40), metrics={"mtu": measured})
    database = Database("10.255.255.255", "")
    database.take(plain(A, next_points={B: B}), b"", age_ms=0, now_ms=0)
    database.take(plain(B, segments=(segment,)), b"", age_ms=0, now_ms=0)
    found = {table.origin: table for table in database.tables(0)}
    (far,) = far_path(found.get, A, B, now_ms=500, wall_ms=WALL_MS) or ()
    mtu = far.metrics["mtu"]
    assert isinstance(mtu, ScalarStatistics)
    assert WALL_MS - mtu.measured_at_ms == 7_000 + 100 + 500


def test_who_is_the_next_point_of_others_must_know_its_own() -> None:
    others = tables({A: {D: B, HOST: B, B: B}, C: {D: D, A: B}, D: {A: C}})
    own = tables({B: {D: C}})[B]
    demand = demand_on(own, others.values())
    assert demand.destinations == {D, HOST, A}
    assert demand.asked == demand.upstreams == frozenset()


def test_segments_of_paths_that_were_told_are_wanted() -> None:
    database = Database("10.255.255.255", "")
    database.take(plain(A, next_points={D: B, HOST: B, B: B}, asked=frozenset({D, B})), b"", age_ms=0, now_ms=0)
    own = tables({B: {D: C}})[B]
    demand = demand_on(own, database.tables(0))
    assert demand == Demand(frozenset({D, HOST}), frozenset({D}), frozenset({A}))
