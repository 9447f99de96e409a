from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.clock_state import ClockState
from prober.segment import LOSS_THRESHOLDS_MS, METRICS_MEASURED, Event, Segment, SegmentSnapshot
from prober.timestamp import ErrorEstimate
from schemas.errors import UsageError
from schemas.histogram import Histogram
from schemas.message import SegmentState
from schemas.metrics import (
    METRICS,
    DelayStatistics,
    DistributionStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    ScalarStatistics,
    Statistics,
    sample_count,
)

MS, S = 1_000_000, 1_000_000_000
START_NS = 1_700_000_000 * S
CLOCK = ClockState(synchronized=True, error_ms=0.2)
THERE_MS, BACK_MS = 10, 20
MTU = ScalarStatistics(count=1, value=1400, low=1400, high=1400, measured_at_ms=START_NS // MS)


class Probing:
    """A segment at the end that sends the probes, ten a second, on a path of which all is known."""

    def __init__(self, *, loss_threshold_ms: int = 1000, jitter_us: int = 50) -> None:
        self.segment = Segment("192.0.2.1", loss_threshold_ms=loss_threshold_ms)
        self.segment.peer_error = ErrorEstimate.from_int(0x8F84)
        self.segment.hops = 2
        self.chance = random.Random(4)
        self.jitter_us = jitter_us
        self.number = 0
        self.now_ns = START_NS
        self.own_ahead_ns = 0
        self.peer_ahead_ns = 0

    @property
    def clock_ns(self) -> int:
        return self.now_ns + self.own_ahead_ns

    def answered(self, packets: int = 1) -> None:
        for _ in range(packets):
            self.now_ns += 100 * MS
            there, back = (ms * MS + self.chance.randrange(self.jitter_us * 1000) for ms in (THERE_MS, BACK_MS))
            ahead_ns = self.peer_ahead_ns - self.own_ahead_ns
            at_ns = self.clock_ns
            self.segment.inbound.arrived(at_ns, extent=0)
            self.segment.outbound.arrived_there(self.number, at_ns, order=self.number)
            self.segment.take_exchange(
                outbound_ns=there + ahead_ns,
                inbound_ns=back - ahead_ns,
                outbound_sequence=self.number,
                inbound_sequence=self.number,
                began_at_ns=at_ns - there - back,
                at_ns=at_ns,
                arrived_there_ns=at_ns - back + ahead_ns,
            )
            self.number += 1

    def lose(self, packets: int) -> None:
        for _ in range(packets):
            self.now_ns += 100 * MS
            self.segment.inbound.losses.lost(self.number, self.clock_ns, self.clock_ns)
            self.number += 1

    def told(self, window_s: int = 60, *, outbound: bool = False) -> Mapping[str, Statistics]:
        ask = self.segment.outbound_statistics if outbound else self.segment.statistics
        return ask(METRICS_MEASURED, now_ns=self.clock_ns, clock=CLOCK, window_s=window_s)

    def delay(self, *, outbound: bool = False) -> DelayStatistics:
        told = self.told(outbound=outbound)["delay"]
        assert isinstance(told, DelayStatistics)
        return told

    def loss(self) -> LossStatistics:
        told = self.told()["loss"]
        assert isinstance(told, LossStatistics)
        return told

    def round_trip(self) -> RoundTripStatistics:
        told = self.told()["rtt"]
        assert isinstance(told, RoundTripStatistics)
        return told


def test_every_metric_that_probes_measure_is_told_in_its_own_kind_of_statistics() -> None:
    probing = Probing()
    probing.answered(300)
    for outbound in (False, True):
        told = probing.told(outbound=outbound)
        assert list(told) == [name for name in METRICS_MEASURED if not (outbound and name == "hops")]
        for name, statistics in told.items():
            assert type(statistics) is METRICS[name].statistics


def test_ten_seconds_and_sixty_seconds_are_told_apart() -> None:
    probing = Probing()
    probing.answered(290)
    probing.lose(30)
    probing.answered(280)
    short, long = probing.told(10), probing.told(60)
    for name in ("delay", "jitter", "distribution", "rtt", "reordering", "duplication"):
        # The last second has only begun.
        assert (sample_count(short[name]), sample_count(long[name])) == (91, 561)
    assert isinstance(short["loss"], LossStatistics) and isinstance(long["loss"], LossStatistics)
    assert (short["loss"].lost, long["loss"].lost) == (0, 30)
    assert (long["loss"].runs, long["loss"].longest_run) == (1, 30)


def test_the_distribution_agrees_with_the_delay_and_the_jitter() -> None:
    probing = Probing(jitter_us=8000)
    probing.answered(590)
    told = probing.told()
    delay, jitter, distribution = told["delay"], told["jitter"], told["distribution"]
    assert isinstance(delay, DelayStatistics) and isinstance(jitter, JitterStatistics)
    assert isinstance(distribution, DistributionStatistics)
    assert distribution.minimum_ms == delay.minimum_ms
    assert distribution.p50_ms <= distribution.p95_ms <= distribution.p99_ms <= delay.minimum_ms + jitter.pdv_ms
    histogram = Histogram.from_text(distribution.bins)
    assert histogram.total == delay.count
    assert histogram.quantile_ms(500) + delay.minimum_ms == pytest.approx(distribution.p50_ms, rel=0.1)


def test_hops_are_those_that_traceroute_counts() -> None:
    probing = Probing()
    probing.answered(7)
    told = probing.told()["hops"]
    assert isinstance(told, ScalarStatistics)
    assert (told.value, told.low, told.high, told.count) == (3, 3, 3, 7)
    assert told.measured_at_ms == probing.clock_ns // MS


def test_no_sample_is_not_measured_and_differs_from_all_lost() -> None:
    probing = Probing()
    assert dict(probing.told()) == {}
    probing.lose(50)
    told = probing.told()
    assert list(told) == ["loss"]
    assert (probing.loss().lost, probing.loss().sent) == (50, 50)


def test_what_others_measured_is_given_and_told_until_it_is_withdrawn() -> None:
    segment = Segment("192.0.2.1")
    ask = ("mtu", "capacity")
    segment.give("mtu", MTU)
    assert dict(segment.statistics(ask, now_ns=START_NS, clock=CLOCK)) == {"mtu": MTU}
    assert dict(segment.outbound_statistics(ask, now_ns=START_NS, clock=CLOCK)) == {}
    snapshot = SegmentSnapshot.of(segment, now_ns=START_NS, clock=CLOCK)
    assert dict(snapshot.statistics) == {"mtu": MTU}
    segment.withdraw("mtu")
    segment.withdraw("capacity")
    assert not segment.statistics(ask, now_ns=START_NS, clock=CLOCK)
    with pytest.raises(UsageError):
        segment.give("delay", MTU)


@pytest.mark.parametrize("threshold_ms", [0, 9, 4001, -5])
def test_a_threshold_beyond_the_life_of_a_probe_is_refused(threshold_ms: int) -> None:
    assert threshold_ms not in LOSS_THRESHOLDS_MS
    with pytest.raises(UsageError):
        Segment("192.0.2.1", loss_threshold_ms=threshold_ms)


@pytest.mark.parametrize("threshold_ms", [200, 4000])
def test_the_loss_threshold_is_stated_and_silence_is_longer_than_it(threshold_ms: int) -> None:
    probing = Probing(loss_threshold_ms=threshold_ms)
    probing.answered(100)
    sent_at_ns = probing.clock_ns
    probing.segment.unanswered = {1000 + n: sent_at_ns for n in range(5)}
    probing.now_ns += threshold_ms * MS + 1900 * MS
    assert probing.loss().threshold_ms == threshold_ms
    assert probing.loss().lost == 0
    probing.now_ns += 200 * MS
    assert (probing.loss().lost, probing.loss().longest_run) == (5, 5)


@pytest.mark.parametrize("step_ms", [1, -1, 7, -50, 50, 3_600_000])
def test_a_step_of_the_peers_clock_leaves_a_right_delay_within_a_second(step_ms: int) -> None:
    """Right by the new clock: nothing of the old one is in the mean, and the round trip never changed."""
    probing = Probing()
    probing.answered(400)
    probing.peer_ahead_ns += step_ms * MS
    probing.answered(10)
    assert probing.segment.events[Event.CLOCK_STEP] == 1
    assert probing.segment.last_step_ns == pytest.approx(step_ms * MS, abs=0.1 * MS)
    assert probing.segment.events[Event.ABSURD] == 0
    for outbound, delay_ms in ((True, THERE_MS + step_ms), (False, BACK_MS - step_ms)):
        told = probing.delay(outbound=outbound)
        assert told.count == 10
        assert told.mean_ms == pytest.approx(delay_ms + 0.025, abs=0.03)
        assert told.variance_ms2 < 0.01
    assert probing.round_trip().count == 410
    assert probing.round_trip().mean_ms == pytest.approx(THERE_MS + BACK_MS + 0.05, abs=0.02)
    assert probing.loss().lost == 0 and probing.loss().sent > 390


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 50, -50, 2, -30_000, -1])
def test_a_step_of_the_own_clock_leaves_no_mixed_window_and_right_values_within_a_second(step_ms: int) -> None:
    probing = Probing()
    probing.answered(300)
    probing.lose(10)
    probing.answered(100)
    probing.own_ahead_ns += step_ms * MS
    probing.answered(2)  # before the step is noticed
    probing.segment.clock_stepped(probing.clock_ns, step_ns=step_ms * MS)
    assert not {"delay", "loss", "jitter", "distribution", "reordering", "hops"} & probing.told().keys()
    assert probing.segment.state(probing.clock_ns) is SegmentState.PENDING
    probing.answered(10)
    assert probing.segment.state(probing.clock_ns) is SegmentState.MEASURED
    for outbound, delay_ms in ((True, THERE_MS - step_ms), (False, BACK_MS + step_ms)):
        told = probing.delay(outbound=outbound)
        assert told.count <= 10
        assert told.mean_ms == pytest.approx(delay_ms + 0.025, abs=0.03)
    assert probing.segment.events[Event.CLOCK_STEP] == 1
    assert probing.segment.last_step_ns == -step_ms * MS
    assert probing.round_trip().count == pytest.approx(410, abs=12)
    assert probing.round_trip().mean_ms == pytest.approx(THERE_MS + BACK_MS + 0.05, abs=0.03)
    probing.answered(20)
    assert probing.loss().lost == 0
    assert probing.loss().sent == pytest.approx(20, abs=3)


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_step_of_an_hour_that_nobody_told_of_leaves_no_mixed_window_either(step_s: int) -> None:
    probing = Probing()
    probing.answered(300)
    probing.lose(10)
    probing.answered(20)
    probing.own_ahead_ns += step_s * S
    probing.answered(10)
    assert probing.delay().count == 10
    assert probing.delay().mean_ms == pytest.approx(BACK_MS + step_s * 1000 + 0.025, abs=0.03)
    assert probing.segment.events[Event.CLOCK_STEP] == 1
    probing.answered(20)
    assert probing.loss().lost == 0
    assert probing.loss().sent == pytest.approx(20, abs=3)
    assert probing.round_trip().count == 30


