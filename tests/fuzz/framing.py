"""What comes over the TCP connections of reports, in both directions."""

from __future__ import annotations

from receiver.connection import ReportConnection, ReportReceived
from schemas.errors import MessageError
from schemas.framing import (
    ANSWER_KINDS,
    MAGIC,
    REPORT_KINDS,
    Acknowledgement,
    Frame,
    FrameKind,
    FrameReader,
    Refusal,
    Report,
    frame_to_bytes,
)
from tests.fuzz.genuine import documents
from tests.fuzz.target import Target


def one_input(data: bytes) -> None:
    """The first octet says in pieces of what size the rest comes: that makes no difference."""
    if not data:
        return
    size = data[0] % 64 + 1
    stream = data[1:]
    for kinds in (REPORT_KINDS, ANSWER_KINDS):
        whole = _read(stream, len(stream) or 1, kinds)
        assert _read(stream, size, kinds) == whole
        for frame in whole[0]:
            assert next(FrameReader(kinds).receive(frame_to_bytes(frame))) == frame
    connection = ReportConnection()
    try:
        for report in connection.receive(stream):
            _decode(connection, report)
        connection.end()
    except MessageError as error:
        assert len(connection.refuse(str(error))) <= 212


def _decode(connection: ReportConnection, report: ReportReceived) -> None:
    try:
        message = report.message()
    except MessageError:
        return
    assert report.identifier in (None, message.request.id)
    connection.acknowledge(message)


def _read(stream: bytes, size: int, kinds: frozenset[FrameKind]) -> tuple[list[Frame], str]:
    reader = FrameReader(kinds)
    frames: list[Frame] = []
    for start in range(0, len(stream), size):
        try:
            frames.extend(reader.receive(stream[start : start + size]))  # keeps those before an error
        except MessageError as error:
            return frames, str(error).split(": got")[0]
    return frames, ""


def seeds() -> list[bytes]:
    """Frames of each kind, alone and one behind the other."""
    frames: list[Frame] = [
        *(Report(payload=xml, final=b"<mrp>" in xml) for xml in documents()),
        Acknowledgement(id="ab" * 16, copy=1, part=2),
        Refusal(reason="no such request"),
    ]
    streams = [frame_to_bytes(frame) for frame in frames]
    return [
        bytes((size,)) + stream for stream in (*streams, streams[0] * 3, b"".join(streams[:3])) for size in (0, 63)
    ]


TARGET = Target(one_input=one_input, seeds=seeds, words=(MAGIC, MAGIC + b"\x01\0\0\0\0\0\0\x04"), max_bytes=4096)
