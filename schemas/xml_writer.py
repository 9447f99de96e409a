"""`Message` to bytes, in the one form that all points write; `xml_reader` goes the other way."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping

from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState, Tag
from schemas.metrics import METRICS, ScalarStatistics, Statistics, statistic_fields

END_TAG = b"</m>"
RECORD_BEGIN, RECORD_END = b"<mrp", b"</mrp>"
TAG_BEGIN = b'<a k="'
_GREATEST_NUMBER = 999_999_999_999_999.0
"""Of a decimal number in a message; what is beyond is written as this."""
OWN_ELEMENT = tuple(name for name, metric in METRICS.items() if metric.statistics is not ScalarStatistics)
"""Metrics whose statistics have an element of that name; all others share `x`."""


def _decimal(value: float, decimals: int) -> str:
    # Clocks that jump by hours make moments which no reader takes, and the whole message would be lost with them.
    text = f"{max(-_GREATEST_NUMBER, min(_GREATEST_NUMBER, value)):.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _wire_value(value: object, decimals: int) -> str:
    match value:
        case bool():
            return "1" if value else "0"
        case int():
            return str(value)
        case float():
            return _decimal(value, decimals)
        case str():
            return value
    raise TypeError(f"a statistic is bool, int, float or str, not {type(value).__name__}")


def metric_to_xml(name: str, statistics: Statistics) -> bytes:
    """The element of one metric: what a point prepares once per change of the segment, not once per packet."""
    attributes = "".join(
        f' {wire}="{_wire_value(getattr(statistics, key), decimals)}"'
        for key, wire, decimals, _ in statistic_fields(type(statistics))
    )
    head = f'x m="{name}"' if isinstance(statistics, ScalarStatistics) else name
    return f"<{head}{attributes}/>".encode()


def tag_to_xml(tag: Tag) -> bytes:
    """The element `a`."""
    return f'<a k="{tag.key_id}" t="{_tag_text(tag.octets)}"/>'.encode()


def _tag_text(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


def record_to_xml(record: SegmentRecord, prepared: Mapping[str, bytes] | None = None) -> bytes:
    """The record's element; `prepared` gives metric elements that `metric_to_xml` made before."""
    tag = b"" if record.tag is None else tag_to_xml(record.tag)
    return b"".join((untagged_record(record, prepared), tag, RECORD_END))


def untagged_record(record: SegmentRecord, prepared: Mapping[str, bytes] | None = None) -> bytes:
    """The record's element up to where its tag belongs."""
    names = [name for name in OWN_ELEMENT if name in record.metrics]
    names += [name for name in record.metrics if name not in OWN_ELEMENT]
    elements = b"".join(
        prepared[name] if prepared is not None else metric_to_xml(name, record.metrics[name]) for name in names
    )
    pending = record.state is SegmentState.PENDING
    head = f'<mrp s="{record.state}">' if pending else "<mrp>"
    age = "" if pending else f"<ag>{record.age_ms}</ag>"
    told_by = "" if record.told_by is None else f"<fr>{record.told_by}</fr>"
    unsupported = f"<un>{' '.join(record.unsupported)}</un>" if record.unsupported else ""
    return b"".join(
        (
            f"{head}<up>{record.upstream}</up><mp>{record.current}</mp>".encode(),
            f"<ts>{record.recorded_at_ms}</ts>{age}{told_by}".encode(),
            elements,
            unsupported.encode(),
        )
    )


def head_to_xml(request: MeasureRequest) -> bytes:
    """The document from its beginning to the end of the request."""
    slices = f'<sl i="{request.slice_index}" n="{request.slices}"/>' if request.slices > 1 else ""
    previous = "" if request.previous_tag is None else f"<pv>{_tag_text(request.previous_tag)}</pv>"
    head = (
        f"<m><mr><hs>{request.source}</hs><hd>{request.destination}</hd><id>{request.id}</id>"
        f"<ms>{' '.join(request.metrics)}</ms><ct>{request.created_at_ms}</ct><lt>{request.lifetime_ms}</lt>"
        f"<ma>{request.max_age_ms}</ma>"
        f"{f'<cp>{request.copy}</cp>' if request.copy else ''}"
        f"{f'<pt>{request.part}</pt>' if request.part else ''}"
        f"{f'<lp>{request.last_point}</lp>' if request.last_point else ''}"
        f"{f'<ri>{request.return_id}</ri>' if request.return_id else ''}"
        f"{'<rt>1</rt>' if request.returning else ''}{'<he>1</he>' if request.hello else ''}"
        f"{slices}{previous}"
    )
    tag = b"" if request.tag is None else tag_to_xml(request.tag)
    return head.encode() + tag + b"</mr>"


def message_to_xml(message: Message) -> bytes:
    """Encode in the one form that all points write; `message_from_xml` reverses it."""
    records = (record_to_xml(record) for record in message.records)
    return b"".join((head_to_xml(message.request), *records, END_TAG))
