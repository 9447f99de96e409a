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
    ForeignKeyConstraint,
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

REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", CHAR(ID_LENGTH), primary_key=True),
    Column("status", String(NAME_LENGTH), nullable=False),
    Column("source", String(ADDRESS_LENGTH), nullable=False),
    Column("destination", String(ADDRESS_LENGTH), nullable=False),
    Column("metrics", METRIC_NAMES, nullable=False, comment="names separated by spaces"),
    Column("requested_at_us", BigInteger, nullable=False),
    Column("elapsed_ms", Double),
    Column("warnings", LONG_TEXT, nullable=False, comment="JSON array of strings"),
    Index("requests_by_time", "requested_at_us"),
    Index("requests_by_path", "source", "destination", "requested_at_us"),
    **_INNODB,
)

SEGMENTS = Table(
    "segments",
    METADATA,
    Column("request_id", CHAR(ID_LENGTH), ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False, comment="0 is the segment at the source"),
    Column("upstream", String(ADDRESS_LENGTH), nullable=False),
    Column("current", String(ADDRESS_LENGTH), nullable=False),
    Column("state", String(NAME_LENGTH), nullable=False),
    Column("measured_at_us", BigInteger),
    **_INNODB,
)

SEGMENT_METRICS = Table(
    "segment_metrics",
    METADATA,
    Column("request_id", CHAR(ID_LENGTH), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("metric", String(NAME_LENGTH), primary_key=True),
    Column("value", Double),
    Column("unit", String(NAME_LENGTH), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("statistics", LONG_TEXT, nullable=False, comment="JSON object of the other statistics"),
    ForeignKeyConstraint(
        ["request_id", "position"], ["segments.request_id", "segments.position"], ondelete="CASCADE"
    ),
    **_INNODB,
)

COMPOSED = Table(
    "composed",
    METADATA,
    Column("request_id", CHAR(ID_LENGTH), ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    Column("metric", String(NAME_LENGTH), primary_key=True),
    Column("value", Double),
    Column("unit", String(NAME_LENGTH), nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("oldest_age_s", Double),
    Column("count", BigInteger, nullable=False),
    Column("binding_upstream", String(ADDRESS_LENGTH)),
    Column("binding_current", String(ADDRESS_LENGTH)),
    Column("method", String(NAME_LENGTH), nullable=False),
    Column("flags", String(255), nullable=False, comment="names separated by spaces"),
    Column("p50", Double),
    Column("p95", Double),
    Column("p99", Double),
    Column("quantile_method", String(NAME_LENGTH)),
    **_INNODB,
)

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
