"""A whole message from its octets, by a short cut where they have the form in which points write.

Of such a document every octet has been checked when `glance_at` is done with it, so that its values can be taken
from where they stand: a third of the time of `message_from_xml`, which reads all other documents.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from schemas.glance import usual_glance
from schemas.message import Message, SegmentRecord, SegmentState, Tag
from schemas.metrics import METRICS, ScalarStatistics, Statistics, statistic_fields
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import OWN_ELEMENT, RECORD_BEGIN

_HEAD = re.compile(
    r"(?P<pending> s=\"pending\")?><up>(?P<up>[^<]+)</up><mp>(?P<mp>[^<]+)</mp><ts>(?P<ts>[^<]+)</ts>"
    r"(?:<ag>(?P<ag>[^<]+)</ag>)?(?:<fr>(?P<fr>[^<]+)</fr>)?"
)
_ELEMENT = re.compile(r"<([a-z]+) ([^>]+)/>|<un>([^<]+)</un>")
_CONVERT: Mapping[type, Callable[[str], Any]] = MappingProxyType(
    {int: int, float: float, bool: "1".__eq__, str: str}
)

_Fields = tuple[tuple[str, Callable[[str], Any]], ...]


def _fields_of(kind: type[Statistics]) -> _Fields:
    return tuple((name, _CONVERT[value_type]) for name, _, _, value_type in statistic_fields(kind))


_OWN: Mapping[str, tuple[type[Statistics], _Fields]] = MappingProxyType(
    {name: (METRICS[name].statistics, _fields_of(METRICS[name].statistics)) for name in OWN_ELEMENT}
)
_SCALAR = _fields_of(ScalarStatistics)


def message_from_document(document: bytes) -> Message:
    """Decode one message.

    Raises:
        MessageError: as `message_from_xml`.
    """
    glance = usual_glance(document)
    if glance is None:
        return message_from_xml(document)
    pieces = document.split(RECORD_BEGIN)[1:]
    return Message.of_document(document, glance.request, tuple(_record(str(piece, "ascii")) for piece in pieces))


def _record(text: str) -> SegmentRecord:
    """The record that stands behind the name of its element."""
    head = _HEAD.match(text)
    assert head is not None  # the pattern of the whole document has seen to it
    metrics: dict[str, Statistics] = {}
    unsupported: tuple[str, ...] = ()
    tag = None
    for name, attributes, names in _ELEMENT.findall(text, head.end()):
        values = attributes.split('"')[1::2]
        if name in _OWN:
            kind, fields = _OWN[name]
            metrics[name] = kind(**_converted(fields, values))
        elif name == "x":
            metrics[values[0]] = ScalarStatistics(**_converted(_SCALAR, values[1:]))
        elif name == "a":
            tag = Tag(values[0], urlsafe_b64decode(values[1] + "=="))
        else:
            unsupported = tuple(names.split(" "))
    return SegmentRecord(
        upstream=head["up"],
        current=head["mp"],
        state=SegmentState.MEASURED if head["pending"] is None else SegmentState.PENDING,
        recorded_at_ms=int(head["ts"]),
        age_ms=int(head["ag"] or 0),
        told_by=head["fr"],
        metrics=MappingProxyType(metrics),
        unsupported=unsupported,
        tag=tag,
    )


def _converted(fields: _Fields, values: list[str]) -> dict[str, Any]:
    return {name: convert(value) for (name, convert), value in zip(fields, values, strict=True)}
