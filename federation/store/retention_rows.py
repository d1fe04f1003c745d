"""Forgetting what is settled, in bounded steps.

Rules:

1. An operation without an outcome stays; so does the one that parked a key, and one whose outcome is unknown as long as
   no operator has said what is true of it.
2. A key is forgotten when no operation and no instance is left of it, and it is no node's.  The row's own columns say
   that nothing is unsettled, so that a key which gets an operation in this very moment stays (PostgreSQL looks at them
   again once it has the row's lock).
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, exists, or_, select

from federation.protocol.ordering_key import node_key
from federation.protocol.records import OperationState, WorkerState
from federation.store.session import Session
from federation.store.tables import INSTANCES, KEYS, OPERATIONS, WORKERS

_OPERATION = OPERATIONS.c
_KEY = KEYS.c
_NODES = node_key("", "").removesuffix("/") + "%"
_PARKING = select(_KEY.parked_by).where(_KEY.cluster == bindparam("cluster"), _KEY.parked_by.is_not(None))
_FORGETTABLE = (
    select(_OPERATION.id)
    .where(
        _OPERATION.cluster == bindparam("cluster"),
        _OPERATION.id < bindparam("below"),
        _OPERATION.finished_at < bindparam("before"),
        or_(_OPERATION.state != OperationState.UNKNOWN.value, _OPERATION.resolution.is_not(None)),
        _OPERATION.id.not_in(_PARKING),
    )
    .order_by(_OPERATION.id)
    .limit(bindparam("most"))
)
_NEWEST = select(_OPERATION.id).where(_OPERATION.cluster == bindparam("cluster")).order_by(_OPERATION.id.desc())
_NTH_NEWEST = _NEWEST.offset(bindparam("keep")).limit(1)
_AT_REST = (_KEY.position == _KEY.last_sequence, _KEY.parked_by.is_(None), _KEY.moved_at < bindparam("before"))
_UNUSED_KEYS = (
    select(_KEY.key)
    .where(
        *_AT_REST,
        _KEY.cluster == bindparam("cluster"),
        _KEY.key.not_like(_NODES),
        ~exists().where(_OPERATION.key == _KEY.key),
        ~exists().where(INSTANCES.c.id == _KEY.key),
    )
    .order_by(_KEY.key)
    .limit(bindparam("most"))
)
_GONE = (WorkerState.LEFT.value, WorkerState.LOST.value)
_ABOVE_ALL = "g"
"""Behind every UUID."""


class RetentionRows(Session):
    """The port ``Retention`` of federation.manager.store_ports."""

    def nth_newest(self, cluster: str, keep: int) -> str | None:
        """The id of the newest operation of a cluster that ``keep`` others are newer than; None when there is none."""
        row = self._row(_NTH_NEWEST, {"cluster": cluster, "keep": keep})
        return None if row is None else row[0]

    def forget_operations(self, cluster: str, before: float, limit: int, newest: str | None = None) -> int:
        """Remove at most ``limit`` operations that were settled before (Unix seconds); returns how many.

        ``newest`` is the last id that may go.
        """
        told = {"cluster": cluster, "before": before, "most": limit}
        below = _ABOVE_ALL if newest is None else newest + "0"
        ids = [id_ for (id_,) in self._rows(_FORGETTABLE, {**told, "below": below})]
        if ids:
            self._execute(delete(OPERATIONS).where(_OPERATION.id.in_(ids), _OPERATION.finished_at.is_not(None)))
        return len(ids)

    def forget_keys(self, cluster: str, before: float, limit: int) -> int:
        """Remove at most ``limit`` keys of instances of which nothing is left; returns how many."""
        keys = [key for (key,) in self._rows(_UNUSED_KEYS, {"cluster": cluster, "before": before, "most": limit})]
        if not keys:
            return 0
        return self._changed(delete(KEYS).where(_KEY.key.in_(keys), *_AT_REST), {"before": before})

    def forget_workers(self, before: float) -> int:
        """Remove workers that left or were lost, and were last heard of before (Unix seconds); returns how many."""
        return self._changed(delete(WORKERS).where(WORKERS.c.state.in_(_GONE), WORKERS.c.last_seen < before))
