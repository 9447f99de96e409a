"""The pipeline is the judge: what the lane extends, it must extend as the pipeline does, octet by octet."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest

from interceptor.packet import decode_packet
from mp import clock
from mp.fast_lane import lane
from processor.segment_table import FRESH_MS, PreparedSegment
from processor.tail_table import TailSegment
from schemas.authentication import sealed, signed_request
from schemas.glance import glance_at
from schemas.keyring import NO_KEYS, KeyIdentity, Keyring, SigningKey
from schemas.message import MAX_RECORDS, Message
from schemas.xml_writer import END_TAG, head_to_xml, message_to_xml, untagged_record
from tests.interceptor.datagram import recomputed
from tests.mp.fast_lane.judged_point import (
    KEYS,
    ONE_KEY,
    REQUEST,
    Point,
    datagram,
    document,
    records_of,
)
from tests.statistics import segment_statistics


def test_the_module_was_built() -> None:
    assert import_module("mp.fast_lane._lane"), "install the project again, with a C compiler"


def test_without_the_module_everything_is_left_to_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "_lane", None)
    packet = datagram(document())
    point = Point().seen(packet)
    assert point.extended(packet) is None
    point.lane.forget()


@pytest.mark.parametrize("points", [0, 1, 2, 3])
@pytest.mark.parametrize("keyring", [NO_KEYS, ONE_KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("options", [b"\x94\x04\x00\x00", b""], ids=["router alert", "plain"])
def test_a_packet_like_one_before_is_extended_as_the_pipeline_would(
    points: int, keyring: Keyring, options: bytes
) -> None:
    packet = datagram(document(points, keyring=keyring), options=options)
    point = Point(keyring, is_required=keyring is not NO_KEYS).seen(packet)
    another = document(points, replace(REQUEST, id="cd" * 16, created_at_ms=7, copy=2), keyring)
    grown = point.extended(datagram(another, options=options, ttl=9, source_port=7, identification=99))
    assert grown is not None
    assert grown == recomputed(grown)
    assert point.extended(packet) is not None


def test_each_metric_with_an_element_of_its_own_but_one_is_read() -> None:
    for asked in ("delay", "loss", "jitter", "rtt", "rtt jitter loss delay", "distribution", "delay hops"):
        packet = datagram(document(1, replace(REQUEST, metrics=tuple(asked.split()))))
        is_read = asked not in ("distribution", "delay hops")
        assert (Point().seen(packet).extended(packet) is not None) == is_read


def test_nothing_is_extended_before_the_pipeline_has_seen_its_like() -> None:
    packet = datagram(document(keyring=ONE_KEY))
    assert Point(ONE_KEY).extended(packet) is None
    point = Point(ONE_KEY).seen(packet)
    for other in (
        datagram(document(2, keyring=ONE_KEY)),
        datagram(document(request=replace(REQUEST, metrics=("rtt",)), keyring=ONE_KEY)),
        datagram(
            document(request=replace(REQUEST, destination="10.9.0.2"), keyring=ONE_KEY), destination="10.9.0.2"
        ),
        datagram(document(request=replace(REQUEST, source="10.0.0.9"), keyring=ONE_KEY), source="10.0.0.9"),
    ):
        assert point.extended(other) is None
    assert point.extended(packet) is not None
    point.lane.forget()
    assert point.extended(packet) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml.replace(b"<ma>0</ma>", b"<ma>0</ma><he>1</he>"),
        lambda xml: xml.replace(b"<ma>0</ma>", b"<ma>0</ma><rt>1</rt>"),
        lambda xml: xml.replace(b"<ma>0</ma>", b"<ma>0</ma><ri>" + b"0" * 32 + b"</ri>"),
        lambda xml: xml.replace(b"<ma>0</ma>", b"<ma>0</ma><pt>1</pt><lp>10.0.0.1</lp>"),
        lambda xml: xml.replace(b"<mp>10.0.0.2</mp>", b"<mp>10.0.1.1</mp>"),
        lambda xml: xml.replace(b"10.0.0.2<", b"192.168.7.1<"),
        lambda xml: xml.replace(b"<mrp>", b"<mrp> "),
        lambda xml: xml + b"\n",
        lambda xml: xml.replace(b"10.0.0.2</up>", b"10.0.0.5</up>"),
    ],
)
def test_what_is_not_usual_is_left_to_the_pipeline(change: object) -> None:
    usual = document()
    changed = change(usual)  # type: ignore[operator]
    assert changed != usual
    assert Point().seen(datagram(usual)).extended(datagram(changed)) is None


@pytest.mark.parametrize("max_age_ms", [0, 15_000])
def test_it_tells_when_the_service_is_to_hear_of_a_packet(max_age_ms: int) -> None:
    packet = datagram(document(request=replace(REQUEST, max_age_ms=max_age_ms)))

    def is_due(**times: int) -> bool:
        point = Point()
        for name, time_ms in times.items():
            setattr(point, name, time_ms)
        assert point.seen(packet).extended(packet) is not None
        return point.lane.is_due

    past_ms = clock.monotonic_ms() - 1
    assert not is_due()
    assert is_due(silent_until_ms=past_ms)
    assert is_due(path_silent_until_ms=past_ms) == bool(max_age_ms), "who walks takes no answer from a path"


def test_a_segment_is_told_as_it_is_known_now() -> None:
    packet = datagram(document())
    point = Point().seen(packet)
    before = point.extended(packet)
    point.segments.put(PreparedSegment.of("10.0.0.4", clock.now_ms(), segment_statistics(6)))
    point.lane.segment_changed("10.0.0.4")
    after = point.extended(packet)
    assert before is not None and after is not None
    assert b'n="6"' not in before and decode_packet(after).payload != decode_packet(before).payload
    point.segments.remove("10.0.0.4")
    point.lane.segment_changed("10.0.0.4")
    point.lane.segment_changed("10.0.0.99")
    assert point.extended(packet) is None
    point.segments.put(PreparedSegment.of("10.0.0.4", clock.now_ms(), segment_statistics(7)))
    assert point.seen(packet).extended(packet) is not None


def test_the_newest_questions_are_prepared_anew_and_not_more() -> None:
    metrics = ("delay", "loss", "jitter", "rtt")
    lists = [metrics[:number] for number in range(1, 5)] + [metrics[1:], metrics[2:]]
    packets = [datagram(document(1, replace(REQUEST, metrics=asked))) for asked in lists]
    point = Point().seen(*packets)
    assert all(point.extended(packet) is not None for packet in packets)
    point.lane.segment_changed("10.0.0.2")
    prepared = [point.extended(packet) is not None for packet in packets]
    assert prepared == [False, False] + [True] * lane.MOST_QUESTIONS


def test_a_segment_is_good_while_it_is_fresh() -> None:
    packet = datagram(document())
    old = Point()
    old.knows("10.0.0.4", age_ms=FRESH_MS - 300)
    assert old.seen(packet).extended(packet) is not None
    old.lane.forget()
    old.knows("10.0.0.4", age_ms=FRESH_MS + 1)
    old.lane.take_down(glance_at(decode_packet(packet).payload))
    assert old.extended(packet) is None


def test_of_a_path_that_could_be_answered_here_only_those_are_extended_who_walk() -> None:
    walks, asks = (datagram(document(request=replace(REQUEST, max_age_ms=age_ms))) for age_ms in (0, 15_000))
    point = Point().seen(asks)
    assert [point.extended(packet) is not None for packet in (walks, asks)] == [True, True]
    old = tuple(
        TailSegment(current=f"10.2.0.{number}", segment=PreparedSegment.of(f"10.2.0.{number - 1}", 1, {}))
        for number in (1, 2)
    )
    point.tails.put(REQUEST.destination, old)
    point.lane.path_changed("10.9.0.2")
    assert point.extended(asks) is not None, "of another path"
    point.lane.path_changed(REQUEST.destination)
    point.seen(asks)  # too old for an answer now, and perhaps not next time
    assert [point.extended(packet) is not None for packet in (walks, asks)] == [False, False]
    point.seen(walks)
    assert [point.extended(packet) is not None for packet in (walks, asks)] == [True, False]


def test_as_many_records_as_the_pipeline_takes_and_not_more() -> None:
    for points in (MAX_RECORDS - 1, MAX_RECORDS):
        request = replace(REQUEST, metrics=("loss",))
        records, upstream = [], REQUEST.source
        for number in range(points):
            (record,) = records_of(1, request.metrics)
            records.append(replace(record, upstream=upstream, current=f"10.0.2.{number}"))
            upstream = records[-1].current
        point = Point(room=60_000)
        point.knows(upstream)
        packet = datagram(message_to_xml(Message(request=request, records=tuple(records))))
        point.lane.take_down(glance_at(decode_packet(packet).payload))
        assert (point.extended(packet) is not None) == (points < MAX_RECORDS)


@pytest.mark.parametrize("place", ["source", "first", "last"])
def test_a_wrong_tag_is_left_to_the_pipeline(place: str) -> None:
    xml = document(keyring=ONE_KEY)
    point = Point(ONE_KEY).seen(datagram(xml))
    tags = [at for at in range(len(xml)) if xml.startswith(b' t="', at)]
    at = tags[{"source": 0, "first": 1, "last": -1}[place]] + 4
    changed = xml[:at] + (b"A" if xml[at : at + 1] != b"A" else b"B") + xml[at + 1 :]
    assert point.extended(datagram(changed)) is None
    for octet in (xml.index(b"<ct>") + 4, xml.index(b"<ts>") + 4, xml.index(b'n="') + 3):
        changed = xml[:octet] + (b"7" if xml[octet : octet + 1] != b"7" else b"8") + xml[octet + 1 :]
        assert point.extended(datagram(changed)) is None


def test_points_that_sign_with_several_keys_are_told_apart() -> None:
    keyring = Keyring(KEYS)
    octets = head_to_xml(signed_request(REQUEST, Keyring(KEYS[1:])))
    for record, key in zip(records_of(2, REQUEST.metrics), KEYS, strict=True):
        octets = sealed(octets + untagged_record(record), key).removesuffix(END_TAG)
    packet = datagram(octets + END_TAG)
    assert Point(keyring, is_required=True).seen(packet).extended(packet) is not None
    renamed = datagram((octets + END_TAG).replace(b'k="k-0"', b'k="k-1"'))
    assert Point(keyring).seen(packet).extended(renamed) is None


def test_who_signs_otherwise_than_with_a_secret_is_left_to_the_pipeline() -> None:
    keyring = Keyring([SigningKey(KeyIdentity(id="own", areas=("",)), bytes(32))])
    packet = datagram(document(1, keyring=keyring))
    assert Point(keyring).seen(packet).extended(packet) is None


def test_strangers_do_not_fill_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "MOST_ENTRIES", 64)
    point = Point()
    for number in range(lane.MOST_ENTRIES + 10):
        source = f"10.7.{number // 250}.{number % 250}"
        point.knows(source)
        latest = document(0, replace(REQUEST, source=source))
        point.lane.take_down(glance_at(latest))
    assert point.extended(datagram(latest, source=source)) is not None
    assert max(map(len, point.lane.tables)) <= lane.MOST_ENTRIES