@pytest.mark.parametrize("step_ms", [50, -50, 3_600_000, -3_600_000])
def test_an_exchange_that_began_before_the_own_clock_was_set_is_no_sample(step_ms: int) -> None:
    probing = Probing()
    probing.answered(100)
    old_ns = probing.clock_ns
    probing.own_ahead_ns += step_ms * MS
    probing.segment.clock_stepped(probing.clock_ns, step_ns=step_ms * MS)
    for began_at_ns in (old_ns, old_ns - 30 * MS, old_ns - 900 * MS):
        probing.segment.take_exchange(
            outbound_ns=THERE_MS * MS,
            inbound_ns=BACK_MS * MS,
            outbound_sequence=200,
            inbound_sequence=200,
            began_at_ns=began_at_ns,
            at_ns=began_at_ns,
            arrived_there_ns=began_at_ns,
        )
        probing.segment.inbound_sample(BACK_MS * MS, sequence=200, at_ns=began_at_ns)
    for direction in (probing.segment.inbound, probing.segment.outbound):
        assert direction.delays.count(probing.clock_ns, 60) == direction.delays.count(old_ns, 60) == 0
    probing.answered(40)
    assert probing.segment.inbound.delays.count(probing.clock_ns, 60) == pytest.approx(40, abs=1)
    assert probing.delay().mean_ms == pytest.approx(BACK_MS + step_ms + 0.025, abs=0.03)


