"""The tables, as the newest migration leaves them (a test compares the two).

Rules:

1. What the protocol decides on stands in columns of its own; what is only carried (arguments, specifications,
   outcomes) is JSON text.
2. An operation is settled exactly when ``finished_at`` is set.  Partial indexes on ``finished_at IS NULL`` keep every
   question about unsettled operations independent of how many have been settled.
3. Instants are Unix seconds (UTC).  A reading of a monotonic clock takes two columns: the clock's name and the seconds.
4. Text is compared byte by byte (SQLite's default, ``COLLATE "C"`` on PostgreSQL), so that the database and this
   program sort keys alike: rows are locked in that order.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_NAME = String().with_variant(String(collation="C"), "postgresql")


def _partial(name: str, condition: str, *columns: str) -> Index:
    where = text(condition)
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


CLUSTERS = Table(
    "clusters",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("driver", String, nullable=False),
    Column("partitions", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("pin", String),
    Column("created_at", Double, nullable=False),
    # A change of partitions that waits for everything to be settled: nothing is accepted meanwhile.
    Column("wanted_partitions", Integer),
    Column("wanted_since", Double),
)

OLD_EPOCHS = Table(
    "old_epochs",
    METADATA,
    Column("cluster", _NAME, ForeignKey("clusters.name"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("partitions", Integer, nullable=False),
    Column("closed_at", Double, nullable=False),
    Column("deleted_at", Double),
)

WORKERS = Table(
    "workers",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("cluster", _NAME, ForeignKey("clusters.name"), nullable=False),
    Column("driver", String, nullable=False),
    Column("driver_version", String, nullable=False),
    Column("release_lowest", String, nullable=False),
    Column("release_highest", String, nullable=False),
    Column("capabilities", Text, nullable=False),
    Column("state", _NAME, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("admitted_at", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("load", Text, nullable=False),
    # The epoch that it was admitted to, or said that it serves; not known of one from before this column.
    Column("epoch", Integer),
    # Since when it waits to be admitted. Not a state, so that managers from before this column can read the row.
    Column("waiting_since", Double),
    Index("ix_workers_cluster_id", "cluster", "id"),
)

NODES = Table(
    "nodes",
    METADATA,
    Column("cluster", _NAME, ForeignKey("clusters.name"), primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("facts", Text, nullable=False),
    Column("seen_at", Double, nullable=False),
)

INSTANCES = Table(
    "instances",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("cluster", _NAME, ForeignKey("clusters.name"), nullable=False),
    Column("node", _NAME, nullable=False),
    Column("vcpus", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("spec", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("observed", Text),
    Column("parked_by", _NAME),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("name", "cluster"),
    Index("ix_instances_cluster_id", "cluster", "id"),
    # Placement sums these on every create: the index alone answers.
    Index("ix_instances_taken", "cluster", "node", "vcpus", "memory_bytes"),
)

KEYS = Table(
    "ordering_keys",
    METADATA,
    Column("key", _NAME, primary_key=True),
    Column("cluster", _NAME, ForeignKey("clusters.name"), nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False, server_default=text("0")),
    Column("parked_by", _NAME),
    Column("parked_clock", String),
    Column("parked_seconds", Double),
    Column("gap_rounds", Integer, nullable=False, server_default=text("0")),
    # When the position moved last: an operation cannot be stuck at the head before it stood there.
    Column("moved_at", Double, nullable=False, server_default=text("0")),
    _partial("ix_ordering_keys_parked", "parked_by IS NOT NULL", "cluster"),
)

OPERATIONS = Table(
    "operations",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("cluster", _NAME, ForeignKey("clusters.name"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("release", String, nullable=False),
    Column("key", _NAME, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("submitted_at", Double, nullable=False),
    Column("deadline", Double),
    Column("idempotency_key", _NAME),
    Column("requested_by", String),
    Column("trace", String),
    Column("state", _NAME, nullable=False, server_default=text("'queued'")),
    Column("round", Integer, nullable=False, server_default=text("1")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("granted_round", Integer),
    Column("granted_delivery", Integer),
    Column("granted_question", String),
    Column("granted_wait", Double, nullable=False, server_default=text("0")),
    Column("worker", String),
    Column("answered_clock", String),
    Column("answered_seconds", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("percent", Double),
    Column("stage", String),
    Column("outcome", Text),
    Column("resolution", String),
    # The revision that the caller speaks, where the workers get another one.
    Column("asked_revision", Integer),
    # When it was published or answered last; what has been silent for too long is published again.
    Column("touched_at", Double, nullable=False),
    UniqueConstraint("key", "sequence"),
    UniqueConstraint("cluster", "idempotency_key"),
    Index("ix_operations_cluster_id", "cluster", "id"),
    Index("ix_operations_cluster_state_id", "cluster", "state", "id"),
    _partial("ix_operations_unsettled", "finished_at IS NULL", "key", "sequence"),
    _partial("ix_operations_silent", "finished_at IS NULL", "touched_at", "shard"),
    _partial("ix_operations_queued_release", "finished_at IS NULL", "cluster", "release"),
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("operation", _NAME, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("key", _NAME, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("round", Integer, nullable=False),
    Index("ix_outbox_key_sequence_shard", "key", "sequence", "shard"),
)

MANAGERS = Table(
    "managers",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("expires_at", Double, nullable=False),
    # The contract releases that it serves, lowest and highest; not known of a manager from before this column.
    Column("release_lowest", String),
    Column("release_highest", String),
)

SHARD_CLAIMS = Table(
    "shard_claims",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("manager", _NAME),
    Column("expires_at", Double, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("name", _NAME, nullable=False),
    # SHA-256 of the secret, which itself is nowhere.
    Column("digest", String, nullable=False),
    Column("role", String, nullable=False),
    # JSON list of cluster names; none: all clusters.
    Column("clusters", Text),
    Column("created_by", String),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double),
)

REPLIES = Table(
    "replies",
    METADATA,
    Column("token", _NAME, primary_key=True),
    Column("idempotency_key", _NAME, primary_key=True),
    # HMAC-SHA-256, by the token, of method, path, query and body.
    Column("fingerprint", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_replies_created_at", "created_at"),
)

WORKER_GRANTS = Table(
    "worker_grants",
    METADATA,
    Column("user", _NAME, primary_key=True),
    Column("cluster", _NAME, ForeignKey("clusters.name"), nullable=False),
    Column("worker", _NAME, nullable=False),
    Column("granted_at", Double, nullable=False),
    # A revoked one stays: a cluster that ever had a grant trusts nobody without one.
    Column("revoked_at", Double),
    Index("ix_worker_grants_cluster_worker", "cluster", "worker"),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("at", Double, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("request", String),
    Column("action", _NAME, nullable=False),
    Column("cluster", _NAME),
    Column("subject", String),
    Column("operation", String),
    # ``accepted``, or the code of the refusal.
    Column("result", String, nullable=False),
    Index("ix_audit_actor_id", "actor", "id"),
    Index("ix_audit_cluster_id", "cluster", "id"),
)
