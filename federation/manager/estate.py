"""Clusters, nodes and instances: making, listing, keeping the inventory fresh."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable

import msgspec

from federation.contract.errors import (
    AlreadyExists,
    DriverBug,
    InvalidRequest,
    InvalidState,
    NotFound,
    OperationError,
)
from federation.contract.nodes import NodeList
from federation.manager.clocks import Clock
from federation.manager.counters import Caller
from federation.manager.epochs import MAX_PARTITIONS
from federation.manager.ports import ClusterQueues
from federation.manager.reading import Reading
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store
from federation.protocol.admission import without_unknown_flags
from federation.protocol.errors import StoreUnavailable
from federation.protocol.ordering_key import node_key
from federation.protocol.records import ClusterRecord, InstanceRecord, NodeRecord, WorkerState

log = logging.getLogger(__name__)

_CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_PAGE = 1000
_TOLD_OF = 5
_LIVE = {WorkerState.ADMITTED, WorkerState.DRAINING}


class Estate:
    """The use cases around what is there."""

    def __init__(
        self, store: Store, reading: Reading, queues: ClusterQueues, clock: Clock, settings: ManagerSettings
    ) -> None:
        self._store = store
        self._reading = reading
        self._queues = queues
        self._clock = clock
        self._settings = settings

    def create_cluster(self, name: str, driver: str, partitions: int | None = None) -> ClusterRecord:
        """Make a cluster and declare its queues; raises InvalidRequest or AlreadyExists."""
        count = self._settings.default_partitions if partitions is None else partitions
        if not _CLUSTER_NAME.fullmatch(name):
            message = f"cluster name is {name!r}, expected 1 to 63 lower-case letters, digits and hyphens"
            raise InvalidRequest(message, field="name", value=name)
        if not 1 <= count <= MAX_PARTITIONS:
            message = f"partitions is {count}, expected 1 to {MAX_PARTITIONS}"
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
            old = [each for each in transaction.old_epochs() if each.cluster == name and each.deleted_at is None]
            transaction.remove_cluster(name)
        self._queues.retire(name, cluster.epoch, cluster.partitions)
        for each in old:
            self._queues.delete(name, each.epoch, each.partitions)

    def clusters(self) -> list[ClusterRecord]:
        """All clusters."""
        with self._store.reading() as transaction:
            return transaction.clusters()

    def nodes(self, cluster: str | None = None) -> list[NodeRecord]:
        """The inventory as it was reported last."""
        with self._store.reading() as transaction:
            return transaction.nodes(cluster)

    def forget_node(self, cluster: str, name: str) -> None:
        """Forget a node that is gone and has no instances: its inventory and its line of operations.

        Where a worker lives it is asked first whether the node is still there.  Raises NotFound, InvalidState, and what
        the query ``list_nodes`` raises.
        """
        with self._store.reading() as transaction:
            if transaction.cluster(cluster) is None:
                raise NotFound(f"cluster {cluster!r} is not known", field="cluster", value=cluster)
            if transaction.node(cluster, name) is None and not transaction.keys([node_key(cluster, name)]):
                message = f"node {name!r} is not known in cluster {cluster!r}"
                raise NotFound(message, field="node", value=name)
            live = any(w.state in _LIVE for w in transaction.workers(cluster))
        if live:
            self.refresh_cluster(cluster)
        with self._store.transaction() as transaction:
            transaction.cluster(cluster, lock=True)  # whoever places an instance holds it, too
            if live and transaction.node(cluster, name) is not None:
                message = f"node {name!r} is still reported by the workers of {cluster!r}; take it out of their driver's configuration first"
                raise InvalidState(message, node=name)
            if there := transaction.instances_on(cluster, name, _TOLD_OF):
                who = ", ".join(record.name for record in there)
                message = f"node {name!r} has instances ({who}); migrate or delete them, or find out where they are: federation cluster compare {cluster}"
                raise InvalidState(message, node=name)
            transaction.forget_node(cluster, name)
        log.info("cluster=%s forgot node=%s", cluster, name)

    def instances(self, cluster: str | None, after: str | None, limit: int) -> list[InstanceRecord]:
        """A page of instances."""
        with self._store.reading() as transaction:
            return transaction.instances(cluster, after, max(1, min(limit, _MAX_PAGE)))

    def instance(self, name_or_id: str, cluster: str | None = None) -> InstanceRecord:
        """One instance by id, or by its name where that is unique; raises NotFound or InvalidRequest."""
        with self._store.glancing() as transaction:
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

    def refresh_nodes(self, stopped: Callable[[], bool], *, only_unknown: bool = False) -> None:
        """Read the inventory of every cluster that has a live worker, or only of those that have none yet.

        Whatever one cluster's driver answers, the others are read.
        """
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
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("cluster=%s inventory could not be written; what was known of it stays", cluster)

    def refresh_cluster(self, cluster: str) -> None:
        """Read the inventory of one cluster now."""
        told = self._reading.query(cluster, "list_nodes", {}, caller=Caller.MANAGER)
        nodes = msgspec.convert(without_unknown_flags(told), NodeList).nodes
        for name, times in Counter(node.name for node in nodes).items():
            if times > 1:
                message = f"a worker of cluster {cluster!r} lists the node {name!r} twice"
                raise DriverBug(message, node=name)
        now = self._clock.wall()
        records = [NodeRecord(cluster=cluster, name=n.name, facts=msgspec.to_builtins(n), seen_at=now) for n in nodes]
        with self._store.transaction() as transaction:
            transaction.save_nodes(cluster, records)
