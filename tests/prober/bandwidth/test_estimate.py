"""Estimates over a simulated link in virtual time: the real gate at one end, the real estimate at the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from prober.bandwidth.estimate import BandwidthEstimate, BandwidthOutcome
from prober.bandwidth.gate import StreamGate, StreamOrder
from prober.bandwidth.packet import Challenge, Refusal, StreamId, StreamProbe, StreamRefusal, StreamRequest
from prober.bandwidth.search import Bound, End
from prober.bandwidth.settings import BandwidthSettings
from schemas.metrics import ScalarStatistics

S, MS = 10**9, 10**6
RECEIVER, PORT = "192.0.2.1", 49864
CROSS_BYTES = 1500
SETTINGS = BandwidthSettings()
Event = tuple[int, StreamProbe]
"""Arrival on the virtual clock, and the packet."""


def unchanged(events: list[Event]) -> list[Event]:
    return events


@dataclass
class Link:
    """A first-in, first-out link with Poisson cross traffic; both times of a packet are of unrelated clocks."""

    capacity_mbit_s: float = 20.0
    cross_mbit_s: float = 8.0
    delay_ns: int = 5 * MS
    queue_ns: int = 50 * MS
    lateness_ns: float = 5_000
    """Mean of how late the sender's thread is."""
    disturb: Callable[[list[Event]], list[Event]] = unchanged
    draw: random.Random = field(default_factory=lambda: random.Random(7))

    def carry(self, order: StreamOrder, start_ns: int) -> list[Event]:
        shape, draw = order.shape, self.draw
        arrivals: list[tuple[float, int, int]] = []
        for number in range(shape.packets):
            sent_ns = start_ns + number * shape.interval_ns + draw.expovariate(1 / self.lateness_ns)
            arrivals.append((sent_ns, shape.packet_bytes, number))
        at_ns = start_ns - 100.0 * MS
        while self.cross_mbit_s and at_ns < start_ns + shape.duration_ns:
            at_ns += draw.expovariate(self.cross_mbit_s / CROSS_BYTES / 8_000)
            arrivals.append((at_ns, CROSS_BYTES, -1))
        return self.disturb(self._queued(order, sorted(arrivals)))

    def _queued(self, order: StreamOrder, arrivals: list[tuple[float, int, int]]) -> list[Event]:
        idle_ns, events = 0.0, []
        for sent_ns, size, number in arrivals:
            if max(idle_ns - sent_ns, 0) > self.queue_ns:
                continue
            idle_ns = max(idle_ns, sent_ns) + size * 8_000 / self.capacity_mbit_s
            if number >= 0:
                probe = StreamProbe(order.stream, number, round(sent_ns) + 10**15, order.shape.packet_bytes)
                events.append((round(idle_ns + self.delay_ns + self.draw.expovariate(1 / 10_000)), probe))
        return events


@dataclass
class Network:
    """One receiver, one upstream point, one link."""

    link: Link = field(default_factory=Link)
    settings: BandwidthSettings = SETTINGS
    upstream_settings: BandwidthSettings = SETTINGS
    lost_requests: set[int] = field(default_factory=set)
    """By number of sending."""
    is_neighbor: bool = True
    now_ns: int = 0
    requests: list[StreamRequest] = field(default_factory=list)
    orders: list[StreamOrder] = field(default_factory=list)
    busy_until_ns: int = 0

    def __post_init__(self) -> None:
        self.gate = StreamGate(self.upstream_settings, is_neighbor=lambda _: self.is_neighbor, secret=b"secret")
        self.estimate = BandwidthEstimate(self.settings, session=5, now_ns=0)

    def run(self) -> BandwidthOutcome:
        estimate = self.estimate
        while estimate.ended is None:
            self.now_ns = max(self.now_ns, estimate.next_wakeup_ns())
            request = estimate.due(self.now_ns)
            if request:
                self.requests.append(request)
                if len(self.requests) not in self.lost_requests:
                    self._answer(request)
        return estimate.outcome("192.0.2.9", self.now_ns, 1_700_000_000_000)

    def _answer(self, request: StreamRequest) -> None:
        there_ns = self.now_ns + self.link.delay_ns
        if there_ns < self.busy_until_ns:
            answer: Challenge | StreamRefusal | StreamOrder | None = StreamRefusal(request.stream, Refusal.BUSY)
        else:
            answer = self.gate.asked(request, RECEIVER, PORT, there_ns)
        if isinstance(answer, StreamOrder):
            self.orders.append(answer)
            self.gate.ended()
            for at_ns, probe in sorted(self.link.carry(answer, there_ns), key=lambda event: event[0]):
                self._until(at_ns)
                self.estimate.received(probe, at_ns + 3 * S, self.now_ns)
        elif answer:
            self.now_ns = there_ns + self.link.delay_ns
            self.estimate.received(answer, self.now_ns, self.now_ns)

    def _until(self, at_ns: int) -> None:
        """Go on in time as the driver does: what is due before comes before."""
        while self.estimate.ended is None and self.estimate.next_wakeup_ns() < at_ns:
            self.now_ns = self.estimate.next_wakeup_ns()
            if self.estimate.due(self.now_ns):
                return
        self.now_ns = max(self.now_ns, at_ns)


