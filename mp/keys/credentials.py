"""Whom a point believes, as both of its processes must know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from mp.keys.directory import read_keyring
from mp.keys.key_text import key_from_text, key_to_text
from mp.keys.settings import Authentication, SecuritySettings
from schemas.authentication import Standing, record_standings, worst
from schemas.keyring import NO_KEYS, HmacKey, Keyring, VerifyingKey
from schemas.message import Message

Document = Mapping[str, Any]
"""What `Trust.to_document` makes: JSON with secrets, for the packet process alone."""


@dataclass(slots=True, kw_only=True)
class Credentials:
    """By what a point signs what it adds, and tells who wrote what."""

    keyring: Keyring = NO_KEYS
    is_required: bool = False
    """What is not signed by somebody whose key is held here is not measured, and no answer."""

    @classmethod
    def read(cls, settings: SecuritySettings) -> Credentials:
        """As the files say now.

        Raises:
            ConfigurationError, HostError: as `read_keyring`.
        """
        required = settings.authentication is Authentication.REQUIRED
        return cls(keyring=read_keyring(settings), is_required=required)

    def believes(self, message: Message) -> bool:
        """Whether its records may be taken for what their authors wrote."""
        standing = worst(record_standings(message, self.keyring))
        return standing is Standing.AUTHENTIC or (standing is not Standing.FORGED and not self.is_required)

    def to_document(self, settings: SecuritySettings) -> Document:
        """For the packet process, which opens no files."""
        return {
            "is_required": self.is_required,
            "area": settings.area,
            "areas": {name: [str(network) for network in networks] for name, networks in settings.areas.items()},
            "keys": [key_to_text(key) for key in self.keyring.keys if isinstance(key, HmacKey | VerifyingKey)],
        }

    @classmethod
    def from_document(cls, document: Document) -> Credentials:
        """Reverses `to_document`.

        Raises:
            ConfigurationError: somebody else made it.
        """
        areas = {
            name: tuple(IPv4Network(text) for text in networks) for name, networks in document["areas"].items()
        }
        keys = [key_from_text(text, "bridge") for text in document["keys"]]
        return cls(keyring=Keyring(keys, area=document["area"], areas=areas), is_required=document["is_required"])
