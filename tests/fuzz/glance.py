"""Documents at a point on the way, which reads no more of them than it needs: that must be what is there."""

from __future__ import annotations

from schemas.errors import MessageError
from schemas.glance import MAX_OTHER_BYTES, Glance, TagText, glance_at
from schemas.message import Message, check_consistency
from schemas.xml_reader import message_from_xml
from tests.fuzz.genuine import documents
from tests.fuzz.message import WORDS
from tests.fuzz.target import Target


def one_input(data: bytes) -> None:
    """Both take the same documents, long ones in the usual form alone, and see the same in them."""
    try:
        message = message_from_xml(data)
        check_consistency(message)
    except MessageError:
        message = None
    try:
        glance = glance_at(data)
    except MessageError as error:
        assert message is None or len(data) > MAX_OTHER_BYTES, str(error)
        return
    assert message is not None
    _check_same(glance, message)


def _check_same(glance: Glance, message: Message) -> None:
    request = message.request
    assert glance.request == request
    assert (glance.source, glance.destination) == (request.source, request.destination)
    assert (glance.metrics, glance.max_age_ms) == (request.metrics, request.max_age_ms)
    assert (glance.hello, glance.returning) == (request.hello, request.returning)
    assert glance.request_tag == TagText.of(request.tag)
    assert (glance.records, glance.latest_point) == (len(message.records), message.latest_point)
    handed_over = () if request.last_point is None else (request.last_point,)
    assert glance.points == (*handed_over, *(record.current for record in message.records))
    if message.records:
        latest = message.records[-1]
        assert glance.latest_author == (latest.told_by or latest.current)
        assert glance.latest_tag == TagText.of(latest.tag)


TARGET = Target(one_input=one_input, seeds=documents, words=WORDS, max_bytes=4096)
