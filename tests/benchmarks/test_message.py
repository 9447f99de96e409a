from __future__ import annotations

from functools import cache

import pytest

from benchmarks.suite.message import (
    CAPACITY_PORT,
    KINDS,
    SOURCE,
    BenchMessages,
    MessageKind,
    bench_messages,
    internet_checksum,
    ipv4_packet,
)
from benchmarks.suite.python_peer import checksum, rebuilt, record_text
from interceptor.packet import decode_packet
from processor.decision import Forward
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import SegmentTable
from processor.trust import Trust
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import check_consistency
from schemas.payload import message_from_payload, xml_from_payload
from schemas.xml_reader import message_from_xml
from tests.interceptor.datagram import recomputed

NOW_MS = 1_767_268_800_000
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
KEYRING = Keyring([HmacKey(KeyIdentity(id="bench", areas=("",)), bytes(32))])


@cache
def messages_of(kind: MessageKind) -> BenchMessages:
    return bench_messages(kind, last_point="10.255.0.1", now_ms=NOW_MS, keyring=KEYRING)


def packet_of(kind: MessageKind, variant: int = 0) -> bytes:
    return ipv4_packet(messages_of(kind).payloads[variant], CAPACITY_PORT)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_a_message_is_one_that_points_take_and_extend(kind: MessageKind) -> None:
    datagram = decode_packet(packet_of(kind))
    check_consistency(message_from_payload(datagram.payload))
    identity = PointIdentity(address="10.255.0.2", own_addresses=frozenset(), serves=())
    pipeline = Pipeline(identity, SegmentTable(), lambda _: None, trust=Trust(KEYRING, is_required=True))
    decision = pipeline.process(
        datagram.payload, source=datagram.source, destination=datagram.destination, now_ms=NOW_MS + 9, room=1468
    )
    assert isinstance(decision, Forward)
    records = message_from_payload(decision.payload).records
    assert len(records) == kind.records + 1
    assert all(record.tag is not None for record in records)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_its_lengths_and_checksums_are_those_that_scapy_computes(kind: MessageKind) -> None:
    assert recomputed(packet_of(kind)) == packet_of(kind)


@pytest.mark.parametrize("added", [b"x", b"xy", b""])
def test_a_peer_rebuilds_packets_as_scapy_does(added: bytes) -> None:
    packet = packet_of(KINDS[0])
    changed = rebuilt(packet, 24, packet[32:] + added)
    assert recomputed(changed) == changed
    assert changed.endswith(added)


def test_a_sound_packet_sums_to_zero() -> None:
    header = packet_of(KINDS[0])[:24]
    assert internet_checksum(header) == 0
    assert checksum(header[:10] + bytes(2) + header[12:]).to_bytes(2) == header[10:12]
    assert header[12:16] == bytes(map(int, SOURCE.split(".")))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_a_peer_appends_a_record_that_is_one(kind: MessageKind) -> None:
    xml = xml_from_payload(decode_packet(packet_of(kind)).payload)
    extended = xml.removesuffix(b"</m>") + record_text(list(kind.metrics)).encode() + b"</m>"
    message = message_from_xml(extended)
    check_consistency(message)
    assert len(message.records) == kind.records + 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_no_two_messages_are_alike_but_in_their_length(kind: MessageKind) -> None:
    messages = messages_of(kind)
    assert len(set(messages.payloads)) == len(messages.payloads)
    ids = {message_from_payload(payload).request.id for payload in messages.payloads}
    assert len(ids) == len(messages.payloads)
    assert {len(payload) for payload in messages.payloads} == {messages.packet_bytes - 32}
    assert len(ids) >= 16


def test_frames_stand_behind_their_lengths() -> None:
    messages = messages_of(KINDS[0])
    data, found = messages.frames(*MACS, CAPACITY_PORT), []
    while data:
        length = int.from_bytes(data[:2])
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    assert [frame[14 + 32 :] for frame in found] == list(messages.payloads)
    assert {frame[:14].hex() for frame in found} == {"020000000002020000000001" + "0800"}