@pytest.mark.parametrize(("capacity", "cross"), [(20, 8), (50, 20), (20, 0.5)])
def test_the_interval_holds_the_available_bandwidth_in_time_and_at_low_load(capacity: float, cross: float) -> None:
    outcome = Network(Link(capacity, cross)).run()
    value = outcome.statistics()
    assert isinstance(value, ScalarStatistics)
    assert value.low <= capacity - cross <= value.high
    assert value.value == (value.low + value.high) / 2
    assert (value.count, value.measured_at_ms) == (outcome.streams, 1_700_000_000_000)
    assert outcome.duration_ns <= 14 * S
    assert outcome.octets * 8 / (outcome.duration_ns / 1e9) < 0.15 * capacity * 1e6


def test_the_time_between_streams_keeps_the_load_below_a_tenth_of_their_rate() -> None:
    network = Network()
    sent: list[tuple[int, int]] = []
    carry = network.link.carry

    def noted(order: StreamOrder, start_ns: int) -> list[Event]:
        sent.append((start_ns, order.shape.duration_ns))
        return carry(order, start_ns)

    network.link.carry = noted  # type: ignore[method-assign]
    network.run()
    searching = sent[1:]
    assert len(searching) > 15
    for (began_ns, duration_ns), (next_ns, _) in zip(searching, searching[1:], strict=False):
        assert next_ns - began_ns >= 10 * duration_ns - MS


def test_a_link_faster_than_the_fastest_stream_gives_only_a_lower_bound() -> None:
    outcome = Network(Link(300, 10)).run()
    assert (outcome.bound, outcome.end) == (Bound.LOWER, End.FASTEST_RATE)
    assert outcome.interval.low_mbit_s == pytest.approx(100, abs=0.3)
    assert outcome.statistics() is None


def test_the_upstream_points_lower_limits_are_taken_on() -> None:
    upstream = BandwidthSettings(max_rate_mbit_s=30, max_packet_bytes=1200, min_interval_us=150)
    network = Network(Link(300, 10), upstream_settings=upstream)
    outcome = network.run()
    assert outcome.bound is Bound.LOWER
    assert outcome.interval.low_mbit_s == pytest.approx(30, abs=0.3)
    assert max(order.shape.packet_bytes for order in network.orders) == 1200


@pytest.mark.parametrize(
    ("upstream", "refusal"),
    [
        (BandwidthSettings(max_octets_per_hour_and_neighbor=100_000), Refusal.NEIGHBOR_BUDGET),
        (BandwidthSettings(max_octets_per_hour=100_000), Refusal.BUDGET),
        (BandwidthSettings(min_interval_us=10_000, max_packet_bytes=1000), Refusal.INTERVAL),
    ],
)
def test_what_the_upstream_point_cannot_give_ends_the_estimate_with_its_reason(
    upstream: BandwidthSettings, refusal: Refusal
) -> None:
    outcome = Network(upstream_settings=upstream).run()
    assert (outcome.end, outcome.refusal) == (End.REFUSED, refusal)
    assert outcome.statistics() is None


def test_a_refusal_as_no_neighbor_ends_the_estimate_at_once() -> None:
    network = Network(is_neighbor=False)
    outcome = network.run()
    assert (outcome.end, outcome.refusal) == (End.REFUSED, Refusal.NO_NEIGHBOR)
    assert (len(network.requests), outcome.octets) == (1, 0)


