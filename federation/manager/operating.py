"""Looking at operations, cancelling them, and resolving what is parked: an instance or a node, by its ordering key."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec
import uuid_utils

from federation.contract.errors import InvalidState, NotFound
from federation.contract.outcomes import Outcome
from federation.manager.accepting import command_of
from federation.manager.adapting import Adapting
from federation.manager.clocks import Clock
from federation.manager.expiring import Expiring
from federation.manager.gathering import Gathering
from federation.manager.observing import forget_secrets
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction
from federation.protocol.ledger import KeyFacts, refused_by_resolve, resolve, restamped, wait_before_resolve
from federation.protocol.ordering_key import words_of
from federation.protocol.partition_map import partition_of, shard_of
from federation.protocol.records import ClusterRecord, NewOperation, OperationRecord, OperationState, Outgoing

_MAX_PAGE = 1000
_MOST_TOGETHER = 256


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

    def __init__(
        self, store: Store, publisher: Publisher, clock: Clock, settings: ManagerSettings, adapting: Adapting
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._settings = settings
        self._adapting = adapting
        self._expiring = Expiring(store, publisher, clock)
        self._counting = Gathering(self._counted, most=_MOST_TOGETHER, abreast=1)

    def operation(self, operation: str) -> OperationRecord:
        """One operation; raises NotFound."""
        with self._store.glancing() as transaction:
            return self._found(transaction.operation(operation), operation)

    def watched(self, ids: Collection[str]) -> list[OperationRecord]:
        """Those of these operations that are there: one read for all who follow one."""
        with self._store.glancing() as transaction:
            return list(transaction.operations_by_id(ids).values())

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
        """By cluster and state.  Who asks at the same time shares one count, which begins after all of them have asked."""
        return self._counting.ask(None)

    def _counted(self, askers: Sequence[None]) -> list[dict[str, dict[str, int]]]:
        with self._store.reading() as transaction:
            found = transaction.counts()
        return [found] * len(askers)

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

    def resolve(self, key: str, resolution: Resolution, requested_by: str | None = None) -> OperationRecord | None:
        """Unpark an ordering key, one lease after it was parked: everything unsettled is refused, in one transaction.

        ``key`` is an instance's UUID or a node's key.  Returns the new operation of a retry.  Raises NotFound,
        InvalidState (not parked, or too early: it says when), and for a retry ContractMismatch or InvalidRequest when
        the cluster cannot take the operation any more.
        """
        outgoing: list[Outgoing] = []
        cluster_name = self._restamp(key)
        with self._store.transaction() as transaction:
            cluster = transaction.steady_cluster(cluster_name)  # before the key, as submitting does
            facts, parked_by = self._parked(transaction, key)
            wait = wait_before_resolve(facts, self._clock.stamp(), self._settings.limits.terms)
            if wait > 0:
                message = f"{words_of(key)} was parked just now; its last worker may still act for {wait:.1f} s: try again then"
                raise InvalidState(message, wait_seconds=f"{wait:.1f}")
            unsettled = transaction.unsettled(key)
            refusal = refused_by_resolve(parked_by)
            outcomes: dict[str, Outcome] = {facts.id: refusal for facts in unsettled}
            changed = [replace(facts, settled=True) for facts in unsettled]
            resolved = resolve(facts, transaction.last_sequence(key))
            transaction.save([resolved], changed, outcomes, self._clock.wall())
            self._unpark(transaction, key)
            retried = None
            if resolution is Resolution.RETRY:
                retried = self._retry(transaction, cluster, parked_by, requested_by, outgoing)
            transaction.resolution(parked_by, _WORD[resolution] + (f" as {retried.id}" if retried else ""))
            forget_secrets(transaction, self._found(transaction.operation(parked_by), parked_by))
            self._finish_deletion(transaction, key, parked_by, resolution)
        self._publisher.settled((facts.key, facts.sequence) for facts in unsettled)
        self._publisher.accepted(outgoing)
        return retried

    def _found(self, record: OperationRecord | None, operation: str) -> OperationRecord:
        if record is None:
            message = f"operation {operation} is not known"
            raise NotFound(message, field="operation", value=operation)
        return record

    def _parked(self, transaction: Transaction, key: str) -> tuple[KeyFacts, str]:
        facts = transaction.keys([key]).get(key)
        if facts is None or facts.parked_by is None:
            message = f"{words_of(key)} is not parked"
            raise InvalidState(message, key=key)
        return facts, facts.parked_by

    def _restamp(self, key: str) -> str:
        """Bring the time of parking onto this manager's clock, or a wait counted on a clock that is gone never ends.

        Returns the cluster that the key belongs to.
        """
        with self._store.transaction() as transaction:
            facts, parked_by = self._parked(transaction, key)
            stamped = restamped(facts, self._clock.stamp())
            if stamped != facts:
                transaction.save([stamped], [], {}, self._clock.wall())
            return self._found(transaction.operation(parked_by), parked_by).cluster

    def _unpark(self, transaction: Transaction, instance: str) -> None:
        record = transaction.instance(instance, lock=True)
        if record is not None:
            transaction.save_instance(msgspec.structs.replace(record, parked_by=None, updated_at=self._clock.wall()))

    def _finish_deletion(self, transaction: Transaction, instance: str, parked_by: str, resolution: Resolution) -> None:
        """An accepted destroy means that the instance is gone, as an abandoned adopt; an abandoned create was never made."""
        operation = transaction.operation(parked_by)
        record = transaction.instance(instance, lock=True)
        if operation is None or record is None:
            return
        if (operation.name, resolution) in {("destroy", Resolution.ACCEPT), ("adopt", Resolution.ABANDON)}:
            transaction.remove_instance(instance)
        elif operation.name == "create" and resolution is Resolution.ABANDON:
            transaction.save_instance(msgspec.structs.replace(record, state="failed"))

    def _retry(
        self,
        transaction: Transaction,
        cluster: ClusterRecord | None,
        parked_by: str,
        requested_by: str | None,
        outgoing: list[Outgoing],
    ) -> OperationRecord:
        earlier = self._found(transaction.operation(parked_by), parked_by)
        if cluster is None:
            message = f"cluster {earlier.cluster!r} is not known any more"
            raise NotFound(message, field="cluster", value=earlier.cluster)
        sent = self._adapting.read_again(earlier.name, earlier.revision, earlier.arguments)
        fitted = self._adapting.fit(sent, cluster.pin)
        asked_revision = earlier.asked_revision or earlier.revision
        now = self._clock.wall()
        patience = earlier.deadline - earlier.submitted_at if earlier.deadline is not None else None
        partition = partition_of(earlier.key, cluster.partitions)
        new = NewOperation(
            id=str(uuid_utils.uuid7()),
            cluster=cluster.name,
            epoch=cluster.epoch,
            name=earlier.name,
            revision=fitted.operation.revision,
            asked_revision=None if asked_revision == fitted.operation.revision else asked_revision,
            release=cluster.pin or earlier.release,
            key=earlier.key,
            partition=partition,
            shard=shard_of(cluster.name, partition),
            arguments=self._adapting.spoken(fitted.request, cluster.pin),
            submitted_at=now,
            deadline=now + patience if patience is not None else None,
            requested_by=requested_by,
        )
        record = transaction.accept(new)
        outgoing.append(Outgoing(shard=new.shard, command=command_of(new, record)))
        return record
