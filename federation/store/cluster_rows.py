"""Clusters and their inventory of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, exists, insert, literal, select, update

from federation.contract.errors import AlreadyExists, InvalidState, NotFound
from federation.protocol.ordering_key import node_key
from federation.protocol.records import ClusterRecord, NodeRecord
from federation.store.encoding import dict_of, text_of
from federation.store.session import Session, insert_unless_there
from federation.store.tables import (
    CLUSTERS,
    INSTANCES,
    KEYS,
    MANAGERS,
    NODES,
    OLD_EPOCHS,
    OPERATIONS,
    WORKER_GRANTS,
    WORKERS,
)

_CLUSTER = select(CLUSTERS).where(CLUSTERS.c.name == bindparam("name"))
_LOCKED_CLUSTER = _CLUSTER.with_for_update(key_share=True)
_STEADY_CLUSTER = _CLUSTER.with_for_update(read=True)
_NODE_KEY = literal(node_key("", "").removesuffix("/")) + NODES.c.cluster + literal("/") + NODES.c.name
_ALL_NODES = (
    select(NODES, KEYS.c.parked_by)
    .select_from(NODES.outerjoin(KEYS, KEYS.c.key == _NODE_KEY))
    .order_by(NODES.c.cluster, NODES.c.name)
)
_NODES = _ALL_NODES.where(NODES.c.cluster == bindparam("cluster"))
_ONE_NODE = _NODES.where(NODES.c.name == bindparam("name"))
_UNSETTLED = OPERATIONS.c.finished_at.is_(None)


class ClusterRows(Session):
    """Clusters and nodes of the port ``Estate``."""

    def add_cluster(self, cluster: ClusterRecord) -> None:
        """Add, or raise AlreadyExists."""
        statement = insert_unless_there(self._dialect, CLUSTERS, CLUSTERS.c.name)
        if self._row(statement, _cluster_row(cluster)) is None:
            raise AlreadyExists(f"there is a cluster {cluster.name} already", cluster=cluster.name)

    def cluster(self, name: str, *, lock: bool = False) -> ClusterRecord | None:
        """One cluster; ``lock`` (writing transactions only) lets no other transaction lock or change it meanwhile."""
        row = self._row(_LOCKED_CLUSTER if lock else _CLUSTER, {"name": name})
        return None if row is None else _cluster(row)

    def steady_cluster(self, name: str) -> ClusterRecord | None:
        """One cluster (writing transactions only) that nobody locks or changes until this transaction ends.

        Any number of transactions may hold it so at the same time: FOR SHARE on PostgreSQL; SQLite has one writer.
        """
        row = self._row(_STEADY_CLUSTER, {"name": name})
        return None if row is None else _cluster(row)

    def clusters(self) -> list[ClusterRecord]:
        """All clusters by name."""
        return [_cluster(row) for row in self._rows(select(CLUSTERS).order_by(CLUSTERS.c.name))]

    def save_cluster(self, cluster: ClusterRecord) -> None:
        """Write a changed cluster; NotFound when it is not there."""
        row = _cluster_row(cluster)
        name = row.pop("name")
        if not self._changed(update(CLUSTERS).where(CLUSTERS.c.name == name).values(row)):
            raise _no_cluster(name)

    def remove_cluster(self, name: str) -> None:
        """Remove a cluster with its workers and their grants, nodes, keys and settled operations.

        InvalidState while it has instances or unsettled operations; NotFound when it is not there.
        """
        # FOR UPDATE: the foreign key of a row that somebody adds meanwhile waits for it, and then fails.
        if self._row(select(CLUSTERS.c.name).where(CLUSTERS.c.name == name).with_for_update()) is None:
            raise _no_cluster(name)
        busy = select(
            exists().where(OPERATIONS.c.cluster == name, _UNSETTLED), exists().where(INSTANCES.c.cluster == name)
        )
        ((unsettled, instances),) = self._rows(busy)
        if unsettled or instances:
            what = "operations that are not settled" if unsettled else "instances"
            raise InvalidState(f"cluster {name} has {what}; it can be removed when it has none", cluster=name)
        for table in (WORKERS, NODES, OPERATIONS, KEYS, WORKER_GRANTS, OLD_EPOCHS):
            self._execute(delete(table).where(table.c.cluster == name))
        self._execute(delete(CLUSTERS).where(CLUSTERS.c.name == name))

    def queued_releases(self, cluster: str) -> set[str]:
        """The contract releases of all unsettled operations of a cluster."""
        statement = select(OPERATIONS.c.release).where(OPERATIONS.c.cluster == cluster, _UNSETTLED).distinct()
        return {release for (release,) in self._rows(statement)}

    def managed_releases(self) -> list[tuple[str, str]]:
        """The contract releases, lowest and highest, of every manager that lives or has died just now and says so."""
        columns = (MANAGERS.c.release_lowest, MANAGERS.c.release_highest)
        return [(low, high) for low, high in self._rows(select(*columns).where(columns[1].is_not(None)))]

    def save_nodes(self, cluster: str, nodes: Sequence[NodeRecord]) -> None:
        """Replace the inventory of a cluster; NotFound when it is not there."""
        if self.cluster(cluster, lock=True) is None:
            raise _no_cluster(cluster)
        self._execute(delete(NODES).where(NODES.c.cluster == cluster))
        rows = [
            {"cluster": cluster, "name": node.name, "facts": text_of(node.facts), "seen_at": node.seen_at}
            for node in nodes
        ]
        if rows:
            self._execute(insert(NODES), rows)

    def nodes(self, cluster: str | None = None) -> list[NodeRecord]:
        """Nodes by cluster and name."""
        rows = self._rows(_ALL_NODES) if cluster is None else self._rows(_NODES, {"cluster": cluster})
        return [_node(row) for row in rows]

    def node(self, cluster: str, name: str) -> NodeRecord | None:
        """One node."""
        row = self._row(_ONE_NODE, {"cluster": cluster, "name": name})
        return None if row is None else _node(row)

    def forget_node(self, cluster: str, name: str) -> None:
        """Forget a node and its ordering key; InvalidState while the key is parked or has unsettled operations."""
        key = node_key(cluster, name)
        at_rest = (KEYS.c.key == key, KEYS.c.parked_by.is_(None), KEYS.c.position == KEYS.c.last_sequence)
        used = select(exists().where(OPERATIONS.c.key == key))
        if self._row(used)[0]:  # type: ignore[index]  # it always has a row
            there = self._row(select(KEYS.c.key).where(*at_rest).with_for_update())
            if there is None:
                message = f"node {name} of cluster {cluster} is parked or has unsettled operations"
                raise InvalidState(f"{message}; settle them first", node=name)
        else:
            self._execute(delete(KEYS).where(*at_rest))
        self._execute(delete(NODES).where(NODES.c.cluster == cluster, NODES.c.name == name))

    def save_node(self, node: NodeRecord) -> None:
        """Write one node of the inventory anew, if it is still there."""
        at = (NODES.c.cluster == node.cluster, NODES.c.name == node.name)
        self._execute(update(NODES).where(*at).values(facts=text_of(node.facts), seen_at=node.seen_at))


def _no_cluster(name: str) -> NotFound:
    return NotFound(f"there is no cluster {name}", cluster=name)


def _node(row: Any) -> NodeRecord:
    return NodeRecord(
        cluster=row.cluster, name=row.name, facts=dict_of(row.facts), seen_at=row.seen_at, parked_by=row.parked_by
    )


def _cluster_row(cluster: ClusterRecord) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "driver": cluster.driver,
        "partitions": cluster.partitions,
        "epoch": cluster.epoch,
        "pin": cluster.pin,
        "created_at": cluster.created_at,
        "wanted_partitions": cluster.wanted_partitions,
        "wanted_since": cluster.wanted_since,
    }


def _cluster(row: Any) -> ClusterRecord:
    return ClusterRecord(
        name=row.name,
        driver=row.driver,
        partitions=row.partitions,
        epoch=row.epoch,
        pin=row.pin,
        created_at=row.created_at,
        wanted_partitions=row.wanted_partitions,
        wanted_since=row.wanted_since,
    )
