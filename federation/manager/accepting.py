"""One transaction that accepts: check against the store, adapt, place, give a sequence, write down who asked.

A cluster's row is held while an operation is accepted, so that its pin cannot change between the look at it and the
commit: what is accepted was written for the release that the cluster then speaks.  Rows are locked in this order: clusters
by name, then ordering keys.

Operations of instances that are there change nothing but the ledger, so many of them go into one transaction, and one that
cannot be accepted is left out of it.  What makes an instance, or is about a node, goes alone: it writes more than that, or
locks it in an order of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import uuid_utils

from federation.contract.capabilities import Capabilities
from federation.contract.errors import InvalidRequest, NotFound, NotSupported, OperationError, Overloaded
from federation.contract.release import CURRENT
from federation.contract.requests import Adopt, Create, NodeRequest, Request
from federation.contract.validation import check_capabilities, required_capabilities
from federation.manager import subjects
from federation.manager.adapting import Adapting, Asked
from federation.manager.auditing import entry
from federation.manager.clocks import Clock
from federation.manager.store_ports import Store, Transaction
from federation.manager.submission import Wish, check_size
from federation.protocol.admission import known_capabilities
from federation.protocol.envelope import Command
from federation.protocol.partition_map import partition_of, shard_of
from federation.protocol.pinning import common_capabilities
from federation.protocol.records import (
    AuditRecord,
    ClusterRecord,
    InstanceRecord,
    NewOperation,
    OperationRecord,
    Outgoing,
    WorkerState,
)

_LIVE = {WorkerState.ADMITTED, WorkerState.DRAINING}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The operation, and its first copy unless it had been accepted before."""

    record: OperationRecord
    outgoing: Outgoing | None = None


class Accepting:
    """Accepts what can be accepted, in transactions of its own."""

    def __init__(self, store: Store, clock: Clock, adapting: Adapting) -> None:
        self._store = store
        self._clock = clock
        self._adapting = adapting

    def alone(self, wish: Wish) -> Accepted:
        """Any operation; raises an error of the catalogue, and nothing is accepted then."""
        with self._store.transaction() as transaction:
            looking = _Looking(transaction, self._adapting, self._clock.wall())
            instance = None if wish.instance is None else transaction.instance(wish.instance)
            new = looking.checked(wish, instance)
            accepted = new if isinstance(new, Accepted) else _written(transaction, wish, new)
            transaction.add_audit(*self._entries([(wish, accepted)]))
        return accepted

    def together(self, wishes: Sequence[Wish]) -> list[Accepted | OperationError]:
        """Operations of instances that are there: for each what it became, or why it was not accepted.

        Raises when the store refuses what it was given, which a second look may explain: one of them may have been
        accepted meanwhile.  Nothing is accepted then.
        """
        with self._store.transaction() as transaction:
            looking = _Looking(transaction, self._adapting, self._clock.wall())
            instances = transaction.instances_by_id({wish.instance for wish in wishes if wish.instance is not None})
            looking.hold({name for wish in wishes if (name := _cluster_of(wish, instances)) is not None})
            seen = [looking.tried(wish, instances.get(wish.instance or "")) for wish in wishes]
            new = [one for one in seen if isinstance(one, NewOperation)]
            records = iter(transaction.accept_together(new))
            replies = [_first_copy(one, next(records)) if isinstance(one, NewOperation) else one for one in seen]
            accepted = [(w, each) for w, each in zip(wishes, replies, strict=True) if isinstance(each, Accepted)]
            transaction.add_audit(*self._entries(accepted))
        return replies

    def _entries(self, accepted: Sequence[tuple[Wish, Accepted]]) -> list[AuditRecord]:
        now = self._clock.wall()
        return [
            entry(
                asked, one.record.name, now, cluster=one.record.cluster, subject=one.record.key, operation=one.record.id
            )
            for wish, one in accepted
            if (asked := wish.submission.asked) is not None
        ]


