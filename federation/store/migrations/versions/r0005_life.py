"""Epochs that follow one another, the epoch that a worker speaks of, and who asked for what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision: str | None = "r0004"

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns that may be empty and tables; managers of the older release go on beside this one."""
    op.add_column("clusters", sa.Column("wanted_partitions", sa.Integer))
    op.add_column("clusters", sa.Column("wanted_since", sa.Double))
    op.add_column("workers", sa.Column("epoch", sa.Integer))
    op.create_table(
        "old_epochs",
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_old_epochs_cluster"), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("partitions", sa.Integer, nullable=False),
        sa.Column("closed_at", sa.Double, nullable=False),
        sa.Column("deleted_at", sa.Double),
        sa.PrimaryKeyConstraint("cluster", "epoch", name="pk_old_epochs"),
    )
    op.create_table(
        "audit",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", _NAME, nullable=False),
        sa.Column("request", sa.String),
        sa.Column("action", _NAME, nullable=False),
        sa.Column("cluster", _NAME),
        sa.Column("subject", sa.String),
        sa.Column("operation", sa.String),
        sa.Column("result", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_actor_id", "audit", ["actor", "id"])
    op.create_index("ix_audit_cluster_id", "audit", ["cluster", "id"])


def downgrade() -> None:
    """Remove them: a change of partitions that is under way is taken back, the audit log is lost."""
    op.drop_table("audit")
    op.drop_table("old_epochs")
    op.drop_column("workers", "epoch")
    op.drop_column("clusters", "wanted_since")
    op.drop_column("clusters", "wanted_partitions")
