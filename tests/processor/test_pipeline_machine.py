"""Points in a row and a network that loses, copies, delays and forges: what is answered is true, or nothing is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor.decision import Forward, HandOver, PassThrough, Report, SendReport
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import PreparedSegment, SegmentTable
from processor.trust import Trust
from receiver.assembly import ReportAssembly
from schemas.authentication import Standing, record_standings, signed_request
from schemas.errors import MessageError
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import MeasureRequest, Message, SegmentState
from schemas.metrics import METRICS
from schemas.payload import message_from_payload, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from schemas.xml_writer import message_to_xml
from tests.statistics import segment_statistics

NOW_MS = 1_700_000_000_000
POINTS = tuple(f"10.0.0.{number}" for number in range(1, 6))
KEYRING = Keyring((HmacKey(KeyIdentity(id="a1", areas=("",)), b"k" * 32),))
ROOMS = (1468, 548, 420)
"""At an MTU of 1500 all fits; at the others records must be handed over on the way."""
_RECORD = re.compile(rb"<mrp.*?</mrp>")


@dataclass(frozen=True, slots=True)
class Flight:
    """A payload on the way to the point of that number."""

    to: int
    payload: bytes
    is_genuine: bool


class Overlay(RuleBasedStateMachine):
    """The first point is the source; the others have pipelines, and want tags."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: list[Flight] = []
        self.room = ROOMS[0]
        self.copies: dict[str, int] = {}
        self.genuine: set[bytes] = set()
        """Every document that a point has written: to bring back an old one is to delay, not to forge."""
        self.assembly = ReportAssembly(keyring=KEYRING)
        self.answers: list[Message] = []
        self.segments = [SegmentTable() for _ in POINTS]
        self.pipelines = [self.pipeline(number) for number in range(len(POINTS))]

    def pipeline(self, number: int) -> Pipeline:
        address = POINTS[number]
        identity = PointIdentity(address=address, own_addresses=frozenset((address,)), serves=())
        return Pipeline(identity, self.segments[number], lambda _: None, trust=Trust(KEYRING, is_required=True))

    @rule(number=st.integers(0, 2), metrics=st.sampled_from((("delay",), ("delay", "loss"), tuple(METRICS)[:4])))
    def a_request_is_sent(self, number: int, metrics: tuple[str, ...]) -> None:
        """Asked again it is the same request: another number stands for other metrics as well."""
        identifier = f"{number:x}{len(metrics):x}".ljust(32, "0")
        copy = self.copies[identifier] = self.copies.get(identifier, -1) + 1
        request = MeasureRequest(
            source=POINTS[0],
            destination=POINTS[-1],
            id=identifier,
            metrics=metrics,
            created_at_ms=NOW_MS,
            lifetime_ms=5000,
            max_age_ms=60_000,
            copy=copy,
        )
        xml = message_to_xml(Message(request=signed_request(request, KEYRING)))
        self.leave(0, xml)

    @rule(number=st.integers(1, len(POINTS) - 1), is_known=st.booleans())
    def a_point_learns_or_forgets_its_segment(self, number: int, is_known: bool) -> None:
        upstream = POINTS[number - 1]
        if is_known:
            self.segments[number].put(PreparedSegment.of(upstream, NOW_MS, segment_statistics(number)))
        else:
            self.segments[number].remove(upstream)

    @rule(room=st.sampled_from(ROOMS))
    def the_links_become_wider_or_narrower(self, room: int) -> None:
        self.room = room

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def a_datagram_is_lost(self, data: st.DataObject) -> None:
        self.flights.remove(self.any_flight(data))

    @precondition(lambda self: 0 < len(self.flights) < 20)
    @rule(data=st.data())
    def a_datagram_is_copied(self, data: st.DataObject) -> None:
        self.flights.append(self.any_flight(data))

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def a_datagram_arrives(self, data: st.DataObject) -> None:
        flight = self.any_flight(data)
        self.flights.remove(flight)
        self.arrive(flight)

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), octet=st.integers(1, 255))
    def an_octet_is_changed_on_the_way(self, data: st.DataObject, octet: int) -> None:
        flight = self.any_flight(data)
        place = data.draw(st.integers(0, len(flight.payload) - 1))
        changed = bytearray(flight.payload)
        changed[place] ^= octet
        self.forge(flight, bytes(changed))

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), what=st.sampled_from(("removed", "twice", "exchanged", "spliced")))
    def records_are_tampered_with(self, data: st.DataObject, what: str) -> None:
        flight, other = self.any_flight(data), self.any_flight(data)
        xml = xml_from_payload(flight.payload)
        records = _RECORD.findall(xml)
        head = xml[: xml.find(b"</mr>") + 5]
        self.forge(flight, head + b"".join(_tampered(what, records, xml_from_payload(other.payload))) + b"</m>")

    def any_flight(self, data: st.DataObject) -> Flight:
        return data.draw(st.sampled_from(self.flights))

    def forge(self, flight: Flight, payload: bytes) -> None:
        """Let a datagram arrive that somebody made of another one; not one of points further on, carried back."""
        try:
            is_genuine = xml_from_payload(payload) in self.genuine
        except MessageError:  # as the point will notice
            is_genuine = False
        if is_genuine and message_from_payload(payload).latest_point in POINTS[flight.to + 1 :]:
            return
        self.arrive(replace(flight, payload=payload, is_genuine=is_genuine))

    def arrive(self, flight: Flight) -> None:
        decision = self.pipelines[flight.to].process(
            flight.payload, source=POINTS[0], destination=POINTS[-1], now_ms=NOW_MS, room=self.room
        )
        if not flight.is_genuine:
            assert isinstance(decision, PassThrough), decision
            return
        match decision:
            case Forward(payload=payload):
                self.leave(flight.to, payload)
            case HandOver(report=report, payload=payload):
                self.report(report)
                self.leave(flight.to, payload)
            case SendReport(report=report):
                assert flight.to == len(POINTS) - 1
                self.report(report)
            case PassThrough(reason=reason):
                assert reason.startswith(("room: ", "mp: this point is on the path already")), reason

    def leave(self, number: int, payload: bytes) -> None:
        """On to the next point, which must be able to read it."""
        message = message_from_payload(payload)
        assert len(payload) <= self.room
        assert all(record.current in POINTS[1 : number + 1] for record in message.records)
        self.genuine.add(xml_from_payload(payload))
        if number + 1 < len(POINTS):
            self.flights.append(Flight(number + 1, payload, True))

    def report(self, report: Report) -> None:
        assert (report.asker, len(report.payload) <= MAX_XML_BYTES) == (POINTS[0], True)
        message = message_from_payload(report.payload)
        assert set(record_standings(message, KEYRING)) <= {Standing.AUTHENTIC}
        try:
            whole = self.assembly.add(message, final=report.final, now_ns=0)
        except MessageError as error:  # a copy met points that knew more or less by then
            assert re.search(
                "came twice and differs|after the final part|expected the highest|where the part", str(error)
            )
            return
        if whole is not None:
            assert whole.standing is Standing.AUTHENTIC
            self.answers.append(whole.message)

    @invariant()
    def an_answer_tells_points_in_the_order_of_the_path_and_what_they_measured(self) -> None:
        for answer in self.answers:
            told = [POINTS.index(record.current) for record in answer.records]
            assert told == sorted(set(told))
            assert told[-1] == len(POINTS) - 1
            for place, record in zip(told, answer.records, strict=True):
                if record.state is SegmentState.MEASURED and record.upstream == POINTS[place - 1]:
                    known = segment_statistics(place)
                    assert record.metrics == {name: known[name] for name in answer.request.metrics}
        self.answers.clear()

    def teardown(self) -> None:
        """A network that has calmed down answers a request."""
        self.flights.clear()
        self.room = ROOMS[0]
        self.a_request_is_sent(3, ("delay",))
        while self.flights:
            self.arrive(self.flights.pop())
        assert len(self.answers) == 1
        self.an_answer_tells_points_in_the_order_of_the_path_and_what_they_measured()


def _tampered(what: str, records: Sequence[bytes], other: bytes) -> Sequence[bytes]:
    match what:
        case "removed":
            return records[1:]
        case "twice":
            return [*records, *records[-1:]]
        case "exchanged":
            return records[::-1]
        case _:
            return [*records[:-1], *_RECORD.findall(other)[-1:]]


def test_what_is_tampered_with_is_no_longer_what_it_was() -> None:
    records = [b"<mrp>1</mrp>", b"<mrp>2</mrp>"]
    changed = [_tampered(what, records, b"<mrp>3</mrp>") for what in ("removed", "twice", "exchanged", "spliced")]
    assert [len(one) for one in changed] == [1, 3, 2, 2]
    assert all(list(one) != records for one in changed)


Overlay.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestOverlay = Overlay.TestCase