@pytest.mark.parametrize("limit", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("reason", [Refusal.RATE, Refusal.PACKET_BYTES, Refusal.INTERVAL, Refusal.LENGTH])
def test_an_absurd_limit_ends_the_estimate(reason: Refusal, limit: int) -> None:
    estimate = BandwidthEstimate(SETTINGS, session=5, now_ns=0)
    for now_ns in range(10):
        request = estimate.due(now_ns)
        if request:
            estimate.received(StreamRefusal(request.stream, reason, limit), 0, now_ns)
    assert (estimate.ended, estimate.refusal) == (End.REFUSED, reason)


def test_a_busy_upstream_point_is_asked_again() -> None:
    network = Network(busy_until_ns=1 * S)
    outcome = network.run()
    assert outcome.bound is Bound.RANGE
    assert 3 <= sum(request.cookie == bytes(16) for request in network.requests) <= 6


def test_a_silent_upstream_point_is_given_up() -> None:
    outcome = Network(lost_requests=set(range(1, 100))).run()
    assert (outcome.end, outcome.bound) == (End.NO_ANSWER, Bound.NONE)
    assert outcome.duration_ns == 3 * S


def test_a_lost_request_costs_one_wait() -> None:
    outcome = Network(lost_requests={1, 4, 9}).run()
    assert outcome.bound is Bound.RANGE


def test_packets_too_large_for_the_way_are_no_answer() -> None:
    outcome = Network(Link(disturb=lambda events: [])).run()
    assert (outcome.end, outcome.bound) == (End.NO_ANSWER, Bound.NONE)


def test_endless_challenges_are_given_up() -> None:
    estimate = BandwidthEstimate(SETTINGS, session=5, now_ns=0)
    asked = 0
    while estimate.ended is None:
        request = estimate.due(asked)
        if request:
            asked += 1
            estimate.received(Challenge(request.stream, bytes(16)), 0, asked)
    assert (estimate.ended, asked) == (End.NO_ANSWER, 9)


def shuffled(events: list[Event]) -> list[Event]:
    """Neighbors change places."""
    times = [at_ns for at_ns, _ in events]
    probes = [probe for _, probe in events]
    for at in range(0, len(probes) - 1, 9):
        probes[at], probes[at + 1] = probes[at + 1], probes[at]
    return list(zip(times, probes, strict=True))


def doubled(events: list[Event]) -> list[Event]:
    return events + [(at_ns + 200_000, probe) for at_ns, probe in events[:-1:3]]


def thinned(events: list[Event]) -> list[Event]:
    """1 % is missing, and the last packet too."""
    return [event for number, event in enumerate(events[:-1]) if number != 50]


def of_wrong_size(events: list[Event]) -> list[Event]:
    wrong = [(at_ns, replace(probe, packet_bytes=probe.packet_bytes - 1)) for at_ns, probe in events[::2]]
    return events + wrong + [(events[0][0], replace(events[0][1], sequence=2**32 - 1))]


@pytest.mark.parametrize("disturb", [shuffled, doubled, thinned, of_wrong_size])
def test_reordering_copies_few_losses_and_wrong_packets_change_nothing(
    disturb: Callable[[list[Event]], list[Event]],
) -> None:
    network = Network(Link(disturb=disturb))
    outcome = network.run()
    low, high = outcome.interval.low_mbit_s, outcome.interval.high_mbit_s
    assert low is not None and high is not None
    assert low <= 12 <= high
    assert (network.estimate.oddities["duplicate-probe"] > 100) is (disturb is doubled)
    assert (network.estimate.oddities["probe-of-wrong-shape"] > 100) is (disturb is of_wrong_size)


def test_a_path_that_loses_a_fifth_of_everything_ends_with_too_much_loss() -> None:
    outcome = Network(Link(disturb=lambda events: [event for event in events if event[1].sequence % 5])).run()
    assert (outcome.end, outcome.streams) == (End.TOO_MUCH_LOSS, 6)
    assert outcome.statistics() is None


def test_loss_from_a_short_queue_lowers_the_upper_end() -> None:
    outcome = Network(Link(8, 1, queue_ns=6 * MS)).run()
    low, high = outcome.interval.low_mbit_s, outcome.interval.high_mbit_s
    assert low is not None and high is not None
    assert low <= 7 <= high


def test_a_sender_that_cannot_keep_intervals_is_found_out() -> None:
    outcome = Network(Link(lateness_ns=3e6)).run()
    assert outcome.end in (End.SENDER_TOO_SLOW, End.TIME_OUT)
    assert outcome.bound is Bound.NONE


def test_packets_stamped_in_heaps_are_found_out() -> None:
    def heaped(events: list[Event]) -> list[Event]:
        return [(at_ns - at_ns % (8 * MS) + 8 * MS, probe) for at_ns, probe in events]

    network = Network(Link(disturb=heaped))
    outcome = network.run()
    assert outcome.end is End.CLUSTERED
    assert outcome.bound is Bound.NONE


def test_the_octets_of_one_estimate_are_bounded() -> None:
    outcome = Network(settings=BandwidthSettings(max_octets_per_estimate=500_000)).run()
    assert outcome.end is End.OCTETS_USED
    assert 400_000 < outcome.octets <= 500_000


def test_a_stream_that_the_end_of_time_cuts_off_is_not_taken_for_a_lossy_one() -> None:
    estimate = BandwidthEstimate(BandwidthSettings(max_estimate_s=1), session=5, now_ns=0)
    request = estimate.due(0)
    assert request
    for sequence in range(20):
        estimate.received(StreamProbe(request.stream, sequence, 0, 1500), sequence, S - 10)
    assert estimate.due(S) is None
    assert (estimate.ended, estimate.streams, estimate.octets) == (End.TIME_OUT, 1, 45_000)
    assert not estimate.verdicts


def test_packets_of_other_streams_are_counted_and_not_taken() -> None:
    estimate = BandwidthEstimate(SETTINGS, session=5, now_ns=0)
    estimate.received(StreamProbe(StreamId(5, 0), 0, 0, 1500), 0, 0)
    request = estimate.due(0)
    assert request
    estimate.received(StreamProbe(StreamId(6, request.stream.number), 0, 0, 1500), 0, 0)
    estimate.received(StreamProbe(StreamId(5, request.stream.number + 1), 0, 0, 1500), 0, 0)
    assert estimate.oddities == {"stray-stream-packet": 3}
    estimate.received(StreamProbe(request.stream, 0, 0, 1500), 0, 0)
    estimate.received(StreamRefusal(request.stream, Refusal.BUDGET), 0, 0)
    assert (estimate.ended, estimate.oddities["answer-out-of-turn"]) == (None, 1)
