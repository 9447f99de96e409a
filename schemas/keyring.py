"""The keys by which points know each other's words, and which of them a point signs with (pure).

Points of one area, or of several that trust each other, share a secret: HMAC-SHA-256 (RFC 2104), of which the
leftmost 128 bits are sent. Operators who share none sign with Ed25519 (RFC 8032) and hand out the public half.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Protocol

from schemas.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,15}")
"""How a message names a key."""
HMAC_TAG_BYTES = 16
"""128 bits: nobody guesses that in the life of a request, and five octets of text are saved for each six."""
HMAC_SECRET_BYTES = 32
"""As long as the digest: less would weaken it, more gains nothing (RFC 2104 section 3)."""
ED25519_TAG_BYTES = 64
ED25519_KEY_BYTES = 32
"""Of the private and of the public half (RFC 8032 section 5.1)."""
_IPV4_BITS = 32


class KeyState(StrEnum):
    """What a point does with a key."""

    ACTIVE = "active"
    """Signs and verifies."""
    ACCEPTED = "accepted"
    """Verifies only: it is not yet, or no longer, the one to sign with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyIdentity:
    """What may be told of a key to anybody."""

    id: str
    """As KEY_ID says."""
    areas: tuple[str, ...]
    """Whose points sign with it."""
    state: KeyState = KeyState.ACTIVE
    created_at_ms: int = 0
    """Milliseconds since the Unix epoch."""
    operator: str = ""
    """Whose it is, for people."""


class MessageKey(Protocol):
    """What makes or checks tags."""

    @property
    def identity(self) -> KeyIdentity:
        """What may be told of it."""

    @property
    def id(self) -> str:
        """By which a message names it."""

    @property
    def areas(self) -> tuple[str, ...]:
        """Whose points sign with it."""

    @property
    def can_sign(self) -> bool:
        """Whether the secret half is here."""

    def tag(self, data: bytes) -> bytes:
        """HMAC_TAG_BYTES or ED25519_TAG_BYTES octets that prove who wrote the data.

        Raises:
            UsageError: it cannot sign.
        """

    def verifies(self, data: bytes, tag: bytes) -> bool:
        """Whether the tag is one of the data; how long that takes tells nothing of the right one."""


class _Key:
    """What the kinds of key have in common; nothing here shows a secret."""

    __slots__ = ("identity",)
    identity: KeyIdentity

    def __init__(self, identity: KeyIdentity) -> None:
        self.identity = identity

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.identity.id!r}, {self.identity.state.value})"

    @property
    def id(self) -> str:
        """By which a message names it."""
        return self.identity.id

    @property
    def areas(self) -> tuple[str, ...]:
        """Whose points sign with it."""
        return self.identity.areas


class HmacKey(_Key):
    """A secret that all points of its areas share.

    Args:
        identity: what may be told of it.
        secret: HMAC_SECRET_BYTES octets that nobody can foresee.

    Raises:
        UsageError: another length.
    """

    __slots__ = ("_secret",)
    can_sign = True

    def __init__(self, identity: KeyIdentity, secret: bytes) -> None:
        super().__init__(identity)
        _require_length(identity.id, secret, HMAC_SECRET_BYTES)
        self._secret = secret

    def tag(self, data: bytes) -> bytes:
        """The leftmost HMAC_TAG_BYTES octets of the HMAC."""
        return hmac.digest(self._secret, data, "sha256")[:HMAC_TAG_BYTES]

    def verifies(self, data: bytes, tag: bytes) -> bool:
        """Whether the tag is that of the data."""
        return hmac.compare_digest(self.tag(data), tag)

    def secret_bytes(self) -> bytes:
        """What was given, for the file of the key and for nothing else."""
        return self._secret

    def derived(self, label: bytes) -> bytes:
        """A secret of HMAC_SECRET_BYTES octets for another purpose, from which this one cannot be told.

        HKDF-SHA-256 (RFC 5869) without salt; one block is all that is needed.
        """
        extracted = hmac.digest(bytes(HMAC_SECRET_BYTES), self._secret, "sha256")
        return hmac.digest(extracted, label + b"\x01", "sha256")


