"""Who wrote what of a message: tags that chain from the source to the last point (pure).

The source's tag covers the request, without what a hand-over changes (`pt`, `lp`, `pv`). The tag of a record
covers every octet of the document before it: the request, all earlier records and their tags. So the last tag
alone tells the next point that nothing before was changed, removed, inserted, put in another order or taken
from another request since its author looked; the receiver checks each. Where records were handed over, `pv`
carries the last of their tags into the next part, whose first tag covers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from schemas.keyring import Keyring, MessageKey
from schemas.message import MeasureRequest, Message, Tag
from schemas.xml_writer import END_TAG, RECORD_END, TAG_BEGIN, head_to_xml, message_to_xml, tag_to_xml

_REQUEST_END = b"</mr>"


class Standing(StrEnum):
    """What is known of the author of a request or a record."""

    AUTHENTIC = "authentic"
    """Its tag is right, and its author's area holds the key."""
    UNSIGNED = "unsigned"
    """It has no tag."""
    UNKNOWN_KEY = "unknown-key"
    """Its tag is of a key that is not held here."""
    FORGED = "forged"
    """Its tag is wrong, or of a key that its author does not hold."""


_FROM_BEST = tuple(Standing)


def worst(standings: Iterable[Standing]) -> Standing:
    """The least that can be said of all of them; of none, that they are authentic."""
    return max(standings, key=_FROM_BEST.index, default=Standing.AUTHENTIC)


def signed_request(request: MeasureRequest, keyring: Keyring) -> MeasureRequest:
    """The request with its source's tag; as it is when there is no key to sign with."""
    key = keyring.signer(request.asker, request.far_end)
    return request if key is None else replace(request, tag=Tag(key.id, key.tag(_request_octets(request))))


def request_standing(request: MeasureRequest, keyring: Keyring) -> Standing:
    """What the source's tag is worth."""
    return _standing(request.tag, _request_octets(request), request.source, keyring)


def record_standings(message: Message, keyring: Keyring) -> tuple[Standing, ...]:
    """What each record's tag is worth, in their order."""
    if all(record.tag is None for record in message.records):
        return (Standing.UNSIGNED,) * len(message.records)
    document = message_to_xml(message) if message.document is None else message.document
    standings, end = [], 0
    for record in message.records:
        begin, end = end, document.index(RECORD_END, end) + len(RECORD_END)
        covered = document[: document.rfind(TAG_BEGIN, begin, end)]
        standings.append(_standing(record.tag, covered, record.told_by or record.current, keyring))
    return tuple(standings)


def sealed(octets: bytes, key: MessageKey | None) -> bytes:
    """The document that begins with `octets`, up to where its last record's tag belongs, tagged and closed."""
    tag = b"" if key is None else tag_to_xml(Tag(key.id, key.tag(octets)))
    return octets + tag + RECORD_END + END_TAG


def _request_octets(request: MeasureRequest) -> bytes:
    bare = replace(request, part=0, last_point=None, previous_tag=None, tag=None)
    return head_to_xml(bare)[: -len(_REQUEST_END)]


def _standing(tag: Tag | None, octets: bytes, author: str, keyring: Keyring) -> Standing:
    if tag is None:
        return Standing.UNSIGNED
    key = keyring.key(tag.key_id)
    if key is None:
        return Standing.UNKNOWN_KEY
    is_right = key.verifies(octets, tag.octets) and keyring.speaks_for(key, author)
    return Standing.AUTHENTIC if is_right else Standing.FORGED
