from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.timestamp import NS_PER_S
from prober.windows.delay_window import DelayWindow, WindowDelays
from prober.windows.fine_bins import MAX_BINS
from prober.windows.mean_shift import SHIFT_NS
from prober.windows.window import LONGEST_WINDOW_S, MINIMUM_SAMPLES
from schemas.histogram import RELATIVE_ERROR, Histogram
from schemas.metrics import DelayStatistics

MS, S = 1_000_000, 1_000_000_000
NOW_NS = 1_700_000_000 * S
HALF_BIN_MS = 512e-6


def over(window: DelayWindow, now_ns: int, window_s: int = 60) -> WindowDelays:
    told = window.over(now_ns, window_s)
    assert told
    return told


def told_delay(delays: WindowDelays) -> DelayStatistics:
    return delays.delay(upstream_clock_error_ms=0.1, current_clock_error_ms=0.2, synchronized=True)


def rank(permille: int, count: int) -> int:
    """Position of a quantile in sorted samples (RFC 2330 section 11.3)."""
    return (permille * count + 999) // 1000 - 1


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 8), st.integers(-20, 20)), min_size=1, max_size=90))
def test_a_shift_is_found_when_it_would_be_by_looking_each_time(seconds: list[tuple[int, int, int]]) -> None:
    windows = DelayWindow(), DelayWindow()
    at_s = 0
    for number, (mean, gap_s, late_s) in enumerate(seconds):
        at_s += gap_s % 3
        for sample in range(25):
            at_ns = NOW_NS + (at_s + (late_s if gap_s == 8 else 0)) * S + sample * 30 * MS
            delay_ns = mean // 30 * 60_000 + sample * 1000
            for window, shift_ns in zip(windows, (SHIFT_NS, -1), strict=True):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("prober.windows.delay_window.SHIFT_NS", shift_ns)
                    window.add(delay_ns, sequence=number * 25 + sample, at_ns=at_ns)
                    assert window.count(at_ns, 60) == windows[0].count(at_ns, 60)
    assert windows[0].shifts == windows[1].shifts


@given(st.lists(st.tuples(st.integers(-(10**9), 10**10), st.integers(0, 75 * S)), min_size=1, max_size=250))
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
    delays = sorted(delay_ns / MS for _, delay_ns in inside)
    found = window.over(last_ns, 60)
    if len(delays) < MINIMUM_SAMPLES:
        assert found is None
        return
    assert found
    told, jitter, round_trip, distribution = (
        told_delay(found),
        found.jitter(),
        found.round_trip(),
        found.distribution(),
    )
    assert jitter
    mean, least, spread = fmean(delays), delays[0], delays[-1] - delays[0]
    assert told.count == jitter.count == round_trip.count == distribution.count == len(delays)
    assert window.count(last_ns, 60) == len(delays)
    assert told.mean_ms == round_trip.mean_ms == pytest.approx(mean, abs=1e-6)
    assert told.minimum_ms == round_trip.minimum_ms == distribution.minimum_ms == least
    assert told.variance_ms2 == round_trip.variance_ms2 == pytest.approx(pvariance(delays), rel=1e-6, abs=1e-6)
    third = fmean((delay - mean) ** 3 for delay in delays)
    assert told.third_moment_ms3 == pytest.approx(third, rel=1e-6, abs=1e-9 * spread**3 + 1e-6)
    assert round_trip.third_moment_ms3 == told.third_moment_ms3
    assert (jitter.variance_ms2, jitter.third_moment_ms3) == (told.variance_ms2, told.third_moment_ms3)
    assert jitter.mean_pdv_ms == pytest.approx(mean - least, abs=1e-6)
    for permille, value in (
        (999, jitter.pdv_ms + least),
        (500, distribution.p50_ms),
        (950, distribution.p95_ms),
        (990, distribution.p99_ms),
    ):
        assert value == pytest.approx(delays[rank(permille, len(delays))], abs=HALF_BIN_MS + 1e-6)
    # The first of the window has a predecessor, though one before the window.
    steps = [(delay_ns - samples[sequence - 1][0]) / MS for sequence, delay_ns in inside if sequence > 0]
    assert jitter.ipdv_ms == pytest.approx(fmean(map(abs, steps)), abs=1e-6)
    assert jitter.signed_ipdv_ms == pytest.approx(fmean(steps), abs=1e-6)
    assert (jitter.least_ipdv_ms, jitter.greatest_ipdv_ms) == (min(steps), max(steps))


