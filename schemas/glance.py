"""What a point on the way needs of a message, read from its octets without decoding a single statistic.

Documents as `message_to_xml` writes them, and points write no others, are checked by regular expressions that
never take what the schema refuses, in a fiftieth of the time that a tree costs. Of a document that they do not
match, `message_from_xml` tells whether it is valid in another form (white space, comments, another order of
attributes) or not at all. So both take the same documents, and read the same values from them.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from typing import NamedTuple

from schemas.canonical_form import HEAD, OWN_ELEMENTS, RECORD, SCALAR_NAME, usual_pattern
from schemas.errors import MessageError
from schemas.message import MAX_RECORDS, MeasureRequest, Message, Tag, check_consistency
from schemas.metrics import METRIC_NAME
from schemas.xml_reader import MAX_METRICS, MAX_XML_BYTES, message_from_xml
from schemas.xml_writer import END_TAG, RECORD_BEGIN, TAG_BEGIN, message_to_xml

MAX_OTHER_BYTES = 2_048
"""Of a document in another form: to decode one costs a millisecond for each 2 KiB, and no point writes it."""
_MOST_QUESTIONS = 1024
"""Lists of metrics that are remembered; a stranger who invents more makes all be read anew, and no harm."""
_LONGEST_QUESTION = 33 * MAX_METRICS
"""Octets of the longest list: names of 32, and a space behind each."""

_POINT_BEGIN = b"<mp>"
_TELLER_BEGIN = b"<fr>"
_TAG_TEXT_BEGIN = b'" t="'
_TAG_END = b'"/></mrp></m>'
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class _Question(NamedTuple):
    """A list of metrics, as it is asked for again and again."""

    names: tuple[str, ...]
    in_order: list[str]
    usual: re.Pattern[bytes] | None
    """None when one of them has no element of its own."""


class TagText(NamedTuple):
    """A tag as it stands in a document."""

    key_id: str
    text: bytes
    """Base64url without padding: each value has one form, so texts can be compared."""

    @classmethod
    def of(cls, tag: Tag | None) -> TagText | None:
        """The text of a decoded tag."""
        if tag is None:
            return None
        return cls(tag.key_id, b2a_base64(tag.octets, newline=False).rstrip(b"=").translate(_URL_SAFE))

    @property
    def octets(self) -> bytes:
        """What the text says."""
        return urlsafe_b64decode(self.text + b"==")


class _Head(NamedTuple):
    """Texts of the request's elements, in their order."""

    source: bytes
    destination: bytes
    identifier: bytes
    metrics: bytes
    created: bytes
    lifetime: bytes
    max_age: bytes
    copy: bytes | None
    part: bytes | None
    last_point: bytes | None
    return_id: bytes | None
    returning: bytes | None
    hello: bytes | None
    slice_index: bytes | None
    slices: bytes | None
    previous_tag: bytes | None
    key_id: bytes | None
    tag: bytes | None

    @property
    def is_consistent(self) -> bool:
        """What `check_consistency` asks of a request."""
        if (self.part is None or self.part == b"0") != (self.last_point is None):
            return False
        if self.returning == b"1" and (self.return_id is not None or self.hello == b"1"):
            return False
        if self.slices is not None and _number(self.slice_index) >= int(self.slices):
            return False
        return self.previous_tag is None or self.last_point is not None

    def request(self, metrics: tuple[str, ...]) -> MeasureRequest:
        """The value of these texts."""
        previous = _tag(b"", self.previous_tag)
        tag = _tag(self.key_id, self.tag)
        return MeasureRequest(
            source=_text(self.source),
            destination=_text(self.destination),
            id=_text(self.identifier),
            metrics=metrics,
            created_at_ms=int(self.created),
            lifetime_ms=int(self.lifetime),
            max_age_ms=int(self.max_age),
            copy=_number(self.copy),
            part=_number(self.part),
            last_point=None if self.last_point is None else _text(self.last_point),
            return_id=None if self.return_id is None else _text(self.return_id),
            returning=self.returning == b"1",
            hello=self.hello == b"1",
            slice_index=_number(self.slice_index),
            slices=1 if self.slices is None else int(self.slices),
            previous_tag=None if previous is None else previous.octets,
            tag=None if tag is None else Tag(tag.key_id, tag.octets),
        )


