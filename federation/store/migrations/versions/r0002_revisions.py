"""The revision that a caller speaks, and the contract releases that each manager serves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision: str | None = "r0001"


def upgrade() -> None:
    """Add columns that may be empty: managers of the older release go on beside this one."""
    op.add_column("operations", sa.Column("asked_revision", sa.Integer))
    op.add_column("managers", sa.Column("release_lowest", sa.String))
    op.add_column("managers", sa.Column("release_highest", sa.String))


def downgrade() -> None:
    """Remove them."""
    op.drop_column("managers", "release_highest")
    op.drop_column("managers", "release_lowest")
    op.drop_column("operations", "asked_revision")
