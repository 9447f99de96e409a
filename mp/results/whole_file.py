"""A file that others see only when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from schemas.errors import HostError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that has its name only when it is whole; what was there before stays until then.

    Raises:
        HostError: it cannot be written.
    """
    special = path.exists() and not path.is_file()  # such as a pipe, which must not be replaced
    partial = path if special else path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as target:
            yield target
        if not special:
            partial.replace(path)
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if not special:
            partial.unlink(missing_ok=True)