def test_a_reflectors_forward_delay_of_an_hour_is_held_back_and_dropped() -> None:
    segment = Segment("192.0.2.1")
    for number in range(40):
        delay_ns = 3600 * S if number == 20 else 6 * MS
        segment.inbound_sample(delay_ns, sequence=number, at_ns=START_NS + number * 100 * MS)
    assert segment.inbound.delays.count(START_NS + 4 * S, 60) == 39
    assert (segment.events[Event.ABSURD], segment.events[Event.CLOCK_STEP]) == (1, 0)


def test_a_reflector_sees_the_step_of_a_sender_that_tells_only_when_it_sent() -> None:
    segment = Segment("192.0.2.1")
    for number in range(60):
        ahead_ns = -3600 * S if number >= 40 else 0
        segment.inbound_sample(6 * MS - ahead_ns, sequence=number, at_ns=START_NS + number * 100 * MS)
    assert segment.inbound.delays.count(START_NS + 6 * S, 60) == 20
    assert (segment.events[Event.ABSURD], segment.events[Event.CLOCK_STEP]) == (0, 1)
    assert segment.last_step_ns == -3600 * S


def test_a_snapshot_counts_steps_shifts_and_the_reordering_extent() -> None:
    probing = Probing()
    probing.answered(40)
    for extent in (0, 1, 2):
        probing.segment.inbound.arrived(probing.clock_ns, extent=extent)
    snapshot = SegmentSnapshot.of(probing.segment, now_ns=probing.clock_ns, clock=CLOCK)
    assert set(snapshot.counters) == {event.value for event in Event} | {"shift", "reordering-extent"}
    assert (snapshot.counters["reordering-extent"], snapshot.counters["clock-step"]) == (2, 0)
    told = snapshot.statistics["reordering"]
    assert isinstance(told, ScalarStatistics) and told.value == pytest.approx(2 / 43)


