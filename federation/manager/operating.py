"""Looking at operations, cancelling them, and resolving what is parked."""

from __future__ import annotations

import enum
from dataclasses import replace

import msgspec
import uuid_utils

from federation.contract.errors import InvalidState, NotFound
from federation.contract.outcomes import Outcome
from federation.manager.clocks import Clock
from federation.manager.expiring import Expiring
from federation.manager.ports import Store, Transaction
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.submitting import command_of
from federation.protocol.ledger import KeyFacts, refused_by_resolve, resolve, restamped, wait_before_resolve
from federation.protocol.partition_map import partition_of, shard_of
from federation.protocol.records import NewOperation, OperationRecord, OperationState, Outgoing

_MAX_PAGE = 1000


class Resolution(enum.StrEnum):
    """What an operator decides about an operation whose outcome is unknown."""

    RETRY = "retry"
    """Send it again, as a new operation."""
    ACCEPT = "accept"
    """It took effect."""
    ABANDON = "abandon"
    """It did not take effect, or it does not matter."""


_WORD = {Resolution.RETRY: "retried", Resolution.ACCEPT: "accepted", Resolution.ABANDON: "abandoned"}


class Operating:
    """The use cases around operations."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, settings: ManagerSettings) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._settings = settings
        self._expiring = Expiring(store, publisher, clock)

    def operation(self, operation: str) -> OperationRecord:
        """One operation; raises NotFound."""
        with self._store.reading() as transaction:
            return self._found(transaction.operation(operation), operation)

    def operations(
        self,
        *,
        cluster: str | None = None,
        key: str | None = None,
        state: OperationState | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[OperationRecord]:
        """Operations, newest first."""
        with self._store.reading() as transaction:
            return transaction.operation_records(
                cluster=cluster, key=key, state=state, before=before, limit=max(1, min(limit, _MAX_PAGE))
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """By cluster and state."""
        with self._store.reading() as transaction:
            return transaction.counts()

    def cancel(self, operation: str) -> OperationRecord:
        """Ask that an operation be cancelled: before it starts it is refused, while it runs its next renewal says so.

        One that is next in its line and was never granted is refused at once; one behind others when its turn comes.

        Raises NotFound; InvalidState when it has an outcome already.
        """
        with self._store.transaction() as transaction:
            record = self._found(transaction.operation(operation), operation)
            if record.state.settled:
                message = f"operation {operation} has its outcome already: {record.state}"
                raise InvalidState(message, state=record.state)
            transaction.keys([record.key])  # keys are locked before operations, everywhere
            transaction.request_cancel(operation)
            refused = self._expiring.refuse(transaction, [(record.key, operation)])
            record = self._found(transaction.operation(operation), operation)
        self._expiring.told(refused)
        return record

    def resolve(self, instance: str, resolution: Resolution, requested_by: str | None = None) -> OperationRecord | None:
        """Unpark an instance, one lease after it was parked: everything unsettled is refused, in one transaction.

        Returns the new operation of a retry.  Raises NotFound, InvalidState (not parked, or too early: it says when).
        """
        outgoing: list[Outgoing] = []
        self._restamp(instance)
        with self._store.transaction() as transaction:
            key, parked_by = self._parked(transaction, instance)
            wait = wait_before_resolve(key, self._clock.stamp(), self._settings.limits.terms)
            if wait > 0:
                message = f"instance {instance} was parked just now; its last worker may still act for {wait:.1f} s: try again then"
                raise InvalidState(message, wait_seconds=f"{wait:.1f}")
            unsettled = transaction.unsettled(instance)
            refusal = refused_by_resolve(parked_by)
            outcomes: dict[str, Outcome] = {facts.id: refusal for facts in unsettled}
            changed = [replace(facts, settled=True) for facts in unsettled]
            resolved = resolve(key, transaction.last_sequence(instance))
            transaction.save([resolved], changed, outcomes, self._clock.wall())
            self._unpark(transaction, instance)
            retried = None
            if resolution is Resolution.RETRY:
                retried = self._retry(transaction, parked_by, requested_by, outgoing)
            transaction.resolution(parked_by, _WORD[resolution] + (f" as {retried.id}" if retried else ""))
            self._finish_deletion(transaction, instance, parked_by, resolution)
        self._publisher.settled((facts.key, facts.sequence) for facts in unsettled)
        self._publisher.accepted(outgoing)
        return retried

    def _found(self, record: OperationRecord | None, operation: str) -> OperationRecord:
        if record is None:
            message = f"operation {operation} is not known"
            raise NotFound(message, field="operation", value=operation)
        return record

    def _parked(self, transaction: Transaction, instance: str) -> tuple[KeyFacts, str]:
        key = transaction.keys([instance]).get(instance)
        if key is None or key.parked_by is None:
            message = f"instance {instance} is not parked"
            raise InvalidState(message, instance=instance)
        return key, key.parked_by

    def _restamp(self, instance: str) -> None:
        """Bring the time of parking onto this manager's clock, or a wait counted on a clock that is gone never ends."""
        with self._store.transaction() as transaction:
            key, _ = self._parked(transaction, instance)
            stamped = restamped(key, self._clock.stamp())
            if stamped != key:
                transaction.save([stamped], [], {}, self._clock.wall())

    def _unpark(self, transaction: Transaction, instance: str) -> None:
        record = transaction.instance(instance, lock=True)
        if record is not None:
            transaction.save_instance(msgspec.structs.replace(record, parked_by=None, updated_at=self._clock.wall()))

    def _finish_deletion(self, transaction: Transaction, instance: str, parked_by: str, resolution: Resolution) -> None:
        """An accepted destroy means that the instance is gone; an abandoned create that it was never made."""
        operation = transaction.operation(parked_by)
        record = transaction.instance(instance, lock=True)
        if operation is None or record is None:
            return
        if operation.name == "destroy" and resolution is Resolution.ACCEPT:
            transaction.remove_instance(instance)
        elif operation.name == "create" and resolution is Resolution.ABANDON:
            transaction.save_instance(msgspec.structs.replace(record, state="failed"))

    def _retry(
        self, transaction: Transaction, parked_by: str, requested_by: str | None, outgoing: list[Outgoing]
    ) -> OperationRecord:
        earlier = self._found(transaction.operation(parked_by), parked_by)
        cluster = transaction.cluster(earlier.cluster)
        if cluster is None:
            message = f"cluster {earlier.cluster!r} is not known any more"
            raise NotFound(message, field="cluster", value=earlier.cluster)
        now = self._clock.wall()
        patience = earlier.deadline - earlier.submitted_at if earlier.deadline is not None else None
        partition = partition_of(earlier.key, cluster.partitions)
        new = NewOperation(
            id=str(uuid_utils.uuid7()),
            cluster=cluster.name,
            epoch=cluster.epoch,
            name=earlier.name,
            revision=earlier.revision,
            release=cluster.pin or earlier.release,
            key=earlier.key,
            partition=partition,
            shard=shard_of(cluster.name, partition),
            arguments=earlier.arguments,
            submitted_at=now,
            deadline=now + patience if patience is not None else None,
            requested_by=requested_by,
        )
        record = transaction.accept(new)
        outgoing.append(Outgoing(shard=new.shard, command=command_of(new, record)))
        return record
