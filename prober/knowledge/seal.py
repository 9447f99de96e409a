"""Puts tags before octets, and checks those of others (pure).

    octet  0   1  version, 1
           1   1  length of the key's id, 0 without a tag; then the id
               1  length of the tag; then the tag
               -  what is sealed

A tag covers a label, which keeps tags of one purpose from being used for another, and all octets but the tag
itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.authentication import Standing
from schemas.errors import MessageError
from schemas.keyring import ED25519_TAG_BYTES, KEY_ID, Keyring, MessageKey

VERSION = 1
MAX_SEAL_BYTES = 1 + 1 + 16 + 1 + ED25519_TAG_BYTES
"""Before what is sealed, with the longest id and the longest tag."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was sealed, and what its tag is worth."""

    body: bytes
    standing: Standing


def seal(label: bytes, body: bytes, key: MessageKey | None) -> bytes:
    """The octets with a tag by `key` before them, or without one; `opened` reverses it."""
    if key is None:
        return bytes((VERSION, 0, 0)) + body
    key_id = key.id.encode()
    tag = key.tag(_covered(label, key_id, body))
    return b"".join((bytes((VERSION, len(key_id))), key_id, bytes([len(tag)]), tag, body))


def opened(label: bytes, data: bytes, author: str, keyring: Keyring) -> Opened:
    """Take a seal apart.

    Args:
        label: what the tag is for.
        data: what came.
        author: address of the point that is said to have sealed it.
        keyring: the keys that are held here.

    Raises:
        MessageError: there is no seal of this version.
    """
    if data[:1] != bytes([VERSION]) or len(data) < 3:
        raise MessageError(f"seal: got {data[:1].hex() or 'nothing'}, expected version {VERSION}")
    key_id, rest = _counted(data[1:])
    tag, body = _counted(rest)
    return Opened(body, _standing(label, key_id, tag, body, author, keyring))


def _counted(data: bytes) -> tuple[bytes, bytes]:
    end = 1 + data[0] if data else 1
    if len(data) < end:
        raise MessageError(f"seal: ends after {len(data)} octets, expected {end}")
    return data[1:end], data[end:]


def _standing(label: bytes, key_id: bytes, tag: bytes, body: bytes, author: str, keyring: Keyring) -> Standing:
    if not key_id and not tag:
        return Standing.UNSIGNED
    name = key_id.decode("ascii", errors="replace")
    if KEY_ID.fullmatch(name) is None:
        raise MessageError(f"seal: got {name[:20]!r}, expected the id of a key")
    key = keyring.key(name)
    if key is None:
        return Standing.UNKNOWN_KEY
    is_right = key.verifies(_covered(label, key_id, body), tag) and keyring.speaks_for(key, author)
    return Standing.AUTHENTIC if is_right else Standing.FORGED


def _covered(label: bytes, key_id: bytes, body: bytes) -> bytes:
    return b"".join((label, bytes((VERSION, len(key_id))), key_id, body))
