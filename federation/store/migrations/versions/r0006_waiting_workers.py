"""Workers of an older release that wait to be admitted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0006"
down_revision: str | None = "r0005"


def upgrade() -> None:
    """Add a column that may be empty; managers of the older release go on beside this one."""
    op.add_column("workers", sa.Column("waiting_since", sa.Double))


def downgrade() -> None:
    """Remove it: a worker that waits asks again."""
    op.drop_column("workers", "waiting_since")
