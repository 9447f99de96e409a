"""How each composed value came about, quantiles of the delay, and room for more metrics in a request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_COLUMNS = ("method", "flags", "p50", "p95", "p99", "quantile_method")

_METHODS_BEFORE = {
    "delay": "sum",
    "rtt": "sum",
    "loss": "complement-product",
    "jitter": "cumulants",
}
"""Of the metrics that there were, each had one."""


def upgrade() -> None:
    """Add the columns, and say what is known of older results."""
    op.add_column("composed", sa.Column("method", sa.String(32)))
    op.add_column("composed", sa.Column("flags", sa.String(255), comment="names separated by spaces"))
    for quantile in ("p50", "p95", "p99"):
        op.add_column("composed", sa.Column(quantile, sa.Double))
    op.add_column("composed", sa.Column("quantile_method", sa.String(32)))
    _fill()
    with op.batch_alter_table("composed") as composed:  # SQLite builds it anew; it has no children
        composed.alter_column("method", existing_type=sa.String(32), nullable=False)
        composed.alter_column(
            "flags",
            existing_type=sa.String(255),
            existing_comment="names separated by spaces",
            nullable=False,
        )
    _size_metrics(255, 1056)


def downgrade() -> None:
    """Drop the columns; names of metrics that do not fit are cut off behind the last that does."""
    _shorten_metrics()
    _size_metrics(1056, 255)
    with op.batch_alter_table("composed") as composed:
        for column in _COLUMNS:
            composed.drop_column(column)


def _fill() -> None:
    composed = sa.table("composed", *(sa.column(name) for name in ("metric", "value", "method", "flags")))
    method = sa.case(_METHODS_BEFORE, value=composed.c.metric, else_="sum")
    flags = sa.case((composed.c.value.is_(None), "partial"), else_="")
    op.execute(composed.update().values(method=method, flags=flags))


def _shorten_metrics() -> None:
    requests = sa.table("requests", sa.column("id"), sa.column("metrics"))
    connection = op.get_bind()
    long = sa.select(requests.c.id, requests.c.metrics).where(sa.func.length(requests.c.metrics) > 255)
    for identifier, metrics in connection.execute(long).all():
        shortened = metrics[:256].rpartition(" ")[0]
        connection.execute(requests.update().where(requests.c.id == identifier).values(metrics=shortened))


def _size_metrics(before: int, after: int) -> None:
    # SQLite heeds no length, and to build the table anew would drop its children.
    if op.get_context().dialect.name == "mysql":
        op.alter_column(
            "requests",
            "metrics",
            existing_type=sa.String(before),
            existing_nullable=False,
            existing_comment="names separated by spaces",
            type_=sa.String(after),
        )
