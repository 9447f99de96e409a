"""The pipeline is the judge: what the lane extends, it must extend as the pipeline does, octet by octet."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest

from interceptor.packet import decode_packet, with_payload
from mp import clock
from mp.fast_lane import lane
from mp.fast_lane.lane import FastLane
from processor.decision import Forward
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import FRESH_MS, PreparedSegment, SegmentTable
from processor.tail_table import TailSegment, TailTable
from processor.trust import Trust
from schemas.authentication import sealed, signed_request
from schemas.errors import PacketError
from schemas.glance import glance_at
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring, SigningKey
from schemas.message import MAX_RECORDS, MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.payload import COMPRESSED, payload_from_xml, xml_from_payload
from schemas.xml_writer import END_TAG, head_to_xml, message_to_xml, untagged_record
from tests.interceptor.datagram import build_datagram, recomputed
from tests.statistics import segment_statistics

FOREVER_MS = 2**62
ROOM = 1468
OWN = "10.0.1.1"
REQUEST = MeasureRequest(
    source="10.0.0.1",
    destination="10.9.0.1",
    id="ab" * 16,
    metrics=("delay", "rtt"),
    created_at_ms=1_767_268_800_000,
    lifetime_ms=5000,
    max_age_ms=0,
)
KEYS = tuple(HmacKey(KeyIdentity(id=f"k-{number}", areas=("",)), bytes([number]) * 32) for number in range(2))
ONE_KEY = Keyring(KEYS[:1])


def records_of(points: int, metrics: tuple[str, ...]) -> list[SegmentRecord]:
    known = segment_statistics(1)
    return [
        SegmentRecord(
            upstream=f"10.0.0.{number}",
            current=f"10.0.0.{number + 1}",
            state=SegmentState.MEASURED,
            recorded_at_ms=number,
            told_by="10.0.0.77" if number == 2 else None,
            metrics={name: known[name] for name in metrics},
        )
        for number in range(1, points + 1)
    ]


def document(points: int = 3, request: MeasureRequest = REQUEST, keyring: Keyring = NO_KEYS) -> bytes:
    """As `points` points have written it, of which the last is the upstream."""
    octets = head_to_xml(signed_request(request, keyring))
    key = keyring.signer(request.asker, request.far_end)
    for record in records_of(points, request.metrics):
        octets = sealed(octets + untagged_record(record), key).removesuffix(END_TAG)
    return octets + END_TAG


def datagram(payload: bytes, **more: object) -> bytes:
    addresses = {"source": REQUEST.source, "destination": REQUEST.destination}
    return build_datagram(payload, **(addresses | more))  # type: ignore[arg-type]


class Point:
    """A pipeline and the lane beside it."""

    def __init__(self, keyring: Keyring = NO_KEYS, *, is_required: bool = False, room: int = ROOM) -> None:
        self.room = room
        self.segments = SegmentTable()
        self.tails = TailTable()
        identity = PointIdentity(address=OWN, own_addresses=frozenset({OWN, "192.168.7.1"}), serves=())
        trust = Trust(keyring, is_required=is_required)
        self.pipeline = Pipeline(identity, self.segments, lambda _: None, tails=self.tails, trust=trust)
        self.silent_until_ms = FOREVER_MS
        self.path_silent_until_ms = FOREVER_MS
        self.lane = FastLane(
            self.pipeline,
            self.segments,
            room=room,
            upstream_silent_until_ms=lambda _: self.silent_until_ms,
            path_silent_until_ms=lambda _: self.path_silent_until_ms,
        )
        for number in range(1, 6):
            self.knows(f"10.0.0.{number}")

    def knows(self, upstream: str, age_ms: int = 0) -> None:
        self.segments.put(PreparedSegment.of(upstream, clock.now_ms() - age_ms, segment_statistics(5)))

    def seen(self, *packets: bytes) -> Point:
        """They have taken the way through the pipeline."""
        for packet in packets:
            decoded = decode_packet(packet)
            assert isinstance(self._decision(packet, clock.now_ms()), Forward)
            self.lane.take_down(glance_at(xml_from_payload(decoded.payload)))
        return self

    def extended(self, packet: bytes) -> bytes | None:
        """What the lane makes of it, which must be what the pipeline makes of it if it is anything."""
        extended = self.lane.extended(packet)
        if extended is not None:
            record = xml_from_payload(decode_packet(extended).payload).rsplit(b"<mrp>", 1)[1]
            written_at_ms = int(record.partition(b"<ts>")[2].partition(b"<")[0])
            assert abs(written_at_ms - clock.now_ms()) < 5000
            decision = self._decision(packet, written_at_ms)
            assert isinstance(decision, Forward), packet
            assert with_payload(decode_packet(packet), decision.payload) == extended
        return extended

    def _decision(self, packet: bytes, now_ms: int) -> object:
        decoded = decode_packet(packet)
        return self.pipeline.process(
            decoded.payload, source=decoded.source, destination=decoded.destination, now_ms=now_ms, room=self.room
        )


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


def deflated(xml: bytes) -> bytes:
    payload = payload_from_xml(xml, len(xml) - 1)
    assert payload is not None and payload[:1] == COMPRESSED
    return payload


@pytest.mark.parametrize("points", [1, 3, 5, 9])
@pytest.mark.parametrize("keyring", [NO_KEYS, ONE_KEY], ids=["unsigned", "signed"])
def test_one_that_comes_deflated_is_extended_as_the_pipeline_would(points: int, keyring: Keyring) -> None:
    request = replace(REQUEST, metrics=("delay", "loss", "jitter", "rtt"))
    point = Point(keyring, is_required=keyring is not NO_KEYS)
    point.knows(f"10.0.0.{points + 1}")
    point.seen(datagram(deflated(document(points, request, keyring))))
    another = replace(request, id="cd" * 16, created_at_ms=7, copy=2)
    grown = point.extended(datagram(deflated(document(points, another, keyring)), ttl=9))
    assert grown is not None
    assert grown == recomputed(grown)
    leaves = decode_packet(grown).payload
    assert (leaves[:1] == COMPRESSED) == (len(xml_from_payload(leaves)) > ROOM)
    assert (leaves[:1] == COMPRESSED) == (points > 1)


def test_a_deflated_one_that_leaves_no_room_or_is_broken_is_left_to_the_pipeline() -> None:
    payload = deflated(document(3))
    tight = Point(room=len(payload))
    tight.lane.take_down(glance_at(document(3)))
    assert tight.extended(datagram(payload)) is None
    point = Point().seen(datagram(payload))
    assert point.extended(datagram(payload)) is not None
    for broken in (payload[:-1], payload + b"x", payload[:1] + b"\x07" + payload[2:], COMPRESSED):
        assert point.lane.extended(datagram(broken)) is None


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


def test_what_leaves_no_room_is_deflated_and_what_leaves_none_even_then_is_left_to_the_pipeline() -> None:
    packet = datagram(document())

    def grown(room: int) -> bytes | None:
        point = Point(room=room)
        point.knows("10.0.0.4", age_ms=1500)  # an age of four digits, and so for a while
        point.lane.take_down(glance_at(decode_packet(packet).payload))
        extended = point.extended(packet)
        return None if extended is None else decode_packet(extended).payload

    usual = grown(ROOM)
    assert usual is not None
    assert [(grown(room) or b"")[:1] for room in (len(usual), len(usual) - 1)] == [b"<", COMPRESSED]
    assert grown(100) is None


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


USUAL_PACKET = datagram(document())
PIECES = (
    *(b"0", b"1", b"01", b"-", b".", b"9" * 15, b"9" * 16, b" ", b'"', b"<", b">", b"/>", b"<m>", b"</m>", b"a"),
    *(
        b"<mrp>",
        b"</mrp>",
        b"<ag>7</ag>",
        b"<fr>10.0.0.1</fr>",
        b"<cp>0</cp>",
        b"<cp>01</cp>",
        b"256",
        b"10.0.0.1",
    ),
    *(
        b'<a k="b" t="AAAAAAAAAAAAAAAAAAAAAA"/>',
        b'<a k="b" t="AAAAAAAAAAAAAAAAAAAAAB"/>',
        b'<a k="',
        b"\0",
        b"\xff",
    ),
    *(b'<a k=".b" t="AAAAAAAAAAAAAAAAAAAAAA"/>', b'<a k="b2345678901234567" t="AAAAAAAAAAAAAAAAAAAAAA"/>'),
)


@pytest.mark.parametrize("keyring", [NO_KEYS, ONE_KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("form", [bytes, deflated], ids=["plain", "deflated"])
def test_whatever_is_done_to_a_message_the_lane_does_nothing_that_the_pipeline_would_not(
    keyring: Keyring, form: Callable[[bytes], bytes]
) -> None:
    rng = random.Random(21)
    usual = document(keyring=keyring)
    point = Point(keyring).seen(datagram(usual))
    extended = 0
    for _ in range(4000):
        changed = usual
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(changed))
            changed = changed[:at] + rng.choice(PIECES) + changed[at + rng.choice((0, 1, 1, 2, 20)) :]
        if changed != usual:
            packet = with_payload(decode_packet(USUAL_PACKET), form(changed))
            extended += point.extended(packet) is not None
    assert extended > 30 if keyring is NO_KEYS else extended == 0


def test_whatever_is_done_to_a_packet_the_lane_does_nothing_that_the_pipeline_would_not() -> None:
    rng = random.Random(22)
    point = Point().seen(USUAL_PACKET)
    extended = 0
    for _ in range(4000):
        at = rng.randrange(40)
        changed = USUAL_PACKET[:at] + bytes((rng.randrange(256),)) + USUAL_PACKET[at + 1 :]
        changed = changed[: rng.choice((len(changed), len(changed), len(changed), rng.randrange(len(changed))))]
        try:
            extended += point.extended(changed) is not None
        except PacketError:
            pytest.fail(f"the lane extended what is no packet of ours: {changed!r}")
    assert extended > 100
    for length in range(len(USUAL_PACKET)):
        assert point.lane.extended(USUAL_PACKET[:length]) is None
