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
)

SHARD_CLAIMS = Table(
    "shard_claims",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("manager", _NAME),
    Column("expires_at", Double, nullable=False),
)
