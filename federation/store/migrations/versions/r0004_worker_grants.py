"""Which broker user speaks for which worker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision: str | None = "r0003"

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table; managers of the older release go on beside this one and check nothing."""
    op.create_table(
        "worker_grants",
        sa.Column("user", _NAME, nullable=False),
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_worker_grants_cluster"), nullable=False),
        sa.Column("worker", _NAME, nullable=False),
        sa.Column("granted_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("user", name="pk_worker_grants"),
    )
    op.create_index("ix_worker_grants_cluster_worker", "worker_grants", ["cluster", "worker"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("worker_grants")