def test_counting_losses_anew_leaves_the_delays() -> None:
    probing = Probing()
    probing.answered(30)
    probing.lose(20)
    probing.answered(30)
    probing.segment.unanswered = {7: START_NS}
    probing.segment.forget_losses()
    probing.answered(30)
    assert (probing.loss().lost, probing.delay().count) == (0, 90)


def test_a_flood_of_a_hundred_thousand_packets_a_second_takes_no_more_memory() -> None:
    segment = Segment("192.0.2.1")
    for number in range(30_000):
        at_ns = START_NS + number * 10_000
        segment.inbound.arrived(at_ns, extent=0)
        segment.outbound.arrived_there(number, at_ns, order=number)
        segment.inbound_sample(number * 7919 % 50_000_000, sequence=number, at_ns=at_ns)
    direction = segment.inbound
    assert direction.delays.count(START_NS, 1) == 30_000
    bucket = direction.delays._ring.at(START_NS)
    assert bucket.count == 30_000
    assert len(bucket.bins) <= 256
    assert len(direction.losses._unsettled) <= 33
    assert len(segment.outbound.arrivals._reordering._records) <= 256


times = st.one_of(st.integers(-(2**64), 2**64), st.integers(START_NS, START_NS + 90 * S))
delays = st.one_of(st.integers(-(2**64), 2**64), st.integers(0, 50 * MS))


@given(st.lists(st.tuples(st.integers(0, 4), times, delays, delays, st.integers(0, 2**32 + 50)), max_size=80))
def test_no_times_or_numbers_whatever_break_a_segment(happenings: list[tuple[int, int, int, int, int]]) -> None:
    segment = Segment("192.0.2.1")
    segment.hops = 1
    for kind, at_ns, first_ns, second_ns, number in happenings:
        match kind:
            case 0:
                segment.inbound_sample(first_ns, sequence=number, at_ns=at_ns)
            case 1:
                segment.inbound.arrived(at_ns, extent=number % 3)
                segment.outbound.arrived_there(number, at_ns, order=second_ns)
            case 2:
                segment.inbound.losses.lost(number, at_ns, at_ns + first_ns)
                segment.inbound.arrivals.copied(at_ns)
            case 3:
                segment.clock_stepped(at_ns, step_ns=first_ns)
            case _:
                segment.take_exchange(
                    outbound_ns=first_ns,
                    inbound_ns=second_ns,
                    outbound_sequence=number,
                    inbound_sequence=number,
                    began_at_ns=at_ns - 1,
                    at_ns=at_ns,
                    arrived_there_ns=second_ns,
                )
    for now_ns in [at_ns for _, at_ns, *_ in happenings[-2:]]:
        snapshot = SegmentSnapshot.of(segment, now_ns=now_ns, clock=CLOCK)
        for told in (snapshot.statistics, snapshot.recent, snapshot.outbound):
            assert told.keys() <= set(METRICS_MEASURED)
            loss = told.get("loss")
            if isinstance(loss, LossStatistics):
                assert 0 <= loss.longest_run <= loss.lost <= loss.sent
                assert loss.runs <= loss.lost
