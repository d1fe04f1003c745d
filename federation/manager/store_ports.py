"""What the manager needs of its store: transactions, by what they are about."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from federation.contract.outcomes import Outcome
from federation.protocol.figures import PartitionFigures
from federation.protocol.ledger import KeyFacts, OperationFacts
from federation.protocol.pinning import Range
from federation.protocol.records import (
    AuditRecord,
    ClusterRecord,
    Drain,
    InstanceRecord,
    NewOperation,
    NodeRecord,
    OldEpoch,
    OperationRecord,
    OperationState,
    Outgoing,
    SavedReply,
    TokenRecord,
    WaitingCopy,
    WorkerGrant,
    WorkerRecord,
    WorkerState,
)


class Ledger(Protocol):
    """The ordered part of one transaction.  Everything read by key is locked until the transaction ends."""

    def accept(self, operation: NewOperation) -> OperationRecord:
        """Give the operation the next sequence of its key and write it together with its outbox row.

        An idempotency key that was used before in the cluster (two callers at once) gives the earlier operation.
        """

    def accept_together(self, operations: Sequence[NewOperation]) -> list[OperationRecord]:
        """The same for several that are new, at the price of few statements; records in the order of the operations.

        Raises when one of them has been accepted before: nothing of the transaction may be kept then.
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

    def keep_arguments(self, operation: str, arguments: Mapping[str, object]) -> None:
        """Keep this of a settled operation's arguments and no more."""

    def resolution(self, operation: str, resolution: str) -> None:
        """Write what an operator decided about an unknown outcome."""


class Estate(Protocol):
    """The rest of one transaction: clusters, workers, nodes, instances, and reads for people."""

    def add_cluster(self, cluster: ClusterRecord) -> None:
        """Add, or raise AlreadyExists."""

    def cluster(self, name: str, *, lock: bool = False) -> ClusterRecord | None:
        """One cluster; ``lock`` serialises admission and pin changes."""

    def steady_cluster(self, name: str) -> ClusterRecord | None:
        """One cluster whose pin does not change until this transaction ends; others may hold it so, too."""

    def clusters(self) -> list[ClusterRecord]:
        """All clusters by name."""

    def save_cluster(self, cluster: ClusterRecord) -> None:
        """Write a changed cluster."""

    def remove_cluster(self, name: str) -> None:
        """Remove a cluster with its workers, nodes and settled operations."""

    def queued_releases(self, cluster: str) -> set[str]:
        """The contract releases of all unsettled operations of a cluster."""

    def managed_releases(self) -> list[tuple[str, str]]:
        """The contract releases, lowest and highest, that each living manager serves."""

    def save_worker(self, worker: WorkerRecord) -> None:
        """Add or replace."""

    def worker(self, worker: str) -> WorkerRecord | None:
        """One worker."""

    def workers(self, cluster: str | None = None) -> list[WorkerRecord]:
        """Workers by cluster and id."""

    def heard_of(self, worker: str, now: float, load: Mapping[str, float], epoch: int | None = None) -> bool:
        """Note that an admitted worker lives, and in which epoch; False when not known as admitted or draining."""

    def mark_lost(self, before: float) -> list[str]:
        """Mark admitted and draining workers last seen before (Unix seconds) as lost; returns their ids."""

    def forget_waiting(self, before: float) -> list[str]:
        """Workers that wait to be admitted and last asked before (Unix seconds) wait no more; their ids in order."""

    def set_worker_state(self, worker: str, state: WorkerState) -> None:
        """Write a worker's state."""

    def save_nodes(self, cluster: str, nodes: Sequence[NodeRecord]) -> None:
        """Replace the inventory of a cluster."""

    def nodes(self, cluster: str | None = None) -> list[NodeRecord]:
        """Nodes by cluster and name."""

    def node(self, cluster: str, name: str) -> NodeRecord | None:
        """One node."""

    def save_node(self, node: NodeRecord) -> None:
        """Write one node of the inventory anew, if it is still there."""

    def forget_node(self, cluster: str, name: str) -> None:
        """Forget a node and its ordering key; InvalidState while the key is parked or has unsettled operations."""

    def instances_on(self, cluster: str, node: str, limit: int) -> list[InstanceRecord]:
        """Some instances of a node."""

    def taken(self, cluster: str) -> dict[str, tuple[int, int]]:
        """By node: processors and memory bytes that the manager has given to instances."""

    def add_instance(self, instance: InstanceRecord) -> None:
        """Add, or raise AlreadyExists when the id, or the name within the cluster, is taken."""

    def instance(self, instance: str, *, lock: bool = False) -> InstanceRecord | None:
        """One instance by id."""

    def instances_by_id(self, ids: Collection[str]) -> dict[str, InstanceRecord]:
        """Those of these instances that are there, by id."""

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


