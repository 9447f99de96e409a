"""Payloads of datagrams, plain and compressed."""

from __future__ import annotations

from schemas.errors import MessageError
from schemas.payload import COMPRESSED, message_from_payload, payload_from_xml, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from tests.fuzz.genuine import documents
from tests.fuzz.target import Target


def one_input(data: bytes) -> None:
    """As it came; behind the octet that says compressed; and compressed, which must come out as it went in."""
    for payload in (data, COMPRESSED + data):
        try:
            assert len(xml_from_payload(payload)) <= max(len(payload), MAX_XML_BYTES)
            message_from_payload(payload)
        except MessageError as error:
            assert len(str(error)) < 500
    compressed = payload_from_xml(data, max(0, len(data) - 1))
    if compressed is not None and not data.startswith(COMPRESSED):
        assert xml_from_payload(compressed) == data


def seeds() -> list[bytes]:
    """Compressed messages, with and without their first octet."""
    made = []
    for xml in documents():
        compressed = payload_from_xml(xml, len(xml) - 1)
        assert compressed is not None
        made += [xml, compressed, compressed[1:]]
    return made


TARGET = Target(one_input=one_input, seeds=seeds, max_bytes=2048)
