"""Stories on small networks in memory: lossy links, clocks that disagree, failures, and enemies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from prober.knowledge.database import TRANSIT_MS
from prober.knowledge.datagram import (
    MAX_DATAGRAM_BYTES,
    datagram_from_bytes,
    datagram_to_bytes,
)
from prober.knowledge.exchange import ExchangeSettings
from prober.knowledge.origination import DEFAULT_OCTETS_PER_S
from prober.knowledge.seal import opened
from prober.knowledge.tails import tail
from schemas.keyring import NO_KEYS
from schemas.metrics import ScalarStatistics
from tests.prober.knowledge.simulated import ABILENE, SAMPLE_AGE_MS, SimulatedNetwork, chain

A, B, C, D, E = (f"192.0.2.{number}" for number in range(1, 6))


def pairs(network: SimulatedNetwork) -> Iterator[tuple[str, str]]:
    return ((a, b) for a in network.points for b in network.points if a != b)


def all_know_the_truth(network: SimulatedNetwork) -> bool:
    return all(network.told(a, b) == network.true_path(a, b) for a, b in pairs(network))


def abilene(**options: float) -> SimulatedNetwork:
    """All points want to know the paths to all."""
    network = SimulatedNetwork(
        ABILENE, loss_ratio=options.get("loss_ratio", 0.0), seed=int(options.get("seed", 7))
    )
    network.seek(network.points, network.points)
    return network


@pytest.fixture(scope="module")
def settled() -> SimulatedNetwork:
    """Abilene, which has run for a while; only to be looked at."""
    network = abilene(loss_ratio=0.1)
    network.run(20_000)
    return network


def test_all_points_soon_tell_the_true_path_to_all_others_over_links_that_lose() -> None:
    network = abilene(loss_ratio=0.2, seed=3)
    took_ms = network.run_until(lambda: all_know_the_truth(network), at_most_ms=15_000)
    sys.stdout.write(f"\n11 points, 20 % loss: all {11 * 10} paths known after {took_ms / 1000:.1f} s")


def test_any_point_tells_the_path_between_any_two_others(settled: SimulatedNetwork) -> None:
    told = {(a, b, at): settled.told(a, b, at=at) for a, b in pairs(settled) for at in settled.points if at != b}
    assert {key: settled.true_path(*key[:2]) for key in told} == told


def test_what_was_measured_arrives_unchanged(settled: SimulatedNetwork) -> None:
    for a, b in pairs(settled):
        path = settled.far_path(a, b)
        assert path is not None
        upstreams = [segment.upstream for segment in path]
        for upstream, segment in zip(upstreams, path, strict=True):
            pair = (upstream, segment.current)
            truth = settled._metrics[pair if pair in ABILENE else pair[::-1]]
            assert segment.metrics["delay"] == truth["delay"]
            assert segment.metrics["jitter"] == truth["jitter"]


def test_an_age_is_never_told_too_small_and_hardly_too_great(settled: SimulatedNetwork) -> None:
    for a, b in pairs(settled):
        path = settled.far_path(a, b)
        assert path is not None
        for segment in path:
            made_at_ms = origin_made_ms(settled, segment.current)
            true_age_ms = settled.now_ms - made_at_ms + SAMPLE_AGE_MS
            told_age_ms = settled.wall_ms(a) - segment.newest_sample_at_ms
            assert true_age_ms <= told_age_ms <= true_age_ms + TRANSIT_MS * len(ABILENE)


def origin_made_ms(network: SimulatedNetwork, origin: str) -> int:
    """When an origin made its newest advertisement, by the network's own time."""
    stored = network.points[origin].exchange.database.stored(origin, 0)
    assert stored is not None
    return stored.made_at_ms


def test_single_measurements_are_dated_on_the_clock_of_who_tells_them(settled: SimulatedNetwork) -> None:
    for a, b in pairs(settled):
        for segment in settled.far_path(a, b) or ():
            mtu = segment.metrics["mtu"]
            assert isinstance(mtu, ScalarStatistics)
            offset_ms = settled.points[a].wall_offset_ms - settled.points[segment.current].wall_offset_ms
            assert mtu.measured_at_ms == pytest.approx(max(0, 1_000 + offset_ms), abs=TRANSIT_MS * len(ABILENE))


