"""Clusters, nodes and instances: making, listing, reading through the query lane, keeping the inventory fresh."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import msgspec

from federation.contract.errors import (
    AlreadyExists,
    DriverBug,
    InvalidRequest,
    InvalidState,
    NotFound,
    OperationError,
)
from federation.contract.nodes import Node, NodeList
from federation.contract.operations import Lane, find
from federation.contract.validation import parse_request
from federation.manager.clocks import Clock
from federation.manager.ports import ClusterQueues, Queries, Store
from federation.manager.settings import ManagerSettings
from federation.protocol.queries import QueryReply, error_from_wire
from federation.protocol.records import ClusterRecord, InstanceRecord, NodeRecord, WorkerState

log = logging.getLogger(__name__)

_CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_PARTITIONS = 1024
_MAX_PAGE = 1000


class Estate:
    """The use cases around what is there."""

    def __init__(
        self, store: Store, queries: Queries, queues: ClusterQueues, clock: Clock, settings: ManagerSettings
    ) -> None:
        self._store = store
        self._queries = queries
        self._queues = queues
        self._clock = clock
        self._settings = settings

    def create_cluster(self, name: str, driver: str, partitions: int | None = None) -> ClusterRecord:
        """Make a cluster and declare its queues; raises InvalidRequest or AlreadyExists."""
        count = self._settings.default_partitions if partitions is None else partitions
        if not _CLUSTER_NAME.fullmatch(name):
            message = f"cluster name is {name!r}, expected 1 to 63 lower-case letters, digits and hyphens"
            raise InvalidRequest(message, field="name", value=name)
        if not 1 <= count <= _MAX_PARTITIONS:
            message = f"partitions is {count}, expected 1 to {_MAX_PARTITIONS}"
            raise InvalidRequest(message, field="partitions", value=count)
        cluster = ClusterRecord(name=name, driver=driver, partitions=count, created_at=self._clock.wall())
        with self._store.reading() as transaction:
            if transaction.cluster(name) is not None:
                message = f"cluster {name!r} is there already"
                raise AlreadyExists(message, field="name", value=name)
        # Queues first: a cluster whose queues could not be declared is not there, and making it may be tried again.
        self._queues.declare(name, cluster.epoch, count)
        with self._store.transaction() as transaction:
            transaction.add_cluster(cluster)
        return cluster

    def remove_cluster(self, name: str) -> None:
        """Forget an empty cluster and delete its queues; raises NotFound or InvalidState."""
        with self._store.transaction() as transaction:
            cluster = transaction.cluster(name, lock=True)
            if cluster is None:
                message = f"cluster {name!r} is not known"
                raise NotFound(message, field="cluster", value=name)
            if transaction.instances(name, None, 1):
                message = f"cluster {name!r} still has instances; delete them first"
                raise InvalidState(message, cluster=name)
            if transaction.queued_releases(name):
                message = f"cluster {name!r} still has unsettled operations"
                raise InvalidState(message, cluster=name)
            live = [w.id for w in transaction.workers(name) if w.state in {WorkerState.ADMITTED, WorkerState.DRAINING}]
            if live:
                message = f"cluster {name!r} still has workers ({', '.join(live)}); stop them first"
                raise InvalidState(message, cluster=name)
            transaction.remove_cluster(name)
        self._queues.retire(name, cluster.epoch, cluster.partitions)

    def clusters(self) -> list[ClusterRecord]:
        """All clusters."""
        with self._store.reading() as transaction:
            return transaction.clusters()

    def declare_all(self) -> None:
        """Declare the queues of every cluster (at start, and after a reconnect to a rebuilt broker)."""
        for cluster in self.clusters():
            self._queues.declare(cluster.name, cluster.epoch, cluster.partitions)

    def nodes(self, cluster: str | None = None) -> list[NodeRecord]:
        """The inventory as it was reported last."""
        with self._store.reading() as transaction:
            return transaction.nodes(cluster)

    def instances(self, cluster: str | None, after: str | None, limit: int) -> list[InstanceRecord]:
        """A page of instances."""
        with self._store.reading() as transaction:
            return transaction.instances(cluster, after, max(1, min(limit, _MAX_PAGE)))

    def instance(self, name_or_id: str, cluster: str | None = None) -> InstanceRecord:
        """One instance by id, or by its name where that is unique; raises NotFound or InvalidRequest."""
        with self._store.reading() as transaction:
            record = transaction.instance(name_or_id)
            named = [] if record else transaction.instances_named(name_or_id, cluster)
        if record is not None:
            return record
        if len(named) > 1:
            where = ", ".join(instance.cluster for instance in named)
            message = f"instances named {name_or_id!r} exist in the clusters {where}; give the id or the cluster"
            raise InvalidRequest(message, field="instance", value=name_or_id)
        if not named:
            message = f"instance {name_or_id!r} is not known"
            raise NotFound(message, field="instance", value=name_or_id)
        return named[0]

    def query(self, cluster: str, name: str, arguments: dict[str, Any], revision: int = 1) -> dict[str, Any]:
        """Ask any worker of a cluster; raises errors of the catalogue, Unavailable when no worker answers."""
        operation = find(name, revision)
        if operation.lane is not Lane.QUERY:
            message = f"{name} changes something; submit it"
            raise InvalidRequest(message, field="name", value=name)
        self._cluster(cluster)
        request = parse_request(operation, arguments)
        raw = self._queries.query(
            cluster, name, revision, msgspec.to_builtins(request), timeout=self._settings.query_timeout
        )
        try:
            reply = msgspec.convert(raw, QueryReply)
        except msgspec.ValidationError as error:
            message = f"a worker of cluster {cluster!r} answered {name} with something else: {error}"
            raise DriverBug(message, cluster=cluster) from error
        if reply.error is not None:
            raise error_from_wire(reply.error)
        return reply.result or {}

    def _cluster(self, name: str) -> ClusterRecord:
        with self._store.reading() as transaction:
            cluster = transaction.cluster(name)
            known = ", ".join(c.name for c in transaction.clusters()) or "none"
        if cluster is None:
            message = f"cluster {name!r} is not known; known are: {known}"
            raise NotFound(message, field="cluster", value=name)
        return cluster

    def refresh_nodes(self, stopped: Callable[[], bool], *, only_unknown: bool = False) -> None:
        """Read the inventory of every cluster that has a live worker, or only of those that have none yet."""
        with self._store.reading() as transaction:
            live = {w.cluster for w in transaction.workers() if w.state is WorkerState.ADMITTED}
            known = {node.cluster for node in transaction.nodes()} if only_unknown else set()
        for cluster in sorted(live - known):
            if stopped():
                return
            try:
                self.refresh_cluster(cluster)
            except OperationError as error:
                log.warning("cluster=%s inventory could not be read: %s", cluster, error)

    def _nodes_of(self, cluster: str) -> tuple[Node, ...]:
        try:
            return msgspec.convert(self.query(cluster, "list_nodes", {}), NodeList).nodes
        except msgspec.ValidationError as error:
            message = f"a worker of cluster {cluster!r} answered list_nodes with something else: {error}"
            raise DriverBug(message, cluster=cluster) from error

    def refresh_cluster(self, cluster: str) -> None:
        """Read the inventory of one cluster now."""
        nodes = self._nodes_of(cluster)
        now = self._clock.wall()
        records = [NodeRecord(cluster=cluster, name=n.name, facts=msgspec.to_builtins(n), seen_at=now) for n in nodes]
        with self._store.transaction() as transaction:
            transaction.save_nodes(cluster, records)
