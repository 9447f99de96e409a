"""Documents of measurement messages."""

from __future__ import annotations

from processor.trust import Trust
from schemas.authentication import Standing, record_standings, sealed
from schemas.errors import MessageError
from schemas.glance import glance_at
from schemas.message import Message, check_consistency
from schemas.metrics import METRICS
from schemas.xml_reader import MAX_XML_BYTES, message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, untagged_record
from tests.fuzz.genuine import KEYRING, SECRET, documents
from tests.fuzz.target import Target

_WARY = Trust(KEYRING, is_required=True)


def one_input(data: bytes) -> None:
    """Decode; what can be decoded can be written and read again, judged by its tags, and extended."""
    try:
        message = message_from_xml(data)
        check_consistency(message)
    except MessageError as error:
        assert len(str(error)) < 500
        return
    _check_tags(data, message)
    written = message_to_xml(message)
    if len(written) <= MAX_XML_BYTES:
        _check_again(written, message)


def _check_tags(xml: bytes, message: Message) -> None:
    """No point believes what the receiver then finds to be forged."""
    standings = record_standings(message, KEYRING)
    try:
        refusal = _WARY.refusal(glance_at(xml))
    except MessageError:  # long, and not as points write it
        return
    if standings and refusal is None:
        assert standings[-1] is Standing.AUTHENTIC


def _check_again(written: bytes, message: Message) -> None:
    """Writing rounds numbers, once: the second time nothing changes."""
    again = message_from_xml(written)
    assert message_to_xml(again) == written
    assert again.request == message.request
    if message.records:
        extended = sealed(written[: -len(END_TAG)] + untagged_record(message.records[-1]), SECRET)
        if len(extended) <= MAX_XML_BYTES and len(message.records) < 255:
            assert len(message_from_xml(extended).records) == len(message.records) + 1


_ELEMENTS = (
    "m",
    "mr",
    "mrp",
    "hs",
    "hd",
    "id",
    "ms",
    "ct",
    "lt",
    "ma",
    "cp",
    "pt",
    "lp",
    "ri",
    "rt",
    "he",
    "sl",
    "pv",
)
WORDS = (
    *(name.encode() for name in METRICS),
    *(mark for name in _ELEMENTS for mark in (f"<{name}>".encode(), f"</{name}>".encode())),
    *(b"<!DOCTYPE m [", b"<!ENTITY a 'b'>", b"&a;", b"&#49;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?x ?>"),
    *(b"xmlns=''", b"xmlns:a='b'", b"xml:lang='e'", b'<x m="', b"NaN", b"INF", b"1e9", b"-0", b"999999999999999"),
    *(b's="pending"', b"\xef\xbb\xbf", b"\xff\xfe", b'<?xml version="1.0" encoding="UTF-16"?>', b"&lt;", b"\x00"),
    *(b'<a k="a1" t="', b'<a k="s1" t="', b"<fr>10.0.0.2</fr>"),
)
TARGET = Target(one_input=one_input, seeds=documents, words=WORDS, max_bytes=4096)
