"""Accepting operations: check, adapt, place, give a sequence, hand to the publisher.

The cluster's row is held while an operation is accepted, so that its pin cannot change between the look at it and the
commit: what is accepted was written for the release that the cluster then speaks.  Rows are locked in this order: the
cluster, the ordering key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import uuid_utils

from federation.contract.capabilities import Capabilities
from federation.contract.errors import InvalidRequest, NotFound, NotSupported, Overloaded
from federation.contract.operations import Lane, Operation, Ordering
from federation.contract.release import CURRENT
from federation.contract.requests import Adopt, Create, NodeRequest, Request
from federation.contract.validation import check_capabilities, required_capabilities
from federation.manager import subjects
from federation.manager.adapting import Adapting, Asked
from federation.manager.auditing import Asker, entry
from federation.manager.clocks import Clock
from federation.manager.counters import Caller
from federation.manager.ports import Tracing
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction
from federation.protocol.admission import known_capabilities
from federation.protocol.envelope import Command
from federation.protocol.ordering_key import node_key, words_of
from federation.protocol.partition_map import partition_of, shard_of
from federation.protocol.pinning import common_capabilities
from federation.protocol.records import (
    ClusterRecord,
    InstanceRecord,
    NewOperation,
    OperationRecord,
    Outgoing,
    WorkerState,
)

_LIVE = {WorkerState.ADMITTED, WorkerState.DRAINING}
_MAX_DEADLINE_SECONDS = 7 * 86400.0
MAX_REQUEST_BYTES = 1 << 19
"""Half of what a message may have: what was accepted must be sendable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller asks for.

    ``cluster`` may be left out for an instance that exists; ``revision`` is the one that the caller speaks;
    ``deadline_seconds`` runs from acceptance and None takes the operation's default; the same ``idempotency_key`` never
    makes two operations in one cluster; ``asked`` says who asks, for the audit log.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    cluster: str | None = None
    revision: int = 1
    deadline_seconds: float | None = None
    idempotency_key: str | None = None
    requested_by: str | None = None
    trace: str | None = None
    caller: Caller = Caller.PROGRAM
    asked: Asker | None = None


