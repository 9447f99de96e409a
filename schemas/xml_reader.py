"""Bytes to `Message`, exactly as strict as `measurement.xsd`; `xml_writer` goes the other way.

One pass of expat drives the grammar below; nothing of a document that breaks it is kept. Hostile XML is refused
before it costs anything: size first, then any DOCTYPE ends the parse, so no entity is ever declared or fetched.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn
from xml.parsers import expat

from schemas.errors import MessageError
from schemas.message import MAX_RECORDS, MeasureRequest, Message, SegmentRecord, SegmentState, Tag
from schemas.metrics import METRIC_NAME, METRICS, ScalarStatistics, Statistics, statistic_fields
from schemas.xml_writer import OWN_ELEMENT

MAX_XML_BYTES = 65_536
"""255 records of all metrics are about 100 KiB; no path that answers in time needs more than 64 KiB at once."""

_XML_SPACE = " \t\n\r"
_XML_SPACES = re.compile(f"[{_XML_SPACE}]+")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")
_IDENTIFIER = re.compile(r"[0-9a-f]{32}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,14}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,9})?")
_TRUTH = re.compile(r"[01]")
_BINS = re.compile(rf"-?[1-9][0-9]{{0,14}}(?:[{_XML_SPACE}]+-?[1-9][0-9]{{0,14}}){{0,255}}")
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9.\-]{0,15}")
_TAG = re.compile(r"[A-Za-z0-9_\-]{21}[AQgw]|[A-Za-z0-9_\-]{85}[AQgw]")
"""16 or 64 octets in base64url; the last digit holds but two bits, so that each value has one form."""
MAX_METRICS = 32
"""Of one request."""
_MAX_NAMESPACES = 8
"""Elements of no other name space than ours, which has no name, are allowed, so a declaration is of no use."""
_MAX_ASIDES = 256
"""Comments, instructions and sections, which no point writes: thousands of them take longer than a message may."""
_MAX_TEXT = 4_608
"""Characters of one attribute, or of one element beside its children: the longest that mean something are the bins
of a distribution, 256 of 16 digits with a space between."""
_PIECE_BYTES = 2_048
_MAX_TOKEN_BYTES = 7_168
"""Of one tag or comment: a distribution's tag, and a piece. What is longer is never whole, so that nobody looks at
its thousands of attributes."""

Convert = Callable[[str], Any]  # what a converter gives, the grammar ties to the field that takes it


def _pattern(pattern: re.Pattern[str], convert: Convert, expected: str) -> Convert:
    def check(text: str) -> Any:
        value = text.strip(_XML_SPACE)
        if pattern.fullmatch(value) is None:
            raise ValueError(f"got {value[:40]!r}, expected {expected}")
        return convert(value)

    return check


def _metric_names(text: str) -> tuple[str, ...]:
    names = tuple(_XML_SPACES.split(text.strip(_XML_SPACE)))  # str.split knows spaces that XML does not
    if not 1 <= len(names) <= MAX_METRICS or not all(METRIC_NAME.fullmatch(name) for name in names):
        raise ValueError(f"got {text[:80]!r}, expected 1 to {MAX_METRICS} names of metrics")
    return names


def _state(text: str) -> SegmentState:
    if text.strip(_XML_SPACE) != SegmentState.PENDING:
        raise ValueError(f"got {text[:40]!r}, expected {str(SegmentState.PENDING)!r} or no attribute")
    return SegmentState.PENDING


_identifier = _pattern(_IDENTIFIER, str, "32 lower-case hexadecimal digits")
_address = _pattern(_ADDRESS, str, "a dotted IPv4 address")
_count = _pattern(_COUNT, int, "a whole number of at most 15 digits")
_number = _pattern(_NUMBER, float, "a decimal number with at most 15 digits before and 9 after the point")
_truth = _pattern(_TRUTH, "1".__eq__, "0 or 1")
_key_id = _pattern(_KEY_ID, str, "the id of a key")
_tag_octets = _pattern(_TAG, lambda text: urlsafe_b64decode(text + "=="), "a tag of 16 or 64 octets in base64url")
_metric_name = _pattern(METRIC_NAME, str, "the name of a metric")
_bins = _pattern(_BINS, lambda text: " ".join(_XML_SPACES.split(text)), "counts and skips of bins")
_BY_TYPE: Mapping[type, Convert] = MappingProxyType({int: _count, float: _number, bool: _truth, str: _bins})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What one element may hold: typed text, or children in order, or attributes alone."""

    text: Convert | None = None
    children: tuple[tuple[str, int, int], ...] = ()
    """(name, fewest, most) in the order of the schema's sequence."""
    required: Mapping[str, Convert] = field(default_factory=dict)
    optional: Mapping[str, Convert] = field(default_factory=dict)

    def values(self, name: str, attributes: Mapping[str, str]) -> dict[str, Any]:
        """What the attributes of the element `name` say; ValueError when one may not be there, or is missing."""
        if not attributes and not self.required:
            return {}
        if attributes.keys() != self.required.keys():
            unknown = attributes.keys() - self.required.keys() - self.optional.keys()
            if unknown:
                raise ValueError(f"got attribute {min(unknown)[:40]!r} on {name}, expected none of that name")
            missing = self.required.keys() - attributes.keys()
            if missing:
                raise ValueError(f"{name} without attribute {min(missing)!r}, expected it")
        if max(map(len, attributes.values())) > _MAX_TEXT:
            raise ValueError(f"got a longer attribute, expected at most {_MAX_TEXT} characters")
        return {key: (self.required.get(key) or self.optional[key])(text) for key, text in attributes.items()}


