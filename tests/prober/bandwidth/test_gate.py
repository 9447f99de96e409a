from __future__ import annotations

import pytest

from prober.bandwidth.gate import COOKIE_LIFETIME_NS, StreamGate, StreamOrder
from prober.bandwidth.packet import NO_COOKIE, Challenge, Refusal, StreamId, StreamRefusal, StreamRequest
from prober.bandwidth.settings import BandwidthSettings
from prober.bandwidth.trend import StreamShape

NEIGHBOR, OTHER, PORT = "192.0.2.1", "192.0.2.2", 49864
SHAPE = StreamShape(packets=100, packet_bytes=1000, interval_ns=400_000)
MINUTE_NS = 60 * 10**9


class Asker:
    """Asks a gate from one address, with the cookie that it was given."""

    def __init__(self, gate: StreamGate, address: str = NEIGHBOR, session: int = 1) -> None:
        self.gate, self.address, self.session = gate, address, session
        self.cookie = NO_COOKIE
        self.number = 0

    def ask(self, shape: StreamShape = SHAPE, now_ns: int = 0) -> StreamOrder | Challenge | StreamRefusal | None:
        self.number += 1
        return self.repeat(shape, now_ns)

    def repeat(
        self, shape: StreamShape = SHAPE, now_ns: int = 0, port: int = PORT
    ) -> StreamOrder | Challenge | StreamRefusal | None:
        request = StreamRequest(StreamId(self.session, self.number), shape, self.cookie)
        return self.gate.asked(request, self.address, port, now_ns)

    def prove(self, now_ns: int = 0) -> Asker:
        challenge = self.ask(now_ns=now_ns)
        assert isinstance(challenge, Challenge)
        self.cookie = challenge.cookie
        return self

    def get(self, shape: StreamShape = SHAPE, now_ns: int = 0) -> StreamOrder:
        order = self.ask(shape, now_ns)
        assert isinstance(order, StreamOrder)
        self.gate.ended()
        return order

    def refused(self, shape: StreamShape = SHAPE, now_ns: int = 0) -> tuple[Refusal, int]:
        refusal = self.ask(shape, now_ns)
        assert isinstance(refusal, StreamRefusal)
        assert refusal.stream == StreamId(self.session, self.number)
        return refusal.reason, refusal.limit


def gate(settings: BandwidthSettings | None = None, secret: bytes = b"secret") -> StreamGate:
    neighbors = {NEIGHBOR, OTHER}
    return StreamGate(settings or BandwidthSettings(), is_neighbor=neighbors.__contains__, secret=secret)


def test_a_stream_goes_only_where_its_cookie_was_received() -> None:
    asker = Asker(gate())
    assert isinstance(asker.ask(), Challenge)
    asker.prove()
    order = asker.get()
    assert order == StreamOrder(StreamId(1, asker.number), SHAPE, NEIGHBOR, PORT)


def test_a_cookie_is_worth_nothing_elsewhere_later_or_after_a_restart() -> None:
    asker = Asker(gate()).prove()
    stolen = Asker(asker.gate, OTHER)
    stolen.cookie = asker.cookie
    assert isinstance(stolen.ask(), Challenge)
    assert isinstance(asker.repeat(port=PORT + 1), Challenge)
    assert isinstance(asker.ask(now_ns=2 * COOKIE_LIFETIME_NS), Challenge)
    restarted = Asker(gate(secret=b"another"))
    restarted.cookie = asker.cookie
    assert isinstance(restarted.ask(), Challenge)
    assert asker.get(now_ns=2 * COOKIE_LIFETIME_NS - 1)


def test_who_is_no_neighbor_gets_not_even_a_challenge() -> None:
    assert Asker(gate(), "203.0.113.9").refused() == (Refusal.NO_NEIGHBOR, 0)


