"""When to send a request again: lost requests and lost reports look the same from here (pure)."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_GAP_MS = 700
"""An answer over twenty points of ordinary delay takes less; a copy that was not needed does no harm."""
GROWTH = 1.7
MAX_COPIES = 6


@dataclass(slots=True, kw_only=True)
class Retransmission:
    """The schedule of one request's copies, all with the same id.

    Args:
        lifetime_ms: nothing is sent later than this after the request was made.
    """

    lifetime_ms: int
    copies: int = 0

    def next_after_ms(self) -> int | None:
        """How long after the request was made the next copy is due; None when none would be of use."""
        if self.copies >= MAX_COPIES:
            return None
        due_ms = round(FIRST_GAP_MS * (GROWTH**self.copies - 1) / (GROWTH - 1))
        return due_ms if due_ms < self.lifetime_ms else None

    def sent(self) -> None:
        """Note that a copy has left."""
        self.copies += 1
