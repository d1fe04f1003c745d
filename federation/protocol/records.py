"""What the store keeps, as plain records: written by the manager, stored by the store, shown by API and CLI."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

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
    """A cluster; ``pin`` is the contract release it speaks, None before its first worker; times are Unix seconds.

    ``wanted_partitions`` is set while the next epoch, with so many, waits for everything to be settled.
    """

    name: str
    driver: str
    partitions: int
    epoch: int = 1
    pin: str | None = None
    created_at: float = 0.0
    wanted_partitions: int | None = None
    wanted_since: float | None = None


class OldEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that is over; ``deleted_at`` is when its queues were deleted; times are Unix seconds."""

    cluster: str
    epoch: int
    partitions: int
    closed_at: float
    deleted_at: float | None = None


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """What is unsettled in a cluster, how much of it runs, and the newest operation.

    ``blocked`` are parked keys (some of them) with unsettled operations behind: they wait for an operator.
    """

    unsettled: int
    running: int
    newest: str | None
    blocked: tuple[str, ...] = ()


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
    epoch: int | None = None
    waiting_since: float | None = None
    """It waits to be admitted until what its release does not know has been carried out; its state is ``left`` so long."""


class WorkerGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A broker user that may speak for one worker of one cluster; times are Unix seconds."""

    user: str
    cluster: str
    worker: str
    granted_at: float
    revoked_at: float | None = None


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A node's inventory as a worker reported it last; ``facts`` is a contract Node in builtin types.

    ``parked_by`` is the operation that parked the node; it is read with the record and not written by it.
    """

    cluster: str
    name: str
    facts: dict[str, Any]
    seen_at: float
    parked_by: str | None = None


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

    ``revision`` is what the workers get; ``asked_revision`` what the caller speaks where that is another one: a result
    is then one of the caller's.  ``resolution`` says what an operator decided about an unknown outcome: accepted,
    abandoned, retried.
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
    asked_revision: int | None = None


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
    asked_revision: int | None = None


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


class Role(enum.StrEnum):
    """What the bearer of a token may do; each may do all that those before it may."""

    READER = "reader"
    """Look at everything but consoles."""
    OPERATOR = "operator"
    """Change instances and nodes, cancel, resolve, see consoles."""
    ADMIN = "admin"
    """Make and remove clusters, drain workers; keep tokens, where the bearer is good for all clusters."""


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A token of the REST interface; ``digest`` is the SHA-256 of its secret, ``clusters`` None where it is good for all.

    Times are Unix seconds.
    """

    id: str
    name: str
    digest: str
    role: Role
    clusters: tuple[str, ...] | None = None
    created_by: str | None = None
    created_at: float = 0.0
    expires_at: float = 0.0
    revoked_at: float | None = None


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked for what: ``result`` is ``accepted`` or the code of the refusal; ``at`` is Unix seconds.

    ``action`` is an operation of the contract or a use case of the manager; ``subject`` what it is about, as it was named;
    ``operation`` what was accepted.
    """

    id: str
    at: float
    actor: str
    request: str | None = None
    action: str
    cluster: str | None = None
    subject: str | None = None
    operation: str | None = None
    result: str


class SavedReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the REST interface replied to a token's idempotency key; ``fingerprint`` is that of the request.

    ``status`` is HTTP's, or UNDER_WAY for a request that has not been replied to (yet).
    """

    UNDER_WAY: ClassVar[int] = 0

    token: str
    idempotency_key: str
    fingerprint: str
    status: int
    body: str
    created_at: float
