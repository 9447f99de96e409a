from __future__ import annotations

import logging
import random
from dataclasses import replace

import pytest

from mp.greeter import Greeter
from prober.discovery import Discovery
from schemas.errors import HostError
from schemas.message import Carrier, MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import message_to_xml


class Network:
    """Keeps what was sent and who was found."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.carriers: list[Carrier] = []
        self.found: list[str] = []
        self.is_routed = True
        discovery = Discovery(random_source=random.Random(3), interval_ms=60_000)
        self.is_believed = True
        self.greeter = Greeter(
            discovery,
            address="10.0.0.1",
            send=self.send,
            on_neighbor=self.found.append,
            believes=lambda _: self.is_believed,
        )
        discovery.seek("10.0.0.9", 0)

    def send(self, request: MeasureRequest, carrier: Carrier) -> None:
        if not self.is_routed:
            raise HostError("destination: network is unreachable")
        self.carriers.append(carrier)
        self.sent.append(message_from_xml(message_to_xml(Message(request=request))))


def answer(message: Message, current: str) -> Message:
    record = SegmentRecord(upstream="10.0.0.1", current=current, state=SegmentState.PENDING, recorded_at_ms=1)
    return replace(message, records=(record,))


def test_a_hello_ends_at_the_first_point_and_its_answer_names_the_neighbor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Network()
    network.greeter.greet(0, created_at_ms=7)
    (hello,) = network.sent
    assert hello.request.hello
    with caplog.at_level(logging.INFO):
        assert network.greeter.take(answer(hello, "10.0.0.2"), 5)
    assert network.found == ["10.0.0.2"]
    assert "the neighbor toward 10.0.0.9 is 10.0.0.2" in caplog.text


def test_a_changed_route_is_logged_with_both_neighbors(caplog: pytest.LogCaptureFixture) -> None:
    network = Network()
    for now_ms, current in ((0, "10.0.0.2"), (100_000, "10.0.0.3")):
        network.greeter.greet(now_ms, created_at_ms=7)
        with caplog.at_level(logging.INFO):
            network.greeter.take(answer(network.sent[-1], current), now_ms)
    assert "10.0.0.3, before it was 10.0.0.2" in caplog.text


def test_reports_of_requests_are_left_to_others() -> None:
    network = Network()
    network.greeter.greet(0, created_at_ms=7)
    (hello,) = network.sent
    other = replace(hello, request=replace(hello.request, id="7" * 32))
    assert not network.greeter.take(answer(other, "10.0.0.66"), 5)
    assert network.found == []


def test_without_a_route_it_goes_on() -> None:
    network = Network()
    network.is_routed = False
    network.greeter.greet(0, created_at_ms=7)
    network.is_routed = True
    network.greeter.greet(60_000, created_at_ms=7)
    assert len(network.sent) == 1


def test_a_hello_that_nobody_answers_goes_without_router_alert_and_so_do_those_after_its_answer() -> None:
    network = Network()
    network.greeter.greet(0, created_at_ms=7)
    network.greeter.greet(60_000, created_at_ms=7)
    network.greeter.take(answer(network.sent[-1], "10.0.0.2"), 60_010)
    network.greeter.greet(600_000, created_at_ms=7)
    assert network.carriers == [Carrier.ROUTER_ALERT, Carrier.UDP, Carrier.UDP]


def test_an_answer_that_somebody_forged_names_no_neighbor() -> None:
    network = Network()
    network.greeter.greet(0, created_at_ms=7)
    forged = answer(network.sent[0], "10.0.0.66")
    network.is_believed = False
    assert network.greeter.take(forged, 10)
    assert (network.found, network.greeter.discovery.is_waiting(forged.request.id)) == ([], True)
    network.is_believed = True
    network.greeter.take(answer(network.sent[0], "10.0.0.2"), 20)
    assert network.found == ["10.0.0.2"]
