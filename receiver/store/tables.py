"""The tables of the result store; `migrations/` brings a database to exactly these.

Times are whole microseconds since the Unix epoch in UTC: the same on every database, exact, and sortable.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.types import CHAR

ID_LENGTH = 32
ADDRESS_LENGTH = 15
NAME_LENGTH = 32
METRICS_LENGTH = 32 * (NAME_LENGTH + 1)
"""A request names at most 32 metrics."""

# TEXT of MariaDB ends at 64 KiB, and a long path with one warning for each segment comes near.
LONG_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql")

# SQLite heeds no length, and to change it there means to build the table anew below its children.
METRIC_NAMES = String(255).with_variant(String(METRICS_LENGTH), "mysql")

_INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}

METADATA = MetaData()

RESULTS = Table(
    "results",
    METADATA,
    # By time first: what comes in goes to the end of the table, and a stretch of time lies in one piece.
    Column("requested_at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("id", CHAR(ID_LENGTH), primary_key=True),
    Column("status", String(NAME_LENGTH), nullable=False),
    Column("source", String(ADDRESS_LENGTH), nullable=False),
    Column("destination", String(ADDRESS_LENGTH), nullable=False),
    Column("metrics", METRIC_NAMES, nullable=False, comment="names separated by spaces"),
    Column("elapsed_ms", Double),
    Column("points", LONG_TEXT, comment="addresses separated by spaces; null unless complete"),
    Column("segments", LONG_TEXT, nullable=False, comment="JSON array, as in result.schema.json"),
    Column("composed", LONG_TEXT, nullable=False, comment="JSON object, as in result.schema.json"),
    Column("warnings", LONG_TEXT, nullable=False, comment="JSON array of strings"),
    Column("carrier", String(NAME_LENGTH)),
    Column("authenticity", String(NAME_LENGTH)),
    Index("results_by_id", "id"),
    Index("results_by_path", "source", "destination", "requested_at_us"),
    **_INNODB,
)
"""One row for each request. On MariaDB in daily partitions, which forbid foreign keys: hence no child tables."""


def _rollup_table(name: str) -> Table:
    return Table(
        name,
        METADATA,
        Column("source", String(ADDRESS_LENGTH), primary_key=True),
        Column("destination", String(ADDRESS_LENGTH), primary_key=True),
        Column("metric", String(NAME_LENGTH), primary_key=True),
        Column("start_us", BigInteger, primary_key=True, autoincrement=False),
        Column("count", BigInteger, nullable=False),
        Column("total", Double, nullable=False),
        Column("minimum", Double, nullable=False),
        Column("maximum", Double, nullable=False),
        Column("histogram", LONG_TEXT, nullable=False, comment="bin:count, see value_histogram.py"),
        Index(f"{name}_by_time", "start_us"),
        **_INNODB,
    )


MINUTES = _rollup_table("minutes")
HOURS = _rollup_table("hours")

STALE_PERIODS = Table(
    "stale_periods",
    METADATA,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("resolution", String(NAME_LENGTH), nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Index("stale_periods_by_time", "resolution", "start_us"),
    **_INNODB,
)
"""Periods whose roll-up does not know all their results: one row for each transaction that brought some. And
one row, with a resolution that is none, that says up to where results are forgotten."""

ROUTE_EVENTS = Table(
    "route_events",
    METADATA,
    Column("source", String(ADDRESS_LENGTH), primary_key=True),
    Column("destination", String(ADDRESS_LENGTH), primary_key=True),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("old_points", LONG_TEXT, nullable=False, comment="JSON array of addresses"),
    Column("new_points", LONG_TEXT, nullable=False, comment="JSON array of addresses"),
    Column("duration_us", BigInteger, comment="how long the old path had stood; null when that is not known"),
    Index("route_events_by_time", "at_us"),
    **_INNODB,
)

LATEST_ROUTES = Table(
    "latest_routes",
    METADATA,
    Column("source", String(ADDRESS_LENGTH), primary_key=True),
    Column("destination", String(ADDRESS_LENGTH), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("points", LONG_TEXT, nullable=False, comment="addresses separated by spaces"),
    Index("latest_routes_by_time", "at_us"),
    **_INNODB,
)
"""The newest complete result of each pair that is rolled up."""

CLOSURE_CHECKS = Table(
    "closure_checks",
    METADATA,
    Column("id", CHAR(ID_LENGTH), primary_key=True),
    Column("request_id", CHAR(ID_LENGTH), nullable=False),
    Column("source", String(ADDRESS_LENGTH), nullable=False),
    Column("destination", String(ADDRESS_LENGTH), nullable=False),
    Column("checked_at_us", BigInteger, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("verdict", String(NAME_LENGTH), nullable=False),
    Column("warnings", LONG_TEXT, nullable=False, comment="JSON array of strings"),
    Index("closure_checks_by_path", "source", "destination", "checked_at_us"),
    Index("closure_checks_by_time", "checked_at_us"),
    **_INNODB,
)

CLOSURE_METRICS = Table(
    "closure_metrics",
    METADATA,
    Column("check_id", CHAR(ID_LENGTH), ForeignKey("closure_checks.id", ondelete="CASCADE"), primary_key=True),
    Column("metric", String(NAME_LENGTH), primary_key=True),
    Column("unit", String(NAME_LENGTH), nullable=False),
    *(
        Column(f"{what}_{end}", Double)
        for what in ("direct", "composed", "difference")
        for end in ("value", "low", "high")
    ),
    Column("agrees", SmallInteger, comment="1, 0, or null without a value"),
    **_INNODB,
)
