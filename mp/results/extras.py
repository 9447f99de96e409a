"""Libraries that only some commands need, and that not everybody has installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import HostError


@contextmanager
def extra_needed(extra: str, library: str) -> Iterator[None]:
    """For a block that imports what rests on `library`, which the distribution's extra brings.

    Raises:
        HostError: it is not installed; says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise HostError(f"{library} is not installed, expected: pip install 'inpath[{extra}]'") from error
