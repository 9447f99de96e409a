from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.bandwidth.trend import StreamPacket, StreamShape, Verdict, dispersion_rate_mbit_s, judge, trend

SHAPE = StreamShape(packets=100, packet_bytes=500, interval_ns=400_000)
FAR_CLOCK_NS = 1_700_000_000 * 10**9


def stream(growth_ns: float = 0.0, *, noise_ns: int = 0, seed: int = 1) -> list[StreamPacket]:
    """A stream of SHAPE whose delay grows so much from packet to packet."""
    draw = random.Random(seed)
    return [
        StreamPacket(
            number,
            number * SHAPE.interval_ns,
            FAR_CLOCK_NS + round(number * (SHAPE.interval_ns + growth_ns)) + draw.randint(0, noise_ns),
        )
        for number in range(SHAPE.packets)
    ]


def test_a_rate_counts_the_ip_packet() -> None:
    assert SHAPE.rate_mbit_s == pytest.approx(10)
    assert (SHAPE.duration_ns, SHAPE.total_bytes) == (40_000_000, 50_000)


@pytest.mark.parametrize(
    ("growth_ns", "noise_ns", "verdict"),
    [
        (20_000, 0, Verdict.INCREASING),
        (20_000, 100_000, Verdict.INCREASING),
        (0, 100_000, Verdict.NO_TREND),
        (-20_000, 100_000, Verdict.NO_TREND),
        (0, 0, Verdict.NO_TREND),
    ],
)
def test_growing_delay_is_a_trend_through_noise_and_any_clock_offset(
    growth_ns: float, noise_ns: int, verdict: Verdict
) -> None:
    assert judge(SHAPE, stream(growth_ns, noise_ns=noise_ns)) is verdict


def medians(values: list[int]) -> list[int]:
    """Delays of 100 packets whose ten medians are the values."""
    return [value for value in values for _ in range(10)]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        # 7 of 10 compare upwards (PCT 0.7), and of 9 steps up and down 5 remain (PDT 5/9).
        ([0, 1, 2, 3, 4, 3, 4, 5, 4, 5], Verdict.INCREASING),
        # One jump and then nothing: PCT 0.1 says none, PDT 1 says increasing.
        ([0, 9, 9, 9, 9, 9, 9, 9, 9, 9], Verdict.UNCLEAR),
        # PCT 0.5 is between its thresholds and PDT 0.11 says none.
        ([0, 1, 0, 1, 0, 1, 0, 1, 0, 1], Verdict.NO_TREND),
        # PCT 0.5 and PDT 6/14 are both between their thresholds.
        ([0, 2, 1, 3, 2, 4, 3, 5, 4, 6], Verdict.UNCLEAR),
    ],
)
def test_both_tests_must_not_contradict(values: list[int], verdict: Verdict) -> None:
    assert trend(medians(values)) is verdict


def test_too_few_packets_say_nothing() -> None:
    assert trend(list(range(35))) is Verdict.UNCLEAR
    assert trend(list(range(36))) is Verdict.INCREASING
    assert trend([]) is Verdict.UNCLEAR


def test_order_of_arrival_and_copies_do_not_matter() -> None:
    packets = stream(20_000, noise_ns=50_000)
    shuffled = packets * 2
    random.Random(2).shuffle(shuffled)
    assert judge(SHAPE, shuffled) is judge(SHAPE, packets) is Verdict.INCREASING


def test_a_late_copy_does_not_replace_the_first() -> None:
    packets = stream()
    late = [StreamPacket(p.sequence, p.sent_at_ns, p.received_at_ns + p.sequence * 50_000) for p in packets]
    assert judge(SHAPE, packets + late) is Verdict.NO_TREND


def test_some_losses_are_borne_and_many_are_told() -> None:
    packets = stream(20_000)
    assert judge(SHAPE, packets[:40] + packets[55:]) is Verdict.INCREASING
    assert judge(SHAPE, packets[:40] + packets[56:]) is Verdict.LOSSY
    assert judge(SHAPE, []) is Verdict.LOST
    assert judge(SHAPE, [StreamPacket(100, 0, 0), StreamPacket(-1, 0, 0)]) is Verdict.LOST


def test_a_sender_that_pauses_spoils_the_stream() -> None:
    paused = [
        StreamPacket(p.sequence, p.sent_at_ns + 2_000_000 * (p.sequence > 50), p.received_at_ns) for p in stream()
    ]
    assert judge(SHAPE, paused) is Verdict.SPOILED


def test_a_sender_that_sends_in_pairs_spoils_the_stream() -> None:
    pairs = [StreamPacket(p.sequence, p.sent_at_ns - p.sequence % 2 * 300_000, p.received_at_ns) for p in stream()]
    assert judge(SHAPE, pairs) is Verdict.SPOILED


def test_one_late_packet_spoils_nothing() -> None:
    packets = stream(20_000)
    packets[50] = StreamPacket(50, packets[50].sent_at_ns + 350_000, packets[50].received_at_ns + 350_000)
    assert judge(SHAPE, packets) is Verdict.INCREASING


def test_packets_given_in_heaps_are_seen() -> None:
    heaps = [
        StreamPacket(p.sequence, p.sent_at_ns, FAR_CLOCK_NS + (p.sequence // 8 + 1) * 8 * SHAPE.interval_ns)
        for p in stream()
    ]
    assert judge(SHAPE, heaps) is Verdict.CLUSTERED


def test_the_rate_of_arrival_is_that_of_the_wire() -> None:
    train = StreamShape(packets=30, packet_bytes=1500, interval_ns=120_000)
    packets = [StreamPacket(number, number * 120_000, number * 600_000) for number in range(30)]
    assert dispersion_rate_mbit_s(train, packets) == pytest.approx(20)
    assert dispersion_rate_mbit_s(train, packets[:14]) is None
    assert dispersion_rate_mbit_s(train, [StreamPacket(number, 0, 5) for number in range(30)]) is None


@given(
    st.lists(
        st.builds(StreamPacket, st.integers(-5, 120), st.integers(0, 2**64 - 1), st.integers(0, 2**63)),
        max_size=250,
    )
)
def test_whatever_a_hostile_sender_stamps_there_is_a_verdict(packets: list[StreamPacket]) -> None:
    assert judge(SHAPE, packets) in Verdict
    rate = dispersion_rate_mbit_s(SHAPE, packets)
    assert rate is None or rate > 0
