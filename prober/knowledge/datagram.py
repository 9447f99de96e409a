"""What two points that share their knowledge send each other, one datagram each (pure).

    octet  0   8  instance: a random number that the sender drew when it started
           8   8  the receiver's instance as the sender knows it, 0 while it does not
          16   8  counter: grows with each datagram of the session
          24   1  kind
          25   -  content

A datagram that does not quote the receiver's instance may be a replay from before its start: it is a reason to
send a hello that lets the other quote it, and nothing else. So no clock is needed (as in Babel's RFC 8967 section
4.3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import assert_never

from prober.knowledge.advertisement import MAX_AREA_BYTES
from prober.knowledge.seal import MAX_SEAL_BYTES
from schemas.errors import MessageError

KNOWLEDGE_PORT = 49_865
"""UDP, beside the other ports of the overlay."""
MAX_DATAGRAM_BYTES = 1252
"""UDP payload at an MTU of 1280."""
_HEAD = struct.Struct("!QQQB")
MAX_CONTENT_BYTES = MAX_DATAGRAM_BYTES - MAX_SEAL_BYTES - _HEAD.size
_ITEM = struct.Struct("!IH")
_VERSION = struct.Struct("!4sBQ")
_RANGE = struct.Struct("!4s4s")
_HELD = struct.Struct("!4sQH")
_HELLO = struct.Struct("!8sB")
MAX_VERSIONS = MAX_CONTENT_BYTES // _VERSION.size
MAX_HELD = (MAX_CONTENT_BYTES - _RANGE.size) // _HELD.size
MAX_AGE_MS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Hello:
    """I am here."""

    area: str
    digest: bytes
    """8 octets, of all that the sender holds of its area: equal digests, equal knowledge."""


@dataclass(frozen=True, slots=True)
class Item:
    """An advertisement on its way."""

    age_ms: int
    """Since the origin made it, as far as the points on its way could see."""
    sealed: bytes
    """As the origin sealed it."""


@dataclass(frozen=True, slots=True)
class Update:
    """Advertisements."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Names one advertisement."""

    origin: str
    fragment: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Send these no more."""

    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """How much of an origin's latest word somebody has."""

    origin: str
    sequence: int
    fragments: int
    """Bit n is set with fragment n."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All that the sender holds of origins between two addresses, of the area that the receiver is in."""

    first: str
    last: str
    held: tuple[Held, ...]


Content = Hello | Update | Acknowledgement | Summary
_KINDS: dict[type[Content], int] = {Hello: 1, Update: 2, Acknowledgement: 3, Summary: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """One datagram between two points."""

    instance: int
    to_instance: int
    counter: int
    content: Content


def item_bytes(item: Item) -> int:
    """Octets that it takes of `MAX_CONTENT_BYTES`."""
    return _ITEM.size + len(item.sealed)


def datagram_to_bytes(datagram: Datagram) -> bytes:
    """Encode; `datagram_from_bytes` reverses it."""
    content = datagram.content
    head = _HEAD.pack(datagram.instance, datagram.to_instance, datagram.counter, _KINDS[type(content)])
    return head + b"".join(_content_bytes(content))


def _content_bytes(content: Content) -> Iterator[bytes]:
    match content:
        case Hello(area=area, digest=digest):
            name = area.encode()
            yield _HELLO.pack(digest, len(name)) + name
        case Update(items=items):
            for item in items:
                yield _ITEM.pack(min(item.age_ms, MAX_AGE_MS), len(item.sealed)) + item.sealed
        case Acknowledgement(versions=versions):
            for one in versions:
                yield _VERSION.pack(_packed(one.origin), one.fragment, one.sequence)
        case Summary(first=first, last=last, held=held):
            yield _RANGE.pack(_packed(first), _packed(last))
            for entry in held:
                yield _HELD.pack(_packed(entry.origin), entry.sequence, entry.fragments)
        case _:
            assert_never(content)


def _packed(address: str) -> bytes:
    return IPv4Address(address).packed


def datagram_from_bytes(data: bytes) -> Datagram:
    """Decode.

    Raises:
        MessageError: the bytes are none.
    """
    if not _HEAD.size <= len(data) <= MAX_DATAGRAM_BYTES:
        raise MessageError(f"datagram: got {len(data)} octets, expected {_HEAD.size} to {MAX_DATAGRAM_BYTES}")
    instance, to_instance, counter, kind = _HEAD.unpack_from(data)
    content = _content(kind, data[_HEAD.size :])
    return Datagram(instance=instance, to_instance=to_instance, counter=counter, content=content)


def _content(kind: int, data: bytes) -> Content:
    match kind:
        case 1:
            return _hello(data)
        case 2:
            return Update(tuple(_items(data)))
        case 3:
            return Acknowledgement(tuple(_versions(data)))
        case 4:
            return _summary(data)
    raise MessageError(f"datagram: got kind {kind}, expected 1 to {len(_KINDS)}")


def _hello(data: bytes) -> Hello:
    if len(data) < _HELLO.size:
        raise MessageError(f"hello: got {len(data)} octets, expected at least {_HELLO.size}")
    digest, length = _HELLO.unpack_from(data)
    name = data[_HELLO.size :]
    if len(name) != length or length > MAX_AREA_BYTES:
        raise MessageError(f"hello: got {len(name)} octets of an area, expected {length}")
    try:
        return Hello(name.decode(), digest)
    except UnicodeDecodeError:
        raise MessageError("hello: the area is not UTF-8") from None


def _items(data: bytes) -> Iterator[Item]:
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size:
            raise MessageError("update: ends inside an item")
        age_ms, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        sealed = data[at : at + length]
        if len(sealed) < length or not length:
            raise MessageError(f"update: got {len(sealed)} octets of an item, expected {length or 'some'}")
        at += length
        yield Item(age_ms, sealed)


def _versions(data: bytes) -> Iterator[Version]:
    if len(data) % _VERSION.size:
        raise MessageError("acknowledgement: ends inside an entry")
    for origin, fragment, sequence in _VERSION.iter_unpack(data):
        yield Version(str(IPv4Address(origin)), fragment, sequence)


def _summary(data: bytes) -> Summary:
    if len(data) < _RANGE.size or (len(data) - _RANGE.size) % _HELD.size:
        raise MessageError("summary: ends inside an entry")
    first, last = _RANGE.unpack_from(data)
    held = tuple(
        Held(str(IPv4Address(origin)), sequence, fragments)
        for origin, sequence, fragments in _HELD.iter_unpack(data[_RANGE.size :])
    )
    if not all(first <= _packed(one.origin) <= last for one in held):
        raise MessageError("summary: got an origin outside of its range")
    return Summary(str(IPv4Address(first)), str(IPv4Address(last)), held)
