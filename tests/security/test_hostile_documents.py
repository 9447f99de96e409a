"""Documents that are made to cost more than they weigh: each is refused within a millisecond and a megabyte."""

from __future__ import annotations

import time
import tracemalloc
import zlib

import pytest

from schemas.errors import MessageError
from schemas.glance import glance_at
from schemas.payload import COMPRESSED, message_from_payload, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from schemas.xml_writer import END_TAG, message_to_xml
from tests.receiver.paths import message, usual

LIMIT_S = 0.001
LIMIT_BYTES = 1_000_000
ATTEMPTS = 60
"""The quickest counts: what else the machine does only ever makes it slower."""

GOOD = message_to_xml(message([usual(0)]))
_BILLION = b"".join(b'<!ENTITY %c "%s">' % (98 + level, b"&%c;" % (97 + level) * 10) for level in range(20))


def inside(element: bytes, text: bytes) -> bytes:
    """The good document with more text in one element."""
    assert b"<%b>" % element in GOOD
    return GOOD.replace(b"<%b>" % element, b"<%b>%b" % (element, text), 1)


def before_mrp(text: bytes) -> bytes:
    return GOOD.replace(b"<mrp>", text + b"<mrp>", 1)


def attributed(attributes: bytes) -> bytes:
    return GOOD.replace(b"<m>", b"<m %b>" % attributes, 1)


