"""The UDP payload of a message: plain XML, or deflated with a preset dictionary when plain no longer fits.

first octet '<' (0x3C) or white space   plain XML
first octet 0x01                        raw deflate (RFC 1951) of the XML, preset dictionary version 1
"""

from __future__ import annotations

import zlib

from schemas.errors import MessageError
from schemas.message import Message
from schemas.xml_reader import MAX_XML_BYTES, message_from_xml
from schemas.xml_writer import END_TAG

COMPRESSED = b"\x01"
MAX_RATIO = 32
"""Records that tell nothing shrink most, to a twentieth; what is above was made to cost more than it weighs."""
_ALWAYS_BYTES = 2_048
"""Of plain text that any payload may hold: the dictionary alone makes a short request of it."""

# A small window costs a third of the default's time at the same size: messages are a few KiB.
_WINDOW_BITS = -12
_MEMORY_LEVEL = 5

_END_BLOCK = bytes.fromhex("b3d1cfb50300")
"""`</m>` as a block of deflate with the fixed codes, and the last one."""
_OPEN_END = b"\0\0\xff\xff" + _END_BLOCK
"""That block behind an empty one that ends with an octet (Z_SYNC_FLUSH): in its place the stream can go on."""
_LOOK_BACK = 2_048
"""Octets of text in which a record looks for what it has in common with the one before it; two of all metrics."""

# Deflate prefers what stands last, so the most frequent text, one record, is at the end.
_DICTIONARY = (
    b'<cp>1</cp><pt>1</pt><lp>10.</lp><sl i="0" n="2"/><pv></pv>'
    b'</mr><mrp s="pending"><un>delay loss jitter rtt</un><lp><pt><ri><rt>1</rt></mr><he>1</he></mr><x m="'
    b"<m><mr><hs>10.0.0.</hs><hd>192.168.</hd><id></id><ms>delay loss jitter rtt distribution reordering "
    b"duplication hops mtu capacity utilization available-bandwidth</ms><ms>delay loss jitter rtt</ms>"
    b'<ct>17</ct><lt>10000</lt><ma>15000</ma><a k="" t=""/></mr>'
    b"<mrp><up>10.0.0.</up><mp>10.0.0.</mp><ts>17</ts><ag>1</ag>"
    b'<delay n="59" v="1." l="1." s2="0.00" s3="0.000" eu="0.001" ec="0.001" y="1"/>'
    b'<loss n="60" k="0" w="1000" r="0" x="0"/>'
    b'<jitter n="59" v="0." i="0.0" m="0.000" il="-0." ih="0." j="0.0" a="0." s2="0.00" s3="0.000"/>'
    b'<rtt n="59" v="2." l="2." s2="0.00" s3="0.000"/>'
    b'<distribution n="59" l="1." p50="1." p95="1." p99="1."'
    b' b="1 -2 1 1 2 -1 2 1 -3 3 2 4 1 5 6 3 8 7 10 9 12 11 15 14 20 1 -5 1 -2 1"/>'
    b'<x m="reordering" n="59" v="0" l="0" h="0.006361" t="17"/>'
    b'<x m="duplication" n="59" v="0" l="0" h="0" t="17"/>'
    b'<x m="hops" n="59" v="2" l="2" h="2" t="17"/><x m="mtu" n="1" v="1500" l="1500" h="1500" t="17"/>'
    b'<x m="capacity" n="1" v="1000" l="1000" h="1000" t="17"/>'
    b'<x m="utilization" n="6" v="0." l="0." h="0." t="17"/>'
    b'<x m="available-bandwidth" n="9" v="" l="" h="" t="17"/><a k="" t=""/></mrp><mrp></m>'
)

DEFLATED_FORM = (
    *(_DICTIONARY, _WINDOW_BITS, _MEMORY_LEVEL),
    *(_LOOK_BACK, _ALWAYS_BYTES, MAX_RATIO, MAX_XML_BYTES),
)
"""What another implementation of `extended_payload` needs to do the same."""


def xml_from_payload(payload: bytes) -> bytes:
    """The XML inside a payload, not yet checked.

    Raises:
        MessageError: broken compression, or more than `MAX_XML_BYTES` behind it.
    """
    if payload[:1] != COMPRESSED:
        return payload
    inflater = zlib.decompressobj(_WINDOW_BITS, zdict=_DICTIONARY)
    most = _most_behind(len(payload))
    try:
        xml = inflater.decompress(payload[1:], most + 1)
    except zlib.error as error:
        raise MessageError(f"payload: broken deflate stream: {error}") from error
    if len(xml) > most:
        raise MessageError(f"payload: {len(payload)} octets inflate beyond {most}, expected at most that")
    if not inflater.eof or inflater.unused_data:
        raise MessageError("payload: the deflate stream is cut off or followed by more, expected exactly one")
    return xml


def payload_from_xml(xml: bytes, room: int) -> bytes | None:
    """The payload for `xml` in at most `room` octets: plain if it fits, else compressed, else None."""
    if len(xml) <= room:
        return xml
    deflater = _deflater(_DICTIONARY)
    compressed = COMPRESSED + deflater.compress(xml) + deflater.flush()
    return compressed if _fits(compressed, xml, room) else None


def extended_payload(payload: bytes, xml: bytes, extended: bytes, room: int) -> bytes | None:
    """The payload for a document that has grown at its end, as `payload_from_xml` chooses it.

    A point deflates its own record alone, behind what the points before have deflated: that costs a sixth of
    deflating all of it again, for a sixth more octets. Where these do not fit all of it is deflated again.

    Args:
        payload: holds `xml`.
        xml: the document as it came.
        extended: `xml` with more before its last tag.
        room: the most that may leave, in octets.
    """
    if len(extended) <= room:
        return extended
    kept = xml.removesuffix(END_TAG)
    if payload[:1] == COMPRESSED and payload.endswith(_OPEN_END) and extended.startswith(kept):
        begun, deflater = payload.removesuffix(_END_BLOCK), _deflater(kept[-_LOOK_BACK:])
    else:
        begun, kept, deflater = COMPRESSED, b"", _deflater(_DICTIONARY)
    added = deflater.compress(extended[len(kept) :].removesuffix(END_TAG))
    grown = begun + added + deflater.flush(zlib.Z_SYNC_FLUSH) + _END_BLOCK
    return grown if _fits(grown, extended, room) else payload_from_xml(extended, room)


def _deflater(dictionary: bytes) -> zlib._Compress:
    return zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zdict=dictionary)


def _fits(compressed: bytes, xml: bytes, room: int) -> bool:
    return len(compressed) <= room and len(xml) <= _most_behind(len(compressed))


def _most_behind(payload_bytes: int) -> int:
    """How many octets of XML a compressed payload of so many may hold."""
    return min(MAX_XML_BYTES, _ALWAYS_BYTES + MAX_RATIO * payload_bytes)


def message_from_payload(payload: bytes) -> Message:
    """Decode a payload in either form.

    Raises:
        MessageError: see `xml_from_payload` and `message_from_xml`.
    """
    return message_from_xml(xml_from_payload(payload))