@given(st.lists(st.integers(0, 10**9), min_size=10, max_size=200), st.integers(-(10**9), 10**9))
def test_the_histogram_holds_every_sample_in_the_bin_of_its_delay_above_the_minimum(
    delays_ns: list[int], offset_ns: int
) -> None:
    window = DelayWindow()
    for sequence, delay_ns in enumerate(delays_ns):
        window.add(delay_ns + offset_ns, sequence=sequence, at_ns=NOW_NS)
    told = over(window, NOW_NS).distribution()
    histogram = Histogram.from_text(told.bins)
    assert histogram.total == told.count == len(delays_ns)
    for permille in (500, 950, 990, 1000):
        above_ms = (sorted(delays_ns)[rank(permille, len(delays_ns))] - min(delays_ns)) / MS
        error_ms = max(0.0005, above_ms * 2 * RELATIVE_ERROR) + 0.001
        assert histogram.quantile_ms(permille) == pytest.approx(above_ms, abs=error_ms)


def test_a_delay_longer_than_all_bins_is_in_the_last_one() -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(5 if sequence else 700 * S, sequence=sequence, at_ns=NOW_NS)
    assert Histogram.from_text(over(window, NOW_NS).distribution().bins).counts == {0: 19, 215: 1}


def test_equal_delays_have_no_variation_at_all() -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(12_345_678, sequence=sequence, at_ns=NOW_NS)
    delays = over(window, NOW_NS)
    jitter, distribution = delays.jitter(), delays.distribution()
    assert jitter and jitter.pdv_ms == jitter.ipdv_ms == jitter.interarrival_ms == 0
    assert distribution.p50_ms == distribution.p99_ms == 12.345678


def test_a_tiny_variance_on_a_huge_offset_is_not_lost() -> None:
    window = DelayWindow()
    for sequence in range(600):
        window.add(3_600 * S + sequence % 2 * 2_000, sequence=sequence, at_ns=NOW_NS + sequence * 100 * MS)
    told = told_delay(over(window, NOW_NS + 60 * S - 1))
    assert math.isclose(told.variance_ms2, 1e-6, rel_tol=1e-9)


def test_ipdv_takes_only_packets_that_were_sent_one_after_the_other() -> None:
    window = DelayWindow()
    for sequence, delay_ms in [(0, 20), (1, 10), (3, 500), (4, 505), (5, 500)] + [
        (2 * n, 7) for n in range(5, 12)
    ]:
        window.add(delay_ms * MS, sequence=sequence, at_ns=NOW_NS)
    jitter = over(window, NOW_NS).jitter()
    assert jitter and jitter.ipdv_ms == pytest.approx((10 + 5 + 5) / 3)
    assert (jitter.least_ipdv_ms, jitter.greatest_ipdv_ms) == (-10, 5)


def test_the_example_of_rfc_5481_has_its_ipdv_and_its_pdv() -> None:
    """Delays 20, 10, 20, 25, 20: IPDV -10, 10, 5, -5 and mean PDV 7."""
    window = DelayWindow()
    for sequence, delay_ms in enumerate((20, 10, 20, 25, 20)):
        for stream in (0, 100):
            window.add(delay_ms * MS, sequence=stream + sequence, at_ns=NOW_NS)
    jitter = over(window, NOW_NS).jitter()
    assert jitter
    assert (jitter.ipdv_ms, jitter.signed_ipdv_ms) == (7.5, 0)
    assert (jitter.least_ipdv_ms, jitter.greatest_ipdv_ms) == (-10, 10)
    assert (jitter.mean_pdv_ms, jitter.pdv_ms) == (9, 15)


@given(st.permutations(range(12)))
def test_ipdv_is_the_same_whatever_order_the_packets_arrive_in(order: list[int]) -> None:
    window = DelayWindow()
    for sequence in order:
        window.add(sequence * sequence * MS, sequence=sequence, at_ns=NOW_NS)
    jitter = over(window, NOW_NS).jitter()
    assert jitter and jitter.signed_ipdv_ms == jitter.ipdv_ms == 11
    assert (jitter.least_ipdv_ms, jitter.greatest_ipdv_ms) == (1, 21)


def test_a_new_stream_follows_on_no_packet_of_the_one_before() -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(5 * MS, sequence=sequence, at_ns=NOW_NS)
    window.new_stream()
    window.add(500 * MS, sequence=20, at_ns=NOW_NS)
    jitter = over(window, NOW_NS).jitter()
    assert jitter and jitter.count == 21 and jitter.greatest_ipdv_ms == jitter.interarrival_ms == 0


