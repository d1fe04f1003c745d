"""Stable maps: ordering key to partition, partition to results queue, worker to its priority on a partition.

They are part of the wire contract: every process of every release must compute the same, so they use BLAKE2b and never
Python's own hash.
"""

from __future__ import annotations

import hashlib

SHARDS = 32
"""Results queues, and outbox shards: one number for the whole installation."""

PRIORITIES = 1 << 30
"""Consumer priorities are spread over this many values; RabbitMQ takes 32-bit signed integers."""


def _hash(*parts: str) -> int:
    digest = hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def partition_of(key: str, partitions: int) -> int:
    """The partition of an ordering key, 0 to ``partitions - 1``."""
    return _hash("partition", key) % partitions


def shard_of(cluster: str, partition: int) -> int:
    """The results queue (and outbox shard) of a cluster's partition, spread evenly within each cluster."""
    return (_hash("shard", cluster) + partition) % SHARDS


def consumer_priority(consumer: str, queue: str) -> int:
    """Rendezvous hashing by the broker: every consumer of a queue has its own pseudo-random priority on it."""
    return _hash("priority", consumer, queue) % PRIORITIES
