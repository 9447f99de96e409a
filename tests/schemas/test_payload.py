from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.payload import COMPRESSED, extended_payload, message_from_payload, payload_from_xml, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from schemas.xml_writer import END_TAG, RECORD_END, head_to_xml, message_to_xml, untagged_record
from tests.messages import messages
from tests.statistics import segment_statistics

FIRST = "10.0.0.1"


@given(messages())
def test_the_compressed_form_holds_the_same_message(message: Message) -> None:
    xml = message_to_xml(message)
    payload = payload_from_xml(xml, len(xml) - 1)
    assert payload is not None
    assert payload[:1] == COMPRESSED
    assert len(payload) < len(xml)
    assert message_from_payload(payload) == message


@given(messages())
def test_plain_xml_is_kept_while_it_fits(message: Message) -> None:
    xml = message_to_xml(message)
    assert payload_from_xml(xml, len(xml)) == xml


def test_what_fits_in_no_form_is_none() -> None:
    assert payload_from_xml(b"<m>" + bytes(range(256)), 20) is None


@given(messages(), st.integers(200, 3000))
def test_a_payload_grows_with_its_document_and_holds_no_less_than_one_made_of_it_all(
    message: Message, room: int
) -> None:
    documents = [
        message_to_xml(replace(message, records=message.records[:count]))
        for count in range(len(message.records) + 1)
    ]
    payload = documents[0]
    for before, grown in pairwise(documents):
        extended = extended_payload(payload, before, grown, room)
        if extended is None:
            assert payload_from_xml(grown, room) is None
            return
        assert len(extended) <= room
        assert xml_from_payload(extended) == grown
        payload = extended


def row_of(records: int) -> list[bytes]:
    """A document with one record more each time."""
    documents = [
        head_to_xml(
            MeasureRequest(
                id="ab" * 16,
                source=FIRST,
                destination="10.9.0.1",
                metrics=("delay",),
                created_at_ms=1_767_268_800_000,
                lifetime_ms=5000,
                max_age_ms=0,
            )
        )
    ]
    for number in range(records):
        record = SegmentRecord(
            upstream=FIRST,
            current=FIRST,
            state=SegmentState.MEASURED,
            recorded_at_ms=1_767_268_800_000 + number,
            metrics={"delay": segment_statistics(number)["delay"]},
        )
        documents.append(documents[-1] + untagged_record(record) + RECORD_END)
    return [document + END_TAG for document in documents]


def test_what_was_deflated_before_is_kept_while_there_is_room() -> None:
    documents = row_of(8)
    room = len(documents[4]) - 1
    assert extended_payload(documents[2], documents[2], documents[3], room) == documents[3]
    payload = extended_payload(documents[3], documents[3], documents[4], room)
    for before, grown in pairwise(documents[4:]):
        assert payload is not None
        extended = extended_payload(payload, before, grown, room)
        assert extended is not None
        assert extended.startswith(payload[:-6])
        assert len(extended) - len(payload) < (len(grown) - len(before)) / 2
        payload = extended


def test_where_there_is_none_all_is_deflated_again() -> None:
    *_, before, grown = row_of(8)
    payload = extended_payload(before, before, before, len(before) - 1)
    assert payload is not None
    smallest = payload_from_xml(grown, len(grown) - 1)
    assert smallest is not None
    assert extended_payload(payload, before, grown, len(smallest)) == smallest
    assert extended_payload(payload, before, grown, len(smallest) - 1) is None


def test_a_stream_that_does_not_hold_what_is_said_is_not_continued() -> None:
    first, second, third = row_of(2)
    payload = extended_payload(second, second, second, len(second) - 1)
    assert payload is not None
    extended = extended_payload(payload, first, third.replace(b"10.9.0.1", b"10.9.0.2"), len(second))
    assert extended is not None
    assert xml_from_payload(extended) == third.replace(b"10.9.0.1", b"10.9.0.2")


@given(st.binary(max_size=200))
def test_any_payload_gives_bytes_or_message_error(data: bytes) -> None:
    for payload in (data, COMPRESSED + data):
        try:
            message_from_payload(payload)
        except MessageError:
            continue
        raise AssertionError(f"random octets became a message: {payload!r}")


def test_a_compressed_bomb_is_cut_off_at_the_size_limit() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = COMPRESSED + deflater.compress(bytes(50_000_000)) + deflater.flush()
    assert len(bomb) < 100_000
    with pytest.raises(MessageError, match=f"beyond {MAX_XML_BYTES}"):
        xml_from_payload(bomb)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data + b"x"], ids=["cut off", "followed by more"]
)
def test_a_stream_that_does_not_end_where_it_should_is_refused(damage: object) -> None:
    payload = payload_from_xml(b"<m>" * 40, 60)
    assert payload is not None
    assert callable(damage)
    with pytest.raises(MessageError, match="expected exactly one"):
        xml_from_payload(damage(payload))
