"""What the packet process and the service process tell each other, one datagram an event (pure).

The two share a SOCK_SEQPACKET pair. Neither ever waits for the other: with the socket full the service tries again
a second later; the packet process drops and counts its word, which a copy of the request makes up for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from processor.decision import Report
from schemas.errors import MessageError
from schemas.message import Carrier
from schemas.metrics import METRICS, ScalarStatistics, Statistics

MAX_EVENT_BYTES = 131_072
"""A report of 64 KiB and its header, with room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Service to packet process, once: what to intercept, and as whom."""

    address: str
    own_addresses: tuple[str, ...]
    serves: tuple[str, ...]
    port: int
    queue: int
    rate_per_s: int
    burst: int
    rules: str
    room: int
    """Greatest UDP payload that may leave, in octets."""
    log_level: str
    log_format: str
    credentials: Mapping[str, Any] = field(repr=False)
    """What `Credentials.to_document` made: with secrets."""
    queues: int = 1
    """Over how many queues, one for each packet process, the kernel spreads the packets; `queue` is this one's."""
    installs_rules: bool = True
    """Whether this process puts in the rule for all queues: the one whose queue is the first."""
    processors: tuple[int, ...] = ()
    """Where this process is to run; anywhere if there is none."""
    plain_udp: bool = True
    source_rate_per_s: int = 500
    source_burst: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChanged:
    """Service to packet process: the host's addresses or its smallest MTU are different now."""

    own_addresses: tuple[str, ...]
    room: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsChanged:
    """Service to packet process: keys were read again."""

    credentials: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherSegment:
    """A segment that ends at another point, as `current` told of it."""

    upstream: str
    current: str
    newest_sample_at_ms: int
    """On this point's own clock, milliseconds since the Unix epoch."""
    metrics: Mapping[str, Statistics]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathKnown:
    """Service to packet process: the segments from this point to the last one toward `destination`."""

    destination: str
    segments: tuple[FurtherSegment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathGone:
    """Service to packet process: the path to `destination` is no longer known."""

    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentKnown:
    """Service to packet process: the present statistics of the segment from `upstream`."""

    upstream: str
    newest_sample_at_ms: int
    metrics: Mapping[str, Statistics]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentGone:
    """Service to packet process: the segment from `upstream` is no longer measured."""

    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Packet process to service: rules and queue are in place."""

    rules: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Packet process to service: it cannot work, and why."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReady:
    """Packet process to service: a report to carry to the point that asked."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSeen:
    """Packet process to service: a request came from this point; told seldom while its segment is measured."""

    upstream: str
    metrics: tuple[str, ...]
    """What was asked for."""
    hello: bool
    """It only looks for its neighbors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathAsked:
    """Packet process to service: a request would take an answer for this destination from what is known; told
    seldom."""

    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReady:
    """Packet process to service: a message to relay to the next point toward `destination`."""

    destination: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Packet process to service, every second: it lives, and what it has done so far."""

    counters: Mapping[str, int] = field(default_factory=dict)


Event = (
    Setup
    | HostChanged
    | CredentialsChanged
    | SegmentKnown
    | SegmentGone
    | PathKnown
    | PathGone
    | Ready
    | Failed
    | ReportReady
    | RelayReady
    | UpstreamSeen
    | PathAsked
    | Heartbeat
)

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Setup, HostChanged, CredentialsChanged, SegmentGone, PathGone),
        *(Ready, Failed, UpstreamSeen, PathAsked, Heartbeat),
    )
}


def event_to_bytes(event: Event) -> bytes:
    """Encode one event."""
    match event:
        case ReportReady(report=report):
            head = {"report": {key: value for key, value in asdict(report).items() if key != "payload"}}
            return json.dumps(head).encode() + b"\n" + report.payload
        case RelayReady():
            return json.dumps({"relay": event.destination}).encode() + b"\n" + event.payload
        case SegmentKnown():
            metrics = _all_values(event.metrics)
            return json.dumps({"segment": [event.upstream, event.newest_sample_at_ms, metrics]}).encode()
        case PathKnown():
            segments = [
                (one.upstream, one.current, one.newest_sample_at_ms, _all_values(one.metrics))
                for one in event.segments
            ]
            return json.dumps({"path": [event.destination, segments]}).encode()
        case _:
            return json.dumps({type(event).__name__: asdict(event)}).encode()


def event_from_bytes(data: bytes) -> Event:
    """Decode one event.

    Raises:
        MessageError: the bytes are none.
    """
    head, _, body = data.partition(b"\n")
    try:
        ((kind, content),) = json.loads(head).items()
        if kind == "report":
            carrier = Carrier(content.pop("carrier"))
            return ReportReady(report=Report(payload=body, carrier=carrier, **content))
        if kind == "relay":
            return RelayReady(destination=content, payload=body)
        if kind == "segment":
            upstream, newest, metrics = content
            return SegmentKnown(
                upstream=upstream,
                newest_sample_at_ms=newest,
                metrics=_all_statistics(metrics),
            )
        if kind == "path":
            destination, segments = content
            return PathKnown(
                destination=destination,
                segments=tuple(
                    FurtherSegment(
                        upstream=upstream,
                        current=current,
                        newest_sample_at_ms=newest,
                        metrics=_all_statistics(metrics),
                    )
                    for upstream, current, newest, metrics in segments
                ),
            )
        event: Event = _KINDS[kind](**{key: _frozen(value) for key, value in content.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MessageError(f"bridge: got {data[:60]!r}, expected an event") from error
    return event


_FIELDS = {
    kind: tuple(one.name for one in fields(kind))
    for kind in (ScalarStatistics, *(metric.statistics for metric in METRICS.values()))
}


def _all_values(metrics: Mapping[str, Statistics]) -> dict[str, dict[str, Any]]:
    return {name: _values(statistics) for name, statistics in metrics.items()}


def _all_statistics(metrics: dict[str, dict[str, Any]]) -> dict[str, Statistics]:
    return {name: _statistics(name, values) for name, values in metrics.items()}


def _values(statistics: Statistics) -> dict[str, Any]:
    """As `asdict`, without its search for values within values: this is done for all segments every second."""
    return {name: getattr(statistics, name) for name in _FIELDS[type(statistics)]}


def _statistics(name: str, values: dict[str, Any]) -> Statistics:
    kind = METRICS[name].statistics if name in METRICS else ScalarStatistics  # a plug-in's are scalar
    return kind(**values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
