"""A wish to hold a composed path against a direct measurement, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from requestor.query import address_from_text, seconds_from_value
from schemas.errors import UsageError

DEFAULT_DURATION_S = 10.0
LEAST_DURATION_S = 2.0
MOST_DURATION_S = 55.0
"""The windows of a session hold 60 s, and the wait for the last answers."""
DEFAULT_RATE_PER_S = 20.0
MOST_RATE_PER_S = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyQuery:
    """One wish, as it travels from a client to the service of the first point."""

    source: str
    destination: str
    duration_s: float = DEFAULT_DURATION_S
    rate_per_s: float = DEFAULT_RATE_PER_S
    """Of the direct probes."""

    def to_json(self) -> dict[str, Any]:
        """The document form."""
        return {
            "source": self.source,
            "destination": self.destination,
            "duration_s": self.duration_s,
            "rate_per_s": self.rate_per_s,
        }

    @classmethod
    def from_json(cls, document: object, names: Mapping[str, str]) -> VerifyQuery:
        """Check a document and resolve its names.

        Raises:
            UsageError: naming the key, the value, and what was expected.
        """
        if not isinstance(document, dict):
            raise UsageError("query", document, "an object")
        ends = {}
        for field in ("source", "destination"):
            if not isinstance(document.get(field), str):
                raise UsageError(field, document.get(field), "a name or an IPv4 address")
            ends[field] = address_from_text(field, document[field], names)
        if ends["source"] == ends["destination"]:
            raise UsageError("destination", document["destination"], "another address than the source's")
        duration = document.get("duration_s", DEFAULT_DURATION_S)
        return cls(
            source=ends["source"],
            destination=ends["destination"],
            duration_s=seconds_from_value("duration", duration, least=LEAST_DURATION_S, most=MOST_DURATION_S),
            rate_per_s=_rate(document.get("rate_per_s", DEFAULT_RATE_PER_S)),
        )


def _rate(value: object) -> float:
    # The comparison is false for NaN.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST_RATE_PER_S:
        raise UsageError("rate", value, f"a number of probes a second from 1 to {MOST_RATE_PER_S:g}")
    return float(value)