class Epochs(Protocol):
    """The part of one transaction about epochs: what keeps one from ending, and those that are over."""

    def drain(self, cluster: str) -> Drain:
        """What is unsettled in a cluster, and which operation is its newest."""

    def add_old_epoch(self, epoch: OldEpoch) -> None:
        """Remember an epoch whose queues have to go; one that is remembered stays as it is."""

    def old_epochs(self) -> list[OldEpoch]:
        """Epochs that are over, by cluster and epoch."""

    def note_deleted(self, epoch: OldEpoch, now: float) -> None:
        """Write when the queues of one were deleted (Unix seconds)."""

    def remove_old_epoch(self, epoch: OldEpoch) -> None:
        """Forget one: its queues are gone."""

    def unsettled_keys(self, cluster: str, limit: int) -> list[str]:
        """Some keys of a cluster that have unsettled operations, in order."""

    def republishable(self, cluster: str, limit: int, after: tuple[str, int] | None = None) -> list[WaitingCopy]:
        """Unsettled operations of unparked keys, by key and sequence, from behind ``after``."""


class AccessTables(Protocol):
    """The part of one transaction that only the REST interface needs: its tokens and saved replies."""

    def add_token(self, token: TokenRecord) -> None:
        """Add, or raise AlreadyExists when the id is taken."""

    def tokens_by_id(self, ids: Collection[str]) -> dict[str, TokenRecord]:
        """Those of these tokens that are there, by id."""

    def tokens(self) -> list[TokenRecord]:
        """All tokens by id, which is by age."""

    def revoke_token(self, token: str, now: float) -> None:
        """Revoke; one that is revoked stays as it is; NotFound when it is not known."""

    def claim_key(self, claim: SavedReply) -> SavedReply | None:
        """Write that a request with this key is under way; what stands there instead when the key was used before."""

    def saved_reply(self, token: str, idempotency_key: str) -> SavedReply | None:
        """What is known of this key of this token."""

    def save_reply(self, reply: SavedReply) -> None:
        """Keep the reply of a request that was under way; the first one of a key stays."""

    def give_key_up(self, token: str, idempotency_key: str) -> None:
        """The request that was under way has failed: its key may be used again."""

    def forget_replies(self, before: float) -> None:
        """Forget what was replied before this time (Unix seconds)."""


class GrantTable(Protocol):
    """The part of one transaction about broker users and the workers that they speak for."""

    def save_worker_grant(self, grant: WorkerGrant) -> None:
        """Add or replace the grant of a user."""

    def worker_grants(self, users: Collection[str] = (), clusters: Collection[str] = ()) -> list[WorkerGrant]:
        """All grants of these users and all of these clusters, revoked ones, too."""

    def all_worker_grants(self, cluster: str | None = None) -> list[WorkerGrant]:
        """Grants by cluster and worker, of one cluster or of all."""


class AuditTable(Protocol):
    """The part of one transaction about the audit log; nothing changes a record."""

    def add_audit(self, *records: AuditRecord) -> None:
        """Add them."""

    def audit(
        self,
        *,
        actor: str | None = None,
        cluster: str | None = None,
        action: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """Records, newest first, from before the id ``before``."""

    def forget_audit(self, before: float, limit: int) -> int:
        """Remove at most ``limit`` records of before (Unix seconds), the oldest first; returns how many."""


class Retention(Protocol):
    """The part of one transaction that forgets what is settled."""

    def nth_newest(self, cluster: str, keep: int) -> str | None:
        """The id of the newest operation of a cluster that ``keep`` others are newer than; None when there is none."""

    def forget_operations(self, cluster: str, before: float, limit: int, newest: str | None = None) -> int:
        """Remove at most ``limit`` operations settled before (Unix seconds), up to the id ``newest``; returns how many.

        One that parks a key stays, and one with an unknown outcome that nobody has resolved.
        """

    def forget_keys(self, cluster: str, before: float, limit: int) -> int:
        """Remove at most ``limit`` keys of instances of which nothing is left; returns how many."""

    def forget_workers(self, before: float) -> int:
        """Remove workers that left or were lost, and were last heard of before (Unix seconds); returns how many."""


class FigureTables(Protocol):
    """The part of one transaction that counts for operators."""

    def partition_figures(self) -> list[PartitionFigures]:
        """Every partition in which something is unsettled or parked."""

    def last_durations(self, cluster: str, limit: int) -> list[float]:
        """How many seconds the operations ran that workers finished last: at most ``limit`` of each end."""

    def outbox_figures(self, shards: Collection[int]) -> tuple[int, float | None]:
        """How much of these shards waits to be given to the broker, and since when the oldest does (Unix seconds)."""


class Transaction(Ledger, Estate, Epochs, AccessTables, GrantTable, FigureTables, AuditTable, Retention, Protocol):
    """All that one transaction can do; commits when the context ends without an exception."""


class Store(Protocol):
    """Where the manager's truth lives."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A writing transaction; retried inside only where nothing has been done yet.  Raises StoreUnavailable."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A transaction that only reads, one snapshot."""

    def glancing(self) -> AbstractContextManager[Transaction]:
        """For single reads: cheaper than ``reading``; two of them may see two states."""

    def claim_shards(self, manager: str, now_wall: float, ttl: float, releases: Range) -> frozenset[int]:
        """Renew this manager's claims for ``ttl`` seconds and take its fair share of the free ones.

        With it the manager says which contract ``releases`` it serves.

        Returns the shards that it owns now; what is above its share among the managers that live it gives up.
        """

    def release_shards(self, manager: str) -> None:
        """Give all claims back."""

    def close(self) -> None:
        """Let go of every connection."""
