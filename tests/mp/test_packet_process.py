"""The packet process without a kernel: an in-memory queue, and the other end of its bridge."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from interceptor.memory_queue import MemoryQueue
from interceptor.nfqueue import KernelQueue, QueueCounters
from interceptor.packet import decode_packet
from mp import clock, packet_process
from mp.bridge import (
    Event,
    FurtherSegment,
    Heartbeat,
    HostChanged,
    PathAsked,
    PathGone,
    PathKnown,
    ReportReady,
    SegmentGone,
    SegmentKnown,
    UpstreamSeen,
    event_from_bytes,
    event_to_bytes,
)
from mp.packet_process import MOST_DUE, RETELL_MS, STRANGERS_PER_S, PacketProcess
from schemas.message import MeasureRequest, Message
from schemas.payload import message_from_payload
from schemas.xml_writer import message_to_xml
from tests.interceptor.datagram import build_datagram
from tests.mp.test_bridge import SETUP
from tests.statistics import loss_of

REQUEST = MeasureRequest(
    source="10.0.0.9",
    destination="10.0.0.1",
    id="ab" * 16,
    metrics=("loss",),
    created_at_ms=1,
    lifetime_ms=1000,
    max_age_ms=0,
)


@pytest.fixture
def bridge() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def knowing(bridge: tuple[socket.socket, socket.socket], *upstreams: str) -> PacketProcess:
    """A process that knows the loss of the segments from these points."""
    ours, theirs = bridge
    process = PacketProcess(theirs, SETUP)
    for upstream in upstreams or ("10.0.0.9",):
        known = SegmentKnown(
            upstream=upstream, newest_sample_at_ms=clock.now_ms(), metrics={"loss": loss_of(9, 0)}
        )
        ours.send(event_to_bytes(known))
    process.read_events()
    return process


def events(ours: socket.socket) -> list[Event]:
    """What the process has said since the last call."""
    said = []
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(event_from_bytes(ours.recv(65536)))
    return said


def datagram(request: MeasureRequest) -> bytes:
    payload = message_to_xml(Message(request=request))
    return build_datagram(payload, source=request.source, destination=request.destination)


def test_a_last_point_reports_what_the_service_told_it(bridge: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = bridge
    process = PacketProcess(theirs, SETUP)
    loss = loss_of(10, 1)
    known = SegmentKnown(upstream="10.0.0.9", newest_sample_at_ms=clock.now_ms(), metrics={"loss": loss})
    ours.send(event_to_bytes(known))
    process.read_events()
    queue = MemoryQueue(process.handle)
    queue.put(datagram(REQUEST))
    queue.process_pending()
    (verdict,) = queue.take_verdicts()
    assert verdict.forwarded is None
    assert event_from_bytes(ours.recv(65536)) == UpstreamSeen(upstream="10.0.0.9", metrics=("loss",), hello=False)
    event = event_from_bytes(ours.recv(65536))
    assert isinstance(event, ReportReady)
    assert message_from_payload(event.report.payload).records[0].metrics == {"loss": loss}


def test_packets_like_one_before_are_extended_at_once_until_something_changes(
    bridge: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = bridge
    process = knowing(bridge)
    queue = MemoryQueue(process.handle, shortcut=process.extended)

    def records_of(*ids: str) -> list[int]:
        """How many metrics the record of each forwarded request has."""
        for one in ids:
            queue.put(datagram(replace(REQUEST, destination="10.9.9.9", id=one * 32)))
        queue.process_pending()
        payloads = (decode_packet(verdict.forwarded or b"").payload for verdict in queue.take_verdicts())
        messages = [message_from_payload(payload) for payload in payloads]
        assert [message.request.id for message in messages] == [one * 32 for one in ids]
        return [len(message.records[0].metrics) for message in messages]

    assert records_of("a", "b", "c") == [1, 1, 1]
    assert process.extended_at_once == 2
    ours.send(event_to_bytes(SegmentGone(upstream="10.0.0.9")))
    process.read_events()
    assert records_of("d", "e") == [0, 0]
    assert process.extended_at_once == 2


def test_the_service_hears_now_and_then_of_what_went_on_at_once(
    bridge: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = bridge
    retell_ms = 1500  # so that a collection of all garbage does not pass for the time that was waited for
    monkeypatch.setattr(packet_process, "RETELL_MS", retell_ms)
    process = knowing(bridge)
    queue = MemoryQueue(process.handle, shortcut=process.extended)

    def told(packets: int) -> list[object]:
        before = process.extended_at_once
        process.turn_began_ms = clock.monotonic_ms()
        for _ in range(packets):
            queue.put(datagram(replace(REQUEST, destination="10.9.9.8", max_age_ms=15_000)))
        queue.process_pending()
        process.note()
        return [process.extended_at_once - before, *events(ours)]

    seen = UpstreamSeen(upstream="10.0.0.9", metrics=("loss",), hello=False)
    assert told(1) == [0, seen, PathAsked(destination="10.9.9.8")]
    assert told(3) == [3]
    time.sleep(retell_ms / 1000)
    assert told(MOST_DUE + 3) == [MOST_DUE + 3, seen]
    assert told(3) == [3]


def test_of_many_that_went_on_at_once_the_service_hears_of_some_in_each_turn(
    bridge: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = bridge
    upstreams = [f"10.0.0.{number}" for number in range(20, 20 + MOST_DUE + 4)]
    process = knowing(bridge, *upstreams)
    queue = MemoryQueue(process.handle, shortcut=process.extended)

    def turn() -> list[Event]:
        process.turn_began_ms = clock.monotonic_ms()
        for upstream in upstreams:
            queue.put(datagram(replace(REQUEST, source=upstream, destination="10.9.9.8")))
            queue.process_pending()
            time.sleep(0.002)  # one packet of a new kind is taken down in a millisecond
        process.note()
        return events(ours)

    assert len(turn()) == len(upstreams)
    time.sleep(RETELL_MS / 1000)
    assert [len(turn()), len(turn())] == [MOST_DUE, 4]
    assert process.extended_at_once == 2 * len(upstreams)


def test_a_path_that_is_known_from_here_on_is_answered_here_from_then_on(
    bridge: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = bridge
    process = knowing(bridge)
    queue = MemoryQueue(process.handle, shortcut=process.extended)
    further = FurtherSegment(
        upstream="10.0.0.1",
        current="10.9.9.8",
        newest_sample_at_ms=clock.now_ms(),
        metrics={"loss": loss_of(9, 0)},
    )
    path = PathKnown(destination="10.9.9.8", segments=(further,))

    def goes_on(request: MeasureRequest) -> bool:
        process.read_events()
        for _ in range(2):
            queue.put(datagram(replace(request, destination="10.9.9.8")))
        queue.process_pending()
        (one, other) = (verdict.forwarded is not None for verdict in queue.take_verdicts())
        assert one == other
        return one

    asks = replace(REQUEST, max_age_ms=15_000)
    assert [goes_on(asks), goes_on(REQUEST)] == [True, True]
    ours.send(event_to_bytes(path))
    assert [goes_on(asks), goes_on(REQUEST)] == [False, True]
    ours.send(event_to_bytes(path))
    assert [goes_on(asks), goes_on(REQUEST)] == [False, True]
    ours.send(event_to_bytes(PathGone(destination="10.9.9.8")))
    assert [goes_on(asks), goes_on(REQUEST)] == [True, True]


def test_an_unknown_upstream_is_told_to_the_service(bridge: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = bridge
    queue = MemoryQueue(PacketProcess(theirs, SETUP).handle)
    queue.put(datagram(REQUEST))
    queue.process_pending()
    assert event_from_bytes(ours.recv(65536)) == UpstreamSeen(upstream="10.0.0.9", metrics=("loss",), hello=False)


def test_of_many_strangers_the_service_hears_as_many_a_second_as_it_can_use(
    bridge: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = bridge
    now_ms = 1_000_000
    monkeypatch.setattr("mp.packet_process.clock.monotonic_ms", lambda: now_ms)
    process = PacketProcess(theirs, SETUP)
    queue = MemoryQueue(process.handle)

    def told(count: int) -> int:
        process.turn_began_ms = now_ms
        for number in range(count):
            request = replace(REQUEST, source=f"198.18.0.{number}", destination="10.9.9.9")
            queue.put(datagram(request))
        queue.process_pending()
        assert all(verdict.forwarded for verdict in queue.take_verdicts())
        seen = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                seen += isinstance(event_from_bytes(ours.recv(65536)), UpstreamSeen)
        return seen

    assert [told(STRANGERS_PER_S + 10), told(5)] == [STRANGERS_PER_S, 0]
    now_ms += 500
    assert told(STRANGERS_PER_S) == STRANGERS_PER_S // 2


def test_a_new_address_of_the_host_is_its_own_from_then_on(bridge: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = bridge
    process = PacketProcess(theirs, SETUP)
    ours.send(event_to_bytes(HostChanged(own_addresses=("10.0.0.1", "10.7.7.7"), room=1000)))
    process.read_events()
    queue = MemoryQueue(process.handle)
    queue.put(build_datagram(b"<m/>", source="10.0.0.9", destination="10.7.7.7"))
    queue.put(datagram(replace(REQUEST, destination="10.7.7.7")))
    queue.process_pending()
    assert [verdict.forwarded is None for verdict in queue.take_verdicts()] == [False, True]


def test_a_turn_that_takes_too_long_lets_the_rest_pass_unchanged(
    bridge: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = bridge
    process = PacketProcess(theirs, SETUP)
    queue = MemoryQueue(process.handle, shortcut=process.extended)
    known = SegmentKnown(upstream="10.0.0.9", newest_sample_at_ms=clock.now_ms(), metrics={"loss": loss_of(9, 0)})
    ours.send(event_to_bytes(known))
    process.read_events()
    packet = datagram(replace(REQUEST, destination="10.9.9.9"))

    def unchanged(number: int) -> list[bool]:
        for _ in range(number):
            queue.put(packet)
        queue.process_pending()
        return [verdict.forwarded == packet for verdict in queue.take_verdicts()]

    assert unchanged(2) == [False, False]
    monkeypatch.setattr(packet_process, "LONGEST_TURN_MS", -1)
    at_once = packet_process.LOOK_AT_CLOCK - process.extended_at_once
    assert unchanged(at_once + 5) == [False] * at_once + [True] * 5
    monkeypatch.setattr(packet_process, "LONGEST_TURN_MS", 10**9)
    assert unchanged(3) == [False] * 3


def test_in_a_flood_one_packet_is_looked_at_and_what_waits_behind_it_passes(
    bridge: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = bridge
    process = PacketProcess(theirs, SETUP)
    process.is_flooded = True
    process.pass_waiting = lambda: 41
    packet = datagram(replace(REQUEST, destination="10.0.0.77"))
    queue = MemoryQueue(process.handle)
    queue.put(packet)
    queue.process_pending()
    (verdict,) = queue.take_verdicts()
    assert verdict.forwarded not in (None, packet)
    assert process.handled == 42
    process.beat(cast(KernelQueue, EmptyQueue()))
    counters = [event.counters for event in events(ours) if isinstance(event, Heartbeat)]
    assert [(one["overloaded"], one["forwarded"], one["intercepted"]) for one in counters] == [(41, 1, 42)]


def test_whoever_is_late_lets_all_that_waits_pass_at_once_and_counts_it(
    bridge: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = bridge
    monkeypatch.setattr(packet_process, "LONGEST_TURN_MS", -1)
    process = PacketProcess(theirs, SETUP)
    packet = datagram(REQUEST)
    process.pass_waiting = lambda: 41
    queue = MemoryQueue(process.handle)
    queue.put(packet)
    queue.process_pending()
    (verdict,) = queue.take_verdicts()
    assert verdict.forwarded == packet
    process.beat(cast(KernelQueue, EmptyQueue()))
    event = event_from_bytes(ours.recv(65536))
    assert isinstance(event, Heartbeat)
    assert (event.counters["overloaded"], event.counters["intercepted"]) == (42, 42)


class EmptyQueue:
    """What the kernel tells of a queue in which nothing is or was."""

    def counters(self) -> QueueCounters:
        return QueueCounters(waiting=0, queued=0, queue_dropped=0, user_dropped=0, handled=0, failed=0)


def test_the_end_of_the_service_is_noticed_also_with_events_unread(
    bridge: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = bridge
    process = PacketProcess(theirs, SETUP)
    theirs.send(event_to_bytes(UpstreamSeen(upstream="10.0.0.9", metrics=("loss",), hello=False)))
    ours.close()
    process.read_events()
    assert process.service_gone


def test_a_measured_segment_in_use_is_told_seldom_and_a_pending_one_each_time(
    bridge: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = bridge
    ours.setblocking(False)
    now_ms = 1_000_000
    monkeypatch.setattr("mp.packet_process.clock.monotonic_ms", lambda: now_ms)
    process = PacketProcess(theirs, SETUP)

    def told() -> int:
        queue = MemoryQueue(process.handle)
        queue.put(datagram(REQUEST))
        queue.process_pending()
        seen = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                seen += isinstance(event_from_bytes(ours.recv(65536)), UpstreamSeen)
        return seen

    assert [told(), told()] == [1, 1]
    ours.send(
        event_to_bytes(
            SegmentKnown(upstream="10.0.0.9", newest_sample_at_ms=clock.now_ms(), metrics={"loss": loss_of(9, 0)})
        )
    )
    process.read_events()
    assert [told(), told()] == [1, 0]
    now_ms += RETELL_MS
    process.turn_began_ms = now_ms
    assert [told(), told()] == [1, 0]


def test_hellos_do_not_keep_it_from_the_service_that_somebody_asks(
    bridge: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = bridge
    ours.setblocking(False)
    process = PacketProcess(theirs, SETUP)
    known = SegmentKnown(upstream="10.0.0.9", newest_sample_at_ms=clock.now_ms(), metrics={"loss": loss_of(9, 0)})
    ours.send(event_to_bytes(known))
    process.read_events()
    hello = replace(REQUEST, hello=True)
    queue = MemoryQueue(process.handle)
    for request in (hello, hello, REQUEST, REQUEST):
        queue.put(datagram(request))
    queue.process_pending()
    seen = []
    with contextlib.suppress(BlockingIOError):
        while True:
            event = event_from_bytes(ours.recv(65536))
            seen += [event.hello] if isinstance(event, UpstreamSeen) else []
    assert seen == [True, False]
