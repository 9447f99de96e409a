"""One connection that brings reports: bytes in, reports and the octets of their answers out.

Strategy: `receive` gives the reports that are complete; the driver answers each before it takes the next, with
what `acknowledge` or `refuse` gives. Any bytes give reports or `MessageError`; after an error the connection is of
no more use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.errors import MessageError
from schemas.framing import (
    MAX_ORDINAL,
    REPORT_KINDS,
    Acknowledgement,
    FrameReader,
    Refusal,
    Report,
    frame_to_bytes,
)
from schemas.message import Message, check_consistency
from schemas.payload import message_from_payload


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReceived:
    """A whole report, decoded and consistent in itself."""

    message: Message
    final: bool


class ReportConnection:
    """The receiving end of one connection."""

    def __init__(self) -> None:
        self._reader = FrameReader(REPORT_KINDS)

    def receive(self, data: bytes) -> Iterator[ReportReceived]:
        """The reports that `data` completes, in order.

        Raises:
            MessageError: while iterating, so that the reports before can be answered first: no frame, no message,
                or a message that contradicts itself.
        """
        frames = self._reader.receive(data)
        return (_decode(frame) for frame in frames if isinstance(frame, Report))

    def end(self) -> None:
        """The peer sends no more.

        Raises:
            MessageError: it stopped in the middle of a report.
        """
        self._reader.end()

    def acknowledge(self, message: Message) -> bytes:
        """What to send once the report is durable."""
        request = message.request
        return frame_to_bytes(Acknowledgement(id=request.id, copy=request.copy, part=request.part))

    def refuse(self, reason: str) -> bytes:
        """What to send for a report that will never be taken."""
        return frame_to_bytes(Refusal(reason=reason))


def _decode(report: Report) -> ReportReceived:
    message = message_from_payload(report.payload)
    check_consistency(message)
    for name, value in (("cp", message.request.copy), ("pt", message.request.part)):
        if value > MAX_ORDINAL:
            raise MessageError(f"{name}: got {value}, expected at most {MAX_ORDINAL}")
    return ReportReceived(message=message, final=report.final)
