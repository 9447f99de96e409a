from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.message import Message
from schemas.payload import COMPRESSED, message_from_payload, payload_from_xml, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from schemas.xml_writer import message_to_xml
from tests.messages import messages


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
