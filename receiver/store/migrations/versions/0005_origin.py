"""How a request travelled, and what the tags of its answer are worth."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_COLUMNS = ("carrier", "authenticity")


def upgrade() -> None:
    """Add the columns; of what was stored before, neither is known."""
    for name in _COLUMNS:
        op.add_column("results", sa.Column(name, sa.String(32)))


def downgrade() -> None:
    """Drop the columns."""
    for name in reversed(_COLUMNS):
        op.drop_column("results", name)