def _metric_rule(kind: type[Statistics], **more: Convert) -> _Rule:
    return _Rule(required=more | {wire: _BY_TYPE[value_type] for _, wire, _, value_type in statistic_fields(kind)})


_GRAMMAR: Mapping[str, _Rule] = MappingProxyType(
    {
        "m": _Rule(children=(("mr", 1, 1), ("mrp", 0, MAX_RECORDS))),
        "mr": _Rule(
            children=(
                *((name, 1, 1) for name in ("hs", "hd", "id", "ms", "ct", "lt", "ma")),
                ("cp", 0, 1),
                ("pt", 0, 1),
                ("lp", 0, 1),
                ("ri", 0, 1),
                ("rt", 0, 1),
                ("he", 0, 1),
                ("sl", 0, 1),
                ("pv", 0, 1),
                ("a", 0, 1),
            )
        ),
        "mrp": _Rule(
            children=(
                *((name, 1, 1) for name in ("up", "mp", "ts")),
                ("ag", 0, 1),
                ("fr", 0, 1),
                *((name, 0, 1) for name in OWN_ELEMENT),
                ("x", 0, MAX_METRICS),
                ("un", 0, 1),
                ("a", 0, 1),
            ),
            optional={"s": _state},
        ),
        **{name: _Rule(text=_address) for name in ("hs", "hd", "up", "mp", "lp", "fr")},
        **{name: _Rule(text=_count) for name in ("ct", "lt", "ma", "cp", "pt", "ts", "ag")},
        **{name: _Rule(text=_metric_names) for name in ("ms", "un")},
        **{name: _Rule(text=_identifier) for name in ("id", "ri")},
        **{name: _Rule(text=_truth) for name in ("rt", "he")},
        "sl": _Rule(required={"i": _count, "n": _count}),
        "pv": _Rule(text=_tag_octets),
        "a": _Rule(required={"k": _key_id, "t": _tag_octets}),
        **{name: _metric_rule(METRICS[name].statistics) for name in OWN_ELEMENT},
        "x": _metric_rule(ScalarStatistics, m=_metric_name),
    }
)


class _Element:
    """One open element: what has been seen of it so far."""

    __slots__ = ("attributes", "children", "count", "name", "rule", "text", "turn")

    def __init__(self, name: str, rule: _Rule, attributes: dict[str, Any]) -> None:
        self.name = name
        self.rule = rule
        self.attributes = attributes
        self.children: list[tuple[str, Any]] = []
        self.text = ""
        self.turn = 0
        """Place in the sequence of children."""
        self.count = 0
        """Children of that place."""

    def admit(self, name: str) -> None:
        """Step through the sequence to `name`; ValueError when it may not come now."""
        sequence = self.rule.children
        while self.turn < len(sequence):
            child, fewest, most = sequence[self.turn]
            if child == name:
                self.count += 1
                if self.count > most:
                    raise ValueError(f"got {name} {self.count} times, expected at most {most}")
                return
            if self.count < fewest:
                raise ValueError(f"got {name[:40]!r}, expected {child}")
            self.turn += 1
            self.count = 0
        raise ValueError(f"got {name[:40]!r}, expected {'the end of ' + self.name if sequence else 'no element'}")

    def close(self) -> Any:
        """The element's value; ValueError when something is missing."""
        rule = self.rule
        if rule.text is not None:
            return rule.text(self.text)
        if self.text.strip(_XML_SPACE) or (self.text and not rule.children):
            raise ValueError(f"got text {self.text[:40]!r}, expected none")
        for child, fewest, _ in rule.children[self.turn :]:
            if self.count < fewest:
                raise ValueError(f"got the end, expected {child}")
            self.count = 0
        return _BUILDERS[self.name](self)


def _build_request(element: _Element) -> MeasureRequest:
    value = dict(element.children)
    return MeasureRequest(
        source=value["hs"],
        destination=value["hd"],
        id=value["id"],
        metrics=value["ms"],
        created_at_ms=value["ct"],
        lifetime_ms=value["lt"],
        max_age_ms=value["ma"],
        copy=value.get("cp", 0),
        part=value.get("pt", 0),
        last_point=value.get("lp"),
        return_id=value.get("ri"),
        returning=value.get("rt", False),
        hello=value.get("he", False),
        slice_index=value.get("sl", (0, 1))[0],
        slices=value.get("sl", (0, 1))[1],
        previous_tag=value.get("pv"),
        tag=value.get("a"),
    )


