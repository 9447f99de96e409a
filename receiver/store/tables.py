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
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.types import CHAR

ID_LENGTH = 32
ADDRESS_LENGTH = 15
NAME_LENGTH = 32

# TEXT of MariaDB ends at 64 KiB, and a long path with one warning for each segment comes near.
LONG_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql")

_INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}

METADATA = MetaData()

REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", CHAR(ID_LENGTH), primary_key=True),
    Column("status", String(NAME_LENGTH), nullable=False),
    Column("source", String(ADDRESS_LENGTH), nullable=False),
    Column("destination", String(ADDRESS_LENGTH), nullable=False),
    Column("metrics", String(255), nullable=False, comment="names separated by spaces"),
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
    **_INNODB,
)
