"""What the store keeps, as plain records: written by the manager, stored by the store, shown by API and CLI."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from federation.contract.outcomes import Outcome
from federation.protocol.envelope import Command


class OperationState(enum.StrEnum):
    """Where an operation stands; the last four are the kinds of outcome."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"

    @property
    def settled(self) -> bool:
        """Whether it has an outcome."""
        return self not in {OperationState.QUEUED, OperationState.RUNNING}


class WorkerState(enum.StrEnum):
    """Where a worker stands."""

    ADMITTED = "admitted"
    DRAINING = "draining"
    LEFT = "left"
    LOST = "lost"
    """It has not been heard of for longer than ``worker_timeout``."""


class ClusterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster; ``pin`` is the contract release it speaks, None before its first worker; times are Unix seconds."""

    name: str
    driver: str
    partitions: int
    epoch: int = 1
    pin: str | None = None
    created_at: float = 0.0


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it announced itself, and when it was last heard of (Unix seconds)."""

    id: str
    cluster: str
    driver: str
    driver_version: str
    release_lowest: str
    release_highest: str
    capabilities: dict[str, Any]
    state: WorkerState
    host: str = ""
    pid: int = 0
    admitted_at: float = 0.0
    last_seen: float = 0.0
    load: dict[str, float] = {}


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A node's inventory as a worker reported it last; ``facts`` is a contract Node in builtin types."""

    cluster: str
    name: str
    facts: dict[str, Any]
    seen_at: float


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as the manager knows it.

    ``spec`` is the InstanceSpec in builtin types; ``observed`` the last contract Instance a worker reported;
    ``vcpus`` and ``memory_bytes`` are what placement counts as taken on ``node``.
    """

    id: str
    name: str
    cluster: str
    node: str
    vcpus: int
    memory_bytes: int
    spec: dict[str, Any]
    state: str
    """building, then a power state of the contract, deleting, failed."""
    observed: dict[str, Any] | None = None
    parked_by: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


class OperationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An operation and how far it has come; times are Unix seconds.

    ``resolution`` says what an operator decided about an unknown outcome: accepted, abandoned, retried.
    """

    id: str
    cluster: str
    name: str
    revision: int
    key: str
    sequence: int
    partition: int
    state: OperationState
    arguments: dict[str, Any]
    release: str
    submitted_at: float
    deadline: float | None = None
    round: int = 1
    attempt: int = 0
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    cancel_requested: bool = False
    percent: float | None = None
    stage: str | None = None
    outcome: Outcome | None = None
    resolution: str | None = None
    requested_by: str | None = None


class NewOperation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation about to be accepted: everything but its sequence."""

    id: str
    cluster: str
    epoch: int
    name: str
    revision: int
    release: str
    key: str
    partition: int
    shard: int
    arguments: dict[str, Any]
    submitted_at: float
    deadline: float | None = None
    idempotency_key: str | None = None
    requested_by: str | None = None
    trace: str | None = None


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A command that has to be published, with the shard whose owner publishes it."""

    shard: int
    command: Command


class WaitingCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the outbox, without the command that it stands for."""

    operation: str
    key: str
    sequence: int
    round: int