@pytest.mark.parametrize(
    ("shape", "reason", "limit"),
    [
        (StreamShape(100, 1501, 400_000), Refusal.PACKET_BYTES, 1500),
        (StreamShape(100, 1500, 115_000), Refusal.RATE, 100_000),
        (StreamShape(100, 200, 99_999), Refusal.INTERVAL, 100_000),
        (StreamShape(401, 1000, 400_000), Refusal.LENGTH, 400),
        (StreamShape(9, 1000, 400_000), Refusal.LENGTH, 400),
        (StreamShape(100, 1000, 30_000_000), Refusal.LENGTH, 400),
    ],
)
def test_a_stream_beyond_a_limit_is_refused_with_the_limit(
    shape: StreamShape, reason: Refusal, limit: int
) -> None:
    asker = Asker(gate()).prove()
    assert asker.refused(shape) == (reason, limit)
    assert asker.get()


def test_there_is_one_stream_at_a_time() -> None:
    first = Asker(gate()).prove()
    second = Asker(first.gate, OTHER).prove()
    assert isinstance(first.ask(), StreamOrder)
    assert second.refused() == (Refusal.BUSY, 0)
    first.gate.ended()
    assert second.get()


def test_a_repeated_or_older_request_sends_nothing_again() -> None:
    asker = Asker(gate()).prove()
    asker.get()
    assert asker.repeat() is None
    asker.number -= 1
    assert asker.repeat() is None
    asker.session = 2
    assert asker.get()


def test_a_refused_request_may_be_repeated() -> None:
    asker = Asker(gate()).prove()
    assert isinstance(asker.ask(), StreamOrder)
    other = Asker(asker.gate, OTHER).prove()
    assert other.refused() == (Refusal.BUSY, 0)
    asker.gate.ended()
    assert isinstance(other.repeat(), StreamOrder)


def test_the_octets_of_an_hour_are_bounded_per_neighbor() -> None:
    settings = BandwidthSettings(max_octets_per_hour_and_neighbor=250_000)
    asker = Asker(gate(settings)).prove()
    asker.get()
    asker.get()
    assert asker.refused() == (Refusal.NEIGHBOR_BUDGET, 0)
    assert Asker(asker.gate, OTHER).prove().get()
    later_ns = 61 * MINUTE_NS
    asker.prove(later_ns)
    assert asker.get(now_ns=later_ns)


def test_the_octets_of_an_hour_are_bounded_for_all_together() -> None:
    asker = Asker(gate(BandwidthSettings(max_octets_per_hour=250_000))).prove()
    other = Asker(asker.gate, OTHER).prove()
    asker.get()
    other.get()
    assert asker.refused() == other.refused() == (Refusal.BUDGET, 0)


def test_an_hour_slides() -> None:
    asker = Asker(gate(BandwidthSettings(max_octets_per_hour_and_neighbor=250_000)))
    for minute in (0, 30):
        asker.prove(minute * MINUTE_NS).get(now_ns=minute * MINUTE_NS)
    asker.prove(59 * MINUTE_NS)
    assert asker.refused(now_ns=59 * MINUTE_NS) == (Refusal.NEIGHBOR_BUDGET, 0)
    asker.prove(62 * MINUTE_NS)
    assert asker.get(now_ns=62 * MINUTE_NS)
    assert asker.refused(now_ns=62 * MINUTE_NS) == (Refusal.NEIGHBOR_BUDGET, 0)


def test_requests_of_many_addresses_take_no_memory_without_end() -> None:
    crowd = StreamGate(BandwidthSettings(), is_neighbor=lambda _: True, secret=b"x")
    askers = [Asker(crowd, f"10.0.{number // 250}.{number % 250}").prove() for number in range(300)]
    for asker in askers:
        asker.get(StreamShape(10, 200, 400_000))
    assert isinstance(askers[0].repeat(), StreamOrder)  # forgotten, and paid for by its budget
    crowd.ended()
    assert askers[-1].repeat() is None
