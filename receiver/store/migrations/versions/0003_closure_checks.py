"""Checks that hold composed paths against direct measurements."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0003"
down_revision = "0002"

_INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "closure_checks",
        sa.Column("id", sa.CHAR(32), primary_key=True),
        sa.Column("request_id", sa.CHAR(32), nullable=False),
        sa.Column("source", sa.String(15), nullable=False),
        sa.Column("destination", sa.String(15), nullable=False),
        sa.Column("checked_at_us", sa.BigInteger, nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column(
            "warnings",
            sa.Text().with_variant(MEDIUMTEXT(), "mysql"),
            nullable=False,
            comment="JSON array of strings",
        ),
        sa.Index("closure_checks_by_path", "source", "destination", "checked_at_us"),
        **_INNODB,
    )
    op.create_table(
        "closure_metrics",
        sa.Column(
            "check_id", sa.CHAR(32), sa.ForeignKey("closure_checks.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("metric", sa.String(32), primary_key=True),
        sa.Column("unit", sa.String(32), nullable=False),
        *(
            sa.Column(f"{what}_{end}", sa.Double)
            for what in ("direct", "composed", "difference")
            for end in ("value", "low", "high")
        ),
        sa.Column("agrees", sa.SmallInteger, comment="1, 0, or null without a value"),
        **_INNODB,
    )


def downgrade() -> None:
    """Drop the tables, the child first."""
    op.drop_table("closure_metrics")
    op.drop_table("closure_checks")
