"""Reports and their answers on a TCP connection between the last point and the source.

    offset  octets  field
    0       4       magic "IPR1"
    4       1       kind: 1 part (more of this request will follow), 2 final report, 3 acknowledged, 4 refused
    5       3       reserved, zero
    8       4       length of the body, big endian
    12      length  body
                    1, 2  a payload as in the datagram (`payload.py`)
                    3     request id (16 octets), copy and part (2 octets each, big endian)
                    4     why, UTF-8, at most 200 octets

Kinds 1 and 2 go to the source, 3 and 4 come back, one for each report and in the same order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

from schemas.errors import MessageError
from schemas.xml_reader import MAX_XML_BYTES

MAGIC = b"IPR1"
MAX_REPORT_BYTES = MAX_XML_BYTES
"""The plain form of the largest message; the compressed form is used only when it is smaller."""
MAX_REASON_BYTES = 200
MAX_ORDINAL = 0xFFFF
"""Of `copy` and `part`, so that an acknowledgement can name them."""

_HEADER = struct.Struct("!4sB3sI")
_ACKNOWLEDGEMENT = struct.Struct("!16sHH")
_RESERVED = bytes(3)


class FrameKind(IntEnum):
    """What a frame is; the value is the octet on the wire."""

    PART = 1
    FINAL = 2
    ACKNOWLEDGED = 3
    REFUSED = 4


REPORT_KINDS = frozenset({FrameKind.PART, FrameKind.FINAL})
"""What the source of a request accepts."""
ANSWER_KINDS = frozenset({FrameKind.ACKNOWLEDGED, FrameKind.REFUSED})
"""What the sender of a report accepts."""

_BODY_BYTES = {
    FrameKind.PART: range(1, MAX_REPORT_BYTES + 1),
    FrameKind.FINAL: range(1, MAX_REPORT_BYTES + 1),
    FrameKind.ACKNOWLEDGED: range(_ACKNOWLEDGEMENT.size, _ACKNOWLEDGEMENT.size + 1),
    FrameKind.REFUSED: range(MAX_REASON_BYTES + 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A message on its way to the source of its request."""

    payload: bytes
    final: bool
    """False: a point handed over the records so far and sent the request on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The report is durable; its sender may forget it."""

    id: str
    """The request's 128 bits as 32 lower-case hexadecimal digits."""
    copy: int
    part: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The report will never be taken; sending it again is useless."""

    reason: str


Frame = Report | Acknowledgement | Refusal


def frame_to_bytes(frame: Frame) -> bytes:
    """Encode a frame; `FrameReader` reverses it.

    Raises:
        MessageError: a report that is empty or larger than `MAX_REPORT_BYTES`.
    """
    match frame:
        case Report(payload=payload, final=final):
            kind, body = (FrameKind.FINAL if final else FrameKind.PART), payload
        case Acknowledgement(id=identifier, copy=copy, part=part):
            kind, body = FrameKind.ACKNOWLEDGED, _ACKNOWLEDGEMENT.pack(bytes.fromhex(identifier), copy, part)
        case Refusal(reason=reason):
            kind, body = FrameKind.REFUSED, _cut(reason.encode(errors="replace"))
        case _:
            assert_never(frame)
    _check_length(kind, len(body))
    return _HEADER.pack(MAGIC, kind, _RESERVED, len(body)) + body


class FrameReader:
    """Frames out of a byte stream that arrives in pieces of any size.

    Args:
        accepts: `REPORT_KINDS` or `ANSWER_KINDS`; a frame of the other direction is refused by its header.
    """

    def __init__(self, accepts: frozenset[FrameKind]) -> None:
        self._accepts = accepts
        self._buffer = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the next frame is here yet."""
        return not self._buffer

    def receive(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, in order; those that are not taken come first the next time.

        Raises:
            MessageError: while iterating, where the stream is no sequence of frames; nothing after that place can
                be understood. A wrong header is noticed before its body is collected.
        """
        self._buffer += data
        return iter(self._next, None)

    def end(self) -> None:
        """The peer closed the stream.

        Raises:
            MessageError: in the middle of a frame.
        """
        if self._buffer:
            raise MessageError(
                f"frame: the stream ends {len(self._buffer)} octets into a frame, expected all of it"
            )

    def _next(self) -> Frame | None:
        header = bytes(self._buffer[: _HEADER.size])
        if not MAGIC.startswith(header[: len(MAGIC)]):
            raise MessageError(f"frame: got magic {header[: len(MAGIC)]!r}, expected {MAGIC!r}")
        if len(header) < _HEADER.size:
            return None
        kind, length = self._read_header(header)
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return _frame(kind, body)

    def _read_header(self, header: bytes) -> tuple[FrameKind, int]:
        _, kind_octet, reserved, length = _HEADER.unpack(header)
        if kind_octet not in self._accepts:
            expected = " or ".join(str(int(kind)) for kind in sorted(self._accepts))
            raise MessageError(f"frame: got kind {kind_octet}, expected {expected}")
        if reserved != _RESERVED:
            raise MessageError(f"frame: got reserved octets {reserved.hex()}, expected zeros")
        kind = FrameKind(kind_octet)
        _check_length(kind, length)
        return kind, length


def _check_length(kind: FrameKind, length: int) -> None:
    allowed = _BODY_BYTES[kind]
    if length not in allowed:
        raise MessageError(
            f"frame: got a body of {length} octets for kind {int(kind)}, expected {allowed.start} to {allowed[-1]}"
        )


def _cut(reason: bytes) -> bytes:
    return reason[:MAX_REASON_BYTES].decode(errors="ignore").encode()


def _frame(kind: FrameKind, body: bytes) -> Frame:
    match kind:
        case FrameKind.PART | FrameKind.FINAL:
            return Report(payload=body, final=kind is FrameKind.FINAL)
        case FrameKind.ACKNOWLEDGED:
            identifier, copy, part = _ACKNOWLEDGEMENT.unpack(body)
            return Acknowledgement(id=identifier.hex(), copy=copy, part=part)
        case FrameKind.REFUSED:
            try:
                return Refusal(reason=body.decode())
            except UnicodeDecodeError as error:
                raise MessageError("frame: the reason of a refusal is not UTF-8, expected text") from error
        case _:
            assert_never(kind)
