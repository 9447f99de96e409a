"""Results as rows of the table and back; the pair `row_from_result`, `result_from_row` loses nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.errors import MessageError
from schemas.json_text import json_text
from schemas.result import PathResult, ResultStatus
from schemas.rfc3339 import rfc3339_from_us, us_from_rfc3339

Row = Mapping[Any, Any]
"""Column name to value; SQLAlchemy's rows allow columns as keys too."""


def row_from_result(result: PathResult) -> Row:
    """The row of one result.

    Raises:
        MessageError: a time that is not RFC 3339, a number that is none, or a metric without unit.
    """
    for name, metric in result.composed.items():
        if not isinstance(metric.unit, str):  # JSON that came from elsewhere may hold anything
            raise MessageError(f"result: composed {name} has the unit {metric.unit!r}, expected a name")
    try:
        return {
            "requested_at_us": us_from_rfc3339(result.requested_at),
            "id": result.id,
            "status": str(result.status),
            "source": result.source,
            "destination": result.destination,
            "metrics": " ".join(result.metrics),
            "elapsed_ms": result.elapsed_ms,
            "points": _points(result),
            "segments": result.segments_text,
            "composed": result.composed_text,
            "warnings": json_text(result.warnings),
            "carrier": None if result.carrier is None else str(result.carrier),
            "authenticity": None if result.authenticity is None else str(result.authenticity),
        }
    except ValueError as error:
        raise MessageError(f"result: {error}") from error


def result_from_row(row: Row) -> PathResult:
    """The result that the row holds."""
    return PathResult.from_json(
        {
            **{name: row[name] for name in ("id", "status", "source", "destination", "elapsed_ms")},
            **{name: row[name] for name in ("carrier", "authenticity")},
            "metrics": row["metrics"].split(),
            "requested_at": rfc3339_from_us(row["requested_at_us"]),
            **{name: json.loads(row[name]) for name in ("segments", "composed", "warnings")},
        }
    )


def _points(result: PathResult) -> str | None:
    if result.status is not ResultStatus.COMPLETE or not result.segments:
        return None
    return " ".join((result.segments[0].upstream, *(segment.current for segment in result.segments)))
