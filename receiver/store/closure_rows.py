"""Closure checks as rows of the tables and back; the pair `rows_from_check`, `check_from_rows` loses nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields

from receiver.store.result_rows import Row
from schemas.closure import ClosureCheck, ClosureMetric, ClosureVerdict, Interval
from schemas.rfc3339 import rfc3339_from_us, us_from_rfc3339

_INTERVALS = ("direct", "composed", "difference")
_ENDS = tuple(field.name for field in fields(Interval))


def rows_from_check(check: ClosureCheck) -> tuple[Row, Sequence[Row]]:
    """The row of a check, and those of its metrics.

    Raises:
        MessageError: a time that is not RFC 3339.
    """
    row = {
        "id": check.id,
        "request_id": check.request_id,
        "source": check.source,
        "destination": check.destination,
        "checked_at_us": us_from_rfc3339(check.checked_at),
        "duration_s": check.duration_s,
        "verdict": str(check.verdict),
        "warnings": json.dumps(check.warnings),
    }
    return row, [_metric_row(check.id, name, metric) for name, metric in check.metrics.items()]


def check_from_rows(row: Row, metrics: Sequence[Row]) -> ClosureCheck:
    """The check that the rows hold, its metrics by name."""
    return ClosureCheck(
        id=row["id"],
        request_id=row["request_id"],
        source=row["source"],
        destination=row["destination"],
        checked_at=rfc3339_from_us(row["checked_at_us"]),
        duration_s=row["duration_s"],
        verdict=ClosureVerdict(row["verdict"]),
        metrics={metric["metric"]: _metric(metric) for metric in metrics},
        warnings=tuple(json.loads(row["warnings"])),
    )


def _metric_row(check_id: str, name: str, metric: ClosureMetric) -> Row:
    return {
        "check_id": check_id,
        "metric": name,
        "unit": metric.unit,
        **{f"{what}_{end}": getattr(getattr(metric, what), end) for what in _INTERVALS for end in _ENDS},
        "agrees": None if metric.agrees is None else int(metric.agrees),
    }


def _metric(row: Row) -> ClosureMetric:
    direct, composed, difference = (
        Interval(**{end: row[f"{what}_{end}"] for end in _ENDS}) for what in _INTERVALS
    )
    return ClosureMetric(
        unit=row["unit"],
        direct=direct,
        composed=composed,
        difference=difference,
        agrees=None if row["agrees"] is None else bool(row["agrees"]),
    )
