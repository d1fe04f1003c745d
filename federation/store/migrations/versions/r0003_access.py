"""Tokens of the REST interface, and its replies to requests that bear an idempotency key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision: str | None = "r0002"

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables; managers of the older release go on beside this one without them."""
    op.create_table(
        "tokens",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("clusters", sa.Text),
        sa.Column("created_by", sa.String),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_table(
        "replies",
        sa.Column("token", _NAME, nullable=False),
        sa.Column("idempotency_key", _NAME, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("token", "idempotency_key", name="pk_replies"),
    )
    op.create_index("ix_replies_created_at", "replies", ["created_at"])


def downgrade() -> None:
    """Remove them."""
    op.drop_table("replies")
    op.drop_table("tokens")
