"""What measures beside the sessions: which neighbors it follows, and whom it gives what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from schemas.metrics import ScalarStatistics

Give = Callable[[str, str, ScalarStatistics], None]
"""Takes (peer, metric, value)."""
Withdraw = Callable[[str, str], None]
"""Takes (peer, metric): what was given is not known any more."""
_T = TypeVar("_T")


def follow(followed: dict[str, _T], peers: Iterable[str], begin: Callable[[], _T]) -> set[str]:
    """Have `followed` hold just these peers; those that are new, which `begin` makes."""
    wanted = set(peers)
    for peer in followed.keys() - wanted:
        del followed[peer]
    new = wanted - followed.keys()
    for peer in new:
        followed[peer] = begin()
    return new
