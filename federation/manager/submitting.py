"""Accepting operations: check, place, give a sequence, hand to the publisher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import uuid_utils

from federation.contract.capabilities import Capabilities
from federation.contract.errors import (
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    Overloaded,
    Parked,
)
from federation.contract.nodes import Node
from federation.contract.operations import Lane, Operation, Ordering, find
from federation.contract.release import CURRENT
from federation.contract.requests import Create, Request, Resize
from federation.contract.validation import check_capabilities, parse_request
from federation.manager.clocks import Clock
from federation.manager.placement import choose_node
from federation.manager.ports import Store, Transaction
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.showing import without_secrets
from federation.protocol.envelope import Command
from federation.protocol.partition_map import partition_of, shard_of
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

    ``cluster`` may be left out for an instance that exists; ``deadline_seconds`` runs from acceptance and None takes
    the operation's default; the same ``idempotency_key`` never makes two operations in one cluster.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    cluster: str | None = None
    revision: int = 1
    deadline_seconds: float | None = None
    idempotency_key: str | None = None
    requested_by: str | None = None
    trace: str | None = None


class Submitting:
    """The use case ``submit``."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, settings: ManagerSettings) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._settings = settings

    def submit(self, submission: Submission) -> OperationRecord:
        """Accept an ordered operation, or raise an error of the catalogue; nothing is accepted then."""
        operation = find(submission.name, submission.revision)
        if operation.lane is not Lane.ORDERED or operation.ordering is not Ordering.INSTANCE:
            message = f"{operation.name} is a query; read it, do not submit it"
            raise InvalidRequest(message, field="name", value=operation.name)
        if self._publisher.backlog >= self._settings.max_backlog:
            message = (
                f"{self._publisher.backlog} operations wait for the broker, the limit is {self._settings.max_backlog}"
            )
            raise Overloaded(message, limit=self._settings.max_backlog)
        arguments = dict(submission.arguments)
        if operation.request is Create:
            arguments.setdefault("instance", str(uuid_utils.uuid7()))
        request = parse_request(operation, arguments)
        _check_size(operation, request)
        with self._store.transaction() as transaction:
            record, command = self._accept(transaction, submission, operation, request)
        if command is not None:
            shard = shard_of(command.cluster, command.partition)
            self._publisher.accepted([Outgoing(shard=shard, command=command)])
        return record

    def _accept(
        self, transaction: Transaction, submission: Submission, operation: Operation, request: Request
    ) -> tuple[OperationRecord, Command | None]:
        now = self._clock.wall()
        instance_id: str = request.instance  # type: ignore[attr-defined]  # ordered by instance: it has one
        creates = isinstance(request, Create)
        instance = None if creates else self._instance(transaction, instance_id)
        cluster = self._cluster(transaction, submission, instance, lock=creates)
        if submission.idempotency_key is not None:
            earlier = transaction.accepted_before(cluster.name, submission.idempotency_key)
            if earlier is not None:
                return self._same(earlier, operation, submission), None
        check_capabilities(operation, request, self._capabilities(transaction, cluster))
        if isinstance(request, Create):
            request = self._place(transaction, cluster, request, now)
        elif instance is not None:
            self._check_instance(instance, operation)
            if isinstance(request, Resize):
                self._check_resize(transaction, cluster, instance, request)
        new = self._new(submission, operation, cluster, instance_id, request, now)
        record = transaction.accept(new)
        return record, command_of(new, record) if record.id == new.id else None

    def _instance(self, transaction: Transaction, instance: str) -> InstanceRecord:
        record = transaction.instance(instance)
        if record is None:
            message = f"instance {instance} is not known"
            raise NotFound(message, field="instance", value=instance)
        return record

    def _cluster(
        self, transaction: Transaction, submission: Submission, instance: InstanceRecord | None, *, lock: bool
    ) -> ClusterRecord:
        name = submission.cluster or (instance.cluster if instance else None)
        if name is None:
            message = "cluster is missing: say where the instance shall be made"
            raise InvalidRequest(message, field="cluster")
        if instance is not None and instance.cluster != name:
            message = f"instance {instance.id} is in cluster {instance.cluster!r}, not in {name!r}"
            raise NotFound(message, field="cluster", value=name)
        cluster = transaction.cluster(name, lock=lock)
        if cluster is None:
            known = ", ".join(c.name for c in transaction.clusters()) or "none"
            message = f"cluster {name!r} is not known; known are: {known}"
            raise NotFound(message, field="cluster", value=name)
        return cluster

    def _same(self, earlier: OperationRecord, operation: Operation, submission: Submission) -> OperationRecord:
        if earlier.name != operation.name:
            message = (
                f"idempotency key {submission.idempotency_key!r} was used for {earlier.name} (operation {earlier.id})"
            )
            raise InvalidRequest(message, field="idempotency_key", value=submission.idempotency_key)
        return earlier

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
        declared = [msgspec.convert(worker.capabilities, Capabilities) for worker in workers]
        flags = frozenset.intersection(*(capabilities.flags for capabilities in declared))
        return Capabilities(flags=flags, limits=declared[-1].limits)

    def _place(self, transaction: Transaction, cluster: ClusterRecord, request: Create, now: float) -> Create:
        nodes = [msgspec.convert(node.facts, Node) for node in transaction.nodes(cluster.name)]
        node = choose_node(request.spec, nodes, transaction.taken(cluster.name))
        request = msgspec.structs.replace(request, spec=msgspec.structs.replace(request.spec, node=node))
        spec = request.spec
        transaction.add_instance(
            InstanceRecord(
                id=request.instance,
                name=spec.name,
                cluster=cluster.name,
                node=node,
                vcpus=spec.flavour.vcpus,
                memory_bytes=spec.flavour.memory_bytes,
                spec=without_secrets(msgspec.to_builtins(spec)),
                state="building",
                created_at=now,
                updated_at=now,
            )
        )
        return request

    def _check_instance(self, instance: InstanceRecord, operation: Operation) -> None:
        if instance.parked_by is not None:
            message = (
                f"instance {instance.name} is parked by operation {instance.parked_by}; "
                f"resolve it first: federation instance resolve {instance.id} --retry | --accept | --abandon"
            )
            raise Parked(message, operation=instance.parked_by)
        if instance.state == "failed" and operation.name != "destroy":
            message = f"instance {instance.name} was never made; it can only be deleted"
            raise InvalidState(message, state=instance.state)

    def _check_resize(
        self, transaction: Transaction, cluster: ClusterRecord, instance: InstanceRecord, request: Resize
    ) -> None:
        more = request.flavour.memory_bytes - instance.memory_bytes
        node = next((n for n in transaction.nodes(cluster.name) if n.name == instance.node), None)
        if node is None or more <= 0:
            return
        facts = msgspec.convert(node.facts, Node)
        free = facts.memory_bytes_total - transaction.taken(cluster.name).get(instance.node, (0, 0))[1]
        if more > free:
            message = f"node {instance.node} has {free} bytes of memory free, {more} more are asked for"
            raise InsufficientResources(message)

    def _new(  # noqa: PLR0913 (all that a new operation is made of)
        self,
        submission: Submission,
        operation: Operation,
        cluster: ClusterRecord,
        key: str,
        request: Request,
        now: float,
    ) -> NewOperation:
        partition = partition_of(key, cluster.partitions)
        return NewOperation(
            id=str(uuid_utils.uuid7()),
            cluster=cluster.name,
            epoch=cluster.epoch,
            name=operation.name,
            revision=operation.revision,
            release=cluster.pin or str(CURRENT),
            key=key,
            partition=partition,
            shard=shard_of(cluster.name, partition),
            arguments=msgspec.to_builtins(request),
            submitted_at=now,
            deadline=now + _deadline_seconds(submission, operation),
            idempotency_key=submission.idempotency_key,
            requested_by=submission.requested_by,
            trace=submission.trace,
        )


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
