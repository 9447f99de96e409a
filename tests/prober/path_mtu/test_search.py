from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.path_mtu.search import BASE_OCTETS, LEAST_OCTETS, MtuProbe, MtuSearch, MtuTimes, Phase
from prober.timestamp import NS_PER_MS, NS_PER_S

ROUND_TRIP_NS = 20 * NS_PER_MS


@dataclass
class Path:
    """A path of one MTU, driven without a network."""

    mtu_octets: int
    limit_octets: int = 1500
    round_trip_ns: int = ROUND_TRIP_NS
    is_lost: Callable[[], bool] = lambda: False
    refuses: bool = False
    """The sending kernel says when a probe is too big."""
    now_ns: int = 0
    sent: list[MtuProbe] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.search = MtuSearch(limit_octets=self.limit_octets, now_ns=0)
        self._replies: list[tuple[int, int, int]] = []

    @property
    def sizes(self) -> list[int]:
        return [probe.size_octets for probe in self.sent]

    @property
    def found(self) -> int | None:
        return self.search.found.octets if self.search.found else None

    def step(self) -> None:
        """Go to the next reply or deadline."""
        reply = min(self._replies, default=None)
        if reply and reply[0] <= self.search.due_at_ns():
            self._replies.remove(reply)
            self.now_ns = max(self.now_ns, reply[0])
            self.search.answered(*reply[1:], self.now_ns)
            return
        self.now_ns = max(self.now_ns, self.search.due_at_ns())
        probe = self.search.poll(self.now_ns)
        if probe is None:
            return
        self.sent.append(probe)
        if probe.size_octets > self.mtu_octets:
            if self.refuses:
                self.search.refused(probe.sequence, self.now_ns)
        elif not self.is_lost():
            self._replies.append((self.now_ns + self.round_trip_ns, probe.sequence, probe.size_octets))

    def run_for(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * NS_PER_S)
        while min([self.search.due_at_ns(), *(at_ns for at_ns, *_ in self._replies)]) <= end_ns:
            self.step()
        self.now_ns = end_ns

    def complete(self) -> int | None:
        for _ in range(10_000):
            if self.search.phase is Phase.COMPLETE:
                return self.found
            self.step()
        raise AssertionError("the search does not end")


def test_a_path_that_carries_the_interfaces_mtu_costs_two_probes() -> None:
    path = Path(1500)
    assert path.complete() == 1500
    assert path.sizes == [BASE_OCTETS, 1500]


def test_a_narrower_path_is_found_to_the_octet_and_the_size_above_is_tried_twice() -> None:
    path = Path(1400)
    assert path.complete() == 1400
    tried = Counter(path.sizes)
    assert tried[1401] == 6
    assert tried[1500] == 3
    assert path.sizes[-1] == 1400


def test_a_size_that_the_kernel_refuses_is_tried_once() -> None:
    path = Path(1400, refuses=True)
    assert path.complete() == 1400
    assert max(Counter(path.sizes).values()) == 1


@given(mtu=st.integers(LEAST_OCTETS, 9500), limit=st.integers(LEAST_OCTETS + 1, 9500), refuses=st.booleans())
def test_every_mtu_is_found_exactly(mtu: int, limit: int, refuses: bool) -> None:
    path = Path(mtu, limit, refuses=refuses)
    assert path.complete() == min(mtu, limit)
    assert len(path.sent) <= 60


def test_a_path_below_the_base_size_is_found_too() -> None:
    assert Path(576).complete() == 576


def test_a_path_that_carries_nothing_gives_no_value_and_is_asked_rarely() -> None:
    path = Path(100)
    path.run_for(3600)
    assert path.found is None
    assert sum(path.sizes) < 270_000


@pytest.mark.parametrize("loss_ratio", [0.0975, 0.3])
def test_loss_makes_no_value_too_small(loss_ratio: float) -> None:
    chance = random.Random(7)
    wrong = 0
    for turn in range(1000):
        mtu = 1200 + turn % 301
        wrong += Path(mtu, is_lost=lambda: chance.random() < loss_ratio).complete() != mtu
    # At most 9 p^6 each: 0.008 and 6.6 of 1000.
    assert wrong <= (0 if loss_ratio < 0.1 else 12)


