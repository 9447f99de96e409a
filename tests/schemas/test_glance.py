from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import glance
from schemas.authentication import signed_request
from schemas.decoder import message_from_document
from schemas.errors import MessageError
from schemas.glance import MAX_OTHER_BYTES, Glance, TagText, glance_at
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import MAX_RECORDS, MeasureRequest, Message, SegmentRecord, SegmentState, check_consistency
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import message_to_xml
from tests.messages import messages
from tests.statistics import segment_statistics

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("*/*.xml"))
PIECES = (
    *(
        "0",
        "1",
        "01",
        "-",
        "-0",
        ".5",
        "1e3",
        " ",
        "  ",
        "\n",
        '"',
        "'",
        "<",
        ">",
        "/",
        "/>",
        "&lt;",
        "&#49;",
        "]]>",
    ),
    *("<!-- -->", "<?pi?>", "<!DOCTYPE m>", "<m>", "</m>", "<mrp>", "</mrp>", "<mr>", "<x/>", "pending"),
    *(
        '<mrp s="pending">',
        "<ag>7</ag>",
        "<fr>10.0.0.1</fr>",
        "<he>1</he>",
        "<rt>1</rt>",
        "<cp>0</cp>",
        "<pt>1</pt>",
    ),
    *(
        "<lp>10.0.0.9</lp>",
        "<un>loss</un>",
        '<x m="hops" n="1" v="1" l="1" h="1" t="1"/>',
        "delay",
        "loss",
        "hops",
    ),
    *('<a k="b" t="AAAAAAAAAAAAAAAAAAAAAA"/>', '<a k="b" t="AAAAAAAAAAAAAAAAAAAAAB"/>', '<sl i="1" n="2"/>'),
    *(
        '<sl i="2" n="2"/>',
        "<pv>AAAAAAAAAAAAAAAAAAAAAA</pv>",
        "256.0.0.1",
        "10.0.0.1",
        "\0",
        "é",
        "\ufeff",
        "1" * 16,
    ),
)
REQUEST = MeasureRequest(
    source="10.0.0.1",
    destination="10.9.0.1",
    id="ab" * 16,
    metrics=("delay",),
    created_at_ms=1_767_268_800_000,
    lifetime_ms=5000,
    max_age_ms=0,
)
KEYRING = Keyring([HmacKey(KeyIdentity(id="k-1", areas=("",)), bytes(32))])


def decoded(data: bytes) -> Message | None:
    try:
        message = message_from_xml(data)
        check_consistency(message)
    except MessageError:
        return None
    return message


def glanced(data: bytes) -> Glance | None:
    try:
        return glance_at(data)
    except MessageError:
        return None


def assert_agree(data: bytes) -> Message | None:
    message, seen = decoded(data), glanced(data)
    if message is not None and seen is None:
        assert len(data) > MAX_OTHER_BYTES and data != message_to_xml(message), data
    assert message is not None or seen is None, data
    if message is not None and seen is not None:
        assert_same(seen, message, data)
    assert_read_alike(data)
    return message


def assert_read_alike(data: bytes) -> None:
    """The short cut of the decoder takes what the decoder itself takes, and reads the same from it."""
    try:
        expected = message_from_xml(data)
    except MessageError as error:
        with pytest.raises(MessageError, match=re.escape(str(error))):
            message_from_document(data)
    else:
        assert message_from_document(data) == expected


def assert_same(seen: Glance, message: Message, data: bytes) -> None:
    request, latest = message.request, message.records[-1] if message.records else None
    assert seen.xml in (data, message_to_xml(message))
    assert seen.request == request
    assert (seen.metrics, seen.source, seen.destination) == (request.metrics, request.source, request.destination)
    assert (seen.max_age_ms, seen.hello, seen.returning) == (request.max_age_ms, request.hello, request.returning)
    assert (seen.records, seen.latest_point) == (len(message.records), message.latest_point)
    told = tuple(record.current for record in message.records)
    assert seen.points == (told if request.last_point is None else (request.last_point, *told))
    assert seen.request_tag == TagText.of(request.tag)
    assert seen.latest_tag == (None if latest is None else TagText.of(latest.tag))
    assert seen.latest_author == (request.source if latest is None else latest.told_by or latest.current)


