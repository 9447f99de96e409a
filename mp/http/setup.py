"""What the HTTP process is told when it starts, and the words that it and the daemon exchange later.

The daemon hands the setup over in a file in memory, and keeps the process small: it needs no right of its own to
the point's socket, since it asks for each connection to it, and no right to the token file.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass

from mp.http.settings import HttpSettings
from requestor.http.callers import LocalPolicy
from requestor.profile import Profile
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
    store_url: str
    tokens: str
    """Content of the token file."""
    version: str
    log_level: str
    log_format: str


def setup_to_file(setup: HttpSetup) -> int:
    """The descriptor of a file in memory that holds `setup`.

    Pickle is fit for it: the daemon, which has all rights, writes, and the process reads; never the reverse.
    """
    descriptor = os.memfd_create("inpath-http", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(setup, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def setup_from_file(descriptor: int) -> HttpSetup:
    """What `setup_to_file` wrote; closes the file."""
    with open(descriptor, "rb") as file:
        setup = pickle.load(file)
    assert isinstance(setup, HttpSetup)  # nobody else has the descriptor
    return setup
