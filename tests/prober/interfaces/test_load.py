from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.interfaces.load import (
    UNKNOWN_LOAD,
    Counters,
    InterfaceLoad,
    InterfaceReading,
    Throughput,
    ThroughputWindow,
    Utilization,
    counted_since,
    load_of,
    segment_capacity,
    segment_utilization,
)
from prober.timestamp import NS_PER_S
from schemas.metrics import ScalarStatistics

ETHERNET, TUNNEL = 1, 65534


def reading(*, link_type: int = ETHERNET, mtu: int = 1500, speed: int | None = 1000) -> InterfaceReading:
    nothing = Counters(0, 0)
    return InterfaceReading(
        index=3,
        name="eth0",
        link_type=link_type,
        mtu_octets=mtu,
        received=nothing,
        sent=nothing,
        speed_mbit_s=speed,
    )


def fed(*readings: tuple[float, int, int], header: int = 14) -> ThroughputWindow:
    """A window that saw (second, octets, packets)."""
    window = ThroughputWindow()
    for second, octets, packets in readings:
        window.add(Counters(octets, packets), header_octets=header, now_ns=round(second * NS_PER_S))
    return window


def load(capacity: float | None, *shares: float) -> InterfaceLoad:
    used = Utilization(mean=shares[0], least=shares[1], greatest=shares[2], intervals=6) if shares else None
    return InterfaceLoad(capacity_mbit_s=capacity, utilization=used)


def test_the_link_header_is_no_part_of_the_ip_layer() -> None:
    throughput = fed((0, 0, 0), (10, 1514_000, 1000)).throughput()
    assert throughput == Throughput(
        mean_bit_s=1_200_000, least_bit_s=1_200_000, greatest_bit_s=1_200_000, intervals=1
    )
    assert (reading().header_octets, reading(link_type=TUNNEL).header_octets) == (14, 0)


def test_nothing_is_told_before_an_interval_has_passed() -> None:
    assert fed().throughput() is None
    assert fed((5, 10_000, 10)).throughput() is None
    assert fed((5, 10_000, 10), (5, 20_000, 20)).throughput() is None


def test_the_window_holds_six_intervals_and_their_extremes() -> None:
    octets = [0, 9_000, 9_000, 10_000, 12_000, 15_000, 19_000, 24_000]
    throughput = fed(*((10 * turn, count, 0) for turn, count in enumerate(octets))).throughput()
    assert throughput is not None
    assert throughput.intervals == 6
    assert throughput.mean_bit_s == pytest.approx(8 * (24_000 - 9_000) / 60)
    assert (throughput.least_bit_s, throughput.greatest_bit_s) == (0, 8 * 5_000 / 10)


def test_a_late_reading_is_spread_over_its_time() -> None:
    throughput = fed((0, 0, 0), (10, 1000, 0), (40, 4000, 0)).throughput()
    assert throughput is not None
    assert throughput.mean_bit_s == throughput.least_bit_s == throughput.greatest_bit_s == 800


@pytest.mark.parametrize("bits", [32, 64])
def test_a_counter_that_wraps_goes_on(bits: int) -> None:
    end = 1 << bits
    throughput = fed((0, end - 400, 7), (10, 600, 7)).throughput()
    assert throughput is not None
    assert throughput.mean_bit_s == 800


@pytest.mark.parametrize("before", [5_000, 1 << 31, 1 << 33])
def test_an_interface_that_was_replaced_begins_anew(before: int) -> None:
    window = fed((0, before - 1000, 0), (10, before, 0), (20, 100, 0), (30, 1100, 0))
    throughput = window.throughput()
    assert throughput is not None
    assert (throughput.intervals, throughput.greatest_bit_s) == (2, 800)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_a_counter_never_counts_backwards(old: int, new: int) -> None:
    counted = counted_since(old, new)
    assert counted is None or 0 <= counted < 1 << 64
    assert counted is None or (old + counted) % (1 << 32) == new % (1 << 32)


def test_the_capacity_of_a_device_is_what_full_size_packets_reach() -> None:
    assert reading().capacity_mbit_s == pytest.approx(975.29, abs=0.01)
    assert reading(link_type=TUNNEL).capacity_mbit_s == 1000
    assert reading(speed=None).capacity_mbit_s is None


def test_the_load_is_a_share_of_a_known_capacity() -> None:
    throughput = Throughput(mean_bit_s=5e6, least_bit_s=1e6, greatest_bit_s=12e6, intervals=4)
    assert load_of(10, throughput) == InterfaceLoad(
        capacity_mbit_s=10, utilization=Utilization(mean=0.5, least=0.1, greatest=1.0, intervals=4)
    )
    assert load_of(None, throughput) == UNKNOWN_LOAD
    assert load_of(10, None) == load(10)


def test_the_narrower_end_is_the_capacity_of_the_segment() -> None:
    expected = ScalarStatistics(count=2, value=10, low=10, high=10, measured_at_ms=7)
    assert segment_capacity(load(100), load(10), now_ms=7) == expected
    assert segment_capacity(load(10), load(100), now_ms=7) == expected


def test_an_unknown_end_is_no_zero() -> None:
    capacity = segment_capacity(UNKNOWN_LOAD, load(10), now_ms=7)
    assert capacity is not None
    assert (capacity.count, capacity.value) == (1, 10)
    assert segment_capacity(UNKNOWN_LOAD, UNKNOWN_LOAD, now_ms=7) is None
    assert segment_utilization(load(10), UNKNOWN_LOAD, now_ms=7) is None


def test_the_busier_end_is_the_utilization_of_the_segment() -> None:
    used = segment_utilization(load(10, 0.5, 0.1, 0.6), load(100, 0.2, 0.15, 0.9), now_ms=7)
    assert used == ScalarStatistics(count=12, value=0.5, low=0.15, high=0.9, measured_at_ms=7)
