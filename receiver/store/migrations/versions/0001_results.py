"""Requests with their segments and composed metrics."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0001"
down_revision = None

_LONG_TEXT = sa.Text().with_variant(MEDIUMTEXT(), "mysql")
_INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def upgrade() -> None:
    """Create the tables, parents first."""
    _create_requests()
    _create_segments()
    _create_segment_metrics()
    _create_composed()


def downgrade() -> None:
    """Drop the tables, children first."""
    for table in ("composed", "segment_metrics", "segments", "requests"):
        op.drop_table(table)


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.CHAR(32), primary_key=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("source", sa.String(15), nullable=False),
        sa.Column("destination", sa.String(15), nullable=False),
        sa.Column("metrics", sa.String(255), nullable=False, comment="names separated by spaces"),
        sa.Column("requested_at_us", sa.BigInteger, nullable=False),
        sa.Column("elapsed_ms", sa.Double),
        sa.Column("warnings", _LONG_TEXT, nullable=False, comment="JSON array of strings"),
        sa.Index("requests_by_time", "requested_at_us"),
        sa.Index("requests_by_path", "source", "destination", "requested_at_us"),
        **_INNODB,
    )


def _create_segments() -> None:
    op.create_table(
        "segments",
        sa.Column("request_id", sa.CHAR(32), sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
        sa.Column(
            "position", sa.Integer, primary_key=True, autoincrement=False, comment="0 is the segment at the source"
        ),
        sa.Column("upstream", sa.String(15), nullable=False),
        sa.Column("current", sa.String(15), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("measured_at_us", sa.BigInteger),
        **_INNODB,
    )


def _create_segment_metrics() -> None:
    op.create_table(
        "segment_metrics",
        sa.Column("request_id", sa.CHAR(32), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("metric", sa.String(32), primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("statistics", _LONG_TEXT, nullable=False, comment="JSON object of the other statistics"),
        sa.ForeignKeyConstraint(
            ["request_id", "position"], ["segments.request_id", "segments.position"], ondelete="CASCADE"
        ),
        **_INNODB,
    )


def _create_composed() -> None:
    op.create_table(
        "composed",
        sa.Column("request_id", sa.CHAR(32), sa.ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("metric", sa.String(32), primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("oldest_age_s", sa.Double),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("binding_upstream", sa.String(15)),
        sa.Column("binding_current", sa.String(15)),
        **_INNODB,
    )
