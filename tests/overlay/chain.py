"""A row of points in memory: real packets, queues and decisions; time and every fault come from a seed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from interceptor.memory_queue import MemoryQueue
from interceptor.packet import decode_packet, maximum_payload, with_payload
from interceptor.packet_queue import InterceptedPacket
from processor.decision import Forward, HandOver, PassThrough, Report, SendReport
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import PreparedSegment, SegmentTable
from processor.trust import Trust
from receiver.assembly import ReportAssembly, Whole
from receiver.composition import Composition, compose
from requestor.retransmission import Retransmission
from requestor.slices import slices_of
from schemas.authentication import Standing, signed_request
from schemas.errors import MessageError, PacketError
from schemas.keyring import NO_KEYS, Keyring
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.metrics import METRICS
from schemas.payload import message_from_payload
from schemas.xml_writer import message_to_xml
from tests.interceptor.datagram import build_datagram
from tests.statistics import segment_statistics

START_MS = 1_767_268_800_000
LIFETIME_MS = 10_000
ALL = tuple(METRICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What each link does to each datagram, and the way back to each report."""

    loss_ratio: float = 0.0
    duplication_ratio: float = 0.0
    link_duplication_ratio: float | None = None
    """On the links, where it is another one than that of reports."""
    least_delay_ms: int = 1
    most_delay_ms: int = 1
    """A span as wide as the gaps between datagrams lets them overtake each other."""


def point_address(index: int) -> str:
    return f"10.0.{index // 200}.{index % 200 + 1}"


class MemoryPoint:
    """One point: its queue, and what the daemon around the pipeline does with a decision."""

    def __init__(
        self, address: str, *, room: int, submit: Callable[[Report], None], keyring: Keyring = NO_KEYS
    ) -> None:
        self.segments = SegmentTable()
        self.queue = MemoryQueue(self._handle)
        self.now_ms = START_MS
        self._room = room
        self._submit = submit
        identity = PointIdentity(address=address, own_addresses=frozenset({address}), serves=())
        trust = Trust(keyring, is_required=len(keyring) > 0)
        self._pipeline = Pipeline(identity, self.segments, lambda _: None, trust=trust)

    def take(self, packet: bytes, now_ms: int) -> bytes | None:
        """The packet as it leaves the point; None when it ends here."""
        self.now_ms = now_ms
        self.queue.put(packet)
        self.queue.process_pending()
        (verdict,) = self.queue.take_verdicts()
        return verdict.forwarded

    def _handle(self, packet: InterceptedPacket) -> None:
        try:
            datagram = decode_packet(packet.payload)
        except PacketError:
            packet.accept()
            return
        decision = self._pipeline.process(
            datagram.payload,
            source=datagram.source,
            destination=datagram.destination,
            now_ms=self.now_ms,
            room=self._room,
        )
        match decision:
            case Forward(payload):
                packet.accept_with(with_payload(datagram, payload))
            case HandOver(report, payload):
                self._submit(report)
                packet.accept_with(with_payload(datagram, payload))
            case SendReport(report):
                self._submit(report)
                packet.drop()
            case PassThrough():
                packet.accept()


