"""The whole way of a request in memory: packets, queues, decisions, reports, composition."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptor.packet import decode_packet
from receiver.assembly import ReportAssembly
from receiver.composition import Composition, compose
from schemas.message import Message, SegmentState
from schemas.payload import message_from_payload
from schemas.result import ComposedMetric, ResultStatus
from schemas.xml_writer import message_to_xml
from tests.interceptor.datagram import build_datagram, recomputed
from tests.overlay.chain import ALL, START_MS, Chain, Faults, MemoryPoint, point_address, word_sum

ROUGH = Faults(loss_ratio=0.01, duplication_ratio=0.05, least_delay_ms=1, most_delay_ms=40)


def timeless(composition: Composition) -> dict[str, ComposedMetric]:
    """Composed metrics without their age, which is that of the journey."""
    return {name: replace(metric, oldest_age_s=None) for name, metric in composition.composed.items()}


def assert_true(chain: Chain, answer: Message) -> None:
    """The answer names every point in order, and says of the path what its segments say."""
    assert [record.upstream for record in answer.records] == chain.addresses[:-1]
    assert [record.current for record in answer.records] == chain.addresses[1:]
    assert {record.state for record in answer.records} == {SegmentState.MEASURED}
    composition = compose(ALL, answer.records, waited_ms=0, max_age_ms=60_000)
    assert composition.status is ResultStatus.COMPLETE
    assert timeless(composition) == timeless(chain.true_composition())


@pytest.mark.parametrize("mtu_bytes", [1500, 576])
@pytest.mark.parametrize("points", [3, 4, 7, 12, 19, 28, 40])
def test_a_path_of_any_length_is_answered_whole_over_links_that_lose_copy_and_reorder(
    points: int, mtu_bytes: int
) -> None:
    chain = Chain(points, mtu_bytes=mtu_bytes, faults=ROUGH, seed=points)
    answer = chain.ask()
    assert answer is not None, f"{chain.copies_sent} copies, {len(chain.reports)} reports, {chain.refused}"
    assert_true(chain, answer)
    assert max(len(packet) for packet in chain.packets) <= mtu_bytes


@pytest.mark.parametrize("mtu_bytes", [1500, 576])
def test_every_datagram_on_the_way_is_one_that_scapy_would_have_made(mtu_bytes: int) -> None:
    chain = Chain(14, mtu_bytes=mtu_bytes)
    assert chain.ask() is not None
    assert len(chain.packets) == 13
    for hops, data in enumerate(chain.packets):
        packet = decode_packet(data)
        assert data == recomputed(data)
        assert (packet.header_length, packet.dont_fragment, packet.ttl) == (24, True, 64 - hops)
        assert (packet.source, packet.destination) == (chain.addresses[0], chain.addresses[-1])


def test_checksums_are_right_on_every_datagram_of_a_rough_journey() -> None:
    chain = Chain(30, mtu_bytes=576, faults=ROUGH, seed=5)
    assert chain.ask() is not None
    for data in chain.packets:
        datagram = data[24:]
        pseudo_header = data[12:20] + bytes((0, 17)) + len(datagram).to_bytes(2, "big")
        assert (word_sum(data[:24]), word_sum(pseudo_header + datagram)) == (0xFFFF, 0xFFFF)


def test_without_faults_one_copy_is_enough_and_nothing_is_refused() -> None:
    chain = Chain(40, mtu_bytes=576)
    answer = chain.ask()
    assert answer is not None
    assert_true(chain, answer)
    assert (chain.copies_sent, chain.refused) == (1, [])
    assert [message.request.part for message, _ in chain.reports] == list(range(len(chain.reports)))
    assert len(chain.reports) > 3


@given(
    points=st.integers(3, 14),
    mtu_bytes=st.sampled_from([576, 1500]),
    loss_ratio=st.floats(0, 0.4),
    duplication_ratio=st.floats(0, 0.5),
    most_delay_ms=st.integers(1, 500),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_links_do_an_answer_is_true_or_there_is_none(
    points: int, mtu_bytes: int, loss_ratio: float, duplication_ratio: float, most_delay_ms: int, seed: int
) -> None:
    faults = Faults(loss_ratio=loss_ratio, duplication_ratio=duplication_ratio, most_delay_ms=most_delay_ms)
    chain = Chain(points, mtu_bytes=mtu_bytes, faults=faults, seed=seed)
    answer = chain.ask()
    if answer is not None:
        assert_true(chain, answer)
    else:
        assert loss_ratio > 0 or chain.refused, f"{chain.copies_sent} copies, none was lost"


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_report_parts_in_any_order_and_number_join_to_the_same_answer(data: st.DataObject) -> None:
    reports = [
        (replace(message, request=replace(message.request, copy=copy)), final)
        for copy in (0, 1)
        for message, final in parts_of_a_long_answer()
    ]
    arrivals = data.draw(st.permutations(reports + data.draw(st.lists(st.sampled_from(reports), max_size=6))))
    assembly = ReportAssembly()
    wholes = [assembly.add(message, final=final, now_ns=0) for message, final in arrivals]
    answers = [whole.message for whole in wholes if whole is not None]
    assert {answer.request.copy for answer in answers} == {0, 1}
    for answer in answers:
        assert_true(Chain(20), answer)


@cache
def parts_of_a_long_answer() -> tuple[tuple[Message, bool], ...]:
    chain = Chain(20, mtu_bytes=576)
    assert chain.ask() is not None
    assert len(chain.reports) > 1
    return tuple(chain.reports)


def silent_point(address: str) -> MemoryPoint:
    """A point that must not have anything to report."""

    def unexpected(report: object) -> None:
        raise AssertionError(f"reported {report}")

    return MemoryPoint(address, room=1468, submit=unexpected)


@cache
def datagrams_of_a_request() -> tuple[Chain, tuple[bytes, ...]]:
    chain = Chain(6)
    assert chain.ask() is not None
    return chain, tuple(chain.packets)


def request_packet(*, source: str | None = None, destination: str | None = None) -> bytes:
    """A datagram as it enters the third link of a chain, with other addresses in its header if given."""
    chain, packets = datagrams_of_a_request()
    return build_datagram(
        decode_packet(packets[2]).payload,
        source=source or chain.request.source,
        destination=destination or chain.request.destination,
    )


@pytest.mark.parametrize(
    ("address", "changes"),
    [
        (point_address(0), {}),
        (point_address(1), {}),
        (point_address(2), {}),
        (point_address(3), {"source": "192.0.2.9"}),
        (point_address(3), {"destination": "192.0.2.9"}),
    ],
    ids=["the source", "the first on the path", "the last before", "another source", "another destination"],
)
def test_a_point_that_is_not_next_on_the_path_changes_no_octet(address: str, changes: dict[str, str]) -> None:
    packet = request_packet(**changes)
    point = silent_point(address)
    assert point.take(packet, START_MS) == packet
    assert point.queue.failed == 0


@given(st.binary(max_size=200))
def test_octets_that_are_no_packet_go_on_as_they_came(octets: bytes) -> None:
    point = silent_point(point_address(3))
    assert point.take(octets, START_MS) == octets
    assert point.queue.failed == 0


@given(st.binary(max_size=600))
def test_a_datagram_that_carries_no_message_goes_on_as_it_came(payload: bytes) -> None:
    packet = build_datagram(payload)
    point = silent_point(point_address(3))
    assert point.take(packet, START_MS) == packet
    assert point.queue.failed == 0


@given(position=st.integers(0, 2000), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_damaged_message_goes_on_as_it_came_or_is_still_one_that_got_its_record(
    position: int, value: int, cut: bool
) -> None:
    packet = request_packet()
    payload = decode_packet(packet).payload
    position %= len(payload)
    damaged = payload[:position] if cut else payload[:position] + bytes((value,)) + payload[position + 1 :]
    request = datagrams_of_a_request()[0].request
    arriving = build_datagram(damaged, source=request.source, destination=request.destination)
    point = silent_point(point_address(3))
    leaving = point.take(arriving, START_MS)
    assert leaving is not None
    assert point.queue.failed == 0
    if leaving != arriving:
        before, after = (message_from_payload(decode_packet(data).payload) for data in (arriving, leaving))
        assert after.request == before.request
        assert after.records[:-1] == before.records
        assert after.records[-1].current == point_address(3)


def test_foreign_and_broken_packets_among_its_own_leave_the_answer_as_it_is() -> None:
    chain = Chain(12, mtu_bytes=576)
    own = build_datagram(b"<m><mr>", source=chain.request.source, destination=chain.request.destination)
    foreign = build_datagram(message_to_xml(Message(request=chain.request)), source="192.0.2.66")
    for link in range(11):
        for packet in (own, foreign, b"\x45no packet", own[:30]):
            chain.inject(packet, link=link, at_ms=link)
    answer = chain.ask()
    assert answer is not None
    assert_true(chain, answer)
    assert chain.refused == []
