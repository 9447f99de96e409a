"""How long results and what was made of them are kept."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import ConfigurationError

US_PER_DAY = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """In days, each at least 1; what is made of something is kept at least as long as that.

    Raises:
        ConfigurationError: roll-ups would go before what they are made of.
    """

    results_days: int = 30
    minutes_days: int = 90
    """Roll-ups by minute."""
    hours_days: int = 1_100
    """Roll-ups by hour, and events of routes."""
    checks_days: int = 90
    """Closure checks."""

    def __post_init__(self) -> None:
        if self.minutes_days < self.results_days:
            expected = f"at least results_days ({self.results_days})"
            raise ConfigurationError("store.minutes_days", self.minutes_days, expected)
        if self.hours_days < self.minutes_days:
            expected = f"at least minutes_days ({self.minutes_days})"
            raise ConfigurationError("store.hours_days", self.hours_days, expected)