def test_keeping_all_informed_costs_each_link_less_than_its_budget() -> None:
    network = abilene()
    network.run(15_000)
    network.octets.clear()
    network.run(30_000)
    rates = sorted(octets / 30 for octets in network.octets.values())
    copy_octets = network.points["10.0.0.1"].exchange.database.octets("")
    mean = sum(rates) / len(rates)
    sys.stdout.write(
        f"\n{copy_octets} octets in all: {mean:.0f} octets/s a link and direction, at most {rates[-1]:.0f}"
    )
    assert rates[-1] < DEFAULT_OCTETS_PER_S / 4
    assert rates[-1] < 2.5 * copy_octets / 15 + 40


def test_an_area_with_much_to_say_says_it_less_often() -> None:
    rates = {}
    for octets_per_s in (2_000, 60):
        network = SimulatedNetwork(chain(A, B, C, D, E), settings=ExchangeSettings(octets_per_s=octets_per_s))
        network.seek(network.points, network.points)
        network.run(60_000)
        network.octets.clear()
        network.run(60_000)
        rates[octets_per_s] = max(octets / 60 for octets in network.octets.values())
        assert all_know_the_truth(network)
    assert rates[60] < 90 < rates[2_000]


def test_no_datagram_is_larger_than_the_narrowest_usual_path() -> None:
    hub = {(A, f"10.2.0.{n}"): 1.0 for n in range(1, 22)}
    network = SimulatedNetwork(hub)
    network.seek(network.points, network.points)
    network.run(3_000)
    assert max(len(data) for _, _, data in network.traffic) <= MAX_DATAGRAM_BYTES
    stored = network.points["10.2.0.7"].exchange.database.stored(A, 0)
    assert stored is not None
    assert stored.advertisement.fragments >= 2
    assert network.told("10.2.0.7", "10.2.0.8") == [A, "10.2.0.8"]


def test_after_a_link_has_failed_nobody_tells_the_old_path() -> None:
    network = abilene(loss_ratio=0.1)
    network.run(20_000)
    a, b = next(pair for pair in ABILENE if network.true_path(*pair) == [pair[1]])
    network.fail(a, b)
    took_ms = network.run_until(lambda: nobody_crosses(network, a, b), at_most_ms=3_000, step_ms=20)
    sys.stdout.write(f"\nlink down: its last use in a told path was {took_ms} ms later, with 10 % loss")
    again_ms = network.run_until(lambda: all_know_the_truth(network), at_most_ms=15_000, step_ms=100)
    sys.stdout.write(f"\nall new paths known {took_ms + again_ms} ms after the failure")


def nobody_crosses(network: SimulatedNetwork, a: str, b: str) -> bool:
    told = [[source, *(network.told(source, destination) or ())] for source, destination in pairs(network)]
    return not any({x, y} == {a, b} for path in told for x, y in pairwise(path))


def test_during_a_change_paths_are_old_or_new_or_unknown_but_never_mixed() -> None:
    network = abilene()
    network.run(20_000)
    before = {pair: network.true_path(*pair) for pair in pairs(network)}
    link = next(pair for pair in ABILENE if network.true_path(*pair) == [pair[1]])
    network.fail(*link)
    after = {pair: network.true_path(*pair) for pair in pairs(network)}
    unknown = 0
    for step in range(300):
        network.run(1 if step < 200 else 20)
        for pair in before:
            told = network.told(*pair)
            unknown += told is None
            assert told in (None, before[pair], after[pair])
    assert unknown


def test_a_point_that_starts_anew_is_believed_at_once_and_learns_all_again() -> None:
    network = abilene()
    network.run(20_000)
    network.stop("10.0.0.5")
    network.run(1_000)
    network.restart("10.0.0.5")
    assert network.told("10.0.0.5", "10.0.0.1") is None
    network.run_until(lambda: all_know_the_truth(network), at_most_ms=5_000)


def test_a_point_whose_clock_went_back_before_its_restart_takes_up_its_old_sequence() -> None:
    network = abilene()
    network.run(20_000)
    heard = network.points["10.0.0.1"].exchange.database.stored("10.0.0.5", 0)
    assert heard is not None
    network.stop("10.0.0.5")
    network.restart("10.0.0.5", clock_ms=1_000)
    network.run(10_000)
    now = network.points["10.0.0.1"].exchange.database.stored("10.0.0.5", 0)
    assert now is not None
    assert now.advertisement.sequence > heard.advertisement.sequence
    assert now.advertisement.created_at_ms < heard.advertisement.created_at_ms
    assert network.counted("heard-own")


