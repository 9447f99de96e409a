"""When to send a request again: lost requests and lost reports look the same from here."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_GAP_MS = 700
"""An answer over twenty points of ordinary delay takes less; a copy that was not needed does no harm."""
GROWTH = 1.7
MAX_COPIES = 6


@dataclass(slots=True)
class Retransmission:
    """The schedule of one request's copies, all with the same id.

    Args:
        created_at_ms: when the request was made, milliseconds on any one clock.
        lifetime_ms: nothing is sent after this time.
    """

    created_at_ms: int
    lifetime_ms: int
    copies: int = 0

    def next_at_ms(self) -> int | None:
        """When the next copy is due; None when no copy would be of use."""
        if self.copies >= MAX_COPIES:
            return None
        gap = FIRST_GAP_MS * (GROWTH**self.copies - 1) / (GROWTH - 1)
        due = self.created_at_ms + round(gap)
        return due if due < self.created_at_ms + self.lifetime_ms else None

    def sent(self) -> None:
        """Note that a copy has left."""
        self.copies += 1
