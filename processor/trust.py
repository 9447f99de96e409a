"""What the tags of a message are worth to this point, and with which key it signs what it adds."""

from __future__ import annotations

from schemas.authentication import Standing, request_standing
from schemas.glance import Glance, TagText
from schemas.keyring import Keyring, MessageKey

_MOST_REMEMBERED = 4096
"""Answers of the keyring: more than there are points and pairs of hosts in a busy hour."""


class Trust:
    """Asks the keyring, whose answers about addresses are remembered.

    Args:
        keyring: checks what others wrote, and signs what this point adds.
        is_required: refuse what is not signed by somebody whose key is held here.
    """

    def __init__(self, keyring: Keyring, *, is_required: bool) -> None:
        self.keyring = keyring
        self._is_required = is_required
        self._authors: dict[tuple[str, str], bool] = {}
        self._signers: dict[tuple[str, str], MessageKey | None] = {}

    @property
    def verifies(self) -> bool:
        """Whether tags are looked at: without any key there is nothing to hold them against."""
        return self._is_required or len(self.keyring) > 0

    def key_of(self, tag: TagText, author: str) -> MessageKey | None:
        """The key that the tag names, if it is held here and its author's area has it."""
        key = self.keyring.key(tag.key_id)
        return key if key is not None and self._speaks_for(key, author) else None

    def refusal(self, glance: Glance) -> str | None:
        """Why nothing is to be added to a message, by the tags of its source and of the point before.

        That point looked at all before it, and its tag covers it.
        """
        if not self.verifies:
            return None
        standings = {self._of_source(glance)}
        if glance.records:
            standings.add(self._of_latest(glance))
        if Standing.FORGED in standings:
            return f"a: wrong tag of {glance.latest_point} or of the source, expected one of a key of its area"
        if self._is_required and standings != {Standing.AUTHENTIC}:
            return f"a: got {', '.join(sorted(standings))}, expected tags of keys that are held here"
        return None

    def signer(self, glance: Glance) -> MessageKey | None:
        """The key by which this point signs, if it has one for the areas of the request."""
        ends = (glance.source, glance.destination)
        asker, far_end = reversed(ends) if glance.returning else ends
        if (asker, far_end) not in self._signers:
            if len(self._signers) >= _MOST_REMEMBERED:
                self._signers.clear()
            self._signers[asker, far_end] = self.keyring.signer(asker, far_end)
        return self._signers[asker, far_end]

    def _of_source(self, glance: Glance) -> Standing:
        octets = glance.source_octets
        if octets is None:
            return request_standing(glance.request, self.keyring)
        return self._standing(glance.request_tag, octets, glance.source)

    def _of_latest(self, glance: Glance) -> Standing:
        return self._standing(glance.latest_tag, glance.latest_octets, glance.latest_author)

    def _standing(self, tag: TagText | None, octets: bytes, author: str) -> Standing:
        if tag is None:
            return Standing.UNSIGNED
        key = self.keyring.key(tag.key_id)
        if key is None:
            return Standing.UNKNOWN_KEY
        is_right = self._speaks_for(key, author) and key.verifies(octets, tag.octets)
        return Standing.AUTHENTIC if is_right else Standing.FORGED

    def _speaks_for(self, key: MessageKey, author: str) -> bool:
        about = (key.id, author)
        if about not in self._authors:
            if len(self._authors) >= _MOST_REMEMBERED:
                self._authors.clear()
            self._authors[about] = self.keyring.speaks_for(key, author)
        return self._authors[about]
