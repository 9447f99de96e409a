"""One payload through one measurement point: decode, validate, append, then forward or report.

This is the paper's Measure Processor (figure 6) without a socket, a clock or a kernel: bytes and the time come in,
a decision goes out, and whoever calls carries it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from processor.decision import Decision, Forward, HandOver, PassThrough, Report, SendReport
from processor.segment_table import PreparedSegment, SegmentTable
from schemas.errors import MessageError
from schemas.message import MAX_RECORDS, Message, SegmentRecord, SegmentState, check_consistency
from schemas.payload import payload_from_xml, xml_from_payload
from schemas.xml_codec import MAX_XML_BYTES, append_to_xml, message_from_xml, message_to_xml, record_to_xml


@dataclass(frozen=True, slots=True, kw_only=True)
class PointIdentity:
    """Who this point is, and for whom it answers."""

    address: str
    """The one address by which other points know it."""
    own_addresses: frozenset[str]
    """All IPv4 addresses of this host."""
    serves: tuple[IPv4Network, ...]
    """Prefixes of hosts behind this point that run nothing of ours."""

    def is_own(self, address: str) -> bool:
        """Whether `address` is one of this host's."""
        return address == self.address or address in self.own_addresses

    def is_last_for(self, destination: str) -> bool:
        """Whether the path to `destination` ends here, as far as points can see."""
        if self.is_own(destination):
            return True
        if not self.serves:
            return False
        address = IPv4Address(destination)
        return any(address in network for network in self.serves)


@dataclass(frozen=True, slots=True)
class UpstreamAsked:
    """Somebody asked for the segment from this upstream point."""

    upstream: str
    metrics: tuple[str, ...]
    missing: tuple[str, ...]
    """Those of `metrics` that could not be told: all, of a segment that is not measured yet."""
    hello: bool
    """The upstream only looks for its neighbors; nobody waits for the values."""


class Pipeline:
    """Decides about payloads.

    Args:
        identity: this point.
        segments: what is known of the segments that end here.
        on_upstream: hears for each record whose segment was asked for, so that somebody measures it.
    """

    def __init__(
        self, identity: PointIdentity, segments: SegmentTable, on_upstream: Callable[[UpstreamAsked], None]
    ) -> None:
        self.identity = identity
        self._segments = segments
        self._on_upstream = on_upstream

    def process(self, payload: bytes, *, source: str, destination: str, now_ms: int, room: int) -> Decision:
        """Decide about one payload.

        Args:
            payload: the UDP payload.
            source, destination: addresses in the packet's IP header.
            now_ms: milliseconds since the Unix epoch, on this point's clock.
            room: the greatest payload that may leave, in octets.
        """
        try:
            xml = xml_from_payload(payload)
            message = message_from_xml(xml)
            check_consistency(message)
        except MessageError as error:
            return PassThrough(f"malformed: {error}")
        refusal = self._refusal(message, source, destination)
        if refusal is not None:
            return PassThrough(refusal)
        record, encoded = self._record(message, now_ms)
        extended = append_to_xml(xml, message, encoded)
        if len(extended) > MAX_XML_BYTES:
            return PassThrough(f"message: got {len(extended)} octets, expected at most {MAX_XML_BYTES}")
        if message.request.hello or self.identity.is_last_for(message.request.destination):
            return SendReport(_report(message, extended, final=True))
        return _fit(message, xml, record, extended, room)

    def _refusal(self, message: Message, source: str, destination: str) -> str | None:
        request = message.request
        if (request.source, request.destination) != (source, destination):
            stated = f"{request.source}, {request.destination}"
            return f"hs, hd: got {stated}, expected the packet's {source}, {destination}"
        is_own = self.identity.is_own
        if is_own(source):
            return "source: this point sent the request itself"
        if any(is_own(record.current) for record in message.records) or is_own(request.last_point or ""):
            return "mp: this point is on the path already"
        if len(message.records) >= MAX_RECORDS:
            return f"mrp: got {len(message.records)} records, expected fewer than {MAX_RECORDS}"
        return None

    def _record(self, message: Message, now_ms: int) -> tuple[SegmentRecord, bytes]:
        request = message.request
        upstream = message.latest_point
        segment = self._segments.fresh(upstream, now_ms=now_ms, max_age_ms=request.max_age_ms)
        known = () if segment is None else segment.metrics
        missing = tuple(name for name in request.metrics if name not in known)
        self._on_upstream(UpstreamAsked(upstream, request.metrics, missing, hello=request.hello))
        if segment is None:
            pending = SegmentRecord(
                upstream=upstream, current=self.identity.address, state=SegmentState.PENDING, recorded_at_ms=now_ms
            )
            return pending, record_to_xml(pending)
        record = _measured(segment, request.metrics, missing, self.identity.address, now_ms)
        return record, record_to_xml(record, segment.elements)


def _measured(
    segment: PreparedSegment, asked: tuple[str, ...], missing: tuple[str, ...], current: str, now_ms: int
) -> SegmentRecord:
    return SegmentRecord(
        upstream=segment.upstream,
        current=current,
        state=SegmentState.MEASURED,
        recorded_at_ms=now_ms,
        age_ms=max(0, now_ms - segment.newest_sample_at_ms),
        metrics={name: segment.metrics[name] for name in asked if name in segment.metrics},
        unsupported=missing,
    )


def _fit(message: Message, xml: bytes, record: SegmentRecord, extended: bytes, room: int) -> Decision:
    payload = payload_from_xml(extended, room)
    if payload is not None:
        return Forward(payload)
    rest = Message(
        request=replace(message.request, part=message.request.part + 1, last_point=message.latest_point),
        records=(record,),
    )
    payload = payload_from_xml(message_to_xml(rest), room)
    if payload is None or not message.records:
        return PassThrough(f"room: got {room} octets, expected enough for one record")
    return HandOver(_report(message, xml, final=False), payload)


def _report(message: Message, xml: bytes, *, final: bool) -> Report:
    request = message.request
    return Report(
        asker=request.asker,
        id=request.id,
        copy=request.copy,
        part=request.part,
        final=final,
        lifetime_ms=request.lifetime_ms,
        payload=xml,
        wants_return=final and request.return_id is not None,
    )
