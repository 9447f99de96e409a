"""The usual packet in a few microseconds: what the pipeline decided is taken down, and done again in C.

A point that forwards thousands of requests a second decides the same again and again: the same metrics, from the
same neighbor, signed by the same keys. The first packet of a kind takes the way through the pipeline, and what
was looked up for it is put into tables; `_lane.c` checks every octet of the next ones, their tags too, and
extends them by these tables. Whatever is not usual, or no longer in the tables, takes the way through the
pipeline again; so does everything where the module was not built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from interceptor.packet import decode_packet, with_payload
from processor.pipeline import Pipeline
from processor.segment_table import FRESH_MS, SegmentTable
from schemas.errors import MessageError, PacketError
from schemas.glance import Glance, TagText, glance_at
from schemas.keyring import HmacKey
from schemas.message import MAX_RECORDS, Message
from schemas.metrics import METRICS, ScalarStatistics, statistic_fields
from schemas.payload import COMPRESSED, payload_from_xml, xml_from_payload

try:
    from mp.fast_lane import _lane
except ImportError:  # no compiler when it was installed: slower, and nothing else
    if not TYPE_CHECKING:
        _lane = None

MOST_ENTRIES = 1024
"""Of one table; when strangers fill one, all begin anew."""
_KINDS: Mapping[type, bytes] = {int: b"i", float: b"f", bool: b"b"}


class FastLane:
    """Extends the packets that are as those before.

    Args:
        pipeline: decides about all others.
        segments: the table of the pipeline.
        room: the greatest payload that may leave, in octets.
        silent_until_ms: says until when nobody has to hear that a segment is asked for, by its upstream, on the
            monotonic clock.
    """

    def __init__(
        self, pipeline: Pipeline, segments: SegmentTable, *, room: int, silent_until_ms: Callable[[str], int]
    ) -> None:
        self._pipeline = pipeline
        self._segments = segments
        self._silent_until_ms = silent_until_ms
        self._prepared: dict[str, bytes] = {}
        identity = pipeline.identity
        self._lane: Any = None
        self._room = room
        self._extended: Callable[[bytes], bytes | None] = _nothing
        if _lane is not None:
            self._lane = _lane.Lane(
                own=b"".join(IPv4Address(address).packed for address in sorted(identity.all_addresses)),
                point=f"</up><mp>{identity.address}</mp><ts>".encode(),
                room=room,
                most_records=MAX_RECORDS,
                fresh_ms=FRESH_MS,
                verifies=pipeline.trust.verifies,
            )
            self._extended = self._lane.extended

    def extended(self, packet: bytes) -> bytes | None:
        """The packet with this point's record; None when the pipeline has to look at it."""
        extended = self._extended(packet)
        return self._extended_inside(packet) if extended is None and self._lane is not None else extended

    def _extended_inside(self, packet: bytes) -> bytes | None:
        """The same for one that comes deflated."""
        try:
            datagram = decode_packet(packet)
            if datagram.payload[:1] != COMPRESSED:
                return None
            document = xml_from_payload(datagram.payload)
        except (PacketError, MessageError):
            return None
        grown = self._lane.grown(document, packet[12:20])
        payload = None if grown is None else payload_from_xml(grown, self._room)
        return None if payload is None else with_payload(datagram, payload)

    @property
    def tables(self) -> tuple[dict[bytes, Any], ...]:
        """All that was taken down."""
        lane = self._lane
        return () if lane is None else (lane.questions, lane.secrets, lane.routes, lane.segments)

    def forget(self) -> None:
        """Something is not as it was: keys, segments, what is known of a path."""
        for table in self.tables:
            table.clear()
        self._prepared.clear()

    def take_down(self, payload: bytes) -> None:
        """The pipeline has just forwarded this payload."""
        if self._lane is None:
            return
        glance = glance_at(xml_from_payload(payload))
        segment = self._segments.known(glance.latest_point)
        template = _template(glance.metrics)
        if segment is None or template is None or not self._is_repeated(glance):
            return
        answer = segment.answer(glance.metrics)
        signer = self._pipeline.trust.signer(glance)
        if answer.missing or not (signer is None or isinstance(signer, HmacKey)):
            return
        lane = self._lane
        if max(map(len, self.tables)) >= MOST_ENTRIES:
            self.forget()
        metrics = " ".join(glance.metrics)
        lane.questions[metrics.encode()] = template
        lane.segments[f"{glance.latest_point} {metrics}".encode()] = (
            *(answer.octets, segment.newest_sample_at_ms, self._silent_until_ms(glance.latest_point)),
        )
        route = f"<hs>{glance.source}</hs><hd>{glance.destination}</hd>".encode()
        lane.routes[route] = (b"", None) if signer is None else (signer.id.encode(), self._secret(signer))
        self._take_down_author(glance.source, glance.request_tag)
        self._take_down_author(glance.latest_author, glance.latest_tag)

    def _is_repeated(self, glance: Glance) -> bool:
        """Whether all of its kind are forwarded, whatever else they say."""
        if glance.hello or glance.returning or isinstance(glance.origin, Message):
            return False
        return not self._pipeline.knows_tail(glance.destination)

    def _take_down_author(self, author: str, tag: TagText | None) -> None:
        if tag is None:
            return
        key = self._pipeline.trust.key_of(tag, author)
        if isinstance(key, HmacKey):
            self._lane.secrets[f"{author} {key.id}".encode()] = self._secret(key)

    def _secret(self, key: HmacKey) -> bytes:
        if key.id not in self._prepared:
            self._prepared[key.id] = _lane.prepared(key.secret_bytes())
        return self._prepared[key.id]


def _nothing(_packet: bytes) -> bytes | None:
    return None


@cache
def _templates() -> Mapping[str, tuple[bytes, ...]]:
    """By metric with an element of its own: what stands there and the kind of value that follows, in turn."""
    templates = {}
    for name, metric in METRICS.items():
        fields = statistic_fields(metric.statistics)
        if metric.statistics is ScalarStatistics or not all(kind in _KINDS for *_, kind in fields):
            continue
        parts = [f"<{name}".encode()]
        for _, wire, _, kind in fields:
            parts[-1] += f' {wire}="'.encode()
            parts += [_KINDS[kind], b'"']
        parts[-1] += b"/>"
        templates[name] = tuple(parts)
    return templates


def _template(metrics: tuple[str, ...]) -> tuple[bytes, ...] | None:
    """The same for all metrics of a record, in its order; None when one of them is not so simple."""
    known = _templates()
    if not known.keys() >= set(metrics):
        return None
    joined = [b""]
    for name in (name for name in known if name in metrics):
        first, *rest = known[name]
        joined[-1] += first
        joined += rest
    return tuple(joined)