DOCUMENTS = {
    "a billion laughs": b'<!DOCTYPE m [<!ENTITY a "ha">' + _BILLION + b"]>" + inside(b"hs", b"&u;"),
    "one entity many times": b'<!DOCTYPE m [<!ENTITY a "%b">]>' % (b"a" * 9000) + inside(b"hs", b"&a;" * 9000),
    "an entity that holds itself": b'<!DOCTYPE m [<!ENTITY a "&b;"><!ENTITY b "&a;">]>' + inside(b"hs", b"&a;"),
    "an external entity": b'<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + inside(b"hs", b"&a;"),
    "a parameter entity": b'<!DOCTYPE m [<!ENTITY % a SYSTEM "http://192.0.2.1/"> %a;]>' + GOOD,
    "an external DTD": b'<!DOCTYPE m SYSTEM "http://192.0.2.1/m.dtd">' + GOOD,
    "an internal DTD with defaults": b'<!DOCTYPE m [<!ATTLIST mrp s CDATA "pending">]>' + GOOD,
    "a DTD without end": b"<!DOCTYPE m [" + b"<!ELEMENT m ANY>" * 3000,
    "XInclude": before_mrp(b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'),
    "the elements in another namespace": attributed(b'xmlns="urn:other"'),
    "a prefix for our elements": GOOD.replace(b"<m>", b'<a:m xmlns:a="">').replace(b"</m>", b"</a:m>"),
    "a prefix that nobody declared": GOOD.replace(b"<m>", b"<a:m>").replace(b"</m>", b"</a:m>"),
    "very many namespaces": attributed(b" ".join(b'xmlns:a%d="u%d"' % (n, n) for n in range(2900))),
    "xml:base": attributed(b'xml:base="http://192.0.2.1/"'),
    "depth of one element": b"<m>" * 20_000,
    "depth inside a text element": GOOD[: GOOD.index(b"<hs>")] + b"<hs>" * 15_000,
    "very many attributes": attributed(b" ".join(b'a%d=""' % number for number in range(6500))),
    "one attribute many times": attributed(b'a="1" ' * 9000),
    "a long attribute": GOOD.replace(b'n="', b'n="' + b"9" * 60_000, 1),
    "a long list of bins": before_mrp(b"<mrp><up>10.0.0.1</up><mp>10.0.0.1</mp><ts>1</ts>")[: -len(END_TAG)]
    + b'<mrp><distribution n="1" l="1" p50="1" p95="1" p99="1" b="%b"/></mrp></m>' % (b"1 " * 30_000),
    "a long name": b"<" + b"x" * 60_000 + b"/>",
    "a huge number": inside(b"ct", b"9" * 60_000),
    "a huge number of digits behind the point": GOOD.replace(b'v="', b'v="1.' + b"1" * 60_000, 1),
    "not a number": GOOD.replace(b'v="', b'v="NaN" v2="', 1),
    "infinity": inside(b"ct", b"INF"),
    "an exponent": inside(b"ct", b"1e99"),
    "a number of another script": inside(b"ct", "١٢٣".encode()),
    "very many names of metrics": inside(b"ms", b"a " * 30_000),
    "very many elements": b"<m>" + b"<a/>" * 15_000 + b"</m>",
    "very many records": GOOD[: -len(END_TAG)] + b"<mrp/>" * 9_000 + END_TAG,
    "very many references to characters": inside(b"hs", b"&#49;" * 12_000),
    "very many comments": before_mrp(b"<!---->" * 8_000) + b"x",
    "very many instructions": before_mrp(b"<?a?>" * 11_000) + b"x",
    "very many sections": inside(b"hs", b"<![CDATA[]]>" * 5_000) + b"x",
    "white space": before_mrp(b" \n" * 30_000) + b"x",
    "lines in a number": inside(b"ct", b"1\n" * 30_000),
    "octets that are no UTF-8": inside(b"hs", b"\xff\xfe"),
    "a character in more octets than it needs": inside(b"hs", b"\xc0\xb1"),
    "half of a surrogate pair": inside(b"hs", b"\xed\xa0\x80"),
    "a zero": inside(b"hs", b"\x00"),
    "UTF-16 with its mark": GOOD.decode().encode("utf-16"),
    "UTF-16 that says so": '<?xml version="1.0" encoding="UTF-16"?>'.encode("utf-16")
    + GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "UTF-7": b'<?xml version="1.0" encoding="UTF-7"?>' + GOOD.replace(b"<hs>", b"+ADw-hs+AD4-"),
    "two roots": GOOD * 2,
    "no root": b" " * 60_000,
    "the beginning alone": GOOD[:-1],
    "more than anybody may say": GOOD.replace(b"<m>", b"<m>" + b" " * MAX_XML_BYTES, 1),
}


def deflated(xml: bytes) -> bytes:
    """As somebody may send it who does not even use the dictionary."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -12)
    return COMPRESSED + deflater.compress(xml) + deflater.flush()


PAYLOADS = {
    "ten megabytes of spaces": deflated(b"<m>" + b" " * 10_000_000),
    "a bomb in a bomb": deflated(deflated(b" " * 1_000_000) * 50),
    "records that weigh nothing": deflated(GOOD.replace(b"</mrp>", b"</mrp>" + b"<mrp></mrp>" * 5_000)),
    "a stream without end": deflated(GOOD)[:-3],
    "more behind the stream": deflated(GOOD) + b"x",
    "a distance before the beginning": COMPRESSED + bytes.fromhex("4b040200"),
    "a block of no kind": COMPRESSED + b"\x07",
    "nothing": COMPRESSED,
}
CASES = {
    **DOCUMENTS,
    **{f"{name}, compressed": deflated(document) for name, document in DOCUMENTS.items()},
    **PAYLOADS,
}


def refusal(payload: bytes) -> str:
    """What the decoder says, and what a point on the way says, is a refusal."""
    with pytest.raises(MessageError):
        glance_at(xml_from_payload(payload))
    with pytest.raises(MessageError) as caught:
        message_from_payload(payload)
    return str(caught.value)


def spent_s(payload: bytes) -> float:
    began_s = time.thread_time()
    with pytest.raises(MessageError):
        message_from_payload(payload)
    return time.thread_time() - began_s


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_document_is_refused_within_a_millisecond_and_a_megabyte(name: str) -> None:
    payload = CASES[name]
    assert len(refusal(payload)) < 300
    tracemalloc.start()
    try:
        refusal(payload)
        assert tracemalloc.get_traced_memory()[1] < LIMIT_BYTES
    finally:
        tracemalloc.stop()
    assert any(spent_s(payload) < LIMIT_S for _ in range(ATTEMPTS))


def test_the_good_document_is_taken_plain_and_compressed() -> None:
    assert message_from_payload(deflated(GOOD)) == message_from_payload(GOOD) == message([usual(0)])


# Records that follow from each other are plain to read, but 64 KiB of them cost as much as fifty requests.
def test_a_datagram_cannot_hold_fifty_times_its_octets() -> None:
    flood = GOOD[: -len(END_TAG)] + b"<mrp></mrp>" * 5_000 + END_TAG
    payload = deflated(flood)
    assert len(flood) > 50 * len(payload)
    with pytest.raises(MessageError, match=f"{len(payload)} octets inflate beyond"):
        xml_from_payload(payload)


# In another form than points write, to read a document takes a tree; a point on the way takes only short ones.
def test_a_long_document_in_another_form_is_not_read_on_the_way() -> None:
    long = message_to_xml(message([usual(number) for number in range(12)]))
    assert glance_at(long).records == 12
    with pytest.raises(MessageError, match="in another form than points write"):
        glance_at(long.replace(b"<m>", b"<m >", 1))
    assert glance_at(GOOD.replace(b"<m>", b"<m >", 1)).xml == GOOD
