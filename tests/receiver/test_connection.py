from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.connection import ReportConnection, ReportReceived
from schemas.errors import MessageError
from schemas.framing import ANSWER_KINDS, Acknowledgement, FrameReader, Refusal, Report, frame_to_bytes
from schemas.message import Message
from schemas.payload import payload_from_xml
from schemas.xml_writer import message_to_xml
from tests.messages import messages
from tests.receiver.paths import REQUEST_ID, message, usual

MESSAGE = message((usual(0), usual(1)))


def report(sent: Message, *, final: bool = True, room: int = 65_536) -> bytes:
    payload = payload_from_xml(message_to_xml(sent), room)
    assert payload is not None
    return frame_to_bytes(Report(payload=payload, final=final))


@pytest.mark.parametrize("room", [65_536, 700])
@pytest.mark.parametrize("final", [True, False])
def test_a_report_plain_or_compressed_becomes_its_message(room: int, final: bool) -> None:
    (received,) = ReportConnection().receive(report(MESSAGE, final=final, room=room))
    assert (received.message(), received.final, received.identifier) == (MESSAGE, final, REQUEST_ID)


@given(messages())
@settings(max_examples=30)
def test_every_message_arrives_octet_by_octet(sent: Message) -> None:
    connection = ReportConnection()
    received = [one for octet in report(sent) for one in connection.receive(bytes((octet,)))]
    connection.end()
    assert [(one.message(), one.identifier) for one in received] == [(sent, sent.request.id)]


@given(st.binary(max_size=60), st.booleans())
def test_any_body_gives_a_message_error(body: bytes, final: bool) -> None:
    stream = frame_to_bytes(Report(payload=b"<" + body, final=final))
    (received,) = ReportConnection().receive(stream)
    with pytest.raises(MessageError):
        received.message()


def test_what_cannot_be_inflated_is_a_report_without_a_message() -> None:
    (received,) = ReportConnection().receive(frame_to_bytes(Report(payload=b"\x01\xff\xff", final=True)))
    assert received == ReportReceived(xml=b"", final=True)
    assert received.identifier is None
    with pytest.raises(MessageError):
        received.message()


def test_an_id_is_looked_for_where_points_write_it_and_nowhere_else() -> None:
    xml = message_to_xml(MESSAGE).replace(b"<m>", b"<m>" + b" " * 100)
    (received,) = ReportConnection().receive(frame_to_bytes(Report(payload=xml, final=True)))
    assert received.message() == MESSAGE
    assert received.identifier is None


def test_the_reports_before_a_broken_one_can_be_answered() -> None:
    received = ReportConnection().receive(report(MESSAGE) + b"rubbish")
    assert next(received).message() == MESSAGE
    with pytest.raises(MessageError, match="magic"):
        next(received)


def test_records_that_are_no_chain_are_refused() -> None:
    broken = replace(MESSAGE, records=(usual(0), usual(2)))
    with pytest.raises(MessageError, match="up: got 10.0.0.3, expected 10.0.0.2"):
        next(ReportConnection().receive(report(broken))).message()


def test_a_part_that_no_acknowledgement_can_name_is_refused() -> None:
    broken = message((usual(1),), part=70_000)
    with pytest.raises(MessageError, match="pt: got 70000, expected at most 65535"):
        next(ReportConnection().receive(report(broken))).message()


def test_a_stream_cut_in_a_report_is_noticed() -> None:
    connection = ReportConnection()
    assert list(connection.receive(report(MESSAGE)[:-1])) == []
    with pytest.raises(MessageError, match="the stream ends"):
        connection.end()


def test_answers_name_the_report_or_the_reason() -> None:
    connection = ReportConnection()
    part = message((usual(1),), part=3)
    stream = connection.acknowledge(part) + connection.refuse("no such request")
    assert list(FrameReader(ANSWER_KINDS).receive(stream)) == [
        Acknowledgement(id=REQUEST_ID, copy=0, part=3),
        Refusal(reason="no such request"),
    ]
