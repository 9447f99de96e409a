"""A tag is looked for where points write it: an old one, written otherwise, vouches for nothing new."""

from __future__ import annotations

import pytest

from processor.decision import Forward, PassThrough
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import SegmentTable
from processor.trust import Trust
from schemas.authentication import Standing, record_standings
from schemas.message import Message, Tag
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import END_TAG, RECORD_END, untagged_record
from tests.fuzz.genuine import DESTINATION, KEYRING, NOW_MS, SOURCE, record, signed_documents

OWN = "10.0.0.4"


def point() -> Pipeline:
    identity = PointIdentity(address=OWN, own_addresses=frozenset((OWN,)), serves=())
    return Pipeline(identity, SegmentTable(), lambda _: None, trust=Trust(KEYRING, is_required=True))


def tag_of(message: Message) -> tuple[str, bytes]:
    tag = message.records[-1].tag
    assert isinstance(tag, Tag)
    xml = signed_documents()
    (text,) = {one.rsplit(b't="', 1)[1].split(b'"')[0] for one in xml if message_from_xml(one) == message}
    return tag.key_id, text


@pytest.mark.parametrize("document", signed_documents())
@pytest.mark.parametrize(
    "otherwise",
    [b'<a t="%b" k="%b"/>', b"<a t='%b' k='%b'/>", b'<a  t="%b" k="%b"/>', b'<a\nt="%b"\nk="%b"></a>'],
)
def test_a_record_behind_an_old_tag_is_not_extended(document: bytes, otherwise: bytes) -> None:
    genuine = message_from_xml(document)
    key_id, text = tag_of(genuine)
    invented = untagged_record(record(3, genuine.request.metrics)) + otherwise % (text, key_id.encode())
    forged = document[: -len(END_TAG)] + invented + RECORD_END + END_TAG
    message = message_from_xml(forged)
    assert message.records[-1].tag == genuine.records[-1].tag
    assert record_standings(message, KEYRING)[-1] is Standing.FORGED
    for payload, kind in ((document, Forward), (forged, PassThrough)):
        decision = point().process(payload, source=SOURCE, destination=DESTINATION, now_ms=NOW_MS, room=9000)
        assert isinstance(decision, kind)