class Glance(NamedTuple):
    """One valid message."""

    xml: bytes
    """The document, in the form that points write."""
    metrics: tuple[str, ...]
    """What is asked for."""
    source: str
    destination: str
    max_age_ms: int
    hello: bool
    returning: bool
    request_tag: TagText | None
    records: int
    """How many there are."""
    latest_point: str
    """The point that saw the message last: the upstream of whoever holds it now."""
    latest_author: str
    """Who added the last record; without any, the source."""
    latest_tag: TagText | None
    """Of the last record."""
    origin: _Head | Message
    """Where the rest is read from when somebody asks."""

    @property
    def request(self) -> MeasureRequest:
        """The whole request."""
        return self.origin.request if isinstance(self.origin, Message) else self.origin.request(self.metrics)

    @property
    def points(self) -> tuple[str, ...]:
        """The point that handed over, and those that have added records since, in the order of the path."""
        if isinstance(self.origin, Message):
            first = self.origin.request.last_point
            told = tuple(record.current for record in self.origin.records)
        else:
            first = None if self.origin.last_point is None else _text(self.origin.last_point)
            told = tuple(_text(piece[: piece.index(b"<")]) for piece in self.xml.split(_POINT_BEGIN)[1:])
        return told if first is None else (first, *told)

    @property
    def source_octets(self) -> bytes | None:
        """What the source's tag covers, if that stands in the document as it is; else None."""
        if self.request_tag is None or isinstance(self.origin, Message) or self.origin.part is not None:
            return None
        return self.xml[: self.xml.index(TAG_BEGIN)]

    @property
    def latest_octets(self) -> bytes:
        """What the last record's tag covers; only of a document that has one."""
        return self.xml[: self.xml.rfind(TAG_BEGIN)]


def glance_at(xml: bytes) -> Glance:
    """Check one document.

    Raises:
        MessageError: as `message_from_xml` and `check_consistency` say, or it is long and not as points write it.
    """
    usual = usual_glance(xml)
    if usual is not None:
        return usual
    if len(xml) > MAX_OTHER_BYTES:
        raise MessageError(f"message: got {len(xml)} octets in another form than points write, or a wrong one")
    message = message_from_xml(xml)
    check_consistency(message)
    # Tags are of the usual form: in another one, what stands before the last `a` could be somebody else's choice.
    return _glance_at_message(message_to_xml(message), message)


def usual_glance(xml: bytes) -> Glance | None:
    """The same of a document in the form that points write; None of any other, valid or not."""
    question = _question_of(xml) if len(xml) <= MAX_XML_BYTES else None
    if question is None:
        return None
    if question.usual is not None and (match := question.usual.fullmatch(xml)) is not None:
        *texts, latest = match.groups()
        records = xml.count(RECORD_BEGIN)
    else:
        match = HEAD.match(xml)
        walked = None if match is None else _walk(xml, match, question)
        if match is None or walked is None:
            return None
        texts = list(match.groups())
        records, latest = walked
    head = _Head._make(texts)
    return _glance_at_head(xml, head, question, records, latest) if head.is_consistent else None


def _question_of(xml: bytes) -> _Question | None:
    begin = xml.find(b"<ms>") + 4
    text = xml[begin : xml.find(b"</ms>", begin)]
    question = _questions.get(text)
    if question is None and (question := _new_question(text)) is not None:
        if len(_questions) >= _MOST_QUESTIONS:
            _questions.clear()
        _questions[text] = question
    return question


_questions: dict[bytes, _Question] = {}
_usual_patterns: dict[frozenset[str], re.Pattern[bytes]] = {}
"""No more than there are sets of metrics with elements of their own."""


