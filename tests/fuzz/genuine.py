"""Messages as points write them, from which the inputs of several targets are made."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from schemas.authentication import sealed, signed_request
from schemas.keyring import HmacKey, KeyIdentity, Keyring, SigningKey
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.metrics import METRICS
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, untagged_record
from tests.statistics import segment_statistics

NOW_MS = 1_700_000_000_000
SOURCE, DESTINATION = "10.0.0.1", "10.0.0.9"
REQUEST = MeasureRequest(
    source=SOURCE,
    destination=DESTINATION,
    id="ab" * 16,
    metrics=tuple(METRICS),
    created_at_ms=NOW_MS,
    lifetime_ms=5000,
    max_age_ms=0,
)
SECRET = HmacKey(KeyIdentity(id="a1", areas=("",)), b"k" * 32)
SIGNATURE = SigningKey(KeyIdentity(id="s1", areas=("",)), b"s" * 32)
KEYRING = Keyring((SECRET, SIGNATURE))


def record(number: int, metrics: tuple[str, ...]) -> SegmentRecord:
    """What the point of that number writes of the segment to it."""
    known = segment_statistics(number)
    return SegmentRecord(
        upstream=f"10.0.0.{number}",
        current=f"10.0.0.{number + 1}",
        state=SegmentState.MEASURED,
        recorded_at_ms=NOW_MS,
        age_ms=number,
        metrics=MappingProxyType({name: known[name] for name in metrics if name in known}),
        unsupported=tuple(name for name in metrics if name not in known),
    )


def messages() -> list[Message]:
    """Of every shape."""
    few = replace(REQUEST, metrics=("delay", "loss"))
    pending = SegmentRecord(upstream=SOURCE, current="10.0.0.2", state=SegmentState.PENDING, recorded_at_ms=NOW_MS)
    return [
        Message(request=few),
        Message(request=replace(few, copy=2, return_id="cd" * 16)),
        Message(request=replace(few, hello=True)),
        Message(request=replace(few, returning=True), records=(pending,)),
        Message(request=few, records=(record(1, few.metrics), record(2, few.metrics))),
        Message(request=replace(few, part=1, last_point="10.0.0.3"), records=(record(3, few.metrics),)),
        Message(request=replace(few, metrics=("delay", "icmp-rtt")), records=(record(1, ("delay", "icmp-rtt")),)),
        Message(request=REQUEST, records=(record(1, REQUEST.metrics),)),
    ]


def signed_documents() -> list[bytes]:
    """Two records behind a request, all with the tags of one secret, and all with signatures."""
    documents = []
    for key in (SECRET, SIGNATURE):
        request = signed_request(replace(REQUEST, metrics=("delay", "loss")), Keyring((key,)))
        xml = message_to_xml(Message(request=request))
        for number in (1, 2):
            xml = sealed(xml[: -len(END_TAG)] + untagged_record(record(number, request.metrics)), key)
        assert message_to_xml(message_from_xml(xml)) == xml
        documents.append(xml)
    return documents


def documents() -> list[bytes]:
    """All of them, encoded."""
    return [*map(message_to_xml, messages()), *signed_documents()]
