"""A key as the text of its file (TOML) and back (pure); no error shows what stands in such a text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from mp.keys.settings import AREA_NAME, AREA_NAME_TEXT
from mp.toml_table import TomlTable
from schemas.errors import ConfigurationError, MessageError, UsageError
from schemas.keyring import (
    KEY_ID,
    HmacKey,
    KeyIdentity,
    KeyState,
    SigningKey,
    VerifyingKey,
)
from schemas.rfc3339 import rfc3339_from_us, us_from_rfc3339

FileKey = HmacKey | SigningKey | VerifyingKey
"""What a file can hold."""
KEY_ID_TEXT = "1 to 16 lower-case letters, digits, dots and hyphens, the first a letter or digit"
MAX_KEY_FILE_BYTES = 8192
FINGERPRINT_BYTES = 16
"""Nobody makes a second key with the same 128 bits."""
OPERATOR = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,80}")
OPERATOR_TEXT = "at most 80 printable characters"
MAX_AREAS = 64
_FIELDS = ("id", "kind", "areas", "operator", "created", "state", "secret", "public")
_FINGERPRINT = b"inpath fingerprint"


class KeyKind(StrEnum):
    """How a key makes tags."""

    HMAC = "hmac-sha256"
    ED25519 = "ed25519"


def kind_of(key: FileKey) -> KeyKind:
    """How it makes tags."""
    return KeyKind.HMAC if isinstance(key, HmacKey) else KeyKind.ED25519


def with_identity(key: FileKey, identity: KeyIdentity) -> FileKey:
    """The same secret under another description."""
    match key:
        case HmacKey():
            return HmacKey(identity, key.secret_bytes())
        case SigningKey():
            return SigningKey(identity, key.secret_bytes())
        case VerifyingKey():
            return VerifyingKey(identity, key.public_bytes())


def fingerprint(key: FileKey) -> str:
    """32 hexadecimal digits by which two people compare what they hold, and which tell nothing of a secret."""
    if isinstance(key, HmacKey):
        return key.derived(_FINGERPRINT)[:FINGERPRINT_BYTES].hex()
    return hashlib.sha256(key.public_bytes()).digest()[:FINGERPRINT_BYTES].hex()


def shown(key: FileKey) -> Mapping[str, Any]:
    """What may be told of a key to anybody, as a document."""
    identity = key.identity
    return {
        "id": identity.id,
        "kind": str(kind_of(key)),
        "areas": list(identity.areas),
        "operator": identity.operator,
        "state": str(identity.state),
        "created_at": _created(identity),
        "signs": key.can_sign and identity.state is KeyState.ACTIVE,
        "fingerprint": fingerprint(key),
    }


def key_to_text(key: FileKey) -> str:
    """The content of its file, with the secret when there is one."""
    if isinstance(key, HmacKey | SigningKey):
        return _text(key, "secret", key.secret_bytes())
    return _text(key, "public", key.public_bytes())


def public_text(key: VerifyingKey) -> str:
    """The content of the file that others may have."""
    return _text(key, "public", key.public_bytes())


def _text(key: FileKey, half: str, octets: bytes) -> str:
    identity = key.identity
    lines = {
        "id": json.dumps(identity.id),
        "kind": json.dumps(kind_of(key)),
        "areas": json.dumps(identity.areas),
        "operator": json.dumps(identity.operator, ensure_ascii=False),
        "created": json.dumps(_created(identity)),
        "state": json.dumps(identity.state),
        half: json.dumps(base64.b64encode(octets).decode()),
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def _created(identity: KeyIdentity) -> str:
    return rfc3339_from_us(identity.created_at_ms * 1000, decimals=3)


def key_from_text(text: str, origin: str) -> FileKey:
    """The key that `key_to_text` or `public_text` wrote.

    Args:
        origin: where it came from, for errors.

    Raises:
        ConfigurationError: something else stands there; what, is not repeated.
    """
    try:
        return _key(TomlTable("key", {"key": tomllib.loads(text)}))
    except tomllib.TOMLDecodeError:
        raise ConfigurationError("key file", origin, "a file that `inpath keys` wrote (TOML)") from None
    except UsageError as error:
        field = error.field.removeprefix("key.") if isinstance(error, ConfigurationError) else "secret"
        if field not in _FIELDS:  # even the name may be a secret that slipped
            raise ConfigurationError(f"key file {origin}", "...", f"the fields {', '.join(_FIELDS)}") from None
        raise ConfigurationError(f"key file {origin}", f"{field} = ...", error.expected) from None


def _key(table: TomlTable) -> FileKey:
    kind = table.choice("kind", "", tuple(KeyKind))
    identity = KeyIdentity(
        id=table.text("id", "", KEY_ID, KEY_ID_TEXT),
        areas=table.texts("areas"),
        operator=table.text("operator", "", OPERATOR, OPERATOR_TEXT),
        state=KeyState(table.choice("state", "active", tuple(KeyState))),
        created_at_ms=_created_at_ms(table),
    )
    if not 0 < len(identity.areas) <= MAX_AREAS or not all(AREA_NAME.fullmatch(one) for one in identity.areas):
        raise table.error("areas", "...", f"1 to {MAX_AREAS} names of {AREA_NAME_TEXT}")
    half = "public" if "public" in table else "secret"
    octets = _octets(table, half)
    table.finish()
    match kind, half:
        case KeyKind.HMAC, "secret":
            return HmacKey(identity, octets)
        case KeyKind.ED25519, "secret":
            return SigningKey(identity, octets)
        case KeyKind.ED25519, "public":
            return VerifyingKey(identity, octets)
        case _:
            raise table.error("public", "...", f"a secret, since the kind is {kind}")


def _created_at_ms(table: TomlTable) -> int:
    try:
        return us_from_rfc3339(table.text("created", "")) // 1000
    except MessageError:
        raise table.error("created", "...", "a time (RFC 3339) such as 2026-01-31T12:00:00.000Z") from None


def _octets(table: TomlTable, half: str) -> bytes:
    try:
        return base64.b64decode(table.text(half, ""), validate=True)
    except (binascii.Error, ValueError):
        raise table.error(half, "...", "base64 with padding") from None