@settings(max_examples=300, deadline=None)
@given(messages(), st.data())
def test_a_glance_takes_what_the_decoder_takes_and_sees_the_same(message: Message, data: st.DataObject) -> None:
    text = message_to_xml(message).decode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from((0, 0, 1, 2, 5, 20)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[start + length :]
    assert_agree(text.encode())


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_octets_are_judged_as_the_decoder_does(begin: bytes, end: bytes) -> None:
    assert_agree(begin + end)
    assert_agree(b"<m><mr>" + begin + b"</mr>" + end + b"</m>")


def test_documents_with_one_octet_changed_are_judged_as_the_decoder_does() -> None:
    rng = random.Random(11)
    whole = message_to_xml(message_of(2, ("delay", "rtt", "hops", "mtu")))
    taken = 0
    for _ in range(3000):
        place = rng.randrange(len(whole))
        changed = whole[:place] + bytes((rng.choice(b'019a.<>/ "-m\0\xff'),)) + whole[place + 1 :]
        taken += assert_agree(changed) is not None
    assert 100 < taken < 2900


def test_parts_of_a_document_in_another_place_are_judged_as_the_decoder_does() -> None:
    rng = random.Random(12)
    whole = message_to_xml(message_of(3, ("delay", "loss", "hops")))
    ends = [place + 1 for place, octet in enumerate(whole) if octet == ord(">")]
    for _ in range(1500):
        first, second, third = sorted(rng.sample(ends, 3))
        pieces = [whole[:first], whole[first:second], whole[second:third], whole[third:]]
        match rng.randrange(3):
            case 0:
                pieces[1], pieces[2] = pieces[2], pieces[1]
            case 1:
                pieces[1] = b""
            case _:
                pieces[1] *= 2
        assert_agree(b"".join(pieces))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_each_vector_is_judged_as_the_decoder_does(path: Path) -> None:
    assert (assert_agree(path.read_bytes()) is not None) == (path.parent.name == "valid")


@settings(deadline=None)
@given(messages())
def test_what_points_write_is_never_decoded(message: Message) -> None:
    data = message_to_xml(message)
    seen = glance.usual_glance(data)
    assert seen is not None
    assert_same(seen, message, data)


def message_of(points: int, metrics: tuple[str, ...]) -> Message:
    known = segment_statistics(1)
    return Message(
        request=signed_request(replace(REQUEST, metrics=metrics), KEYRING),
        records=tuple(
            SegmentRecord(
                upstream=f"10.0.0.{number}",
                current=f"10.0.0.{number + 1}",
                state=SegmentState.MEASURED,
                recorded_at_ms=number,
                metrics={name: known[name] for name in metrics},
            )
            for number in range(1, points + 1)
        ),
    )


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limits_of_size_and_number_are_those_of_the_decoder(excess: int) -> None:
    record = b"<mrp><up>10.0.0.1</up><mp>10.0.0.1</mp><ts>1</ts><un>delay</un></mrp>"
    begin, end = message_to_xml(Message(request=REQUEST))[:-4], b"</m>"
    most = begin + record * (MAX_RECORDS + excess) + end
    assert (assert_agree(most) is None) == bool(excess)
    comment = b"<!--" + b"x" * (MAX_OTHER_BYTES + excess - len(begin + end) - 7) + b"-->"
    assert (glanced(begin + comment + end) is None) == bool(excess)


def test_strangers_who_invent_metrics_do_not_fill_the_memory() -> None:
    for number in range(2500):
        assert_agree(message_to_xml(Message(request=replace(REQUEST, metrics=(f"made-up-{number}",)))))
    assert len(glance._questions) <= 1024
    assert len(glance._usual_patterns) < 32
