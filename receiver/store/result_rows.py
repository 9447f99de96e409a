"""Results as rows of the tables and back; the pair `rows_from_result`, `result_from_rows` loses nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.message import SegmentState
from schemas.result import ComposedMetric, Flag, Method, PathResult, Quantiles, ResultStatus, SegmentResult
from schemas.rfc3339 import rfc3339_from_us, us_from_rfc3339

Row = Mapping[Any, Any]
"""Column name to value; SQLAlchemy's rows allow columns as keys too."""

_MEASURED_AT_DECIMALS = 3
_COLUMNS_OF_METRIC = ("value", "unit", "count")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRows:
    """One result, table by table."""

    request: Row
    segments: Sequence[Row]
    segment_metrics: Sequence[Row]
    composed: Sequence[Row]


def rows_from_result(result: PathResult) -> ResultRows:
    """The rows of one result.

    Raises:
        MessageError: a time that is not RFC 3339.
    """
    return ResultRows(
        request={
            "id": result.id,
            "status": str(result.status),
            "source": result.source,
            "destination": result.destination,
            "metrics": " ".join(result.metrics),
            "requested_at_us": us_from_rfc3339(result.requested_at),
            "elapsed_ms": result.elapsed_ms,
            "warnings": json.dumps(result.warnings),
        },
        segments=[_segment_row(result.id, *pair) for pair in enumerate(result.segments)],
        segment_metrics=[
            _metric_row(result.id, position, name, values)
            for position, segment in enumerate(result.segments)
            for name, values in segment.metrics.items()
        ],
        composed=[_composed_row(result.id, name, metric) for name, metric in result.composed.items()],
    )


def result_from_rows(rows: ResultRows) -> PathResult:
    """The result that the rows hold; metrics stand in the order in which they were asked for."""
    request = rows.request
    metrics = tuple(request["metrics"].split())
    return PathResult(
        id=request["id"],
        status=ResultStatus(request["status"]),
        source=request["source"],
        destination=request["destination"],
        metrics=metrics,
        requested_at=rfc3339_from_us(request["requested_at_us"]),
        elapsed_ms=request["elapsed_ms"],
        segments=tuple(
            _segment(row, _of_segment(rows.segment_metrics, row["position"], metrics))
            for row in sorted(rows.segments, key=lambda row: int(row["position"]))
        ),
        composed={row["metric"]: _composed(row) for row in _in_order(rows.composed, metrics)},
        warnings=tuple(json.loads(request["warnings"])),
    )


def _segment_row(request_id: str, position: int, segment: SegmentResult) -> Row:
    return {
        "request_id": request_id,
        "position": position,
        "upstream": segment.upstream,
        "current": segment.current,
        "state": str(segment.state),
        "measured_at_us": None if segment.measured_at is None else us_from_rfc3339(segment.measured_at),
    }


def _segment(row: Row, metrics: Sequence[Row]) -> SegmentResult:
    time_us = row["measured_at_us"]
    return SegmentResult(
        upstream=row["upstream"],
        current=row["current"],
        state=SegmentState(row["state"]),
        measured_at=None if time_us is None else rfc3339_from_us(time_us, decimals=_MEASURED_AT_DECIMALS),
        metrics={
            metric["metric"]: {
                **{name: metric[name] for name in _COLUMNS_OF_METRIC},
                **json.loads(metric["statistics"]),
            }
            for metric in metrics
        },
    )


def _metric_row(request_id: str, position: int, name: str, values: Row) -> Row:
    others = {key: value for key, value in values.items() if key not in _COLUMNS_OF_METRIC}
    return {
        "request_id": request_id,
        "position": position,
        "metric": name,
        **{key: values.get(key) for key in _COLUMNS_OF_METRIC},
        "statistics": json.dumps(others),
    }


def _of_segment(rows: Sequence[Row], position: int, metrics: tuple[str, ...]) -> Sequence[Row]:
    return _in_order([row for row in rows if row["position"] == position], metrics)


def _in_order(rows: Sequence[Row], metrics: tuple[str, ...]) -> Sequence[Row]:
    position = {name: index for index, name in enumerate(metrics)}
    return sorted(rows, key=lambda row: position.get(row["metric"], len(position)))


def _composed_row(request_id: str, name: str, metric: ComposedMetric) -> Row:
    upstream, current = metric.binding_segment or (None, None)
    return {
        "request_id": request_id,
        "metric": name,
        "value": metric.value,
        "unit": metric.unit,
        "low": metric.low,
        "high": metric.high,
        "oldest_age_s": metric.oldest_age_s,
        "count": metric.count,
        "binding_upstream": upstream,
        "binding_current": current,
        "method": str(metric.method),
        "flags": " ".join(metric.flags),
        **_quantile_columns(metric.quantiles),
    }


def _quantile_columns(quantiles: Quantiles | None) -> Row:
    return {
        "p50": None if quantiles is None else quantiles.p50,
        "p95": None if quantiles is None else quantiles.p95,
        "p99": None if quantiles is None else quantiles.p99,
        "quantile_method": None if quantiles is None else str(quantiles.method),
    }


def _composed(row: Row) -> ComposedMetric:
    binding = None if row["binding_upstream"] is None else (row["binding_upstream"], row["binding_current"])
    return ComposedMetric(
        value=row["value"],
        unit=row["unit"],
        low=row["low"],
        high=row["high"],
        oldest_age_s=row["oldest_age_s"],
        count=row["count"],
        binding_segment=binding,
        method=Method(row["method"]),
        flags=tuple(Flag(flag) for flag in row["flags"].split()),
        quantiles=_quantiles(row),
    )


def _quantiles(row: Row) -> Quantiles | None:
    method = row["quantile_method"]
    if method is None:
        return None
    return Quantiles(p50=row["p50"], p95=row["p95"], p99=row["p99"], method=Method(method))
