"""The measurement message as frozen values: one request, and one record for each segment crossed so far.

The XML form is in `xml_reader.py` and `xml_writer.py`, the normative grammar in `measurement.xsd`, the datagram
form in `payload.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from schemas.errors import MessageError
from schemas.metrics import METRICS, ScalarStatistics, Statistics

MEASUREMENT_PORT = 49862
"""Default UDP port of requests and TCP port of reports: in the dynamic range, so it needs no registration."""

MAX_RECORDS = 255
"""More points than IPv4 hops (TTL 255) cannot lie on one path."""


class SegmentState(StrEnum):
    """What a point knows of the segment that it reports."""

    MEASURED = "measured"
    PENDING = "pending"
    """The point has just learned of its upstream; it has begun to measure and has no numbers yet."""


class Carrier(StrEnum):
    """How a request travels from point to point."""

    ROUTER_ALERT = "router-alert"
    """In a datagram to the far end that asks every router for a look (RFC 2113)."""
    UDP = "udp"
    """In a plain datagram to the far end, where routers on the way drop IP options."""
    RELAY = "relay"
    """From each point to the next that it knows, by TCP, where nothing else comes through."""


@dataclass(frozen=True, slots=True)
class Tag:
    """Who vouches for what stands before it (`a` in the message); see `authentication.py`."""

    key_id: str
    octets: bytes
    """16 of HMAC-SHA-256, or 64 of an Ed25519 signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRequest:
    """What is to be measured, for whom, and until when (`mr` in the message)."""

    source: str
    """IPv4 address of the first point, dotted; reports go there (`hs`)."""
    destination: str
    """IPv4 address of the last point or of a host that it serves (`hd`)."""
    id: str
    """128 random bits as 32 lower-case hexadecimal digits."""
    metrics: tuple[str, ...]
    """Names of metrics, each once; a point reports one that it does not know as unsupported (`ms`)."""
    created_at_ms: int
    """Milliseconds since the Unix epoch, on the clock of the first point (`ct`)."""
    lifetime_ms: int
    """After this time nobody waits for the answer (`lt`)."""
    max_age_ms: int
    """Greatest age of measured data that the requester accepts (`ma`)."""
    copy: int = 0
    """Which sending of the same request this is: parts of different copies never mix (`cp`)."""
    part: int = 0
    """How many reports with earlier records have gone to the source before this message (`pt`)."""
    last_point: str | None = None
    """The point that handed over the earlier records; None while `part` is 0 (`lp`)."""
    return_id: str | None = None
    """The last point is to ask for the way back under this id, as it asked for the way out (`ri`)."""
    returning: bool = False
    """This is the way back: reports go to `destination`, who asked, and not to `source` (`rt`)."""
    hello: bool = False
    """The request ends at the first point that it meets, which is so found as a neighbor (`he`)."""
    slice_index: int = 0
    """Which part of the metrics of a larger question this asks for (`sl`, attribute `i`)."""
    slices: int = 1
    """In how many such parts the question was sent (`sl`, attribute `n`)."""
    previous_tag: bytes | None = None
    """The tag of the last record that was handed over before this part, if it had one (`pv`)."""
    tag: Tag | None = None
    """By which the source vouches for the request (`a`)."""

    @property
    def asker(self) -> str:
        """Where reports go."""
        return self.destination if self.returning else self.source

    @property
    def far_end(self) -> str:
        """The host at the other end of the path, as seen from who asked."""
        return self.source if self.returning else self.destination


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecord:
    """What one point adds: the segment from the point before it to itself (`mrp` in the message)."""

    upstream: str
    current: str
    state: SegmentState
    recorded_at_ms: int
    """When the point appended the record, on its own clock, milliseconds since the Unix epoch (`ts`)."""
    age_ms: int = 0
    """How old the newest sample was at that moment (`ag`)."""
    told_by: str | None = None
    """The point that added the record from what it knew of a segment further on; None: `current` did (`fr`)."""
    metrics: Mapping[str, Statistics] = field(default_factory=lambda: MappingProxyType({}))
    """Statistics by metric name; of a pending record, none."""
    unsupported: tuple[str, ...] = ()
    """Metrics that were asked for and that this point cannot give (`un`)."""
    tag: Tag | None = None
    """By which the point that added the record vouches for the whole message up to here (`a`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request and the records collected since the last hand-over."""

    request: MeasureRequest
    records: tuple[SegmentRecord, ...] = ()
    document: bytes | None = field(default=None, init=False, compare=False, repr=False)
    """The octets that this was read from, where they have the form that points write: what the tags cover. A
    message that was made, or made of another, has none."""

    @classmethod
    def of_document(cls, document: bytes, request: MeasureRequest, records: tuple[SegmentRecord, ...]) -> Message:
        """What a document says that has the form that points write."""
        message = cls(request=request, records=records)
        object.__setattr__(message, "document", document)  # no argument, so that `replace` cannot pass it on
        return message

    @property
    def latest_point(self) -> str:
        """The point that saw the message last: the upstream of whoever holds it now."""
        if self.records:
            return self.records[-1].current
        return self.request.last_point or self.request.source


def check_consistency(message: Message) -> None:
    """Refuse what the grammar cannot: values that contradict each other.

    Raises:
        MessageError: naming the element, the value, and what was expected.
    """
    request = message.request
    if len(set(request.metrics)) != len(request.metrics):
        raise MessageError(f"ms: got {' '.join(request.metrics)!r}, expected each metric once")
    if (request.part == 0) != (request.last_point is None):
        raise MessageError(f"pt: got {request.part}, expected lp with every part after the first and only there")
    if request.returning and (request.return_id is not None or request.hello):
        raise MessageError("rt: got a way back that asks for more, expected neither ri nor he beside it")
    if request.slice_index >= request.slices:
        raise MessageError(f"sl: got {request.slice_index} of {request.slices}, expected an index below that")
    if request.previous_tag is not None and request.part == 0:
        raise MessageError("pv: got a tag in the first part, expected it only in parts after that")
    expected = request.last_point or request.source
    for record in message.records:
        if record.upstream != expected:
            raise MessageError(f"up: got {record.upstream}, expected {expected}, the point before")
        _check_record(record, request.metrics)
        expected = record.current


def _check_record(record: SegmentRecord, asked: tuple[str, ...]) -> None:
    given = (*record.metrics, *record.unsupported)
    wanted = asked if record.state is SegmentState.MEASURED else ()
    if sorted(given) != sorted(wanted):
        raise MessageError(
            f"mrp of {record.current} ({record.state}): got metrics {sorted(given)}, expected {sorted(wanted)}"
        )
    for name, statistics in record.metrics.items():
        expected = METRICS[name].statistics if name in METRICS else ScalarStatistics  # a plug-in's are scalar
        if type(statistics) is not expected:
            raise MessageError(f"{name}: got {type(statistics).__name__}, expected {expected.__name__}")
