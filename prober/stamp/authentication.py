"""The shared secret of STAMP's authenticated mode (RFC 8762 section 4.4)."""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path

from schemas.errors import HostError, UsageError

TAG_BYTES = 16
"""HMAC-SHA-256 is truncated to its leftmost 128 bits."""
SHORTEST_KEY_BYTES = 16
LONGEST_KEY_BYTES = 64
"""The block of SHA-256: a longer key is hashed first and gains nothing (RFC 2104 section 3)."""
_LONGEST_FILE_BYTES = 1024


class StampKey:
    """A secret that both ends of a session know.

    Args:
        secret: SHORTEST_KEY_BYTES to LONGEST_KEY_BYTES octets.

    Raises:
        UsageError: another length.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if not SHORTEST_KEY_BYTES <= len(secret) <= LONGEST_KEY_BYTES:
            raise UsageError("key", f"{len(secret)} octets", f"{SHORTEST_KEY_BYTES} to {LONGEST_KEY_BYTES} octets")
        self._secret = secret

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
        return hmac.digest(self._secret, data, "sha256")[:TAG_BYTES]

    def verifies(self, data: bytes, tag: bytes) -> bool:
        """Whether the tag is that of the data; takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(self.tag(data), tag)


def _require_private(path: Path, mode: int) -> None:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        shown = f"{path} with mode {stat.S_IMODE(mode):04o}"
        raise UsageError("key file", shown, "a file that its owner alone may read (mode 0600 or 0400)")