def _new_question(text: bytes) -> _Question | None:
    if len(text) > _LONGEST_QUESTION:
        return None
    names = tuple(text.decode("latin-1").split(" "))
    is_right = len(names) <= MAX_METRICS and all(METRIC_NAME.fullmatch(name) for name in names)
    if not is_right or len(set(names)) < len(names):
        return None
    usual = None
    if OWN_ELEMENTS.keys() >= (asked := frozenset(names)):
        usual = _usual_patterns.get(asked) or _usual_patterns.setdefault(asked, usual_pattern(asked))
    return _Question(names, sorted(names), usual)


def _walk(xml: bytes, head: re.Match[bytes], question: _Question) -> tuple[int, bytes | None] | None:
    """Check the records one by one; how many there are, and the point of the last."""
    position, records = head.end(), 0
    expected, latest = head["lp"] or head["hs"], None
    while (record := RECORD.match(xml, position)) is not None:
        if record["up"] != expected or not _tells(record, question):
            return None
        expected = latest = record["mp"]
        position = record.end()
        records += 1
    return (records, latest) if records <= MAX_RECORDS and xml[position:] == END_TAG else None


def _tells(record: re.Match[bytes], question: _Question) -> bool:
    """Whether a record has or denies each metric once; of a pending one, none."""
    pending, _, _, *elements, scalars, unsupported = record.groups()
    others = [_text(name) for name in SCALAR_NAME.findall(scalars)]
    told = [name for name, element in zip(OWN_ELEMENTS, elements, strict=True) if element is not None]
    denied = [] if unsupported is None else _text(unsupported).split(" ")
    if pending is not None:
        return not (told or others or denied)
    return sorted(told + others + denied) == question.in_order and OWN_ELEMENTS.keys().isdisjoint(others)


def _glance_at_head(xml: bytes, head: _Head, question: _Question, records: int, latest: bytes | None) -> Glance:
    begin = xml.rindex(RECORD_BEGIN) if records else len(xml)
    latest_point = _text(latest or head.last_point or head.source)
    source = _text(head.source)
    return Glance(
        xml,
        question.names,
        source,
        _text(head.destination),
        int(head.max_age),
        head.hello == b"1",
        head.returning == b"1",
        _tag(head.key_id, head.tag),
        records,
        latest_point,
        (_teller(xml, begin) or latest_point) if records else source,
        _last_tag(xml, begin),
        head,
    )


def _teller(xml: bytes, begin: int) -> str | None:
    """Who told the record that begins there, if it is not the point where its segment ends."""
    name = xml.find(_TELLER_BEGIN, begin) + len(_TELLER_BEGIN)
    return None if name < begin else _text(xml[name : xml.index(b"<", name)])


def _last_tag(xml: bytes, begin: int) -> TagText | None:
    """The tag of the record that begins there, the last."""
    key = xml.find(TAG_BEGIN, begin) + len(TAG_BEGIN)
    if key < begin:
        return None
    key_id, _, text = xml[key : -len(_TAG_END)].partition(_TAG_TEXT_BEGIN)
    return TagText(_text(key_id), text)


def _glance_at_message(xml: bytes, message: Message) -> Glance:
    request = message.request
    latest = message.records[-1] if message.records else None
    return Glance(
        xml,
        request.metrics,
        request.source,
        request.destination,
        request.max_age_ms,
        request.hello,
        request.returning,
        TagText.of(request.tag),
        len(message.records),
        message.latest_point,
        request.source if latest is None else latest.told_by or latest.current,
        None if latest is None else TagText.of(latest.tag),
        message,
    )


def _text(octets: bytes) -> str:
    return str(octets, "ascii")


def _number(text: bytes | None) -> int:
    return 0 if text is None else int(text)


def _tag(key_id: bytes | None, text: bytes | None) -> TagText | None:
    return None if key_id is None or text is None else TagText(_text(key_id), text)
