"""Payloads of datagrams, plain and compressed."""

from __future__ import annotations

from schemas.errors import MessageError
from schemas.payload import COMPRESSED, extended_payload, message_from_payload, payload_from_xml, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from schemas.xml_writer import END_TAG
from tests.fuzz.genuine import documents
from tests.fuzz.target import Target

RECORD = b"<mrp><up>10.0.0.1</up><mp>10.0.0.2</mp><ts>1</ts></mrp>"


def one_input(data: bytes) -> None:
    """As it came; behind the octet that says compressed; and compressed, which must come out as it went in."""
    for payload in (data, COMPRESSED + data):
        try:
            xml = xml_from_payload(payload)
            assert len(xml) <= max(len(payload), MAX_XML_BYTES)
            extended_payload(
                payload, xml, xml.removesuffix(END_TAG) + RECORD + END_TAG, len(payload) + len(RECORD)
            )
            message_from_payload(payload)
        except MessageError as error:
            assert len(str(error)) < 500
    compressed = payload_from_xml(data, max(0, len(data) - 1))
    if compressed is not None and not data.startswith(COMPRESSED):
        assert xml_from_payload(compressed) == data
    document, grown = data + END_TAG, data + RECORD + END_TAG
    growing = extended_payload(document, document, document, len(data))
    if growing is not None and not data.startswith(COMPRESSED):
        assert xml_from_payload(growing) == document
        longer = extended_payload(growing, document, grown, len(grown) - 1)
        assert longer is None or xml_from_payload(longer) == grown


def seeds() -> list[bytes]:
    """Compressed messages, with and without their first octet."""
    made = []
    for xml in documents():
        compressed = payload_from_xml(xml, len(xml) - 1)
        assert compressed is not None
        growing = extended_payload(xml, xml, xml, len(xml) - 1)
        assert growing is not None
        made += [xml, compressed, compressed[1:], growing]
    return made


TARGET = Target(one_input=one_input, seeds=seeds, max_bytes=2048)
