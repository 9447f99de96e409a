"""What the packet process and the service process tell each other."""

from __future__ import annotations

from mp.bridge import HostChanged, ReportReady, SegmentKnown, UpstreamSeen, event_from_bytes, event_to_bytes
from processor.decision import Report
from schemas.errors import MessageError
from schemas.metrics import METRICS
from tests.fuzz.target import Target
from tests.statistics import segment_statistics


def one_input(data: bytes) -> None:
    """An event or an error."""
    try:
        event_from_bytes(data)
    except MessageError as error:
        assert len(str(error)) < 500


def seeds() -> list[bytes]:
    """Events of each shape."""
    report = Report(
        asker="10.0.0.1", id="ab" * 16, copy=0, part=0, final=True, lifetime_ms=5000, payload=b"<m/>\n"
    )
    known = SegmentKnown(upstream="10.0.0.1", newest_sample_at_ms=1, metrics=segment_statistics(1))
    return [
        event_to_bytes(ReportReady(report=report)),
        event_to_bytes(known),
        event_to_bytes(HostChanged(own_addresses=("10.0.0.2",), room=1468)),
        event_to_bytes(UpstreamSeen(upstream="10.0.0.1", metrics=("delay",), hello=False)),
    ]


_NAMES = (
    "Setup",
    "HostChanged",
    "SegmentGone",
    "Ready",
    "Failed",
    "UpstreamSeen",
    "Heartbeat",
    "report",
    "segment",
)
TARGET = Target(one_input=one_input, seeds=seeds, words=[f'"{name}"'.encode() for name in (*_NAMES, *METRICS)])
