"""The neighbors that a point had learned, on disk: after a restart they are measured before anybody asks."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from prober.prober import MAX_SEGMENTS

logger = logging.getLogger(__name__)

FILE_NAME = "neighbors.json"
WRITE_GAP_MS = 60_000
"""Between two writings while the neighbors stay the same, whose ages need not be exact; others come in at once."""
_MOST_BYTES = 64 * MAX_SEGMENTS


class NeighborMemory:
    """Neighbors with the time at which they were last of use, in a file that may be lost without harm.

    What is read is no proof that anybody is there, so whoever measures must ask them as if a message named them.

    Args:
        directory: where the file lies.
        keep_s: how long a neighbor is remembered that is of no use any more.
    """

    def __init__(self, directory: Path, *, keep_s: float) -> None:
        self._file = directory / FILE_NAME
        self._keep_ms = round(keep_s * 1000)
        self._used_at_ms: dict[str, int] = {}
        self._written: frozenset[str] = frozenset()
        self._written_at_ms: int | None = None

    def recall(self, now_ms: int) -> tuple[str, ...]:
        """Who was of use not too long ago, the latest first.

        Args:
            now_ms: milliseconds since the Unix epoch; a clock that was set since then makes us forget some.
        """
        self._used_at_ms = self._young(self._read(), now_ms)
        return tuple(sorted(self._used_at_ms, key=lambda peer: -self._used_at_ms[peer]))

    def used(self, neighbors: Iterable[str], now_ms: int) -> None:
        """Note who is of use now, and write it down when that is due."""
        self._used_at_ms.update(dict.fromkeys(neighbors, now_ms))
        self._used_at_ms = self._young(self._used_at_ms, now_ms)
        at_ms = self._written_at_ms
        is_old = at_ms is None or not 0 <= now_ms - at_ms < WRITE_GAP_MS
        if self._used_at_ms.keys() != self._written or (is_old and self._used_at_ms):
            self._write(now_ms)

    def close(self, now_ms: int) -> None:
        """Write down what is known now."""
        if self._used_at_ms or self._written:
            self._write(now_ms)

    def _young(self, used_at_ms: dict[str, int], now_ms: int) -> dict[str, int]:
        return {peer: at_ms for peer, at_ms in used_at_ms.items() if 0 <= now_ms - at_ms <= self._keep_ms}

    def _read(self) -> dict[str, int]:
        try:
            with self._file.open("rb") as file:
                content = json.loads(file.read(_MOST_BYTES))
            return {str(peer): int(at_ms) for peer, at_ms in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            logger.warning("neighbors are not remembered: %s: %s", self._file, error)
            return {}

    def _write(self, now_ms: int) -> None:
        written = self._file.with_suffix(".new")
        self._written, self._written_at_ms = (
            frozenset(self._used_at_ms),
            now_ms,
        )  # when it fails, not at once again
        try:
            written.write_text(json.dumps(self._used_at_ms))
            written.replace(self._file)
        except OSError as error:
            logger.warning("neighbors are not written down: %s: %s", self._file, error.strerror)
