"""Payloads at a point that knows the segments they came over."""

from __future__ import annotations

from ipaddress import IPv4Network

from processor.decision import Forward, HandOver, PassThrough, Report, SendReport
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import PreparedSegment, SegmentTable
from processor.trust import Trust
from schemas.keyring import NO_KEYS
from schemas.message import MAX_RECORDS
from schemas.payload import message_from_payload, payload_from_xml
from tests.fuzz.genuine import DESTINATION, KEYRING, NOW_MS, SOURCE, documents
from tests.fuzz.message import WORDS
from tests.fuzz.target import Target
from tests.statistics import segment_statistics

_OWN = "10.0.0.4"


def _point(*, is_required: bool) -> Pipeline:
    segments = SegmentTable()
    for number in (1, 2, 3):
        segments.put(PreparedSegment.of(f"10.0.0.{number}", NOW_MS, segment_statistics(number)))
    identity = PointIdentity(
        address=_OWN, own_addresses=frozenset((_OWN,)), serves=(IPv4Network("192.168.0.0/16"),)
    )
    keyring = KEYRING if is_required else NO_KEYS
    trust = Trust(keyring, is_required=is_required)
    return Pipeline(identity, segments, lambda asked: None, trust=trust)


_TRUSTING, _WARY = _point(is_required=False), _point(is_required=True)
_ROOMS = (1468, 65_507, 548, 60)


def one_input(data: bytes) -> None:
    """Nothing is raised, nothing is larger than the room, and what goes on can be read by the next point."""
    if not data:
        return
    room = _ROOMS[data[0] % len(_ROOMS)]
    point = _WARY if data[0] & 128 else _TRUSTING
    decision = point.process(data[1:], source=SOURCE, destination=DESTINATION, now_ms=NOW_MS, room=room)
    match decision:
        case Forward(payload=payload):
            _check_leaving(payload, room)
        case HandOver(report=report, payload=payload):
            _check_leaving(payload, room)
            _check_report(report)
        case SendReport(report=report):
            _check_report(report)
        case PassThrough(reason=reason):
            assert len(reason) < 500


def _check_leaving(payload: bytes, room: int) -> None:
    assert len(payload) <= room
    message = message_from_payload(payload)
    assert message.latest_point == _OWN
    assert len(message.records) <= MAX_RECORDS


def _check_report(report: Report) -> None:
    assert message_from_payload(report.payload).request.id == report.id
    assert report.asker in (SOURCE, DESTINATION)


def seeds() -> list[bytes]:
    """Messages, plain and compressed, for every room."""
    made = []
    for number, xml in enumerate(documents()):
        compressed = payload_from_xml(xml, len(xml) - 1)
        assert compressed is not None
        made += [bytes((number % len(_ROOMS),)) + xml, bytes((number // 2 % len(_ROOMS),)) + compressed]
        made.append(bytes((128,)) + xml)
    return made


TARGET = Target(one_input=one_input, seeds=seeds, words=WORDS, max_bytes=4096)
