from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.timestamp import NS_PER_S
from prober.window import (
    LARGEST_KEPT,
    LONGEST_WINDOW_S,
    LOSS_THRESHOLD_MS,
    MINIMUM_SAMPLES,
    DelayWindow,
    LossWindow,
)
from schemas.metrics import DelayStatistics

MS, S = 1_000_000, 1_000_000_000
NOW_NS = 1_700_000_000 * S


def told_delay(window: DelayWindow, now_ns: int, window_s: int = 60) -> DelayStatistics | None:
    return window.delay(
        now_ns, window_s, upstream_clock_error_ms=0.1, current_clock_error_ms=0.2, synchronized=True
    )


@given(st.lists(st.tuples(st.integers(-(10**9), 10**10), st.integers(0, 75 * S)), min_size=1, max_size=300))
def test_statistics_are_those_of_the_delays_of_the_last_sixty_seconds(samples: list[tuple[int, int]]) -> None:
    samples.sort(key=lambda sample: sample[1])
    window = DelayWindow()
    for sequence, (delay_ns, after_ns) in enumerate(samples):
        window.add(delay_ns, sequence=sequence, at_ns=NOW_NS + after_ns)
    last_ns = NOW_NS + samples[-1][1]
    first_s = last_ns // S - 59
    inside = [
        (sequence, delay_ns)
        for sequence, (delay_ns, after_ns) in enumerate(samples)
        if (NOW_NS + after_ns) // S >= first_s
    ]
    delays = [delay_ns / MS for _, delay_ns in inside]
    told, jitter, round_trip = (
        told_delay(window, last_ns),
        window.jitter(last_ns, 60),
        window.round_trip(last_ns, 60),
    )
    if len(delays) < MINIMUM_SAMPLES:
        assert (told, jitter, round_trip) == (None, None, None)
        return
    assert told and jitter and round_trip
    mean = fmean(delays)
    spread = max(delays) - min(delays)
    assert told.count == jitter.count == round_trip.count == window.count(last_ns, 60) == len(delays)
    assert told.mean_ms == round_trip.mean_ms == pytest.approx(mean, abs=1e-6)
    assert told.minimum_ms == round_trip.minimum_ms == min(delays)
    assert told.variance_ms2 == pytest.approx(pvariance(delays), rel=1e-6, abs=1e-6)
    third = fmean((delay - mean) ** 3 for delay in delays)
    assert told.third_moment_ms3 == pytest.approx(third, rel=1e-6, abs=1e-9 * spread**3 + 1e-6)
    assert (jitter.variance_ms2, jitter.third_moment_ms3) == (told.variance_ms2, told.third_moment_ms3)
    rank = (999 * len(delays) + 999) // 1000
    assert jitter.pdv_ms == pytest.approx(sorted(delays)[rank - 1] - min(delays), abs=1e-6)
    assert jitter.mean_pdv_ms == pytest.approx(mean - min(delays), abs=1e-6)
    steps = [
        abs(delay_ns - samples[sequence - 1][0]) / MS for sequence, delay_ns in inside if sequence > 0
    ]  # the first of the window has a predecessor, though one before the window
    assert jitter.ipdv_ms == pytest.approx(fmean(steps), abs=1e-6)


