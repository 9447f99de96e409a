"""The lines between a client and the service: one JSON object a line, a question and its answer (pure).

{"ask": "path", "query": {...}}        -> {"result": {...}}     a PathResult, and as "return" one of the way back
{"ask": "verify", "query": {...}}      -> {"check": {...}}      a ClosureCheck
{"ask": "status"}                      -> {"status": {...}}
anything that cannot be meant          -> {"error": {"kind", "text", "exit_code"}}, and where one value is to blame
                                          in it "field", "value" (shortened) and "expected"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import InpathError, MessageError, UsageError
from schemas.json_text import json_object

MAX_LINE_BYTES = 1_048_576
"""A result over 255 segments with all metrics is about 300 KiB of JSON."""

DEFAULT_SERVICE_PORT = 49863


_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Blame:
    """The one value that the service could not mean, as a UsageError has it."""

    field: str
    value: object
    expected: str


class RemoteError(InpathError):
    """What the service said when it could not answer.

    Args:
        exit_code: that it named.
        blame: if it is one value's fault.
    """

    def __init__(self, text: str, exit_code: int, blame: Blame | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.blame = blame


def line_from_document(document: dict[str, Any]) -> bytes:
    """Encode one document as a line; members that are `JsonText` go in as they are."""
    return json_object(document).encode() + b"\n"


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
    told = {"kind": type(error).__name__, "text": str(error), "exit_code": error.exit_code}
    if isinstance(error, UsageError):
        told |= {"field": error.field, "value": shown(error.value), "expected": error.expected}
    return {"error": told}


def shown(value: object) -> object:
    """The value where it is short and is JSON, else the beginning of its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) < 1e15:  # false for NaN and infinity
        return value
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return "a huge number"  # Python refuses to write out an integer of thousands of digits
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="replace").decode()  # JSON text may hold half of a surrogate pair
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def raise_error(document: dict[str, Any]) -> None:
    """Raise what an error document says; nothing when it is none."""
    error = document.get("error")
    if error is None:
        return
    if not isinstance(error, dict):
        raise MessageError(f"error: got {error!r}, expected an object")
    text, exit_code = error.get("text", "the service gave no reason"), error.get("exit_code")
    raise RemoteError(str(text), exit_code if isinstance(exit_code, int) else 1, _blame(error))


def _blame(error: Mapping[str, Any]) -> Blame | None:
    field, expected = error.get("field"), error.get("expected")
    if not isinstance(field, str) or not isinstance(expected, str):
        return None
    return Blame(field, error.get("value"), expected)
