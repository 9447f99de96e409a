"""One connection that brings reports: bytes in, reports and the octets of their answers out.

Strategy: `receive` gives the reports that are complete; the driver answers each before it takes the next, with
what `acknowledge` or `refuse` gives. Any bytes give reports or `MessageError`; after an error the connection is of
no more use.

A report is not decoded until somebody wants its message: whose request is open can be told from its id alone,
and to look at a report of 64 KiB that nobody asked for would cost as much as to answer fifty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.decoder import message_from_document
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
from schemas.payload import xml_from_payload

_ADDRESS = rb"[0-9.]{7,15}"
_IDENTIFIER = re.compile(rb"<m><mr><hs>%b</hs><hd>%b</hd><id>([0-9a-f]{32})</id>" % (_ADDRESS, _ADDRESS))
"""How every point begins a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReceived:
    """A whole report."""

    xml: bytes
    """What it brings, not yet checked; empty when it could not even be inflated."""
    final: bool

    @property
    def identifier(self) -> str | None:
        """Of the request that it says it answers; None when it does not say so as points do."""
        found = _IDENTIFIER.match(self.xml)
        return None if found is None else found[1].decode()

    def message(self) -> Message:
        """Decode it.

        Raises:
            MessageError: no message, one that contradicts itself, or one that no acknowledgement can name.
        """
        message = message_from_document(self.xml)
        check_consistency(message)
        for name, value in (("cp", message.request.copy), ("pt", message.request.part)):
            if value > MAX_ORDINAL:
                raise MessageError(f"{name}: got {value}, expected at most {MAX_ORDINAL}")
        return message


class ReportConnection:
    """The receiving end of one connection."""

    def __init__(self) -> None:
        self._reader = FrameReader(REPORT_KINDS)
        self.has_acknowledged = False
        """It brought a report that was wanted: more may follow later."""

    @property
    def is_between_reports(self) -> bool:
        """Whether nothing of the next report is here yet."""
        return self._reader.is_empty

    def receive(self, data: bytes) -> Iterator[ReportReceived]:
        """The reports that `data` completes, in order.

        Raises:
            MessageError: while iterating, so that the reports before can be answered first: this is no frame.
        """
        frames = self._reader.receive(data)
        return (_inflated(frame) for frame in frames if isinstance(frame, Report))

    def end(self) -> None:
        """The peer sends no more.

        Raises:
            MessageError: it stopped in the middle of a report.
        """
        self._reader.end()

    def acknowledge(self, message: Message) -> bytes:
        """What to send once the report is durable."""
        request = message.request
        self.has_acknowledged = True
        return frame_to_bytes(Acknowledgement(id=request.id, copy=request.copy, part=request.part))

    def refuse(self, reason: str) -> bytes:
        """What to send for a report that will never be taken."""
        return frame_to_bytes(Refusal(reason=reason))


def _inflated(report: Report) -> ReportReceived:
    try:
        xml = xml_from_payload(report.payload)
    except MessageError:
        xml = b""
    return ReportReceived(xml=xml, final=report.final)
