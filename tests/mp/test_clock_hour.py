"""The clock of a host is set by an hour while its packet process answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from interceptor.memory_queue import MemoryQueue
from mp import clock
from mp.bridge import ReportReady, SegmentKnown, event_from_bytes, event_to_bytes
from mp.packet_process import PacketProcess
from schemas.message import SegmentRecord, SegmentState
from schemas.payload import message_from_payload
from tests.mp.test_bridge import SETUP
from tests.mp.test_packet_process import REQUEST, datagram
from tests.statistics import loss_of

HOUR_MS = 3_600_000
UPSTREAM = REQUEST.source


class Point:
    """A packet process, the service's end of its bridge, and a clock that is set by hand."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, patch: pytest.MonkeyPatch) -> None:
        self._ours = ours
        self._process = PacketProcess(theirs, SETUP)
        self.now_ms = clock.now_ms()
        patch.setattr(clock, "now_ms", lambda: self.now_ms)

    def told(self) -> None:
        """The service tells of the segment, as it does each second."""
        known = SegmentKnown(
            upstream=UPSTREAM, newest_sample_at_ms=self.now_ms - 50, metrics={"loss": loss_of(10, 1)}
        )
        self._ours.send(event_to_bytes(known))
        self._process.read_events()

    def record(self) -> SegmentRecord:
        """What the point says of the segment now."""
        queue = MemoryQueue(self._process.handle)
        queue.put(datagram(REQUEST))
        queue.process_pending()
        while True:
            event = event_from_bytes(self._ours.recv(1 << 17))
            if isinstance(event, ReportReady):
                return message_from_payload(event.report.payload).records[-1]


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Iterator[Point]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        ours.settimeout(2)
        made = Point(ours, theirs, monkeypatch)
        made.told()
        yield made


def test_an_hour_forward_makes_what_is_known_too_old_until_the_service_tells_of_it_again(point: Point) -> None:
    assert point.record().state is SegmentState.MEASURED
    point.now_ms += HOUR_MS
    assert point.record().state is SegmentState.PENDING
    point.told()
    record = point.record()
    assert (record.state, record.age_ms) == (SegmentState.MEASURED, 50)


def test_an_hour_back_gives_no_age_below_zero(point: Point) -> None:
    point.now_ms -= HOUR_MS
    record = point.record()
    assert (record.state, record.age_ms) == (SegmentState.MEASURED, 0)
    point.told()
    assert point.record().age_ms == 50
