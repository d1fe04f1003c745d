"""The first tables: clusters, workers, nodes, instances; keys, operations, outbox; managers and their claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision: str | None = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    _make_estate()
    _make_operations()
    _make_keys_and_outbox()
    _make_claims()


def downgrade() -> None:
    """Remove the tables with all that is in them."""
    for table in (
        "shard_claims",
        "managers",
        "outbox",
        "operations",
        "ordering_keys",
        "instances",
        "nodes",
        "workers",
        "clusters",
    ):
        op.drop_table(table)


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _make_estate() -> None:
    op.create_table(
        "clusters",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("driver", sa.String, nullable=False),
        sa.Column("partitions", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("pin", sa.String),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_clusters"),
    )
    op.create_table(
        "workers",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_workers_cluster"), nullable=False),
        sa.Column("driver", sa.String, nullable=False),
        sa.Column("driver_version", sa.String, nullable=False),
        sa.Column("release_lowest", sa.String, nullable=False),
        sa.Column("release_highest", sa.String, nullable=False),
        sa.Column("capabilities", sa.Text, nullable=False),
        sa.Column("state", _NAME, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("admitted_at", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("load", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_index("ix_workers_cluster_id", "workers", ["cluster", "id"])
    op.create_table(
        "nodes",
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_nodes_cluster"), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "name", name="pk_nodes"),
    )
    op.create_table(
        "instances",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_instances_cluster"), nullable=False),
        sa.Column("node", _NAME, nullable=False),
        sa.Column("vcpus", sa.Integer, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("observed", sa.Text),
        sa.Column("parked_by", _NAME),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.UniqueConstraint("name", "cluster", name="uq_instances_name_cluster"),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
    )
    op.create_index("ix_instances_cluster_id", "instances", ["cluster", "id"])
    op.create_index("ix_instances_taken", "instances", ["cluster", "node", "vcpus", "memory_bytes"])


def _make_operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_operations_cluster"), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("release", sa.String, nullable=False),
        sa.Column("key", _NAME, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("submitted_at", sa.Double, nullable=False),
        sa.Column("deadline", sa.Double),
        sa.Column("idempotency_key", _NAME),
        sa.Column("requested_by", sa.String),
        sa.Column("trace", sa.String),
        sa.Column("state", _NAME, nullable=False, server_default=sa.text("'queued'")),
        sa.Column("round", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("granted_round", sa.Integer),
        sa.Column("granted_delivery", sa.Integer),
        sa.Column("granted_question", sa.String),
        sa.Column("granted_wait", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.Column("worker", sa.String),
        sa.Column("answered_clock", sa.String),
        sa.Column("answered_seconds", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("percent", sa.Double),
        sa.Column("stage", sa.String),
        sa.Column("outcome", sa.Text),
        sa.Column("resolution", sa.String),
        sa.Column("touched_at", sa.Double, nullable=False),
        sa.UniqueConstraint("key", "sequence", name="uq_operations_key_sequence"),
        sa.UniqueConstraint("cluster", "idempotency_key", name="uq_operations_cluster_idempotency_key"),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
    )
    op.create_index("ix_operations_cluster_id", "operations", ["cluster", "id"])
    op.create_index("ix_operations_cluster_state_id", "operations", ["cluster", "state", "id"])
    _partial("ix_operations_unsettled", "operations", ["key", "sequence"], "finished_at IS NULL")
    _partial("ix_operations_silent", "operations", ["touched_at", "shard"], "finished_at IS NULL")
    _partial("ix_operations_queued_release", "operations", ["cluster", "release"], "finished_at IS NULL")


def _make_keys_and_outbox() -> None:
    op.create_table(
        "ordering_keys",
        sa.Column("key", _NAME, nullable=False),
        sa.Column("cluster", _NAME, sa.ForeignKey("clusters.name", name="fk_ordering_keys_cluster"), nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("parked_by", _NAME),
        sa.Column("parked_clock", sa.String),
        sa.Column("parked_seconds", sa.Double),
        sa.Column("gap_rounds", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("moved_at", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("key", name="pk_ordering_keys"),
    )
    _partial("ix_ordering_keys_parked", "ordering_keys", ["cluster"], "parked_by IS NOT NULL")
    op.create_table(
        "outbox",
        sa.Column(
            "operation",
            _NAME,
            sa.ForeignKey("operations.id", name="fk_outbox_operation", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("key", _NAME, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("operation", name="pk_outbox"),
    )
    op.create_index("ix_outbox_key_sequence_shard", "outbox", ["key", "sequence", "shard"])


def _make_claims() -> None:
    op.create_table(
        "managers",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_managers"),
    )
    op.create_table(
        "shard_claims",
        sa.Column("shard", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("manager", _NAME),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_shard_claims"),
    )
