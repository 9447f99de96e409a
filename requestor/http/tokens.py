"""Bearer tokens: 256 random bits that only their holder knows, and their SHA-256 in a file (pure).

A random secret of that length needs no slow hash: there is nothing to guess (RFC 6750 section 5.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import UsageError

SECRET_BYTES = 32
ID_BYTES = 4
PREFIX = "inpath"
"""So that a token which was published by accident is recognized."""
MAX_TOKENS = 250
_LONGEST_TOKEN = 100


class Scope(StrEnum):
    """What a caller may do."""

    QUERY = "query"
    """Have paths measured, watched and judged."""
    READ = "read"
    """Look at the point, its segments and stored results."""
    ADMIN = "admin"
    """Both, and fetch the measurements of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token as the file holds it."""

    id: str
    name: str
    """For people."""
    scopes: frozenset[Scope]
    created_at_ms: int
    expires_at_ms: int | None
    """Milliseconds since the Unix epoch; None: never."""
    sha256: str
    """Of the secret, hexadecimal."""

    def to_json(self) -> dict[str, Any]:
        """The document form."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "created_at_ms": self.created_at_ms,
            "expires_at_ms": self.expires_at_ms,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Token:
        """The token that `to_json` wrote."""
        expires = document["expires_at_ms"]
        return cls(
            id=str(document["id"]),
            name=str(document["name"]),
            scopes=frozenset(Scope(scope) for scope in document["scopes"]),
            created_at_ms=int(document["created_at_ms"]),
            expires_at_ms=None if expires is None else int(expires),
            sha256=str(document["sha256"]),
        )


def new_token(
    name: str, scopes: Iterable[Scope], *, random: bytes, now_ms: int, lifetime_ms: int | None
) -> tuple[Token, str]:
    """A token, and the text that its holder sends.

    Args:
        random: ID_BYTES + SECRET_BYTES octets of a source that nobody can foresee.
    """
    identifier, secret = random[:ID_BYTES].hex(), random[ID_BYTES:]
    assert len(secret) == SECRET_BYTES
    text = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    token = Token(
        id=identifier,
        name=name,
        scopes=frozenset(scopes),
        created_at_ms=now_ms,
        expires_at_ms=None if lifetime_ms is None else now_ms + lifetime_ms,
        sha256=_digest(text),
    )
    return token, f"{PREFIX}_{identifier}_{text}"


def token_of(text: str, tokens: Mapping[str, Token]) -> Token | None:
    """The token that `text` proves, None when it proves none; how long it takes tells nothing of the secret."""
    prefix, _, rest = text[:_LONGEST_TOKEN].partition("_")
    identifier, _, secret = rest.partition("_")
    token = tokens.get(identifier) if prefix == PREFIX else None
    known = token.sha256 if token is not None else "0" * 64
    matches = hmac.compare_digest(_digest(secret).encode(), known.encode())
    return token if matches else None


def tokens_to_text(tokens: Mapping[str, Token]) -> str:
    """The content of the token file."""
    return json.dumps({"tokens": [token.to_json() for token in tokens.values()]}, indent=2) + "\n"


def tokens_from_text(text: str) -> dict[str, Token]:
    """The tokens of a file's content, by id; an empty file holds none.

    Raises:
        UsageError: not what `tokens_to_text` writes.
    """
    if not text.strip():
        return {}
    try:
        tokens = [Token.from_json(document) for document in json.loads(text)["tokens"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError("token file", type(error).__name__, "what `inpath token new` writes") from error
    if len(tokens) > MAX_TOKENS:
        raise UsageError("token file", f"{len(tokens)} tokens", f"at most {MAX_TOKENS}")
    return {token.id: token for token in tokens}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