class Submitting:
    """The use case ``submit``."""

    def __init__(
        self, store: Store, publisher: Publisher, clock: Clock, settings: ManagerSettings, adapting: Adapting
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._settings = settings
        self._adapting = adapting
        self.tracing: Tracing | None = None

    def submit(self, submission: Submission) -> OperationRecord:
        """Accept an ordered operation, or raise an error of the catalogue; nothing is accepted then."""
        if self.tracing is None:
            return self._submit(submission)
        operation = self._adapting.revisions.find(submission.name, submission.revision)
        with self.tracing.submitting(operation.name, submission.trace) as trace:
            return self._submit(replace(submission, trace=trace))

    def _submit(self, submission: Submission) -> OperationRecord:
        operation = self._adapting.revisions.find(submission.name, submission.revision)
        if operation.lane is not Lane.ORDERED:
            message = f"{operation.name} is a query; read it, do not submit it"
            raise InvalidRequest(message, field="name", value=operation.name)
        if self._publisher.backlog >= self._settings.max_backlog:
            message = (
                f"{self._publisher.backlog} operations wait for the broker, the limit is {self._settings.max_backlog}"
            )
            raise Overloaded(message, limit=self._settings.max_backlog)
        arguments = dict(submission.arguments)
        if operation.name == "create":
            arguments.setdefault("instance", str(uuid_utils.uuid7()))
        asked = self._adapting.read(submission.name, submission.revision, arguments, submission.caller)
        _check_size(operation, asked.request)
        with self._store.transaction() as transaction:
            record, command = self._accept(transaction, submission, asked)
            if submission.asked is not None:
                names = {"cluster": record.cluster, "subject": record.key, "operation": record.id}
                transaction.add_audit(entry(submission.asked, record.name, self._clock.wall(), **names))
        if command is not None:
            shard = shard_of(command.cluster, command.partition)
            self._publisher.accepted([Outgoing(shard=shard, command=command)])
        return record

    def _accept(
        self, transaction: Transaction, submission: Submission, asked: Asked
    ) -> tuple[OperationRecord, Command | None]:
        operation, now = asked.operation, self._clock.wall()
        instance = None
        if operation.ordering is Ordering.INSTANCE and not operation.makes_instance:
            instance = subjects.known_instance(transaction, asked.request.instance)  # type: ignore[attr-defined]  # it has one
        cluster = self._cluster(transaction, submission, instance, lock=operation.makes_instance)
        if submission.idempotency_key is not None:
            earlier = transaction.accepted_before(cluster.name, submission.idempotency_key)
            if earlier is not None:
                return _same(earlier, asked, cluster, submission), None
        _check_accepting(cluster)
        fitted = self._adapting.fit(asked, cluster.pin)
        if fitted is not asked:
            _check_size(fitted.operation, fitted.request)
        self._check_capabilities(transaction, cluster, instance, fitted)
        key, request = self._prepare(transaction, cluster, instance, fitted, now)
        new = self._new(submission, asked, Asked(fitted.operation, request), cluster, key, now)
        record = transaction.accept(new)
        if record.id != new.id:  # somebody else accepted the key since it was looked for
            return _same(record, asked, cluster, submission), None
        return record, command_of(new, record)

    def _prepare(
        self,
        transaction: Transaction,
        cluster: ClusterRecord,
        instance: InstanceRecord | None,
        fitted: Asked,
        now: float,
    ) -> tuple[str, Request]:
        """The ordering key, and the request as it goes to the workers, of an operation that may be accepted."""
        request = fitted.request
        if isinstance(request, NodeRequest):
            return subjects.check_node(transaction, cluster, request.node), request
        if isinstance(request, Create):
            needs = required_capabilities(fitted.operation, request)
            request = subjects.place(transaction, cluster, request, needs, now)
        elif isinstance(request, Adopt):
            subjects.take_over(transaction, cluster, request, now)
        elif instance is not None:
            subjects.check_instance(transaction, cluster, instance, fitted.operation, request)
        key: str = request.instance  # type: ignore[attr-defined]  # ordered by instance: it has one
        return key, request

    def _cluster(
        self, transaction: Transaction, submission: Submission, instance: InstanceRecord | None, *, lock: bool
    ) -> ClusterRecord:
        name = submission.cluster or (instance.cluster if instance else None)
        if name is None:
            message = "cluster is missing: say where the instance shall be made, or where the node is"
            raise InvalidRequest(message, field="cluster")
        if instance is not None and instance.cluster != name:
            message = f"instance {instance.id} is in cluster {instance.cluster!r}, not in {name!r}"
            raise NotFound(message, field="cluster", value=name)
        cluster = transaction.cluster(name, lock=True) if lock else transaction.steady_cluster(name)
        if cluster is None:
            message = f"cluster {name!r} is not known; federation cluster list shows those that are"
            raise NotFound(message, field="cluster", value=name)
        return cluster

    def _check_capabilities(
        self, transaction: Transaction, cluster: ClusterRecord, instance: InstanceRecord | None, fitted: Asked
    ) -> None:
        """Refuse what not all workers of the cluster can do, or what the instance's or request's node lacks."""
        check_capabilities(fitted.operation, fitted.request, self._capabilities(transaction, cluster))
        needs = required_capabilities(fitted.operation, fitted.request)
        asked: str | None = getattr(fitted.request, "node", None)
        names = {name for name in (asked, instance.node if instance else None) if name is not None}
        for name in sorted(names) if needs else []:
            record = transaction.node(cluster.name, name)
            lacking = sorted(needs & subjects.node_facts(record.facts).lacks) if record else []
            if lacking:
                message = f"{fitted.operation.name} needs the capability {lacking[0]}, which node {name!r} lacks"
                raise NotSupported(message, node=name, capability=", ".join(lacking))

    def _capabilities(self, transaction: Transaction, cluster: ClusterRecord) -> Capabilities:
        """What all workers of the cluster can do; of those that live, else of those that were there last."""
        workers = transaction.workers(cluster.name)
        workers = [w for w in workers if w.state in _LIVE] or workers
        if not workers:
            message = (
                f"cluster {cluster.name!r} never had a worker, so nobody knows what its driver {cluster.driver!r} can do; "
                f"start one: federation worker --driver {cluster.driver} --cluster {cluster.name}"
            )
            raise NotSupported(message, cluster=cluster.name)
        return common_capabilities([known_capabilities(worker.capabilities) for worker in workers])

    def _new(  # noqa: PLR0913 (all that a new operation is made of)
        self,
        submission: Submission,
        asked: Asked,
        sent: Asked,
        cluster: ClusterRecord,
        key: str,
        now: float,
    ) -> NewOperation:
        operation, partition = sent.operation, partition_of(key, cluster.partitions)
        return NewOperation(
            id=str(uuid_utils.uuid7()),
            cluster=cluster.name,
            epoch=cluster.epoch,
            name=operation.name,
            revision=operation.revision,
            asked_revision=None if asked.operation is operation else asked.operation.revision,
            release=cluster.pin or str(CURRENT),
            key=key,
            partition=partition,
            shard=shard_of(cluster.name, partition),
            arguments=self._adapting.spoken(sent.request, cluster.pin),
            submitted_at=now,
            deadline=now + _deadline_seconds(submission, operation),
            idempotency_key=submission.idempotency_key,
            requested_by=submission.requested_by,
            trace=submission.trace,
        )


def _same(earlier: OperationRecord, asked: Asked, cluster: ClusterRecord, submission: Submission) -> OperationRecord:
    """What was accepted with this idempotency key, if it is what is asked for now; raises InvalidRequest."""
    request, key = asked.request, earlier.key
    if isinstance(request, NodeRequest):
        key = node_key(cluster.name, request.node)
    elif asked.operation.name != "create" or "instance" in submission.arguments:  # or the id was made just now
        key = request.instance  # type: ignore[attr-defined]  # ordered by instance: it has one
    if (earlier.name, earlier.key) != (asked.operation.name, key):
        message = (
            f"idempotency key {submission.idempotency_key!r} was used for {earlier.name} of {words_of(earlier.key)} "
            f"(operation {earlier.id}); use a new key for a new operation"
        )
        raise InvalidRequest(message, field="idempotency_key", value=submission.idempotency_key)
    return earlier


def _check_accepting(cluster: ClusterRecord) -> None:
    """Between two epochs nothing is accepted; what was accepted before is being settled."""
    if cluster.wanted_partitions is not None:
        message = (
            f"cluster {cluster.name!r} settles what it has accepted, to go on with {cluster.wanted_partitions} "
            f"partitions; until then it takes nothing new"
        )
        raise Overloaded(message, cluster=cluster.name)


def _check_size(operation: Operation, request: Request) -> None:
    size = len(msgspec.msgpack.encode(request))
    if size > MAX_REQUEST_BYTES:
        message = f"{operation.name}: the request has {size} bytes, at most {MAX_REQUEST_BYTES} can be sent to a worker"
        raise InvalidRequest(message, size=size, limit=MAX_REQUEST_BYTES)


def _deadline_seconds(submission: Submission, operation: Operation) -> float:
    seconds = submission.deadline_seconds
    if seconds is None:
        return operation.default_deadline_seconds
    if not 0 < seconds <= _MAX_DEADLINE_SECONDS:
        message = f"deadline_seconds is {seconds}, expected more than 0 and at most {_MAX_DEADLINE_SECONDS:.0f}"
        raise InvalidRequest(message, field="deadline_seconds", value=seconds)
    return seconds


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
