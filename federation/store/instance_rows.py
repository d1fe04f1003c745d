"""Instances as the manager knows them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update

from federation.contract.errors import AlreadyExists, NotFound
from federation.protocol.records import InstanceRecord
from federation.store.encoding import dict_of, text_of
from federation.store.session import Session, insert_unless_there
from federation.store.tables import CLUSTERS, INSTANCES

_INSTANCE = INSTANCES.c
_NAMES = tuple(_INSTANCE.keys())
_ONE = select(INSTANCES).where(_INSTANCE.id == bindparam("id"))
_LOCKED_ONE = _ONE.with_for_update(key_share=True)
_MANY = select(INSTANCES).where(_INSTANCE.id.in_(bindparam("ids", expanding=True)))
_LOCKED_MANY = _MANY.order_by(_INSTANCE.id).with_for_update(key_share=True)
_NAMED = (_INSTANCE.name == bindparam("name"), _INSTANCE.cluster == bindparam("cluster"))
_NAMESAKE = select(_INSTANCE.id).where(*_NAMED, _INSTANCE.id != bindparam("id"))
_SAVE = update(INSTANCES).where(_INSTANCE.id == bindparam("at"))
_OBSERVED = ("node", "vcpus", "memory_bytes", "state", "observed", "parked_by", "updated_at")
_SAVE_OBSERVED = _SAVE.values({name: bindparam(f"new_{name}") for name in _OBSERVED})
_TAKEN = (
    select(_INSTANCE.node, func.sum(_INSTANCE.vcpus), func.sum(_INSTANCE.memory_bytes))
    .where(_INSTANCE.cluster == bindparam("cluster"))
    .group_by(_INSTANCE.node)
)


class InstanceRows(Session):
    """Instances of the port ``Estate``."""

    def taken(self, cluster: str) -> dict[str, tuple[int, int]]:
        """By node: processors and memory bytes that the manager has given to instances."""
        rows = self._rows(_TAKEN, {"cluster": cluster})
        return {node: (int(vcpus), int(memory)) for node, vcpus, memory in rows}

    def add_instance(self, instance: InstanceRecord) -> None:
        """Add; AlreadyExists when the id, or the name within the cluster, is taken; NotFound without the cluster."""
        if self._row(select(CLUSTERS.c.name).where(CLUSTERS.c.name == instance.cluster)) is None:
            raise NotFound(f"there is no cluster {instance.cluster}", cluster=instance.cluster)
        statement = insert_unless_there(self._dialect, INSTANCES, _INSTANCE.id)
        if self._row(statement, _instance_row(instance)) is not None:
            return
        if self._row(select(_INSTANCE.id).where(_INSTANCE.id == instance.id)) is not None:
            raise AlreadyExists(f"there is an instance {instance.id} already", instance=instance.id)
        raise _name_taken(instance)

    def instance(self, instance: str, *, lock: bool = False) -> InstanceRecord | None:
        """One instance by id; ``lock`` (writing transactions only) lets nobody else change it meanwhile."""
        row = self._row(_LOCKED_ONE if lock else _ONE, {"id": instance})
        return None if row is None else _instance(row)

    def instances_by_id(self, ids: Collection[str]) -> dict[str, InstanceRecord]:
        """Those of these instances that are there, by id."""
        return {row.id: _instance(row) for row in self._rows_in(_MANY, "ids", ids)}

    def locked_instances(self, ids: Collection[str]) -> dict[str, InstanceRecord]:
        """Those of these instances that are there, by id; locked in sorted order (writing transactions only)."""
        return {row.id: _instance(row) for row in self._rows_in(_LOCKED_MANY, "ids", ids)}

    def instances_on(self, cluster: str, node: str, limit: int) -> list[InstanceRecord]:
        """At most ``limit`` instances of a node, by id."""
        at = (INSTANCES.c.cluster == cluster, INSTANCES.c.node == node)
        rows = self._rows(select(INSTANCES).where(*at).order_by(INSTANCES.c.id).limit(limit))
        return [_instance(row) for row in rows]

    def instances_named(self, name: str, cluster: str | None = None) -> list[InstanceRecord]:
        """Instances by name, in every cluster or in one; by cluster."""
        statement = select(INSTANCES).where(_INSTANCE.name == name).order_by(_INSTANCE.cluster)
        if cluster is not None:
            statement = statement.where(_INSTANCE.cluster == cluster)
        return [_instance(row) for row in self._rows(statement)]

    def instances(self, cluster: str | None, after: str | None, limit: int) -> list[InstanceRecord]:
        """At most ``limit`` instances by id, from behind ``after``."""
        statement = select(INSTANCES).order_by(_INSTANCE.id).limit(limit)
        if cluster is not None:
            statement = statement.where(_INSTANCE.cluster == cluster)
        if after is not None:
            statement = statement.where(_INSTANCE.id > after)
        return [_instance(row) for row in self._rows(statement)]

    def save_instance(self, instance: InstanceRecord) -> None:
        """Write a changed instance; NotFound when it is not there, AlreadyExists when its new name is taken."""
        row = _instance_row(instance)
        if self._row(_NAMESAKE, {name: row[name] for name in ("id", "name", "cluster")}) is not None:
            raise _name_taken(instance)
        if not self._changed(_SAVE, {"at": row.pop("id"), **row}):
            raise NotFound(f"there is no instance {instance.id}", instance=instance.id)

    def save_observed(self, instances: Iterable[InstanceRecord]) -> None:
        """Write what outcomes change of instances: all but name, cluster, spec and time of birth; NotFound as above."""
        rows = [_observed_row(instance) for instance in sorted(instances, key=lambda instance: instance.id)]
        if rows and self._changed(_SAVE_OBSERVED, rows) != len(rows):
            ids = ", ".join(str(row["at"]) for row in rows)
            raise NotFound(f"one of these instances is not there: {ids}")

    def remove_instance(self, instance: str) -> None:
        """Forget an instance; it may be forgotten already."""
        self._execute(delete(INSTANCES).where(_INSTANCE.id == instance))


def _name_taken(instance: InstanceRecord) -> AlreadyExists:
    message = f"there is an instance named {instance.name} in cluster {instance.cluster} already"
    return AlreadyExists(message, name=instance.name, cluster=instance.cluster)


def _instance_row(instance: InstanceRecord) -> dict[str, Any]:
    return {
        "id": instance.id,
        "name": instance.name,
        "cluster": instance.cluster,
        "node": instance.node,
        "vcpus": instance.vcpus,
        "memory_bytes": instance.memory_bytes,
        "spec": text_of(instance.spec),
        "state": instance.state,
        "observed": None if instance.observed is None else text_of(instance.observed),
        "parked_by": instance.parked_by,
        "created_at": instance.created_at,
        "updated_at": instance.updated_at,
    }


def _observed_row(instance: InstanceRecord) -> dict[str, Any]:
    observed = None if instance.observed is None else text_of(instance.observed)
    values = {name: observed if name == "observed" else getattr(instance, name) for name in _OBSERVED}
    return {"at": instance.id, **{f"new_{name}": value for name, value in values.items()}}


def _instance(row: Any) -> InstanceRecord:
    values = dict(zip(_NAMES, row, strict=True))  # several times faster than asking the row for each of them
    return InstanceRecord(
        id=values["id"],
        name=values["name"],
        cluster=values["cluster"],
        node=values["node"],
        vcpus=values["vcpus"],
        memory_bytes=values["memory_bytes"],
        spec=dict_of(values["spec"]),
        state=values["state"],
        observed=None if values["observed"] is None else dict_of(values["observed"]),
        parked_by=values["parked_by"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
    )
