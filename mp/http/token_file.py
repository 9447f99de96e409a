"""The file of the bearer tokens: for its owner alone, changed as a whole, by one program at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requestor.http.tokens import Token, tokens_from_text, tokens_to_text
from schemas.errors import HostError, UsageError

MAX_FILE_BYTES = 100_000
"""It travels in one piece from the daemon to the HTTP process."""


def read_token_text(path: Path) -> str:
    """The content of the file; empty when there is none.

    Raises:
        UsageError: others may use the file, or it is too large.
        HostError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
                raise UsageError("token file", str(path), "a file that its owner alone may use (chmod 600)")
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise HostError(f"token file {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError("token file", str(path), f"at most {MAX_FILE_BYTES} octets: revoke tokens")
    return content.decode(errors="replace")


def read_tokens(path: Path) -> dict[str, Token]:
    """The tokens of the file, by id.

    Raises:
        UsageError, HostError: as `read_token_text`; UsageError too when it holds something else.
    """
    return tokens_from_text(read_token_text(path))


@contextmanager
def changed_tokens(path: Path) -> Iterator[dict[str, Token]]:
    """The tokens to change; what they are at the end of the block is written.

    Raises:
        UsageError, HostError: as `read_tokens`; HostError too when it cannot be written.
    """
    with _only_one(path.parent):
        tokens = read_tokens(path)
        yield tokens
        _write(path, tokens_to_text(tokens))


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold a lock on the directory: the file itself is replaced."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"token file's directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    content = text.encode()
    if len(content) > MAX_FILE_BYTES:
        raise UsageError("token file", str(path), f"at most {MAX_FILE_BYTES} octets: revoke tokens")
    written = path.with_name(f".{path.name}.new")
    try:
        written.unlink(missing_ok=True)
        with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        raise HostError(f"token file {path}: {error.strerror}") from error