class _Looking:
    """The checks of one transaction; what it has read of clusters serves all its operations."""

    def __init__(self, transaction: Transaction, adapting: Adapting, now: float) -> None:
        self._transaction = transaction
        self._adapting = adapting
        self._now = now
        self._clusters: dict[str, ClusterRecord | None] = {}
        self._capabilities: dict[str, Capabilities] = {}
        self._lacking: dict[tuple[str, str], frozenset[str]] = {}

    def hold(self, names: set[str]) -> None:
        """Hold these clusters as they are, in the order in which everybody does."""
        for name in sorted(names):
            self._clusters[name] = self._transaction.steady_cluster(name)

    def tried(self, wish: Wish, instance: InstanceRecord | None) -> NewOperation | Accepted | OperationError:
        """Like ``checked``, with the error instead of raising it."""
        try:
            return self.checked(wish, instance)
        except OperationError as error:
            return error

    def checked(self, wish: Wish, instance: InstanceRecord | None) -> NewOperation | Accepted:
        """The operation that may be accepted, or what was accepted with its key before; raises what speaks against it."""
        submission, asked = wish.submission, wish.asked
        if wish.instance is not None and instance is None:
            raise NotFound(f"instance {wish.instance} is not known", field="instance", value=wish.instance)
        cluster = self._cluster(wish, instance)
        if submission.idempotency_key is not None:
            earlier = self._transaction.accepted_before(cluster.name, submission.idempotency_key)
            if earlier is not None:
                return Accepted(wish.same_as(earlier, cluster.name))
        _check_accepting(cluster)
        fitted = self._adapting.fit(asked, cluster.pin)
        if fitted is not asked:
            check_size(fitted.operation, fitted.request)
        self._check_capabilities(cluster, instance, fitted)
        key, request = self._prepare(cluster, instance, fitted)
        return self._new(wish, Asked(fitted.operation, request), cluster, key)

    def _prepare(self, cluster: ClusterRecord, instance: InstanceRecord | None, fitted: Asked) -> tuple[str, Request]:
        """The ordering key, and the request as it goes to the workers, of an operation that may be accepted."""
        request = fitted.request
        if isinstance(request, NodeRequest):
            return subjects.check_node(self._transaction, cluster, request.node), request
        if isinstance(request, Create):
            needs = required_capabilities(fitted.operation, request)
            request = subjects.place(self._transaction, cluster, request, needs, self._now)
        elif isinstance(request, Adopt):
            subjects.take_over(self._transaction, cluster, request, self._now)
        elif instance is not None:
            subjects.check_instance(self._transaction, cluster, instance, fitted.operation, request)
        key: str = request.instance  # type: ignore[attr-defined]  # ordered by instance: it has one
        return key, request

    def _cluster(self, wish: Wish, instance: InstanceRecord | None) -> ClusterRecord:
        name = wish.submission.cluster or (instance.cluster if instance else None)
        if name is None:
            message = "cluster is missing: say where the instance shall be made, or where the node is"
            raise InvalidRequest(message, field="cluster")
        if instance is not None and instance.cluster != name:
            message = f"instance {instance.id} is in cluster {instance.cluster!r}, not in {name!r}"
            raise NotFound(message, field="cluster", value=name)
        if name not in self._clusters:
            makes = wish.asked.operation.makes_instance
            look = self._transaction
            self._clusters[name] = look.cluster(name, lock=True) if makes else look.steady_cluster(name)
        cluster = self._clusters[name]
        if cluster is None:
            message = f"cluster {name!r} is not known; federation cluster list shows those that are"
            raise NotFound(message, field="cluster", value=name)
        return cluster

    def _check_capabilities(self, cluster: ClusterRecord, instance: InstanceRecord | None, fitted: Asked) -> None:
        """Refuse what not all workers of the cluster can do, or what the instance's or request's node lacks."""
        check_capabilities(fitted.operation, fitted.request, self._capabilities_of(cluster))
        needs = required_capabilities(fitted.operation, fitted.request)
        asked: str | None = getattr(fitted.request, "node", None)
        names = {name for name in (asked, instance.node if instance else None) if name is not None}
        for name in sorted(names) if needs else []:
            lacking = sorted(needs & self._lacking_on(cluster.name, name))
            if lacking:
                message = f"{fitted.operation.name} needs the capability {lacking[0]}, which node {name!r} lacks"
                raise NotSupported(message, node=name, capability=", ".join(lacking))

    def _lacking_on(self, cluster: str, node: str) -> frozenset[str]:
        """What a node cannot do although its cluster can; nothing when it is not known."""
        place = (cluster, node)
        if place not in self._lacking:
            record = self._transaction.node(cluster, node)
            self._lacking[place] = frozenset(subjects.node_facts(record.facts).lacks if record else ())
        return self._lacking[place]

    def _capabilities_of(self, cluster: ClusterRecord) -> Capabilities:
        """What all workers of the cluster can do; of those that live, else of those that were there last."""
        if cluster.name in self._capabilities:
            return self._capabilities[cluster.name]
        workers = self._transaction.workers(cluster.name)
        workers = [w for w in workers if w.state in _LIVE] or workers
        if not workers:
            message = (
                f"cluster {cluster.name!r} never had a worker, so nobody knows what its driver {cluster.driver!r} can do; "
                f"start one: federation worker --driver {cluster.driver} --cluster {cluster.name}"
            )
            raise NotSupported(message, cluster=cluster.name)
        common = common_capabilities([known_capabilities(worker.capabilities) for worker in workers])
        self._capabilities[cluster.name] = common
        return common

    def _new(self, wish: Wish, sent: Asked, cluster: ClusterRecord, key: str) -> NewOperation:
        submission, asked, operation = wish.submission, wish.asked.operation, sent.operation
        partition = partition_of(key, cluster.partitions)
        return NewOperation(
            id=str(uuid_utils.uuid7()),
            cluster=cluster.name,
            epoch=cluster.epoch,
            name=operation.name,
            revision=operation.revision,
            asked_revision=None if asked is operation else asked.revision,
            release=cluster.pin or str(CURRENT),
            key=key,
            partition=partition,
            shard=shard_of(cluster.name, partition),
            arguments=self._adapting.spoken(sent.request, cluster.pin),
            submitted_at=self._now,
            deadline=self._now + wish.deadline_seconds(),
            idempotency_key=submission.idempotency_key,
            requested_by=submission.requested_by,
            trace=submission.trace,
        )


