"""The lines between a client and the service: one JSON object a line, a question and its answer (pure).

{"ask": "path", "query": {...}}        -> {"result": {...}}     a PathResult, and as "return" one of the way back
{"ask": "verify", "query": {...}}      -> {"check": {...}}      a ClosureCheck
{"ask": "status"}                      -> {"status": {...}}
anything that cannot be meant          -> {"error": {"kind", "text", "exit_code"}}
"""

from __future__ import annotations

import json
from typing import Any

from schemas.errors import InpathError, MessageError

MAX_LINE_BYTES = 1_048_576
"""A result over 255 segments with all metrics is about 300 KiB of JSON."""

DEFAULT_SERVICE_PORT = 49863


class RemoteError(InpathError):
    """What the service said when it could not answer; carries the exit code that it named."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def line_from_document(document: dict[str, Any]) -> bytes:
    """Encode one document as a line."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def document_from_line(line: bytes) -> dict[str, Any]:
    """Decode one line.

    Raises:
        MessageError: the line is too long, not JSON, or no object.
    """
    if len(line) > MAX_LINE_BYTES:
        raise MessageError(f"line: got {len(line)} octets, expected at most {MAX_LINE_BYTES}")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"line: got {line[:60]!r}, expected one JSON object") from error
    if not isinstance(document, dict):
        raise MessageError(f"line: got {line[:60]!r}, expected one JSON object")
    return document


def error_document(error: InpathError) -> dict[str, Any]:
    """The answer for a question that cannot be answered."""
    return {"error": {"kind": type(error).__name__, "text": str(error), "exit_code": error.exit_code}}


def raise_error(document: dict[str, Any]) -> None:
    """Raise what an error document says; nothing when it is none."""
    error = document.get("error")
    if error is None:
        return
    if not isinstance(error, dict):
        raise MessageError(f"error: got {error!r}, expected an object")
    raise RemoteError(str(error.get("text", "the service gave no reason")), int(error.get("exit_code", 1)))
