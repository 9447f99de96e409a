"""The file of the bearer tokens: for the service alone, changed as a whole, by one program at a time.

Its owner and group are those of its directory, so that the service can read what root writes: in /etc/inpath of
the package, which is of root and the group `inpath`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mp.private_file import only_one, private_directory, read_private, write_whole
from requestor.http.tokens import Token, tokens_from_text, tokens_to_text
from schemas.errors import UsageError

MAX_FILE_BYTES = 100_000
"""It travels in one piece from the daemon to the HTTP process."""
FILE_MODE = 0o640
_WHAT = "http.token_file"


def read_token_text(path: Path) -> str:
    """The content of the file; empty when there is none.

    Raises:
        ConfigurationError: others may use the file or put another in its place, or it is too large.
        HostError: it cannot be read.
    """
    if _is_missing(path):
        return ""
    directory = private_directory(path.parent, _WHAT)
    content = read_private(path, _WHAT, most_bytes=MAX_FILE_BYTES, directory=directory, is_secret=True)
    return content.decode(errors="replace")


def read_tokens(path: Path) -> dict[str, Token]:
    """The tokens of the file, by id.

    Raises:
        ConfigurationError, HostError: as `read_token_text`; UsageError too when it holds something else.
    """
    return tokens_from_text(read_token_text(path))


@contextmanager
def changed_tokens(path: Path) -> Iterator[dict[str, Token]]:
    """The tokens to change; what they are at the end of the block is written.

    Raises:
        ConfigurationError, UsageError, HostError: as `read_tokens`; HostError too when it cannot be written.
    """
    with only_one(path.parent, _WHAT):
        tokens = read_tokens(path)
        yield tokens
        content = tokens_to_text(tokens).encode()
        if len(content) > MAX_FILE_BYTES:
            raise UsageError("token file", str(path), f"at most {MAX_FILE_BYTES} octets: revoke tokens")
        write_whole(path, content, _WHAT, mode=FILE_MODE)


def _is_missing(path: Path) -> bool:
    """One that cannot even be looked at is not missing: reading it says why."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
