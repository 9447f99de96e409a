"""What somebody wants to know about a path, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import IPv4Address
from typing import Any

from schemas.errors import UsageError
from schemas.message import Carrier, MeasureRequest
from schemas.metrics import METRICS, Registry

DEFAULT_METRICS = ("delay", "loss", "jitter", "rtt")
"""What is measured all the time on every segment, and fits for 11 points into one datagram of 1500 octets."""
ALL_METRICS = "all"
"""In place of names: every metric of the registry."""
DEFAULT_TIMEOUT_S = 10.0
"""A path of twenty points at 80 ms each takes 6 s: one way out, and three ways for a TCP report to come back."""
MAX_TIMEOUT_S = 300.0
DEFAULT_MAX_AGE_S = 15.0
MAX_MAX_AGE_S = 3600.0
_NAME_LENGTH = 63
"""No name is longer; a search for a near one must not take long over a text that is none."""


def metrics_from_text(text: str, registry: Registry = METRICS) -> tuple[str, ...]:
    """`loss,delay`, or `all`, as names of the registry, each once and in its order.

    Raises:
        UsageError: an unknown name, a name twice, or none at all.
    """
    if text.strip() == ALL_METRICS:
        return tuple(registry)
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in registry:
            raise UsageError("metrics", name, f"all, or one or more of {','.join(registry)}")
    if len(set(names)) != len(names):
        raise UsageError("metrics", text, "each metric once")
    return tuple(name for name in registry if name in names)


def seconds_from_value(field: str, value: object, *, least: float, most: float) -> float:
    """A finite number of seconds between the bounds, or UsageError."""
    # The comparison is false for NaN, and takes integers that would overflow as a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise UsageError(field, value, f"a number of seconds from {least:g} to {most:g}")
    return float(value)


def address_from_text(field: str, text: str, names: Mapping[str, str]) -> str:
    """The IPv4 address that `text` means: itself, or what the configuration's names say.

    Raises:
        UsageError: neither an address nor a known name; suggests a near one.
    """
    if text in names:
        return names[text]
    try:
        address = IPv4Address(text)
    except ValueError:
        near = get_close_matches(text[:_NAME_LENGTH], names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = f"a name of the {len(names)} in [names]" if names else "a name of [names], which is empty,"
        raise UsageError(field, text, f"{known} or an IPv4 address{hint}") from None
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise UsageError(field, text, "a unicast IPv4 address")
    return str(address)


def carrier_from_value(value: object) -> Carrier | None:
    """A carrier by its name; None stays None.

    Raises:
        UsageError: another name.
    """
    if value is None:
        return None
    if not isinstance(value, str) or value not in tuple(Carrier):
        raise UsageError("carrier", value, f"one of {', '.join(Carrier)}")
    return Carrier(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathQuery:
    """One question, as it travels from a client to the service of the first point."""

    source: str
    destination: str
    metrics: tuple[str, ...]
    timeout_s: float
    max_age_s: float
    both_directions: bool = False
    """The way back is wanted too, as its packets really go."""
    carrier: Carrier | None = None
    """How the request is to travel; None: as it comes through."""

    def to_json(self) -> dict[str, Any]:
        """The document form."""
        return {
            "source": self.source,
            "destination": self.destination,
            "metrics": list(self.metrics),
            "timeout_s": self.timeout_s,
            "max_age_s": self.max_age_s,
            "both_directions": self.both_directions,
            "carrier": None if self.carrier is None else str(self.carrier),
        }

    @classmethod
    def from_json(cls, document: object, names: Mapping[str, str], registry: Registry = METRICS) -> PathQuery:
        """Check a document and resolve its names; `registry` holds the metrics that the point knows.

        Raises:
            UsageError: naming the key, the value, and what was expected.
        """
        if not isinstance(document, dict):
            raise UsageError("query", document, "an object")
        for field in ("source", "destination"):
            if not isinstance(document.get(field), str):
                raise UsageError(field, document.get(field), "a name or an IPv4 address")
        metrics = document.get("metrics", list(DEFAULT_METRICS))
        if not isinstance(metrics, list) or not all(isinstance(name, str) for name in metrics):
            raise UsageError("metrics", metrics, "a list of metric names")
        source = address_from_text("source", document["source"], names)
        destination = address_from_text("destination", document["destination"], names)
        if source == destination:
            raise UsageError("destination", document["destination"], "another address than the source's")
        timeout = document.get("timeout_s", DEFAULT_TIMEOUT_S)
        max_age = document.get("max_age_s", DEFAULT_MAX_AGE_S)
        both_directions = document.get("both_directions", False)
        if not isinstance(both_directions, bool):
            raise UsageError("both_directions", both_directions, "true or false")
        return cls(
            source=source,
            destination=destination,
            metrics=metrics_from_text(",".join(metrics), registry),
            timeout_s=seconds_from_value("timeout", timeout, least=0.001, most=MAX_TIMEOUT_S),
            max_age_s=seconds_from_value("max-age", max_age, least=0.0, most=MAX_MAX_AGE_S),
            both_directions=both_directions,
            carrier=carrier_from_value(document.get("carrier")),
        )

    def starting_at(self, address: str) -> PathQuery:
        """The same question with the first point named by the address that other points know."""
        return replace(self, source=address)

    def to_request(self, *, identifier: str, now_ms: int, return_id: str | None = None) -> MeasureRequest:
        """The request that goes on the network.

        Args:
            identifier: 128 random bits as 32 hexadecimal digits.
            return_id: as many for the way back; None when it is not wanted.
            now_ms: milliseconds since the Unix epoch, on the first point's clock.
        """
        return MeasureRequest(
            source=self.source,
            destination=self.destination,
            id=identifier,
            metrics=self.metrics,
            created_at_ms=now_ms,
            lifetime_ms=math.ceil(self.timeout_s * 1000),
            max_age_ms=round(self.max_age_s * 1000),
            return_id=return_id,
        )


def way_back(request: MeasureRequest, *, source: str, now_ms: int) -> MeasureRequest:
    """The request by which the last point asks for the way back, for whoever sent `request`.

    Args:
        request: one with a `return_id`.
        source: the last point's address.
        now_ms: milliseconds since the Unix epoch, on its clock.
    """
    assert request.return_id is not None  # else nobody wants to know
    return MeasureRequest(
        source=source,
        destination=request.source,
        id=request.return_id,
        metrics=request.metrics,
        created_at_ms=now_ms,
        lifetime_ms=request.lifetime_ms,
        max_age_ms=request.max_age_ms,
        copy=request.copy,
        slice_index=request.slice_index,
        slices=request.slices,
        returning=True,
    )