def _build_record(element: _Element) -> SegmentRecord:
    value = dict(element.children)
    scalars = [child for tag, child in element.children if tag == "x"]
    if len(dict(scalars)) < len(scalars):
        raise ValueError("got x of one metric twice, expected each metric once")
    metrics = {name: value[name] for name in OWN_ELEMENT if name in value} | dict(scalars)
    return SegmentRecord(
        upstream=value["up"],
        current=value["mp"],
        state=element.attributes.get("s", SegmentState.MEASURED),
        recorded_at_ms=value["ts"],
        age_ms=value.get("ag", 0),
        told_by=value.get("fr"),
        metrics=MappingProxyType(metrics),
        unsupported=value.get("un", ()),
        tag=value.get("a"),
    )


def _build_message(element: _Element) -> Message:
    (_, request), *records = element.children
    return Message(request=request, records=tuple(record for _, record in records))


def _build_statistics(element: _Element) -> Statistics:
    kind = METRICS[element.name].statistics
    values: dict[str, Any] = {name: element.attributes[wire] for name, wire, _, _ in statistic_fields(kind)}
    return kind(**values)


def _build_scalar(element: _Element) -> tuple[str, ScalarStatistics]:
    values = {name: element.attributes[wire] for name, wire, _, _ in statistic_fields(ScalarStatistics)}
    return element.attributes["m"], ScalarStatistics(**values)


def _build_slice(element: _Element) -> tuple[int, int]:
    return element.attributes["i"], element.attributes["n"]


def _build_tag(element: _Element) -> Tag:
    return Tag(element.attributes["k"], element.attributes["t"])


_BUILDERS: Mapping[str, Callable[[_Element], Any]] = MappingProxyType(
    {
        "m": _build_message,
        "mr": _build_request,
        "mrp": _build_record,
        **dict.fromkeys(OWN_ELEMENT, _build_statistics),
        "x": _build_scalar,
        "sl": _build_slice,
        "a": _build_tag,
    }
)


class _Reader:
    """The handlers of one parse."""

    def __init__(self) -> None:
        self.open: list[_Element] = []
        self.message: Message | None = None
        self._namespaces = 0
        self._asides = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.open:
            self.open[-1].admit(name)
        elif name != "m":
            raise ValueError(f"got the root {name[:40]!r}, expected m")
        rule = _GRAMMAR[name]
        self.open.append(_Element(name, rule, rule.values(name, attributes)))

    def end(self, name: str) -> None:
        value = self.open[-1].close()  # while it is open, so that an error names it
        self.open.pop()
        if self.open:
            self.open[-1].children.append((name, value))
        elif isinstance(value, Message):
            self.message = value

    def characters(self, text: str) -> None:
        element = self.open[-1]
        element.text += text
        if len(element.text) > _MAX_TEXT:
            raise ValueError(f"got text {text[:40]!r} and more, expected at most {_MAX_TEXT} characters")

    def namespace(self, *_: object) -> None:
        self._namespaces += 1
        if self._namespaces > _MAX_NAMESPACES:
            raise ValueError(f"got more than {_MAX_NAMESPACES} declarations of name spaces, expected none")

    def aside(self, *_: object) -> None:
        self._asides += 1
        if self._asides > _MAX_ASIDES:
            raise ValueError(f"got more than {_MAX_ASIDES} comments, instructions or sections, expected none")

    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("got a DOCTYPE, expected none")


def _parse(parser: expat.XMLParserType, data: bytes) -> None:
    """Piece by piece: after an error expat would go on to the end of what it was given."""
    if hasattr(parser, "SetReparseDeferralEnabled"):  # else a token may wait until twice as much is there
        parser.SetReparseDeferralEnabled(False)
    if b"\0" in data:  # UTF-16 and UTF-32, which expat takes when a byte order mark asks for them
        raise ValueError("got a zero octet, expected UTF-8")
    for end in range(_PIECE_BYTES, len(data), _PIECE_BYTES):
        parser.Parse(data[end - _PIECE_BYTES : end], False)
        if end - parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
            raise ValueError(f"got a tag or comment of more than {_MAX_TOKEN_BYTES} octets, expected less")
    parser.Parse(data[(len(data) - 1) // _PIECE_BYTES * _PIECE_BYTES :] if data else b"", True)


def message_from_xml(data: bytes) -> Message:
    """Decode one message.

    Raises:
        MessageError: for any bytes that the schema does not allow, naming the place, the value, the expectation.
    """
    if len(data) > MAX_XML_BYTES:
        raise MessageError(f"message: got {len(data)} octets, expected at most {MAX_XML_BYTES}")
    # The separator turns on name spaces: an element of a foreign one then has another name than ours.
    parser = expat.ParserCreate("UTF-8", namespace_separator=" ")
    reader = _Reader()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartNamespaceDeclHandler = reader.namespace
    parser.CommentHandler = parser.ProcessingInstructionHandler = parser.StartCdataSectionHandler = reader.aside
    parser.buffer_text = True
    try:
        _parse(parser, data)
    except expat.ExpatError as error:
        raise MessageError(f"message: not well-formed XML: {error}") from error
    except ValueError as error:
        where = reader.open[-1].name if reader.open else "message"
        raise MessageError(f"{where}: {error}") from error
    if reader.message is None:
        raise MessageError("message: got no document, expected one m element")
    return reader.message
