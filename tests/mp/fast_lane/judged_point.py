"""A point whose pipeline is the judge of its lane, and the messages that come to it."""

from __future__ import annotations

from interceptor.packet import decode_packet, with_payload
from mp import clock
from mp.fast_lane.lane import FastLane
from processor.decision import Forward
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import PreparedSegment, SegmentTable
from processor.tail_table import TailTable
from processor.trust import Trust
from schemas.authentication import sealed, signed_request
from schemas.glance import glance_at
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring
from schemas.message import MeasureRequest, SegmentRecord, SegmentState
from schemas.payload import COMPRESSED, extended_payload, payload_from_xml, xml_from_payload
from schemas.xml_writer import END_TAG, head_to_xml, untagged_record
from tests.interceptor.datagram import build_datagram
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


def deflated(xml: bytes) -> bytes:
    payload = payload_from_xml(xml, len(xml) - 1)
    assert payload is not None and payload[:1] == COMPRESSED
    return payload


def growing(xml: bytes) -> bytes:
    """As points deflate it while there is room."""
    payload = extended_payload(xml, xml, xml, len(xml) - 1)
    assert payload is not None and payload[:1] == COMPRESSED
    return payload
