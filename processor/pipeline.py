"""One payload through one measurement point: decode, validate, append, then forward or report.

This is the paper's Measure Processor (figure 6) without a socket, a clock or a kernel: bytes and the time come in,
a decision goes out, and whoever calls carries it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from processor.decision import Decision, Forward, HandOver, PassThrough, Report, SendReport
from processor.segment_table import SegmentTable
from processor.tail_table import TailTable
from processor.trust import Trust
from schemas.authentication import sealed
from schemas.errors import MessageError
from schemas.glance import Glance, glance_at
from schemas.keyring import NO_KEYS, MessageKey
from schemas.message import MAX_RECORDS, Carrier, SegmentRecord, SegmentState
from schemas.payload import extended_payload, payload_from_xml, xml_from_payload
from schemas.xml_reader import MAX_XML_BYTES
from schemas.xml_writer import END_TAG, head_to_xml, untagged_record


@dataclass(frozen=True, slots=True, kw_only=True)
class PointIdentity:
    """Who this point is, and for whom it answers."""

    address: str
    """The one address by which other points know it."""
    own_addresses: frozenset[str]
    """All IPv4 addresses of this host."""
    serves: tuple[IPv4Network, ...]
    """Prefixes of hosts behind this point that run nothing of ours."""

    @property
    def all_addresses(self) -> frozenset[str]:
        """All by which others may know this host."""
        return self.own_addresses if self.address in self.own_addresses else self.own_addresses | {self.address}

    def is_own(self, address: str) -> bool:
        """Whether `address` is one of this host's."""
        return address in self.all_addresses

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
        on_path: hears the destination of each request that would take an answer from them, so that they are kept.
        trust: whom to believe, and by what to sign; without it, anybody, and by nothing.
    """

    def __init__(
        self,
        identity: PointIdentity,
        segments: SegmentTable,
        on_upstream: Callable[[UpstreamAsked], None],
        *,
        tails: TailTable | None = None,
        on_path: Callable[[str], None] = lambda _: None,
        trust: Trust | None = None,
    ) -> None:
        self.identity = identity
        self.trust = trust or Trust(NO_KEYS, is_required=False)
        self._segments = segments
        self._on_upstream = on_upstream
        self._tails = tails or TailTable()
        self._on_path = on_path

    def knows_tail(self, destination: str) -> bool:
        """Whether some request to `destination` could be answered here, in the place of the points further on."""
        return destination in self._tails

    def note(self, glance: Glance) -> None:
        """Tell of a request that was extended without this pipeline, as this pipeline would have done it."""
        self._on_upstream(UpstreamAsked(glance.latest_point, glance.metrics, (), hello=False))
        if glance.max_age_ms:
            self._on_path(glance.destination)

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
            glance = glance_at(xml_from_payload(payload))
        except MessageError as error:
            return PassThrough(f"malformed: {error}")
        is_relayed = self._is_relayed(glance, source, destination)
        if is_relayed:
            source, destination, carrier = glance.source, glance.destination, Carrier.RELAY
        refusal = self._refusal(glance, source, destination) or self.trust.refusal(glance)
        if refusal is not None:
            return PassThrough(refusal)
        decision = self._extend(payload, glance, now_ms, room, carrier)
        if is_relayed and isinstance(decision, Forward | HandOver):
            return replace(decision, relay_toward=destination)
        return decision

    def _is_relayed(self, glance: Glance, source: str, destination: str) -> bool:
        """Whether the point that saw the message last sent it to this one, and not toward its far end."""
        return (
            source == glance.latest_point
            and self.identity.is_own(destination)
            and (source, destination) != (glance.source, glance.destination)
        )

    def _refusal(self, glance: Glance, source: str, destination: str) -> str | None:
        if (glance.source, glance.destination) != (source, destination):
            stated = f"{glance.source}, {glance.destination}"
            return f"hs, hd: got {stated}, expected the packet's {source}, {destination}"
        if self.identity.is_own(source):
            return "source: this point sent the request itself"
        if not self.identity.all_addresses.isdisjoint(glance.points):
            return "mp: this point is on the path already"
        if glance.records >= MAX_RECORDS:
            return f"mrp: got {glance.records} records, expected fewer than {MAX_RECORDS}"
        return None

    def _extend(self, payload: bytes, glance: Glance, now_ms: int, room: int, carrier: Carrier) -> Decision:
        """Add this point's record, and go on, or end here."""
        body = self._record(glance, now_ms)
        key = self.trust.signer(glance)
        extended = sealed(glance.xml[: -len(END_TAG)] + body, key)
        is_last = glance.hello or self.identity.is_last_for(glance.destination)
        if not is_last and glance.max_age_ms and glance.request.return_id is None:
            self._on_path(glance.destination)
        if not is_last and (tail := self._tails.fresh(glance, now_ms=now_ms)) is not None:
            for one in tail:
                told = one.segment.record(
                    glance.metrics, current=one.current, now_ms=now_ms, told_by=self.identity.address
                )
                extended = sealed(extended[: -len(END_TAG)] + untagged_record(told, one.segment.elements), key)
            is_last = True
        if len(extended) > MAX_XML_BYTES:
            return PassThrough(f"message: got {len(extended)} octets, expected at most {MAX_XML_BYTES}")
        if is_last:
            return SendReport(replace(_report(glance, extended, final=True), carrier=carrier))
        return _fit(glance, payload, body, extended, room, key)

    def _record(self, glance: Glance, now_ms: int) -> bytes:
        """What this point adds, up to where its tag belongs."""
        upstream, asked = glance.latest_point, glance.metrics
        segment = self._segments.fresh(upstream, now_ms=now_ms, max_age_ms=glance.max_age_ms)
        answer = None if segment is None else segment.answer(asked)
        missing = asked if answer is None else answer.missing
        self._on_upstream(UpstreamAsked(upstream, asked, missing, hello=glance.hello))
        if segment is None or answer is None:
            pending = SegmentRecord(
                upstream=upstream, current=self.identity.address, state=SegmentState.PENDING, recorded_at_ms=now_ms
            )
            return untagged_record(pending)
        age_ms = max(0, now_ms - segment.newest_sample_at_ms)
        head = f"<mrp><up>{upstream}</up><mp>{self.identity.address}</mp><ts>{now_ms}</ts><ag>{age_ms}</ag>"
        return head.encode() + answer.octets


def _fit(
    glance: Glance, payload: bytes, body: bytes, extended: bytes, room: int, key: MessageKey | None
) -> Decision:
    """Forward the whole message, or hand over what came and go on with the own record alone."""
    whole = extended_payload(payload, glance.xml, extended, room)
    if whole is not None:
        return Forward(whole)
    if not glance.records:
        return PassThrough(f"room: got {room} octets, expected enough for one record")
    request, latest = glance.request, glance.latest_tag
    rest = replace(
        request,
        part=request.part + 1,
        last_point=glance.latest_point,
        previous_tag=None if latest is None else latest.octets,
    )
    alone = payload_from_xml(sealed(head_to_xml(rest) + body, key), room)
    if alone is None:
        return PassThrough(f"room: got {room} octets, expected enough for one record")
    return HandOver(_report(glance, glance.xml, final=False), alone)


def _report(glance: Glance, xml: bytes, *, final: bool) -> Report:
    request = glance.request
    return Report(
        asker=request.asker,
        id=request.id,
        copy=request.copy,
        part=request.part,
        slice_index=request.slice_index,
        final=final,
        lifetime_ms=request.lifetime_ms,
        payload=xml,
        wants_return=final and request.return_id is not None,
    )
