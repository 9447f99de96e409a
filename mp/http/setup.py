"""What the HTTP process is told when it starts, and the words that it and the daemon exchange later.

What is long, the daemon hands over in a file in memory. It keeps the process small: no right of its own to the
point's socket, since it asks for each connection to it, none to the token file, and none to the result store.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from mp.http.settings import HttpSettings
from requestor.http.callers import LocalPolicy
from requestor.http.history import MAX_PAGE, Cursor, HistoryPage, HistoryQuery
from requestor.profile import Profile
from schemas.errors import MessageError
from schemas.metrics import Metric

READY = b"ready"
BEAT = b"beat"
CONNECT = b"connect"
"""Process to daemon: one more connection to the point's service, please."""
FAILED = b"failed "
"""Process to daemon, before a text: it could not begin."""
CONNECTION = b"connection"
"""Daemon to process, with the socket beside it, or without one when there is none to be had."""
TOKENS = b"tokens "
"""Daemon to process, before the content of the token file."""
HISTORY = b"history "
"""Process to daemon, before a number and a query: a page of stored results, please. Daemon to process, before the
number, with the page in a file beside it."""
NO_HISTORY = b"no history "
"""Daemon to process, before the number and a text: there is no page."""
MAX_WORD_BYTES = 131_072

BEAT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSetup:
    """All that the process must know."""

    settings: HttpSettings
    policy: LocalPolicy
    names: Mapping[str, str]
    registry: Mapping[str, Metric]
    profiles: Mapping[str, Profile]
    tokens: str
    """Content of the token file."""
    version: str
    log_level: str
    log_format: str


Filed = TypeVar("Filed", HttpSetup, HistoryPage)


def file_of(value: HttpSetup | HistoryPage) -> int:
    """The descriptor of a file in memory that holds `value`.

    Pickle is fit for it: the daemon, which has all rights, writes, and the process reads; never the reverse.
    """
    descriptor = os.memfd_create("inpath-http", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(value, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def from_file(descriptor: int, kind: type[Filed]) -> Filed:
    """What `file_of` wrote; closes the file."""
    with open(descriptor, "rb") as file:
        value = pickle.load(file)
    assert isinstance(value, kind)  # nobody else has the descriptor
    return value


def query_to_text(query: HistoryQuery) -> bytes:
    """As it stands in a word."""
    return json.dumps(asdict(query)).encode()


def query_from_text(text: bytes) -> HistoryQuery:
    """What `query_to_text` wrote; the process that speaks to strangers is not believed.

    Raises:
        MessageError: something else.
    """
    try:
        document = json.loads(text)
        after = document.pop("after")
        query = HistoryQuery(**document, after=None if after is None else Cursor(**after))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MessageError(f"history: {type(error).__name__}, expected a query") from error
    cursor = () if query.after is None else (query.after.requested_at_us, query.after.id)
    texts = (query.source, query.destination, query.metric, *cursor[1:])
    numbers = (query.from_us, query.to_us, query.limit, *cursor[:1])
    if not all(text is None or isinstance(text, str) for text in texts):
        raise MessageError("history: a number, expected a text")
    if not all(number is None or type(number) is int for number in numbers) or query.limit is None:
        raise MessageError("history: a text, expected a number")
    return replace(query, limit=max(0, min(query.limit, MAX_PAGE)))
