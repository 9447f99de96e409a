"""Whatever comes in whatever pieces: each whole report comes out once and in order, until rubbish does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from receiver.connection import ReportConnection, ReportReceived
from schemas.errors import MessageError
from schemas.framing import ANSWER_KINDS, MAX_REPORT_BYTES, Acknowledgement, FrameReader, Report, frame_to_bytes
from schemas.message import Message
from schemas.payload import payload_from_xml
from schemas.xml_writer import message_to_xml
from tests.receiver.paths import message, usual

_RECORDS = [usual(0), usual(1)]
_HEADER_BYTES = 12


class Connection(RuleBasedStateMachine):
    """Octets wait in `stream` until they are received; what must come of them waits in `expected`."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = ReportConnection()
        self.answers = FrameReader(ANSWER_KINDS)
        self.stream = b""
        self.expected: list[tuple[Message | None, bool]] = []
        self.boundaries: list[int] = [0]
        self.sent = self.received = 0
        self.is_rubbish = self.is_broken = False

    def send(self, octets: bytes) -> None:
        self.stream += octets
        self.sent += len(octets)

    @precondition(lambda self: not self.is_rubbish)
    @rule(
        records=st.integers(0, 2), copy=st.sampled_from((0, 3, 0xFFFF)), final=st.booleans(), small=st.booleans()
    )
    def a_report_is_sent(self, records: int, copy: int, final: bool, small: bool) -> None:
        plain = message(_RECORDS[:records])
        sent = Message(request=replace(plain.request, copy=copy), records=plain.records)
        xml = message_to_xml(sent)
        payload = payload_from_xml(xml, len(xml) - small)
        assert payload is not None
        self.send(frame_to_bytes(Report(payload=payload, final=final)))
        self.boundaries.append(self.sent)
        self.expected.append((sent, final))

    @precondition(lambda self: not self.is_rubbish)
    @rule(payload=st.binary(min_size=1, max_size=60), final=st.booleans())
    def a_frame_without_a_message_is_sent(self, payload: bytes, final: bool) -> None:
        self.send(frame_to_bytes(Report(payload=payload, final=final)))
        self.boundaries.append(self.sent)
        self.expected.append((None, final))

    @precondition(lambda self: not self.is_rubbish)
    @rule(
        header=st.sampled_from(
            (
                b"GET / HTTP/1",
                b"IPR1\x03\0\0\0\0\0\0\x14",
                b"IPR1\x01\0\0\1\0\0\0\x01",
                b"IPR1\x01\0\0\0" + (MAX_REPORT_BYTES + 1).to_bytes(4, "big"),
            )
        ),
        more=st.binary(max_size=40),
    )
    def rubbish_is_sent(self, header: bytes, more: bytes) -> None:
        assert len(header) == _HEADER_BYTES
        self.send(header + more)
        self.is_rubbish = True

    @precondition(lambda self: self.stream and not self.is_broken)
    @rule(count=st.integers(1, 3000))
    def some_octets_arrive(self, count: int) -> None:
        piece, self.stream = self.stream[:count], self.stream[count:]
        self.received += len(piece)
        self.take(self.connection.receive(piece))

    @precondition(lambda self: self.is_broken)
    @rule(octets=st.binary(min_size=1, max_size=40))
    def nothing_comes_out_after_rubbish(self, octets: bytes) -> None:
        try:
            reports = list(self.connection.receive(octets))
        except MessageError:
            return
        raise AssertionError(f"{reports} have come out of rubbish")

    def take(self, reports: Iterator[ReportReceived]) -> None:
        try:
            for report in reports:
                self.answer(report, *self.expected.pop(0))
        except MessageError as error:
            assert str(error).startswith("frame: ")
            assert self.is_rubbish and not self.expected
            self.is_broken = True

    def answer(self, report: ReportReceived, sent: Message | None, final: bool) -> None:
        assert report.final is final
        if sent is None:
            try:
                report.message()
            except MessageError:
                return
            raise AssertionError("rubbish has become a message")
        assert (report.message(), report.identifier) == (sent, sent.request.id)
        (told,) = self.answers.receive(self.connection.acknowledge(sent))
        assert told == Acknowledgement(id=sent.request.id, copy=sent.request.copy, part=sent.request.part)

    @invariant()
    def every_report_that_has_arrived_whole_has_come_out(self) -> None:
        whole = sum(1 for end in self.boundaries[1:] if end <= self.received)
        assert len(self.expected) == len(self.boundaries) - 1 - whole

    @invariant()
    def no_more_than_one_report_waits(self) -> None:
        if not self.is_broken:
            assert len(self.connection._reader._buffer) <= _HEADER_BYTES + MAX_REPORT_BYTES

    @precondition(lambda self: not self.is_rubbish)
    @invariant()
    def the_end_is_in_order_between_reports_only(self) -> None:
        try:
            self.connection.end()
        except MessageError:
            assert self.received not in self.boundaries
        else:
            assert self.received in self.boundaries

    def teardown(self) -> None:
        """Whatever is on its way arrives at last, and rubbish is noticed."""
        while self.stream and not self.is_broken:
            self.some_octets_arrive(700)
        assert self.is_broken == self.is_rubbish


Connection.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestConnection = Connection.TestCase
