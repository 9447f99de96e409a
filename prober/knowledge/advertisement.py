"""What one point tells its area of itself: its segments, its addresses, and where its paths go on (pure).

An advertisement that fits no datagram is split into fragments, of which each can be read and checked alone.

    octet  0   4  origin
           4   8  sequence
          12   8  revision
          20   8  created at, milliseconds since the Unix epoch
          28   2  lifetime, seconds
          30   1  fragment, from 0
          31   1  fragments
          32   1  flags: 1 withdrawn
          33   1  length of the area's name, then the name (UTF-8)
               1  number of addresses, then 4 octets each
               1  number of prefixes, then 4 octets and the length each
               1  number of next points; of each 4 octets, the number of its destinations (1), then 4 octets each
               1  number of the destinations above toward which somebody asks, then 4 octets each
               -  the segments as a measurement message, compressed (`schemas/payload.py`); none without any

All numbers are big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from types import MappingProxyType

from schemas.errors import MessageError
from schemas.message import MeasureRequest, SegmentRecord, SegmentState
from schemas.payload import message_from_payload, payload_from_xml
from schemas.xml_writer import END_TAG, head_to_xml, record_to_xml

MAX_FRAGMENTS = 16
"""16 KiB of one point: some 60 segments with all metrics, or 4000 destinations."""
MAX_BODY_BYTES = 1055
"""What is left of 1280 octets, which nearly every path lets through (RFC 8200 section 5), after the headers of IP
and UDP, two tags and what goes before them (`seal.py`, `datagram.py`)."""
MAX_AREA_BYTES = 63
MAX_ADDRESSES = 32
"""Of a point's own addresses, and of its prefixes: with the longest area both fit one fragment."""
MAX_NEXT_POINTS = 256
"""Destinations in all; a point greets no more."""
MAX_LIFETIME_S = 3600
_MAX_NUMBER = (1 << 63) - 1
_HEAD = struct.Struct("!4sQQQHBBBB")
_PREFIX = struct.Struct("!4sB")
_WITHDRAWN = 1
_TextOf = Callable[[SegmentRecord], bytes]
_DESTINATIONS_AT_ONCE = 64
"""Go into one fragment together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """One fragment of what a point says of itself."""

    origin: str
    sequence: int
    """Grows with each advertisement of the origin, over its restarts too: it begins with the time of the start."""
    revision: int
    """The sequence with which anything but the segments last changed: of the same revision, paths are the same."""
    created_at_ms: int
    """Milliseconds since the Unix epoch, on the origin's clock; for people. Ages are never taken from it."""
    lifetime_s: int
    """So long after its making others believe it."""
    area: str
    fragment: int = 0
    fragments: int = 1
    withdrawn: bool = False
    """The origin ends: forget all that it said."""
    addresses: tuple[str, ...] = ()
    """All IPv4 addresses of the origin."""
    serves: tuple[IPv4Network, ...] = ()
    """Prefixes for which it is the last point."""
    next_points: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By destination: the first point that a request from the origin toward it meets."""
    asked: frozenset[str] = frozenset()
    """Those of the destinations toward which the origin, or one before it, has told paths of late."""
    segments: tuple[SegmentRecord, ...] = ()
    """The segments that end at the origin; `age_ms` is of the moment when the advertisement was made."""


def fragments_of(whole: Advertisement, room: int = MAX_BODY_BYTES) -> tuple[Advertisement, ...]:
    """The same as fragments of which each is encoded in at most `room` octets.

    A segment that fits no fragment loses metrics, the distribution first; what is beyond the number of fragments
    is left out.
    """
    text_of = _RecordTexts()
    fragments = [replace(whole, next_points=MappingProxyType({}), asked=frozenset(), segments=())]
    for piece in _pieces(whole):
        joined = _joined(fragments[-1], piece)
        if _fits(joined, room, text_of):
            fragments[-1] = joined
            continue
        less = _fitting(piece, room, text_of)
        if less is None:
            continue
        joined = _joined(fragments[-1], less)
        if less is not piece and _fits(joined, room, text_of):
            fragments[-1] = joined
        elif len(fragments) < MAX_FRAGMENTS:
            fragments.append(less)
    count = len(fragments)
    return tuple(replace(one, fragment=number, fragments=count) for number, one in enumerate(fragments))


class _RecordTexts:
    """Writes each record once, however often it is tried where it fits: that takes longer than all else here."""

    def __init__(self) -> None:
        self._written: dict[int, tuple[SegmentRecord, bytes]] = {}
        """By the identity of the record, which is kept so that no other one gets it."""

    def __call__(self, record: SegmentRecord) -> bytes:
        found = self._written.get(id(record))
        if found is None:
            found = self._written[id(record)] = record, record_to_xml(record)
        return found[1]


def _pieces(whole: Advertisement) -> Iterator[Advertisement]:
    """The smallest parts that are not divided, each as an advertisement of its own."""
    bare = replace(
        whole, addresses=(), serves=(), next_points=MappingProxyType({}), asked=frozenset(), segments=()
    )
    by_next = iter(sorted(whole.next_points.items(), key=lambda one: (one[1], one[0])))
    while some := dict(islice(by_next, _DESTINATIONS_AT_ONCE)):
        yield replace(bare, next_points=MappingProxyType(some), asked=whole.asked & some.keys())
    for record in whole.segments:
        if record.metrics:
            yield replace(bare, segments=(record,))


def _fitting(piece: Advertisement, room: int, text_of: _TextOf) -> Advertisement | None:
    """The piece, with so few metrics that it fits a fragment of its own; None when there is none left."""
    while piece.segments and not _fits(piece, room, text_of):
        less = _with_less(piece.segments[0])
        if not less.metrics:
            return None
        piece = replace(piece, segments=(less,))
    return piece


def _with_less(record: SegmentRecord) -> SegmentRecord:
    names = [name for name in record.metrics if name != "distribution"]
    if len(names) == len(record.metrics):
        names = names[:-1]
    return replace(record, metrics=MappingProxyType({name: record.metrics[name] for name in names}))


def _joined(one: Advertisement, other: Advertisement) -> Advertisement:
    return replace(
        one,
        next_points=MappingProxyType({**one.next_points, **other.next_points}),
        asked=one.asked | other.asked,
        segments=one.segments + other.segments,
    )


def _fits(advertisement: Advertisement, room: int, text_of: _TextOf) -> bool:
    too_many = len(advertisement.next_points) > 255
    return not too_many and len(_encoded(advertisement, text_of)) <= room


def advertisement_to_bytes(advertisement: Advertisement) -> bytes:
    """Encode one fragment; `advertisement_from_bytes` reverses it."""
    return _encoded(advertisement, record_to_xml)


def _encoded(advertisement: Advertisement, text_of: _TextOf) -> bytes:
    area = advertisement.area.encode()
    head = _HEAD.pack(
        IPv4Address(advertisement.origin).packed,
        advertisement.sequence,
        advertisement.revision,
        advertisement.created_at_ms,
        advertisement.lifetime_s,
        advertisement.fragment,
        advertisement.fragments,
        _WITHDRAWN if advertisement.withdrawn else 0,
        len(area),
    )
    by_next: dict[str, list[str]] = {}
    for destination, point in advertisement.next_points.items():
        by_next.setdefault(point, []).append(destination)
    prefixes = [
        _PREFIX.pack(network.network_address.packed, network.prefixlen) for network in advertisement.serves
    ]
    groups = [IPv4Address(point).packed + _addresses_bytes(by_next[point]) for point in sorted(by_next)]
    return b"".join(
        (
            head,
            area,
            _addresses_bytes(advertisement.addresses),
            bytes([len(prefixes)]),
            *prefixes,
            bytes([len(groups)]),
            *groups,
            _addresses_bytes(sorted(advertisement.asked)),
            _segments_bytes(advertisement, text_of),
        )
    )


def _addresses_bytes(addresses: tuple[str, ...] | list[str]) -> bytes:
    return bytes([len(addresses)]) + b"".join(IPv4Address(address).packed for address in addresses)


def _carrier(origin: str) -> MeasureRequest:
    """The request of a message that only carries records."""
    return MeasureRequest(
        source=origin,
        destination=origin,
        id="0" * 32,
        metrics=("delay",),
        created_at_ms=0,
        lifetime_ms=0,
        max_age_ms=0,
    )


def _segments_bytes(advertisement: Advertisement, text_of: _TextOf) -> bytes:
    if not advertisement.segments:
        return b""
    records = map(text_of, advertisement.segments)
    xml = b"".join((head_to_xml(_carrier(advertisement.origin)), *records, END_TAG))
    return payload_from_xml(xml, len(xml) - 1) or xml  # plain where deflate gains nothing


def advertisement_from_bytes(data: bytes) -> Advertisement:
    """Decode one fragment.

    Raises:
        MessageError: the bytes are none, or contradict themselves.
    """
    reader = _Reader(data)
    origin, sequence, revision, created_at_ms, lifetime_s, fragment, fragments, flags, area_length = reader.head()
    area = reader.text(area_length)
    addresses = reader.addresses(MAX_ADDRESSES)
    serves = reader.networks()
    next_points = reader.next_points()
    asked = reader.addresses(255)
    advertisement = Advertisement(
        origin=str(IPv4Address(origin)),
        sequence=sequence,
        revision=revision,
        created_at_ms=created_at_ms,
        lifetime_s=lifetime_s,
        area=area,
        fragment=fragment,
        fragments=fragments,
        withdrawn=flags == _WITHDRAWN,
        addresses=addresses,
        serves=serves,
        next_points=MappingProxyType(next_points),
        asked=frozenset(asked),
        segments=_segments(reader.rest(), str(IPv4Address(origin))),
    )
    _check(advertisement, flags)
    return advertisement


def _segments(data: bytes, origin: str) -> tuple[SegmentRecord, ...]:
    if not data:
        return ()
    message = message_from_payload(data)
    if message.request != _carrier(origin) or not message.records:
        raise MessageError("advertisement: got a message that carries more or less than segments of its origin")
    upstreams = set()
    for record in message.records:
        is_bare = record.told_by is None and record.tag is None and not record.unsupported
        if record.current != origin or record.state is not SegmentState.MEASURED or not is_bare:
            raise MessageError(f"advertisement: got a segment {record.upstream} -> {record.current}, expected one")
        upstreams.add(record.upstream)
    if len(upstreams) != len(message.records):
        raise MessageError("advertisement: got one segment twice")
    return message.records


def _check(advertisement: Advertisement, flags: int) -> None:
    if flags not in (0, _WITHDRAWN):
        raise MessageError(f"advertisement: got flags {flags}, expected 0 or 1")
    if not 1 <= advertisement.lifetime_s <= MAX_LIFETIME_S:
        raise MessageError(f"advertisement: got a lifetime of {advertisement.lifetime_s} s")
    if not advertisement.fragment < advertisement.fragments <= MAX_FRAGMENTS:
        raise MessageError(f"advertisement: got fragment {advertisement.fragment} of {advertisement.fragments}")
    if max(advertisement.sequence, advertisement.created_at_ms) > _MAX_NUMBER:
        raise MessageError("advertisement: got a number beyond 63 bits")
    if advertisement.revision > advertisement.sequence:
        raise MessageError("advertisement: got a revision after the sequence")
    if not advertisement.asked <= advertisement.next_points.keys():
        raise MessageError("advertisement: got a destination that is asked for without its next point")


class _Reader:
    """Takes the fields from the front; MessageError where they end early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise MessageError(f"advertisement: ends after {len(self._data)} octets, expected more")
        self._at += count
        return piece

    def head(self) -> tuple[bytes, int, int, int, int, int, int, int, int]:
        return _HEAD.unpack(self.take(_HEAD.size))

    def count(self, most: int) -> int:
        (count,) = self.take(1)
        if count > most:
            raise MessageError(f"advertisement: got {count} entries, expected at most {most}")
        return count

    def text(self, length: int) -> str:
        try:
            if length > MAX_AREA_BYTES:
                raise MessageError(f"advertisement: got an area of {length} octets")
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise MessageError("advertisement: the area is not UTF-8") from None

    def address(self) -> str:
        return str(IPv4Address(self.take(4)))

    def addresses(self, most: int) -> tuple[str, ...]:
        found = tuple(self.address() for _ in range(self.count(most)))
        if len(set(found)) != len(found):
            raise MessageError("advertisement: got one address twice")
        return found

    def networks(self) -> tuple[IPv4Network, ...]:
        try:
            return tuple(IPv4Network(_PREFIX.unpack(self.take(5))) for _ in range(self.count(MAX_ADDRESSES)))
        except ValueError:
            raise MessageError("advertisement: got no IPv4 prefix") from None

    def next_points(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for _ in range(self.count(255)):
            point = self.address()
            for destination in self.addresses(255):
                if destination in found:
                    raise MessageError(f"advertisement: got two next points toward {destination}")
                found[destination] = point
        return found

    def rest(self) -> bytes:
        return self._data[self._at :]