class VerifyingKey(_Key):
    """The public half of a key that somebody else signs with.

    Args:
        identity: what may be told of it.
        public: ED25519_KEY_BYTES octets.

    Raises:
        UsageError: another length.
    """

    __slots__ = ("_public",)
    can_sign = False

    def __init__(self, identity: KeyIdentity, public: bytes) -> None:
        # Only where such a key is used: most points have none, and should not load the library.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        super().__init__(identity)
        _require_length(identity.id, public, ED25519_KEY_BYTES)
        self._public: Ed25519PublicKey = Ed25519PublicKey.from_public_bytes(public)

    def tag(self, data: bytes) -> bytes:
        """Never: the private half is elsewhere.

        Raises:
            UsageError: always.
        """
        raise UsageError("key", self.id, "one whose private half is here")

    def verifies(self, data: bytes, tag: bytes) -> bool:
        """Whether the tag is a signature of the data by the private half."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._public.verify(tag, data)
        except InvalidSignature:
            return False
        return True

    def public_bytes(self) -> bytes:
        """What was given."""
        return self._public.public_bytes_raw()


class SigningKey(VerifyingKey):
    """A key pair of this point or its operator.

    Args:
        identity: what may be told of it.
        private: ED25519_KEY_BYTES octets that nobody can foresee.

    Raises:
        UsageError: another length.
    """

    __slots__ = ("_private",)
    can_sign = True

    def __init__(self, identity: KeyIdentity, private: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        _require_length(identity.id, private, ED25519_KEY_BYTES)
        self._private: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(private)
        super().__init__(identity, self._private.public_key().public_bytes_raw())

    def tag(self, data: bytes) -> bytes:
        """A signature of ED25519_TAG_BYTES octets."""
        return self._private.sign(data)

    def secret_bytes(self) -> bytes:
        """What was given, for the file of the key and for nothing else."""
        return self._private.private_bytes_raw()


class Keyring:
    """All keys that a point holds, and where the areas lie.

    Args:
        keys: each id once.
        area: the one in which this point is; empty when nobody named one.
        areas: the prefixes of each area, no prefix in two; empty: the whole world is this point's area.
    """

    __slots__ = ("_area", "_choices", "_keys", "_prefixes")

    def __init__(
        self,
        keys: Iterable[MessageKey] = (),
        *,
        area: str = "",
        areas: Mapping[str, tuple[IPv4Network, ...]] | None = None,
    ) -> None:
        self._keys = {key.id: key for key in keys}
        self._area = area
        self._prefixes = _by_length(areas or {area: (IPv4Network("0.0.0.0/0"),)})
        self._choices: dict[tuple[str, str], MessageKey | None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(sorted(self._keys))})"

    @property
    def keys(self) -> tuple[MessageKey, ...]:
        """All of them."""
        return tuple(self._keys.values())

    def key(self, key_id: str) -> MessageKey | None:
        """The key by which to verify what names it, whether or not this point signs with it."""
        return self._keys.get(key_id)

    def area_of(self, address: str) -> str | None:
        """The area of the longest prefix that holds the address (dotted IPv4); None when no area does."""
        first, second, third, fourth = map(int, address.split("."))  # IPv4Address takes five times as long
        number = first << 24 | second << 16 | third << 8 | fourth
        for mask, areas in self._prefixes:
            area = areas.get(number & mask)
            if area is not None:
                return area
        return None

    def speaks_for(self, key: MessageKey, address: str) -> bool:
        """Whether a point at this address signs with the key: the key of one area says nothing of another's."""
        return self.area_of(address) in key.areas

    def signer(self, asker: str, destination: str) -> MessageKey | None:
        """The key by which this point signs what it adds to a request.

        A secret that all areas involved share comes first, that of the fewest areas and then the newest: inside
        an area its own. Otherwise the point's own signature, which whoever has the public half can check.

        Args:
            asker: address to which the reports go.
            destination: address to which the request goes.
        """
        ends = (self.area_of(asker), self.area_of(destination))
        from_area, to_area = ends
        if from_area is None or to_area is None:
            return self._signature()
        choice = (from_area, to_area)
        if choice not in self._choices:
            self._choices[choice] = self._shared(from_area, to_area) or self._signature()
        return self._choices[choice]

    def shared_with(self, area: str) -> tuple[HmacKey, ...]:
        """The secrets that points of this and of another area both hold; those to sign with first, best first."""
        return tuple(sorted(self._covering(area), key=_preference))

    def _shared(self, *areas: str) -> HmacKey | None:
        return min((key for key in self._covering(*areas) if _is_active(key)), key=_preference, default=None)

    def _covering(self, *areas: str) -> list[HmacKey]:
        wanted = {self._area, *areas}
        return [key for key in self._keys.values() if isinstance(key, HmacKey) and wanted <= {*key.areas}]

    def _signature(self) -> MessageKey | None:
        own = [key for key in self._keys.values() if isinstance(key, SigningKey) and _is_active(key)]
        return min(own, key=_preference, default=None)


def _is_active(key: MessageKey) -> bool:
    return key.identity.state is KeyState.ACTIVE


def _preference(key: MessageKey) -> tuple[bool, int, int, str]:
    """The order in which keys are taken; the id decides last, so that all points decide alike."""
    return not _is_active(key), len(key.areas), -key.identity.created_at_ms, key.id


def _by_length(areas: Mapping[str, tuple[IPv4Network, ...]]) -> list[tuple[int, dict[int, str]]]:
    """For each length of prefix that occurs, longest first, its mask and the area of each prefix."""
    found: dict[int, dict[int, str]] = {}
    for area, networks in areas.items():
        for network in networks:
            found.setdefault(network.prefixlen, {})[int(network.network_address)] = area
    return [
        (((1 << length) - 1) << (_IPV4_BITS - length), found[length]) for length in sorted(found, reverse=True)
    ]


def _require_length(key_id: str, octets: bytes, wanted: int) -> None:
    if len(octets) != wanted:
        raise UsageError(f"key {key_id}", f"{len(octets)} octets", f"{wanted} octets")


NO_KEYS = Keyring()
"""A point without keys signs nothing and can verify nothing."""
