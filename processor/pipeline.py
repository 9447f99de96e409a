"""One payload through one measurement point: decode, validate, append, then forward or report.

This is the paper's Measure Processor (figure 6) without a socket, a clock or a kernel: bytes and the time come in,
a decision goes out, and whoever calls carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from processor.decision import Decision, Forward, HandOver, PassThrough, Report, SendReport
from processor.segment_table import SegmentTable
from processor.tail_table import TailTable
from schemas.authentication import Standing, latest_standing, request_standing, sealed
from schemas.errors import MessageError
from schemas.keyring import NO_KEYS, Keyring, MessageKey
from schemas.message import MAX_RECORDS, Carrier, Message, SegmentRecord, SegmentState, check_consistency
from schemas.payload import payload_from_xml, xml_from_payload
from schemas.xml_codec import (
    END_TAG,
    MAX_XML_BYTES,
    head_to_xml,
    message_from_xml,
    message_to_xml,
    untagged_record,
)


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
        tails: what is known of paths from here on.
        keyring: checks what others wrote, and signs what this point adds.
        is_required: pass by what is not signed by somebody whose key is held here.
    """

    def __init__(
        self,
        identity: PointIdentity,
        segments: SegmentTable,
        on_upstream: Callable[[UpstreamAsked], None],
        *,
        tails: TailTable | None = None,
        keyring: Keyring = NO_KEYS,
        is_required: bool = False,
    ) -> None:
        self.identity = identity
        self.keyring = keyring
        self._segments = segments
        self._on_upstream = on_upstream
        self._tails = tails or TailTable()
        self._is_required = is_required

    def process(
        self,
        payload: bytes,
        *,
        source: str,
        destination: str,
        now_ms: int,
        room: int,
        carrier: Carrier = Carrier.ROUTER_ALERT,
    ) -> Decision:
        """Decide about one payload.

        Args:
            payload: the UDP payload.
            source, destination: addresses in the packet's IP header.
            now_ms: milliseconds since the Unix epoch, on this point's clock.
            room: the greatest payload that may leave, in octets.
            carrier: how the payload came.
        """
        try:
            xml = xml_from_payload(payload)
            message = message_from_xml(xml)
            check_consistency(message)
        except MessageError as error:
            return PassThrough(f"malformed: {error}")
        refusal = self._refusal(message, source, destination) or self._distrust(xml, message)
        if refusal is not None:
            return PassThrough(refusal)
        if not xml.endswith(END_TAG):  # somebody ended it otherwise (white space, comments)
            xml = message_to_xml(message)
        return self._extend(xml, message, now_ms, room, carrier)

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

    def _distrust(self, xml: bytes, message: Message) -> str | None:
        """Why nothing is to be added to the message, by the tags of its source and of the point before.

        That point looked at all before it, and its tag covers it.
        """
        standings = {request_standing(message.request, self.keyring), latest_standing(xml, message, self.keyring)}
        if Standing.FORGED in standings:
            return f"a: wrong tag of {message.latest_point} or of the source, expected one of a key of its area"
        if self._is_required and standings != {Standing.AUTHENTIC}:
            return f"a: got {', '.join(sorted(standings))}, expected tags of keys that are held here"
        return None

    def _extend(self, xml: bytes, message: Message, now_ms: int, room: int, carrier: Carrier) -> Decision:
        """Add this point's record, and go on, or end here."""
        request = message.request
        record = self._record(message, now_ms)
        body = untagged_record(*record)
        key = self.keyring.signer(request.asker, request.far_end)
        extended = sealed(xml[: -len(END_TAG)] + body, key)
        is_last = request.hello or self.identity.is_last_for(request.destination)
        if not is_last and (tail := self._tails.fresh(request, now_ms=now_ms)) is not None:
            for one in tail:
                told = one.segment.record(
                    request.metrics, current=one.current, now_ms=now_ms, told_by=self.identity.address
                )
                extended = sealed(extended[: -len(END_TAG)] + untagged_record(told, one.segment.elements), key)
            is_last = True
        if len(extended) > MAX_XML_BYTES:
            return PassThrough(f"message: got {len(extended)} octets, expected at most {MAX_XML_BYTES}")
        if is_last:
            return SendReport(replace(_report(message, extended, final=True), carrier=carrier))
        return _fit(message, xml, body, extended, room, key)

    def _record(self, message: Message, now_ms: int) -> tuple[SegmentRecord, Mapping[str, bytes] | None]:
        """What this point adds, and its metrics as they were encoded before."""
        request = message.request
        upstream = message.latest_point
        segment = self._segments.fresh(upstream, now_ms=now_ms, max_age_ms=request.max_age_ms)
        known = () if segment is None else segment.metrics
        missing = tuple(name for name in request.metrics if name not in known)
        self._on_upstream(UpstreamAsked(upstream, request.metrics, missing, hello=request.hello))
        address = self.identity.address
        if segment is None:
            return SegmentRecord(
                upstream=upstream, current=address, state=SegmentState.PENDING, recorded_at_ms=now_ms
            ), None
        return segment.record(request.metrics, current=address, now_ms=now_ms), segment.elements


def _fit(
    message: Message, xml: bytes, body: bytes, extended: bytes, room: int, key: MessageKey | None
) -> Decision:
    """Forward the whole message, or hand over what came and go on with the own record alone."""
    payload = payload_from_xml(extended, room)
    if payload is not None:
        return Forward(payload)
    if not message.records:
        return PassThrough(f"room: got {room} octets, expected enough for one record")
    latest = message.records[-1].tag
    rest = replace(
        message.request,
        part=message.request.part + 1,
        last_point=message.latest_point,
        previous_tag=None if latest is None else latest.octets,
    )
    payload = payload_from_xml(sealed(head_to_xml(rest) + body, key), room)
    if payload is None:
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