class Chain:
    """A request over points in a row, from the first to the last.

    Args:
        points: how many, the source among them.
        mtu_bytes: of every link.
        faults: of every link.
        seed: decides about every fault.
        metrics: what is asked for.
        keyring: of the source and all points: with a key, each signs, and takes nothing unsigned.
        in_slices: whether a question that is too large for one datagram goes in several, as a point sends it.
    """

    def __init__(
        self,
        points: int,
        *,
        mtu_bytes: int = 1500,
        faults: Faults | None = None,
        seed: int = 0,
        metrics: tuple[str, ...] = ALL,
        keyring: Keyring = NO_KEYS,
        in_slices: bool = False,
    ) -> None:
        self.addresses = [point_address(index) for index in range(points)]
        self.mtu_bytes = mtu_bytes
        self.packets: list[bytes] = []
        """Every datagram as it entered a link."""
        self.reports: list[tuple[Message, bool]] = []
        """Every report in the order of its arrival, and whether it was final."""
        self.refused: list[str] = []
        self.copies_sent = 0
        self._faults = faults or Faults()
        self._random = Random(seed)
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._serial = count()
        self._now_ms = START_MS
        self._keyring = keyring
        self._assembly = ReportAssembly(keyring=keyring)
        self.whole: Whole | None = None
        """The answer, and what its tags are worth."""
        self._points = [self._make_point(index) for index in range(1, points)]
        self.request = MeasureRequest(
            source=self.addresses[0],
            destination=self.addresses[-1],
            id=f"{seed:032x}",
            metrics=metrics,
            created_at_ms=START_MS,
            lifetime_ms=LIFETIME_MS,
            max_age_ms=60_000,
        )
        self.slices = slices_of(metrics, maximum_payload(mtu_bytes)) if in_slices else (metrics,)

    def ask(self) -> Message | None:
        """Send the request as often as its schedule says; the joined records, None when none came whole."""
        self._after(0, self._send_copies(Retransmission(lifetime_ms=LIFETIME_MS)))
        while self._events:
            self._now_ms, _, event = heapq.heappop(self._events)
            if self._now_ms > START_MS + LIFETIME_MS:
                break
            event(self._now_ms)
        return None if self.whole is None else self.whole.message

    def inject(self, packet: bytes, *, link: int, at_ms: int) -> None:
        """Put another packet on a link, some time after the request was made."""
        self._after(at_ms, lambda now_ms: self._enter(link, packet))

    def true_composition(self) -> Composition:
        """What the known segments compose to, without a message, a packet or a report."""
        records = [
            SegmentRecord(
                upstream=upstream,
                current=current,
                state=SegmentState.MEASURED,
                recorded_at_ms=START_MS,
                metrics=segment_statistics(index),
            )
            for index, (upstream, current) in enumerate(
                zip(self.addresses, self.addresses[1:], strict=False), start=1
            )
        ]
        return compose(self.request.metrics, records, waited_ms=0, max_age_ms=60_000)

    def _make_point(self, index: int) -> MemoryPoint:
        point = MemoryPoint(
            self.addresses[index],
            room=maximum_payload(self.mtu_bytes),
            submit=self._carry,
            keyring=self._keyring,
        )
        segment = PreparedSegment.of(self.addresses[index - 1], START_MS, segment_statistics(index))
        point.segments.put(segment)
        return point

    def _after(self, delay_ms: int, event: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (self._now_ms + delay_ms, next(self._serial), event))

    def _send_copies(self, schedule: Retransmission) -> Callable[[int], None]:
        def send(now_ms: int) -> None:
            if self.whole is not None:
                return
            for request in self._requests(schedule.copies):
                self._enter(0, self._datagram(message_to_xml(Message(request=request))))
            schedule.sent()
            self.copies_sent += 1
            due_ms = schedule.next_after_ms()
            if due_ms is not None:
                self._after(START_MS + due_ms - now_ms, send)

        return send

    def _requests(self, copy: int) -> Iterator[MeasureRequest]:
        for index, metrics in enumerate(self.slices):
            part = replace(self.request, copy=copy, metrics=metrics, slice_index=index, slices=len(self.slices))
            yield signed_request(part, self._keyring)

    def _datagram(self, payload: bytes) -> bytes:
        return build_datagram(
            payload, source=self.request.source, destination=self.request.destination, source_port=49862
        )

    def _enter(self, link: int, packet: bytes) -> None:
        """A datagram enters the link behind the point of that number."""
        self.packets.append(packet)
        if self._random.random() < self._faults.loss_ratio:
            return
        ratio = self._faults.link_duplication_ratio
        copies = 1 + (self._random.random() < (self._faults.duplication_ratio if ratio is None else ratio))
        for _ in range(copies):
            self._after(self._delay_ms(), lambda now_ms: self._arrive(link, packet, now_ms))

    def _arrive(self, link: int, packet: bytes, now_ms: int) -> None:
        leaving = self._points[link].take(packet, now_ms)
        if leaving is not None and link + 1 < len(self._points):
            self._enter(link + 1, routed(leaving))

    def _carry(self, report: Report) -> None:
        """TCP loses nothing, but reports overtake each other, and a lost acknowledgement brings one again."""
        message = message_from_payload(report.payload)
        for _ in range(1 + (self._random.random() < self._faults.duplication_ratio)):
            self._after(self._delay_ms(), lambda now_ms: self._take_report(message, report.final, now_ms))

    def _take_report(self, message: Message, final: bool, now_ms: int) -> None:
        self.reports.append((message, final))
        if self.whole is not None:
            return
        try:
            whole = self._assembly.add(message, final=final, now_ns=now_ms * 1_000_000)
            if whole is not None and whole.standing is not Standing.FORGED:  # as `Measurements` does
                self.whole = whole
        except MessageError as error:
            self.refused.append(str(error))

    def _delay_ms(self) -> int:
        return self._random.randint(self._faults.least_delay_ms, self._faults.most_delay_ms)


def routed(packet: bytes) -> bytes:
    """The packet behind a router: TTL less one, and the header's checksum with it (RFC 1624 by the long way)."""
    header_bytes = (packet[0] & 0x0F) * 4
    header = packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + bytes(2) + packet[12:header_bytes]
    total = word_sum(header)
    return header[:10] + (0xFFFF - total).to_bytes(2, "big") + header[12:] + packet[header_bytes:]


def word_sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071): all ones over data that holds its right checksum."""
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
