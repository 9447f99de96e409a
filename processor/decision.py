"""All that can be decided about one intercepted payload."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.message import Carrier


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Records on their way back to the point that asked, by TCP."""

    asker: str
    """Where the report goes."""
    id: str
    copy: int
    part: int
    final: bool
    """No more records follow on the forwarding path."""
    lifetime_ms: int
    """How long the asker waits: no use in trying longer."""
    payload: bytes
    """The message, encoded as in a datagram."""
    slice_index: int = 0
    """Which slice of its question's metrics the records tell of."""
    wants_return: bool = False
    """The asker wants to know the way back too: this point is to ask for it."""
    carrier: Carrier = Carrier.ROUTER_ALERT
    """How the request came: the way back goes the same way."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Give the packet back to the kernel with this payload."""

    payload: bytes
    relay_toward: str | None = None
    """Or, if it was relayed here, end it, and relay the payload to the next point toward this address."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """This is the last point: the packet has arrived, its records go to the point that asked."""

    report: Report


@dataclass(frozen=True, slots=True)
class HandOver:
    """The records no longer fit: send those collected so far to who asked, go on with an empty list."""

    report: Report
    payload: bytes
    relay_toward: str | None = None
    """As of `Forward`."""


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Not for this point: give the packet back to the kernel unchanged."""

    reason: str


Decision = Forward | SendReport | HandOver | PassThrough
