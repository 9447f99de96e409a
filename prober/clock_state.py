"""What a measurement point knows of its own clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """State of the wall clock, read by whoever drives the prober (RFC 7679 section 3.7)."""

    synchronized: bool
    """An external source disciplines the clock."""
    error_ms: float
    """Bound on the difference from UTC; says little while `synchronized` is false."""
