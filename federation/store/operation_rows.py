"""Operations as people see them: one, many, and how many of each state."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, select

from federation.protocol.records import NewOperation, OperationRecord, OperationState
from federation.store.encoding import dict_of, outcome_of
from federation.store.session import Session
from federation.store.tables import CLUSTERS, KEYS, OPERATIONS

_OPERATION = OPERATIONS.c
_NAMES = tuple(_OPERATION.keys())
_ONE = select(OPERATIONS).where(_OPERATION.id == bindparam("id"))
_MANY = select(OPERATIONS).where(_OPERATION.id.in_(bindparam("ids", expanding=True)))
_CLUSTER_NAMES = select(CLUSTERS.c.name)
_COUNT_STATES = select(_OPERATION.cluster, _OPERATION.state, func.count()).group_by(
    _OPERATION.cluster, _OPERATION.state
)
_COUNT_PARKED = select(KEYS.c.cluster, func.count()).where(KEYS.c.parked_by.is_not(None)).group_by(KEYS.c.cluster)


class OperationRows(Session):
    """The reads of operations that decide nothing."""

    def operation(self, operation: str) -> OperationRecord | None:
        """One operation by id."""
        row = self._row(_ONE, {"id": operation})
        return None if row is None else record_of_row(row)

    def operations_by_id(self, ids: Collection[str]) -> dict[str, OperationRecord]:
        """Those of these operations that are there, by id."""
        return {row.id: record_of_row(row) for row in self._rows_in(_MANY, "ids", ids)}

    def operation_records(
        self,
        *,
        cluster: str | None = None,
        key: str | None = None,
        state: OperationState | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[OperationRecord]:
        """At most ``limit`` operations, newest first, from before the id ``before``."""
        filters = [] if before is None else [_OPERATION.id < before]
        if state is not None:
            filters.append(_OPERATION.state == state.value)
        if key is not None:
            filters.append(_OPERATION.key == key)
        if cluster is not None:
            filters.append(_OPERATION.cluster == cluster)
        elif state is not None and key is None:
            return self._of_every_cluster(filters, limit)
        newest = select(OPERATIONS).where(*filters).order_by(_OPERATION.id.desc()).limit(limit)
        return [record_of_row(row) for row in self._rows(newest)]

    def _of_every_cluster(self, filters: list[ColumnElement[bool]], limit: int) -> list[OperationRecord]:
        """The newest of one state, which may be rare: cluster by cluster, so that the index finds them at once."""
        newest = select(_OPERATION.id).where(*filters).order_by(_OPERATION.id.desc()).limit(limit)
        found: list[str] = []
        for (name,) in self._rows(_CLUSTER_NAMES):
            found.extend(id_ for (id_,) in self._rows(newest.where(_OPERATION.cluster == name)))
        rows = self._rows_in(_MANY, "ids", sorted(found, reverse=True)[:limit])
        return sorted((record_of_row(row) for row in rows), key=lambda record: record.id, reverse=True)

    def counts(self) -> dict[str, dict[str, int]]:
        """By cluster: how many operations are in which state, and how many keys are ``parked``."""
        found = {name: {"parked": 0} for (name,) in self._rows(_CLUSTER_NAMES)}
        for cluster, state, number in self._rows(_COUNT_STATES):
            found[cluster][state] = number
        for cluster, number in self._rows(_COUNT_PARKED):
            found[cluster]["parked"] = number
        return found


def record_of_row(row: Any) -> OperationRecord:
    """An operation from all columns of its row, in the table's order."""
    values = dict(zip(_NAMES, row, strict=True))  # several times faster than asking the row for each of them
    return OperationRecord(
        id=values["id"],
        cluster=values["cluster"],
        name=values["name"],
        revision=values["revision"],
        key=values["key"],
        sequence=values["sequence"],
        partition=values["partition"],
        state=OperationState(values["state"]),
        arguments=dict_of(values["arguments"]),
        release=values["release"],
        submitted_at=values["submitted_at"],
        deadline=values["deadline"],
        round=values["round"],
        attempt=values["attempt"],
        worker=values["worker"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        cancel_requested=values["cancel_requested"],
        percent=values["percent"],
        stage=values["stage"],
        outcome=outcome_of(values["outcome"]),
        resolution=values["resolution"],
        requested_by=values["requested_by"],
        asked_revision=values["asked_revision"],
    )


def record_of_new(operation: NewOperation, sequence: int) -> OperationRecord:
    """An operation that has just been accepted."""
    return OperationRecord(
        id=operation.id,
        cluster=operation.cluster,
        name=operation.name,
        revision=operation.revision,
        key=operation.key,
        sequence=sequence,
        partition=operation.partition,
        state=OperationState.QUEUED,
        arguments=operation.arguments,
        release=operation.release,
        submitted_at=operation.submitted_at,
        deadline=operation.deadline,
        requested_by=operation.requested_by,
        asked_revision=operation.asked_revision,
    )
