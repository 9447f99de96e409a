"""One row for each result, in daily partitions on MariaDB; roll-ups, and events of routes.

MariaDB cannot undo DDL, so both ways can be gone again from the start after they broke off: the one table that the
copy goes to gets its name when it is whole, and only then the other ones are dropped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from schemas.rfc3339 import rfc3339_from_us, us_from_rfc3339

revision = "0004"
down_revision = "0003"

_US_PER_MINUTE = 60_000_000
_US_PER_DAY = 24 * 60 * _US_PER_MINUTE
_MAX_PARTITIONS = 400
"""What is older goes to the oldest partition: MariaDB has an upper bound, and each one costs a file."""
_BATCH = 500
_LONG_TEXT = sa.Text().with_variant(MEDIUMTEXT(), "mysql")
_INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
_OLD_TABLES = ("composed", "segment_metrics", "segments", "requests")
_NEW_TABLES = ("latest_routes", "route_events", "stale_periods", "hours", "minutes", "results")
_METADATA = sa.MetaData()
_Row = Mapping[str, Any]


def _table(name: str, *columns: str) -> sa.Table:
    return sa.Table(name, _METADATA, *(sa.Column(column) for column in columns))


_REQUESTS = _table(
    "requests",
    *("id", "status", "source", "destination", "metrics", "requested_at_us", "elapsed_ms", "warnings"),
)
_SEGMENTS = _table("segments", "request_id", "position", "upstream", "current", "state", "measured_at_us")
_SEGMENT_METRICS = _table(
    "segment_metrics", "request_id", "position", "metric", "value", "unit", "count", "statistics"
)
_COMPOSED = _table(
    "composed",
    *("request_id", "metric", "value", "unit", "low", "high", "oldest_age_s", "count", "binding_upstream"),
    *("binding_current", "method", "flags", "p50", "p95", "p99", "quantile_method"),
)
_RESULT_COLUMNS = (
    *("requested_at_us", "id", "status", "source", "destination", "metrics", "elapsed_ms", "points"),
    *("segments", "composed", "warnings"),
)


def upgrade() -> None:
    """Make the tables, move what there is, and have it rolled up."""
    tables = _tables()
    if "results" not in tables:
        _drop("results_new")
        _create_results("results_new")
        copy = _table("results_new", *_RESULT_COLUMNS)
        _move((copy, list(_results(batch))) for batch in _batches(_REQUESTS))
        op.rename_table("results_new", "results")
    for name in ("stale_periods", "hours", "minutes", "route_events", "latest_routes"):
        _drop(name)
    _create_rollups("minutes")
    _create_rollups("hours")
    _create_stale_periods()
    _create_route_events()
    _create_latest_routes()
    _mark_all_minutes()
    for name in _OLD_TABLES:
        _drop(name)
    if "closure_checks_by_time" not in _indexes("closure_checks"):
        op.create_index("closure_checks_by_time", "closure_checks", ["checked_at_us"])


def downgrade() -> None:
    """Make the tables of before, and move the results back; roll-ups and events are lost."""
    if "results" in _tables():
        for name in _OLD_TABLES:
            _drop(name)
        for script in ("0001_results", "0002_methods"):
            import_module(f"receiver.store.migrations.versions.{script}").upgrade()
        results = _table("results", *_RESULT_COLUMNS)
        _move(pair for batch in _batches(results) for pair in _old_rows(batch))
    for name in _NEW_TABLES:
        _drop(name)
    if "closure_checks_by_time" in _indexes("closure_checks"):
        op.drop_index("closure_checks_by_time", "closure_checks")


def _tables() -> set[str]:
    return set(sa.inspect(op.get_bind()).get_table_names())


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}


def _drop(table: str) -> None:
    op.execute(f"DROP TABLE IF EXISTS {table}")


def _is_mysql() -> bool:
    return op.get_context().dialect.name == "mysql"


def _create_results(name: str) -> None:
    op.create_table(
        name,
        sa.Column("requested_at_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.CHAR(32), primary_key=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("source", sa.String(15), nullable=False),
        sa.Column("destination", sa.String(15), nullable=False),
        sa.Column(
            "metrics",
            sa.String(255).with_variant(sa.String(1056), "mysql"),
            nullable=False,
            comment="names separated by spaces",
        ),
        sa.Column("elapsed_ms", sa.Double),
        sa.Column("points", _LONG_TEXT, comment="addresses separated by spaces; null unless complete"),
        sa.Column("segments", _LONG_TEXT, nullable=False, comment="JSON array, as in result.schema.json"),
        sa.Column("composed", _LONG_TEXT, nullable=False, comment="JSON object, as in result.schema.json"),
        sa.Column("warnings", _LONG_TEXT, nullable=False, comment="JSON array of strings"),
        sa.Index("results_by_id", "id"),
        sa.Index("results_by_path", "source", "destination", "requested_at_us"),
        mysql_partition_by=_partitions(_days_of_requests(), "requested_at_us"),
        **_INNODB,
    )


def _create_rollups(name: str) -> None:
    partitions: dict[str, Any] = {}
    if name == "minutes":
        partitions["mysql_partition_by"] = _partitions(range(0), "start_us")
    op.create_table(
        name,
        sa.Column("source", sa.String(15), primary_key=True),
        sa.Column("destination", sa.String(15), primary_key=True),
        sa.Column("metric", sa.String(32), primary_key=True),
        sa.Column("start_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("minimum", sa.Double, nullable=False),
        sa.Column("maximum", sa.Double, nullable=False),
        sa.Column("histogram", _LONG_TEXT, nullable=False, comment="bin:count, see value_histogram.py"),
        sa.Index(f"{name}_by_time", "start_us"),
        **partitions,
        **_INNODB,
    )


def _create_stale_periods() -> None:
    op.create_table(
        "stale_periods",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("resolution", sa.String(32), nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Index("stale_periods_by_time", "resolution", "start_us"),
        **_INNODB,
    )


def _create_route_events() -> None:
    op.create_table(
        "route_events",
        sa.Column("source", sa.String(15), primary_key=True),
        sa.Column("destination", sa.String(15), primary_key=True),
        sa.Column("at_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("old_points", _LONG_TEXT, nullable=False, comment="JSON array of addresses"),
        sa.Column("new_points", _LONG_TEXT, nullable=False, comment="JSON array of addresses"),
        sa.Column(
            "duration_us", sa.BigInteger, comment="how long the old path had stood; null when that is not known"
        ),
        sa.Index("route_events_by_time", "at_us"),
        **_INNODB,
    )


def _create_latest_routes() -> None:
    op.create_table(
        "latest_routes",
        sa.Column("source", sa.String(15), primary_key=True),
        sa.Column("destination", sa.String(15), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("points", _LONG_TEXT, nullable=False, comment="addresses separated by spaces"),
        sa.Index("latest_routes_by_time", "at_us"),
        **_INNODB,
    )


def _days_of_requests() -> range:
    if "requests" not in _tables():
        return range(0)
    times = _REQUESTS.c.requested_at_us
    first, last = op.get_bind().execute(sa.select(sa.func.min(times), sa.func.max(times))).one()
    if first is None:
        return range(0)
    end = last // _US_PER_DAY + 1
    return range(max(first // _US_PER_DAY, end - _MAX_PARTITIONS), end)


def _partitions(days: Iterable[int], column: str) -> str:
    daily = [f"PARTITION d{day + 1} VALUES LESS THAN ({(day + 1) * _US_PER_DAY})" for day in days]
    return f"RANGE ({column}) ({', '.join((*daily, 'PARTITION later VALUES LESS THAN MAXVALUE'))})"


def _mark_all_minutes() -> None:
    marks = (
        "INSERT INTO stale_periods (resolution, start_us) SELECT DISTINCT 'minute', "
        f"requested_at_us - requested_at_us % {_US_PER_MINUTE} FROM results "
        "WHERE status IN ('complete', 'partial')"
    )
    op.execute(marks)


def _batches(table: sa.Table) -> Iterator[Sequence[_Row]]:
    """All rows of a table in the order of their ids."""
    connection = op.get_bind()
    last = ""
    while (
        rows := connection.execute(sa.select(table).where(table.c.id > last).order_by(table.c.id).limit(_BATCH))
        .mappings()
        .all()
    ):
        yield [dict(row) for row in rows]
        last = rows[-1]["id"]


def _move(parts: Iterable[tuple[sa.Table, Sequence[_Row]]]) -> None:
    connection = op.get_bind()
    for table, rows in parts:
        if rows:
            connection.execute(table.insert(), rows)
        if _is_mysql():
            connection.exec_driver_sql("COMMIT")  # one transaction for all would keep what it can undo in memory


def _results(requests: Sequence[_Row]) -> Iterator[_Row]:
    ids = [request["id"] for request in requests]
    segments, metrics, composed = (_children(table, ids) for table in (_SEGMENTS, _SEGMENT_METRICS, _COMPOSED))
    for request in requests:
        one = request["id"]
        order = {name: index for index, name in enumerate(request["metrics"].split())}
        path = sorted(segments[one], key=lambda row: int(row["position"]))
        values = sorted(metrics[one], key=lambda row: order.get(row["metric"], len(order)))
        whole = sorted(composed[one], key=lambda row: order.get(row["metric"], len(order)))
        yield {
            **request,
            "points": _points(request, path),
            "segments": json.dumps([_segment(row, values) for row in path], separators=(",", ":")),
            "composed": json.dumps({row["metric"]: _metric(row) for row in whole}, separators=(",", ":")),
        }


def _children(table: sa.Table, ids: Sequence[str]) -> dict[str, list[_Row]]:
    rows: dict[str, list[_Row]] = defaultdict(list)
    for row in op.get_bind().execute(sa.select(table).where(table.c.request_id.in_(ids))).mappings():
        rows[row["request_id"]].append({str(name): value for name, value in row.items()})
    return rows


def _points(request: _Row, path: Sequence[_Row]) -> str | None:
    if request["status"] != "complete" or not path:
        return None
    return " ".join((path[0]["upstream"], *(row["current"] for row in path)))


def _segment(row: _Row, metrics: Sequence[_Row]) -> dict[str, Any]:
    time_us = row["measured_at_us"]
    return {
        **{name: row[name] for name in ("upstream", "current", "state")},
        "measured_at": None if time_us is None else rfc3339_from_us(time_us, decimals=3),
        "metrics": {
            metric["metric"]: {
                **{name: metric[name] for name in ("value", "unit", "count")},
                **json.loads(metric["statistics"]),
            }
            for metric in metrics
            if metric["position"] == row["position"]
        },
    }


def _metric(row: _Row) -> dict[str, Any]:
    binding = {"upstream": row["binding_upstream"], "current": row["binding_current"]}
    quantiles = {name: row[name] for name in ("p50", "p95", "p99")}
    return {
        **{name: row[name] for name in ("value", "unit", "low", "high", "oldest_age_s", "count")},
        "binding_segment": None if row["binding_upstream"] is None else binding,
        "method": row["method"],
        "flags": row["flags"].split(),
        "quantiles": None if row["quantile_method"] is None else {**quantiles, "method": row["quantile_method"]},
    }


def _old_rows(results: Sequence[_Row]) -> Iterator[tuple[sa.Table, Sequence[_Row]]]:
    paths = {result["id"]: json.loads(result["segments"]) for result in results}
    columns = [column.name for column in _REQUESTS.columns]
    yield _REQUESTS, [{name: result[name] for name in columns} for result in results]
    yield _SEGMENTS, [_old_segment(one, *pair) for one, path in paths.items() for pair in enumerate(path)]
    yield (
        _SEGMENT_METRICS,
        [
            _old_segment_metric(one, position, name, values)
            for one, path in paths.items()
            for position, segment in enumerate(path)
            for name, values in segment["metrics"].items()
        ],
    )
    yield (
        _COMPOSED,
        [
            _old_composed(result["id"], name, metric)
            for result in results
            for name, metric in json.loads(result["composed"]).items()
        ],
    )


def _old_segment(one: str, position: int, segment: _Row) -> _Row:
    time = segment["measured_at"]
    return {
        "request_id": one,
        "position": position,
        **{name: segment[name] for name in ("upstream", "current", "state")},
        "measured_at_us": None if time is None else us_from_rfc3339(time),
    }


def _old_segment_metric(one: str, position: int, name: str, values: _Row) -> _Row:
    own = {key: values.get(key) for key in ("value", "unit", "count")}
    others = json.dumps({key: value for key, value in values.items() if key not in own})
    return {"request_id": one, "position": position, "metric": name, **own, "statistics": others}


def _old_composed(one: str, name: str, metric: _Row) -> _Row:
    binding = metric["binding_segment"] or {"upstream": None, "current": None}
    quantiles = metric["quantiles"] or dict.fromkeys(("p50", "p95", "p99", "method"))
    return {
        "request_id": one,
        "metric": name,
        **{key: metric[key] for key in ("value", "unit", "low", "high", "oldest_age_s", "count", "method")},
        "binding_upstream": binding["upstream"],
        "binding_current": binding["current"],
        "flags": " ".join(metric["flags"]),
        **{key: quantiles[key] for key in ("p50", "p95", "p99")},
        "quantile_method": quantiles["method"],
    }