def test_the_high_quantile_of_thousands_of_delays_is_exact() -> None:
    window = DelayWindow()
    delays = [(number * 7919) % 12_007 for number in range(12_000)]
    for sequence, delay_ms in enumerate(delays):
        window.add(delay_ms * MS, sequence=sequence, at_ns=NOW_NS + sequence * 5 * MS)
    jitter = window.jitter(NOW_NS + 60 * S - 1, 60)
    assert jitter
    assert len(delays) // 1000 < LARGEST_KEPT
    assert jitter.pdv_ms == sorted(delays)[(999 * 12_000 + 999) // 1000 - 1] - min(delays)


def test_a_tiny_variance_on_a_huge_offset_is_not_lost() -> None:
    window = DelayWindow()
    for sequence in range(600):
        window.add(3_600 * S + sequence % 2 * 2_000, sequence=sequence, at_ns=NOW_NS + sequence * 100 * MS)
    told = told_delay(window, NOW_NS + 60 * S - 1)
    assert told and math.isclose(told.variance_ms2, 1e-6, rel_tol=1e-9)


def test_ipdv_takes_only_packets_that_follow_each_other() -> None:
    window = DelayWindow()
    for sequence, delay_ms in [(0, 20), (1, 10), (3, 500), (4, 505), (5, 500)] + [
        (2 * n, 7) for n in range(5, 12)
    ]:
        window.add(delay_ms * MS, sequence=sequence, at_ns=NOW_NS)
    jitter = window.jitter(NOW_NS, 60)
    assert jitter and jitter.ipdv_ms == pytest.approx((10 + 5 + 5) / 3)


def test_old_samples_leave_the_short_window_first_and_then_the_long_one() -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(5 * MS, sequence=sequence, at_ns=NOW_NS)
    assert told_delay(window, NOW_NS + 9 * S, window_s=10)
    assert told_delay(window, NOW_NS + 10 * S, window_s=10) is None
    assert told_delay(window, NOW_NS + 59 * S)
    assert told_delay(window, NOW_NS + 60 * S) is None


def test_a_clock_that_steps_back_begins_a_new_window() -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(5 * MS, sequence=sequence, at_ns=NOW_NS)
        window.add(9 * MS, sequence=sequence, at_ns=NOW_NS - 3600 * S)
    told = told_delay(window, NOW_NS - 3600 * S)
    assert told and (told.count, told.mean_ms) == (20, 9)


def test_loss_is_lost_by_sent_and_states_its_threshold() -> None:
    window = LossWindow()
    for number in range(90):
        window.received(NOW_NS + number * 100 * MS)
    for number in range(10):
        window.lost(NOW_NS + number * S, NOW_NS + number * S + 1100 * MS)
    window.received(NOW_NS + 12 * S)
    told = window.statistics(NOW_NS + 12 * S, 60)
    assert told and (told.sent, told.lost, told.threshold_ms) == (100, 10, LOSS_THRESHOLD_MS)


def test_arrivals_of_the_last_second_wait_for_the_losses_among_them() -> None:
    window = LossWindow()
    for number in range(30):
        window.received(NOW_NS + number * 100 * MS)
    told = window.statistics(NOW_NS + 2_900 * MS, 60)
    assert told and told.sent == 20
    window.received(NOW_NS + 4 * S)
    told = window.statistics(NOW_NS + 4 * S, 60)
    assert told and told.sent == 30


def test_unanswered_packets_count_as_lost_when_asked_so() -> None:
    told = LossWindow().statistics(NOW_NS, 60, unanswered=12)
    assert told and (told.sent, told.lost) == (12, 12)


def test_a_loss_older_than_the_window_does_not_disturb_it() -> None:
    window = LossWindow()
    for number in range(20):
        window.received(NOW_NS + number * MS)
    window.lost(NOW_NS - 64 * S, NOW_NS)
    window.settled(NOW_NS - 64 * S, NOW_NS)
    window.received(NOW_NS + 2 * S)
    told = window.statistics(NOW_NS + 2 * S, 60)
    assert told and (told.sent, told.lost) == (20, 0)


def test_further_copies_are_counted_apart() -> None:
    window = LossWindow()
    for number in range(12):
        window.received(NOW_NS + number)
        window.duplicate(NOW_NS + number)
    window.received(NOW_NS + 2 * S)
    told = window.statistics(NOW_NS + 2 * S, 60)
    assert told and told.sent == 12
    assert window.duplicates(NOW_NS + 2 * S, 60) == 12


def filled(
    delays_ns: list[int], *, start_ns: int = 0, window: DelayWindow | None = None, rate: int = 10
) -> DelayWindow:
    """A window with samples at an even rate; the last one comes at `start_ns` + their number / rate."""
    window = window or DelayWindow()
    for number, delay_ns in enumerate(delays_ns):
        window.add(delay_ns, sequence=number, at_ns=start_ns + (number + 1) * NS_PER_S // rate)
    return window


@pytest.mark.parametrize("change_ns", [200_000, -4_000_000, 60_000_000])
def test_after_a_shift_of_the_path_the_old_samples_are_forgotten_within_seconds(change_ns: int) -> None:
    rng = random.Random(5)
    old = [round(rng.gauss(10e6, 30e3)) for _ in range(555)]
    new = [round(rng.gauss(10e6 + change_ns, 30e3)) for _ in range(50)]
    window = filled(old + new)
    now_ns = (len(old) + len(new)) * NS_PER_S // 10
    found = window.round_trip(now_ns, LONGEST_WINDOW_S)
    assert found is not None
    assert window.shifts == 1
    assert found.mean_ms == pytest.approx((10e6 + change_ns) / 1e6, abs=0.03)
    assert 20 <= found.count <= 50


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.gauss(10e6, 2e6),
        lambda rng: 10e6 + rng.expovariate(1 / 3e6),
        lambda rng: 10e6 + 1e6 * rng.paretovariate(2.2),
        lambda rng: 10e6 + 1e6 * rng.lognormvariate(0, 1.2),
        lambda rng: 10e6 if rng.random() < 0.9 else 90e6,
    ],
    ids=["normal", "exponential", "Pareto", "lognormal", "rare peaks"],
)
def test_chance_alone_is_no_shift(draw: Callable[[random.Random], float]) -> None:
    shifts = sum(filled([round(draw(rng)) for _ in range(1200)]).shifts for rng in map(random.Random, range(20)))
    assert shifts == 0


def test_a_small_wobble_of_the_host_is_no_shift() -> None:
    window = filled([5_000] * 300 + [60_000] * 300)
    assert window.shifts == 0