def test_two_halves_agree_again_when_a_partition_heals() -> None:
    network = SimulatedNetwork(chain(A, B, C, D), loss_ratio=0.1)
    network.seek(network.points, network.points)
    network.run_until(lambda: all_know_the_truth(network), at_most_ms=15_000)
    network.fail(B, C)
    network.run(90_000)
    assert network.told(A, D) is None
    assert network.points[A].exchange.database.table(D, network.now_ms) is None
    network.heal(B, C)
    took_ms = network.run_until(lambda: all_know_the_truth(network), at_most_ms=15_000)
    sys.stdout.write(f"\nafter 90 s apart, both halves know all paths {took_ms} ms after the link is back")


def test_what_a_dead_point_said_ages_and_is_forgotten() -> None:
    network = SimulatedNetwork(chain(A, B, C))
    network.seek([A], [C])
    network.run(20_000)
    network.stop(C)
    died_ms = network.now_ms

    def answer() -> object:
        path = network.far_path(A, C)
        return tail(path, metrics=("delay",), max_age_ms=20_000, told_by=A, now_ms=network.wall_ms(A))

    assert answer() is not None
    network.run_until(lambda: answer() is None, at_most_ms=21_000)
    assert network.told(A, C) == [B, C], "for who accepts greater age it is still there"
    network.run_until(lambda: network.told(A, C) is None, at_most_ms=61_000)
    assert network.now_ms - died_ms <= 60_000


def test_a_point_that_ends_takes_its_word_back() -> None:
    network = SimulatedNetwork(chain(A, B, C))
    network.seek([A], [C])
    network.run(10_000)
    c = network.points[C]
    network._send(C, c.exchange.farewell(network.wall_ms(C)))
    network.stop(C)
    network.run(1_000)
    assert network.told(A, C) is None


def test_interest_goes_along_the_path_from_point_to_point() -> None:
    network = SimulatedNetwork(chain(A, B, C, D, E))
    network.seek([A], [E])
    network.run(10_000)
    assert [sorted(network.points[one].sought) for one in (B, C, D, E)] == [[E], [E], [E], []]
    assert network.told(A, E) == [B, C, D, E]
    assert not any(network.points[one].wanted for one in (B, C, D, E))


def test_segments_that_are_told_stay_wanted_although_no_request_crosses_them() -> None:
    network = SimulatedNetwork(chain(A, B, C, D))
    network.seek([A], [D])
    network.run(10_000)
    network.points[A].exchange.asked(D, network.now_ms)
    network.run(60_000)
    assert [sorted(network.points[one].wanted) for one in (B, C, D)] == [[A], [B], [C]]
    network.run(330_000)
    for one in (B, C, D):
        network.points[one].wanted.clear()
    network.run(30_000)
    assert not any(network.points[one].wanted for one in (B, C, D)), "long after the last question nobody cares"


def test_points_of_another_area_learn_nothing() -> None:
    network = SimulatedNetwork(chain(A, B, C), areas={A: "north", B: "north", C: "south"})
    network.seek(network.points, network.points)
    network.run(30_000)
    assert network.told(A, B) == [B]
    assert network.points[C].exchange.database.table(B, network.now_ms) is None
    assert network.counted("other-area") > 0
    network.octets.clear()
    network.run(300_000)
    assert network.octets[B, C] / 300 < 5, "and are bothered seldom"


def test_who_is_no_neighbor_for_a_moment_need_not_begin_anew() -> None:
    network = SimulatedNetwork(chain(A, B))
    network.run(5_000)
    flood = network.points[A].exchange._flood
    before = flood.session(B)
    flood.set_neighbors([B], network.now_ms)
    flood.set_neighbors([], network.now_ms + 60_000)
    assert flood.session(B) is before
    flood.set_neighbors([], network.now_ms + 60_001)
    assert flood.session(B) is None


def test_every_datagram_of_a_network_is_read_as_it_was_written(settled: SimulatedNetwork) -> None:
    for _, _, data in settled.traffic[-500:]:
        body = opened(b"", data, A, NO_KEYS).body
        assert datagram_to_bytes(datagram_from_bytes(body)) == body
