"""The usual packet in a few microseconds: what the pipeline decided is taken down, and done again in C.

A point that forwards thousands of requests a second decides the same again and again: the same metrics, from the
same neighbor, signed by the same keys. The first packet of a kind takes the way through the pipeline, and what
was looked up for it is put into tables; `_lane.c` checks every octet of the next ones, their tags too, and
extends them by these tables, which follow what is known of the segments. Whatever is not usual, or no longer in
the tables, takes the way through the pipeline; so does everything where the module was not built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from interceptor.packet import UDP_HEADER_BYTES, decode_packet, with_payload
from processor.pipeline import Pipeline
from processor.segment_table import FRESH_MS, SegmentTable
from schemas.errors import MessageError, PacketError
from schemas.glance import Glance, TagText
from schemas.keyring import HmacKey
from schemas.message import MAX_RECORDS, Message
from schemas.metrics import METRICS, ScalarStatistics, statistic_fields
from schemas.payload import COMPRESSED, DEFLATED_FORM, extended_payload, xml_from_payload

try:
    from mp.fast_lane import _lane
except ImportError:  # no compiler when it was installed: slower, and nothing else
    if not TYPE_CHECKING:
        _lane = None

MOST_ENTRIES = 1024
"""Of one table; when strangers fill one, all begin anew."""
MOST_QUESTIONS = 4
"""Lists of metrics of one segment that are prepared anew when its statistics change, before anybody asks."""
_KINDS: Mapping[type, bytes] = {int: b"i", float: b"f", bool: b"b"}


class FastLane:
    """Extends the packets that are as those before.

    Args:
        pipeline: decides about all others.
        segments: the table of the pipeline.
        room: the greatest payload that may leave, in octets.
        upstream_silent_until_ms: says until when nobody has to hear that a segment is asked for, by its upstream,
            on the monotonic clock.
        path_silent_until_ms: the same for a path, by its destination.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        segments: SegmentTable,
        *,
        room: int,
        upstream_silent_until_ms: Callable[[str], int],
        path_silent_until_ms: Callable[[str], int],
    ) -> None:
        self._pipeline = pipeline
        self._segments = segments
        self._upstream_silent_until_ms = upstream_silent_until_ms
        self._path_silent_until_ms = path_silent_until_ms
        self._prepared: dict[str, bytes] = {}
        self._asked: dict[str, dict[tuple[str, ...], None]] = {}
        """By upstream, the lists of metrics for which its segment is in the table; the newest last."""
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
                form=DEFLATED_FORM,
            )
            self._extended = self._lane.extended

    def extended(self, packet: bytes) -> bytes | None:
        """The packet with this point's record; None when the pipeline has to look at it."""
        extended = self._extended(packet)
        if extended is None and self._lane is not None and (self._lane.outgrew or _is_deflated(packet)):
            return self._extended_deflated(packet)
        return extended

    def _extended_deflated(self, packet: bytes) -> bytes | None:
        """The same for one that comes, or leaves, deflated."""
        if not self._lane.routes:
            return None
        try:
            datagram = decode_packet(packet)
            document = xml_from_payload(datagram.payload)
        except (PacketError, MessageError):
            return None
        grown = self._lane.grown(document, packet[12:20])
        if grown is None:
            return None
        payload = extended_payload(datagram.payload, document, grown, self._room)
        return None if payload is None else with_payload(datagram, payload)

    @property
    def is_due(self) -> bool:
        """Whether the service is to hear of the packet that was just extended."""
        return self._lane is not None and self._lane.is_due

    @property
    def tables(self) -> tuple[dict[bytes, Any], ...]:
        """All that was taken down."""
        lane = self._lane
        return () if lane is None else (lane.questions, lane.secrets, lane.routes, lane.segments)

    def forget(self) -> None:
        """Begin anew."""
        for table in self.tables:
            table.clear()
        self._prepared.clear()
        self._asked.clear()

    def segment_changed(self, upstream: str) -> None:
        """Other statistics are known of a segment, or none any more."""
        asked = self._asked.pop(upstream, {})
        for metrics in asked:
            del self._lane.segments[_segment_key(upstream, metrics)]
        for metrics in list(asked)[-MOST_QUESTIONS:]:
            self._take_down_segment(upstream, metrics)

    def path_changed(self, destination: str) -> None:
        """Requests to a destination may be answered here from now on, or no longer."""
        if self._lane is not None:
            end = _destination_element(destination)
            for route in [route for route in self._lane.routes if route.endswith(end)]:
                del self._lane.routes[route]

    def take_down(self, glance: Glance) -> None:
        """The pipeline has just forwarded this message, or been told of it."""
        if self._lane is None:
            return
        template = _template(glance.metrics)
        if template is None or glance.hello or glance.returning or isinstance(glance.origin, Message):
            return
        is_answered_here = self._pipeline.knows_tail(glance.destination)
        signer = self._pipeline.trust.signer(glance)
        if (is_answered_here and glance.max_age_ms) or not (signer is None or isinstance(signer, HmacKey)):
            return
        if max(map(len, self.tables)) >= MOST_ENTRIES:
            self.forget()
        if not self._take_down_segment(glance.latest_point, glance.metrics):
            return
        lane = self._lane
        lane.questions[" ".join(glance.metrics).encode()] = template
        route = f"<hs>{glance.source}</hs>".encode() + _destination_element(glance.destination)
        lane.routes[route] = (
            b"" if signer is None else signer.id.encode(),
            None if signer is None else self._secret(signer),
            None if is_answered_here else self._path_silent_until_ms(glance.destination),
        )
        self._take_down_author(glance.source, glance.request_tag)
        self._take_down_author(glance.latest_author, glance.latest_tag)

    def _take_down_segment(self, upstream: str, metrics: tuple[str, ...]) -> bool:
        """Whether all these metrics of the segment are known."""
        segment = self._segments.known(upstream)
        answer = None if segment is None else segment.answer(metrics)
        if segment is None or answer is None or answer.missing:
            return False
        self._asked.setdefault(upstream, {})[metrics] = None
        self._lane.segments[_segment_key(upstream, metrics)] = (
            *(answer.octets, segment.newest_sample_at_ms, self._upstream_silent_until_ms(upstream)),
        )
        return True

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


def _is_deflated(packet: bytes) -> bool:
    payload = UDP_HEADER_BYTES + 4 * (packet[0] & 15) if packet else 0
    return packet[payload : payload + 1] == COMPRESSED


def _nothing(_packet: bytes) -> bytes | None:
    return None


def _segment_key(upstream: str, metrics: tuple[str, ...]) -> bytes:
    return f"{upstream} {' '.join(metrics)}".encode()


def _destination_element(destination: str) -> bytes:
    return f"<hd>{destination}</hd>".encode()


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