def test_interarrival_jitter_is_computed_in_the_order_of_arrival() -> None:
    """RFC 3550 appendix A.8, although the samples are learned of in another order."""
    rng = random.Random(6)
    packets = [(n, n * 100 * MS + (delay := rng.randrange(400) * MS), delay) for n in range(300)]
    window = DelayWindow()
    for sequence, arrived_at_ns, delay_ns in packets:  # in the order of sending
        window.add(delay_ns, sequence=sequence, at_ns=NOW_NS, arrived_at_ns=arrived_at_ns)

    def jitter_of(order: list[tuple[int, int, int]]) -> float:
        jitter = 0.0
        for before, packet in zip(order, order[1:], strict=False):
            jitter += (abs(packet[2] - before[2]) - jitter) / 16
        return jitter / MS

    told = over(window, NOW_NS).jitter()
    assert told and told.interarrival_ms == pytest.approx(jitter_of(sorted(packets, key=lambda one: one[1])))
    assert told.interarrival_ms != pytest.approx(jitter_of(packets), rel=0.05)


def test_old_samples_leave_the_short_window_first_and_then_the_long_one() -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(5 * MS, sequence=sequence, at_ns=NOW_NS)
    assert window.over(NOW_NS + 9 * S, 10)
    assert window.over(NOW_NS + 10 * S, 10) is None
    assert window.over(NOW_NS + 59 * S, 60)
    assert window.over(NOW_NS + 60 * S, 60) is None


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_that_steps_by_an_hour_unseen_begins_a_new_window(step_s: int) -> None:
    window = DelayWindow()
    for sequence in range(20):
        window.add(5 * MS, sequence=sequence, at_ns=NOW_NS)
        window.add(9 * MS, sequence=sequence, at_ns=NOW_NS + step_s * S)
    told = told_delay(over(window, NOW_NS + step_s * S))
    assert (told.count, told.mean_ms) == (20, 9)


@pytest.mark.parametrize("step_ns", [3600 * S, -3600 * S, 50 * MS, -70 * S])
def test_delays_that_need_no_time_of_day_move_with_the_clock(step_ns: int) -> None:
    window = filled([5 * MS] * 300, start_ns=NOW_NS)
    now_ns = NOW_NS + 30 * S + step_ns
    window.move(step_ns)
    told = over(window, now_ns)
    assert (told.count, told.round_trip().mean_ms) == (300, 5)
    window = filled([5 * MS] * 100, start_ns=now_ns, window=window)
    assert over(window, now_ns + 10 * S).count == 400


def test_a_flood_of_a_hundred_thousand_samples_a_second_takes_no_more_memory() -> None:
    rng = random.Random(8)
    window = DelayWindow()
    for sequence in range(100_000):
        window.add(rng.randrange(10**9), sequence=sequence, at_ns=NOW_NS + sequence * 10_000)
    buckets = [bucket for bucket in window._ring.within(NOW_NS + S - 1, 60) if bucket.count]
    assert len(buckets) == 1
    assert len(buckets[0].bins) <= MAX_BINS
    assert sys.getsizeof(buckets[0].bins._counts) < 20_000
    assert len(window._recent) == 64 and len(window._interarrival._order._waiting) == 8
    told = over(window, NOW_NS + S - 1).distribution()
    assert told.count == 100_000
    assert told.p99_ms == pytest.approx(990, abs=1000 / MAX_BINS)


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
    found = over(window, now_ns, LONGEST_WINDOW_S).round_trip()
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


def test_the_quantile_of_a_window_is_neither_sum_nor_mean_of_the_quantiles_of_its_seconds() -> None:
    window = DelayWindow()
    delays = [(100 if second == 30 and number < 5 else 10) * MS for second in range(60) for number in range(100)]
    for sequence, delay_ns in enumerate(delays):
        window.add(delay_ns, sequence=sequence, at_ns=NOW_NS + sequence * 10 * MS)
    told = over(window, NOW_NS + 60 * S - 1)
    jitter = told.jitter()
    assert jitter and (jitter.count, jitter.pdv_ms) == (6000, 0)
    assert told.distribution().p99_ms == 10
    of_one_second = over(window, NOW_NS + 31 * S - 1, 1).jitter()
    assert of_one_second and of_one_second.pdv_ms == 90
