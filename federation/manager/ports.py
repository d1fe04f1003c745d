"""What the manager needs from the world: a store, and the bus's ordered traffic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from federation.contract.outcomes import Outcome
from federation.protocol.envelope import Answer, Command, Result
from federation.protocol.ledger import KeyFacts, OperationFacts
from federation.protocol.records import (
    ClusterRecord,
    InstanceRecord,
    NewOperation,
    NodeRecord,
    OperationRecord,
    OperationState,
    Outgoing,
    WaitingCopy,
    WorkerRecord,
    WorkerState,
)


class Ledger(Protocol):
    """The ordered part of one transaction.  Everything read by key is locked until the transaction ends."""

    def accept(self, operation: NewOperation) -> OperationRecord:
        """Give the operation the next sequence of its key and write it together with its outbox row.

        An idempotency key that was used before in the cluster (two callers at once) gives the earlier operation.
        """

    def accepted_before(self, cluster: str, idempotency_key: str) -> OperationRecord | None:
        """The operation that was accepted with this key, None when it is new."""

    def keys(self, keys: Collection[str]) -> dict[str, KeyFacts]:
        """The facts of these keys, locked in one order everywhere (sorted) so that transactions cannot deadlock."""

    def operations(self, ids: Collection[str]) -> dict[str, OperationFacts]:
        """The facts of these operations."""

    def unsettled(self, key: str) -> list[OperationFacts]:
        """The operations of a key that have no outcome, by sequence."""

    def last_sequence(self, key: str) -> int:
        """The sequence of the last accepted operation of a key, 0 when there is none."""

    def save(
        self,
        keys: Iterable[KeyFacts],
        operations: Iterable[OperationFacts],
        outcomes: Mapping[str, Outcome],
        now: float,
    ) -> None:
        """Write changed facts and outcomes (by operation id).

        A granted operation becomes running, a settled one leaves the outbox.
        """

    def new_round(self, ids: Collection[str]) -> list[Outgoing]:
        """Raise the round of these operations by one and put them (back) into the outbox.

        Returned by key and sequence; what is settled is left out.
        """

    def confirmed(self, copies: Iterable[tuple[str, int]]) -> None:
        """Take (operation id, round) out of the outbox, where the round is still the current one."""

    def unpublished(self, shards: Collection[int], limit: int, after: tuple[str, int] | None = None) -> list[Outgoing]:
        """What stands in the outbox of these shards, by key and sequence, from behind the (key, sequence) ``after``."""

    def waiting_copies(
        self, shards: Collection[int], limit: int, after: tuple[str, int] | None = None
    ) -> list[WaitingCopy]:
        """The same rows as ``unpublished``, told by their identity only: much cheaper when most are known."""

    def outgoing(self, ids: Collection[str]) -> list[Outgoing]:
        """What stands in the outbox of these operations, by key and sequence."""

    def stuck(self, shards: Collection[int], before: float, limit: int) -> list[str]:
        """Ids of unsettled operations at the head of their unparked key that nothing has moved since ``before``.

        What counts is when they were published or last answered (Unix seconds); what is in the outbox is left out.
        """

    def unstartable(self, now: float, limit: int) -> list[tuple[str, str]]:
        """(key, operation id) at the head of unparked keys, never granted, and cancelled or past the deadline."""

    def request_cancel(self, operation: str) -> OperationRecord | None:
        """Write the wish to cancel; None when there is no such operation."""

    def progress(self, operation: str, attempt: int, percent: float | None, stage: str | None) -> None:
        """Write how far an attempt has come, if it is the newest and not settled."""

    def resolution(self, operation: str, resolution: str) -> None:
        """Write what an operator decided about an unknown outcome."""


class Estate(Protocol):
    """The rest of one transaction: clusters, workers, nodes, instances, and reads for people."""

    def add_cluster(self, cluster: ClusterRecord) -> None:
        """Add, or raise AlreadyExists."""

    def cluster(self, name: str, *, lock: bool = False) -> ClusterRecord | None:
        """One cluster; ``lock`` serialises admission and pin changes."""

    def clusters(self) -> list[ClusterRecord]:
        """All clusters by name."""

    def save_cluster(self, cluster: ClusterRecord) -> None:
        """Write a changed cluster."""

    def remove_cluster(self, name: str) -> None:
        """Remove a cluster with its workers, nodes and settled operations."""

    def queued_releases(self, cluster: str) -> set[str]:
        """The contract releases of all unsettled operations of a cluster."""

    def save_worker(self, worker: WorkerRecord) -> None:
        """Add or replace."""

    def worker(self, worker: str) -> WorkerRecord | None:
        """One worker."""

    def workers(self, cluster: str | None = None) -> list[WorkerRecord]:
        """Workers by cluster and id."""

    def heard_of(self, worker: str, now: float, load: Mapping[str, float]) -> bool:
        """Note that an admitted worker lives; False when it is not known as admitted or draining."""

    def mark_lost(self, before: float) -> list[str]:
        """Mark admitted and draining workers last seen before (Unix seconds) as lost; returns their ids."""

    def set_worker_state(self, worker: str, state: WorkerState) -> None:
        """Write a worker's state."""

    def save_nodes(self, cluster: str, nodes: Sequence[NodeRecord]) -> None:
        """Replace the inventory of a cluster."""

    def nodes(self, cluster: str | None = None) -> list[NodeRecord]:
        """Nodes by cluster and name."""

    def taken(self, cluster: str) -> dict[str, tuple[int, int]]:
        """By node: processors and memory bytes that the manager has given to instances."""

    def add_instance(self, instance: InstanceRecord) -> None:
        """Add, or raise AlreadyExists when the id, or the name within the cluster, is taken."""

    def instance(self, instance: str, *, lock: bool = False) -> InstanceRecord | None:
        """One instance by id."""

    def locked_instances(self, ids: Collection[str]) -> dict[str, InstanceRecord]:
        """Those of these instances that are there, by id; nobody else changes them meanwhile."""

    def instances_named(self, name: str, cluster: str | None = None) -> list[InstanceRecord]:
        """Instances by name."""

    def instances(self, cluster: str | None, after: str | None, limit: int) -> list[InstanceRecord]:
        """Instances by id, from behind ``after``."""

    def save_instance(self, instance: InstanceRecord) -> None:
        """Write a changed instance."""

    def save_observed(self, instances: Iterable[InstanceRecord]) -> None:
        """Write what outcomes change of instances: all but name, cluster, spec and time of birth."""

    def remove_instance(self, instance: str) -> None:
        """Forget an instance."""

    def operation(self, operation: str) -> OperationRecord | None:
        """One operation by id."""

    def operations_by_id(self, ids: Collection[str]) -> dict[str, OperationRecord]:
        """Those of these operations that are there, by id."""

    def operation_records(
        self,
        *,
        cluster: str | None = None,
        key: str | None = None,
        state: OperationState | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[OperationRecord]:
        """Operations, newest first, from before the id ``before``."""

    def counts(self) -> dict[str, dict[str, int]]:
        """By cluster: how many operations are in which state, and how many keys are ``parked``."""


class Transaction(Ledger, Estate, Protocol):
    """All that one transaction can do; commits when the context ends without an exception."""


class Store(Protocol):
    """Where the manager's truth lives."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A writing transaction; retried inside only where nothing has been done yet.  Raises StoreUnavailable."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A transaction that only reads."""

    def claim_shards(self, manager: str, now_wall: float, ttl: float) -> frozenset[int]:
        """Renew this manager's claims for ``ttl`` seconds and take its fair share of the free ones.

        Returns the shards that it owns now; what is above its share among the managers that live it gives up.
        """

    def release_shards(self, manager: str) -> None:
        """Give all claims back."""

    def close(self) -> None:
        """Let go of every connection."""


class HeldResult(Protocol):
    """A message from the results queues that waits to be settled."""

    @property
    def result(self) -> Result | None:
        """The message, None when it could not be read."""

    @property
    def error(self) -> str | None:
        """Why it could not be read."""

    @property
    def user_id(self) -> str | None:
        """The broker user that published it, as the broker checked it."""


_Held_contra = TypeVar("_Held_contra", bound=HeldResult, contravariant=True)


class Results(Protocol[_Held_contra]):
    """Questions, outcomes and progress from the workers, in order per key."""

    def ack(self, held: _Held_contra) -> None:
        """Acknowledge."""

    def close(self, timeout: float) -> None:
        """Stop consuming; what is held goes back."""


class Commands(Protocol):
    """Publishes commands."""

    def publish(self, command: Command, on_settled: Callable[[bool], None]) -> None:
        """Publish; ``on_settled(True)`` once the broker has it, ``on_settled(False)`` if that is not certain."""


class Answers(Protocol):
    """Answers questions."""

    def answer(self, worker: str, answer: Answer) -> None:
        """Send to the worker's own queue; may be lost (the worker asks again)."""


class Queries(Protocol):
    """The query lane."""

    def query(
        self, cluster: str, name: str, revision: int, arguments: Mapping[str, object], timeout: float
    ) -> dict[str, object]:
        """Ask any worker of the cluster; returns a QueryReply in builtin types; raises Unavailable."""


class ClusterQueues(Protocol):
    """The queues of a cluster."""

    def declare(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare the partitions of an epoch; declaring twice is harmless."""

    def retire(self, cluster: str, epoch: int, partitions: int) -> None:
        """Delete them."""
