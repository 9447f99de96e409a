"""The shared secret of STAMP's authenticated mode (RFC 8762 section 4.4)."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from schemas.errors import HostError, UsageError

TAG_BYTES = 16
"""HMAC-SHA-256 is truncated to its leftmost 128 bits."""
SHORTEST_KEY_BYTES = 16
_BLOCK_BYTES = 64
"""Of SHA-256."""
LONGEST_KEY_BYTES = _BLOCK_BYTES
"""A longer key is hashed first and gains nothing (RFC 2104 section 3)."""
_LONGEST_FILE_BYTES = 1024


class _Mac:
    """HMAC-SHA-256 with one secret, whose two blocks are hashed beforehand (RFC 2104 section 4).

    Of packets as short as these, `hmac.digest` spends more time on its preparations than on hashing.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        if not SHORTEST_KEY_BYTES <= len(secret) <= LONGEST_KEY_BYTES:
            expected = f"{SHORTEST_KEY_BYTES} to {LONGEST_KEY_BYTES} octets"
            raise UsageError("key", f"{len(secret)} octets", expected)
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self._inner = sha256(bytes(octet ^ 0x36 for octet in block))
        self._outer = sha256(bytes(octet ^ 0x5C for octet in block))

    def tag(self, data: bytes) -> bytes:
        """Its leftmost TAG_BYTES octets."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()[:TAG_BYTES]


class StampKey:
    """A secret that both ends of a session know.

    While keys change, the ends do not change them in the same moment: each accepts the other's as well, so that no
    packet is refused. Whoever has the key need not know that it changes.

    Args:
        secret: SHORTEST_KEY_BYTES to LONGEST_KEY_BYTES octets.
        accepted: others, with which the other end may still, or already, make its tags.

    Raises:
        UsageError: another length.
    """

    __slots__ = ("_accepted", "_own")

    def __init__(self, secret: bytes, accepted: Iterable[bytes] = ()) -> None:
        self._own = _Mac(secret)
        self._accepted = tuple(_Mac(one) for one in accepted)

    def __repr__(self) -> str:
        return "StampKey(...)"

    @classmethod
    def from_hex(cls, text: str) -> StampKey:
        """Read hexadecimal digits; white space between octets is ignored.

        Raises:
            UsageError: other characters, or another length than a key has; the text is not repeated.
        """
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            raise UsageError("key", "other text", "hexadecimal digits, two for each octet") from None
        return cls(secret)

    @classmethod
    def from_file(cls, path: Path) -> StampKey:
        """Read a file of hexadecimal digits that nobody but its owner may read.

        Raises:
            UsageError: others may read the file, or it holds no key.
            HostError: it cannot be read.
        """
        try:
            with path.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise UsageError("key file", str(path), "a regular file")
                _require_private(path, status.st_mode)
                text = file.read(_LONGEST_FILE_BYTES + 1)
        except OSError as error:
            raise HostError(f"key file {path}: {error.strerror}") from error
        try:
            return cls.from_hex(text.decode("ascii"))
        except (UsageError, UnicodeDecodeError):
            wanted = f"{2 * SHORTEST_KEY_BYTES} to {2 * LONGEST_KEY_BYTES} hexadecimal digits"
            raise UsageError("key file", str(path), f"a file of {wanted}") from None

    def tag(self, data: bytes) -> bytes:
        """HMAC-SHA-256 of the data, its leftmost 128 bits."""
        return self._own.tag(data)

    def verifies(self, data: bytes, tag: bytes) -> bool:
        """Whether the tag is one of the data; how long that takes tells nothing of the right one."""
        if hmac.compare_digest(self._own.tag(data), tag):
            return True
        return any(hmac.compare_digest(mac.tag(data), tag) for mac in self._accepted)

    def become(self, other: StampKey) -> None:
        """Take the secrets of another key: the sessions that have this one go on with them."""
        self._own, self._accepted = other._own, other._accepted


KeyOf = Callable[[str], StampKey | None]
"""Tells the key of the probes to and from an address; None: they are not authenticated."""


def sole_key(key: StampKey | None) -> KeyOf:
    """The same key with everybody."""
    return lambda address: key


NO_KEY = sole_key(None)
"""Nobody shares a key with this point."""


def _require_private(path: Path, mode: int) -> None:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        shown = f"{path} with mode {stat.S_IMODE(mode):04o}"
        raise UsageError("key file", shown, "a file that its owner alone may read (mode 0600 or 0400)")