def test_an_outage_in_the_middle_of_the_search_leaves_no_trace() -> None:
    path = Path(1450)
    path.is_lost = lambda: 0.01 * NS_PER_S < path.now_ns < 30 * NS_PER_S
    path.run_for(200)
    assert path.found == 1450


def test_an_mtu_that_sinks_is_noticed_within_a_confirmation_and_a_search() -> None:
    path = Path(1500)
    path.complete()
    path.mtu_octets = 1280
    path.run_for(60 + 3 + 40)
    assert path.found == 1280


def test_an_mtu_that_rises_is_noticed_by_the_raise_timer() -> None:
    path = Path(1400)
    path.complete()
    path.mtu_octets = 1492
    path.run_for(500)
    assert path.found == 1400
    path.run_for(200)
    assert path.found == 1492


def test_confirmations_renew_the_finding() -> None:
    path = Path(1500)
    path.complete()
    path.run_for(601)
    assert path.search.found is not None
    assert path.search.found.answers == 11
    assert path.now_ns - path.search.found.confirmed_at_ns < 60 * NS_PER_S


@pytest.mark.parametrize(("mtu", "greatest_octets"), [(1500, 95_000), (1400, 125_000)])
def test_the_traffic_of_an_hour_is_bounded(mtu: int, greatest_octets: int) -> None:
    path = Path(mtu)
    path.complete()
    path.sent.clear()
    path.run_for(3600)
    assert 60_000 < sum(path.sizes) < greatest_octets


@pytest.mark.parametrize(("limit", "expected"), [(1400, 1400), (1480, 1450), (9000, 1450)])
def test_a_changed_interface_is_followed_at_once(limit: int, expected: int) -> None:
    path = Path(1450)
    path.complete()
    path.search.limit(limit, path.now_ns)
    path.run_for(59)
    assert path.found == expected
    assert limit > 1450 or max(path.sizes[-2:]) <= limit


def test_a_raised_interface_on_a_wide_path_is_used_at_once() -> None:
    path = Path(9000)
    assert path.complete() == 1500
    path.search.limit(9000, path.now_ns)
    path.run_for(1)
    assert path.found == 9000


def test_a_round_trip_above_the_time_out_is_learned_from_late_answers() -> None:
    path = Path(1500, round_trip_ns=2_500 * NS_PER_MS)
    path.run_for(30)
    assert path.found == 1500
    assert len(path.sent) <= 6


def test_the_time_out_follows_rfc_8899() -> None:
    search = MtuSearch(limit_octets=1500, now_ns=0)
    assert search.poll(0) is not None
    assert search.due_at_ns() == NS_PER_S
    assert search.poll(NS_PER_S - 1) is None


def test_unknown_repeated_and_shorter_answers_change_nothing() -> None:
    search = MtuSearch(limit_octets=1500, now_ns=0, first_sequence=(1 << 32) - 1)
    first = search.poll(0)
    assert first == MtuProbe((1 << 32) - 1, BASE_OCTETS)
    assert not search.answered(77, BASE_OCTETS, 1)
    assert not search.answered(first.sequence, BASE_OCTETS - 1, 1)
    assert search.phase is Phase.BASE
    assert search.answered(first.sequence, BASE_OCTETS, 1)
    second = search.poll(1)
    assert second == MtuProbe(0, 1500)
    assert not search.answered(first.sequence, BASE_OCTETS, 2)
    search.refused(first.sequence, 2)
    assert search.due_at_ns() == 1 + NS_PER_S
    assert search.answered(second.sequence, 1500, 2)
    assert not search.answered(second.sequence, 1500, 3)
    assert search.found is not None
    assert (search.found.octets, search.found.confirmed_at_ns) == (1500, 2)


def test_other_times_can_be_had() -> None:
    search = MtuSearch(limit_octets=1500, now_ns=0, times=MtuTimes(least_timeout_ns=7))
    search.poll(0)
    assert search.due_at_ns() == 7