def _cluster_of(wish: Wish, instances: dict[str, InstanceRecord]) -> str | None:
    instance = instances.get(wish.instance or "")
    return wish.submission.cluster or (instance.cluster if instance else None)


def _written(transaction: Transaction, wish: Wish, new: NewOperation) -> Accepted:
    record = transaction.accept(new)
    if record.id == new.id:
        return _first_copy(new, record)
    return Accepted(wish.same_as(record, new.cluster))  # somebody else accepted the key since it was looked for


def _first_copy(new: NewOperation, record: OperationRecord) -> Accepted:
    return Accepted(record, Outgoing(shard=new.shard, command=command_of(new, record)))


def _check_accepting(cluster: ClusterRecord) -> None:
    """Between two epochs nothing is accepted; what was accepted before is being settled."""
    if cluster.wanted_partitions is not None:
        message = (
            f"cluster {cluster.name!r} settles what it has accepted, to go on with {cluster.wanted_partitions} "
            f"partitions; until then it takes nothing new"
        )
        raise Overloaded(message, cluster=cluster.name)


def command_of(new: NewOperation, record: OperationRecord) -> Command:
    """The first copy of an accepted operation."""
    return Command(
        operation=new.id,
        name=new.name,
        revision=new.revision,
        release=new.release,
        cluster=new.cluster,
        epoch=new.epoch,
        partition=new.partition,
        key=new.key,
        sequence=record.sequence,
        round=record.round,
        deadline=new.deadline,
        arguments=new.arguments,
        trace=new.trace,
    )
