"""What stands where, counted for operators: answered from the unsettled rows, however many are settled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, bindparam, case, func, not_, select

from federation.protocol.figures import PartitionFigures
from federation.protocol.records import OperationState
from federation.store.session import Session
from federation.store.tables import KEYS, OPERATIONS, OUTBOX

_OPERATION = OPERATIONS.c
_PARKED = _OPERATION.key.in_(select(KEYS.c.key).where(KEYS.c.parked_by.is_not(None)))
_QUEUED = _OPERATION.state == OperationState.QUEUED.value
_RUNNING = _OPERATION.state == OperationState.RUNNING.value


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


_BY_PARTITION = (
    select(
        _OPERATION.cluster,
        _OPERATION.partition,
        _count(and_(_QUEUED, not_(_PARKED))).label("waiting"),
        _count(_RUNNING).label("running"),
        _count(and_(_QUEUED, _PARKED)).label("behind_parked"),
        func.min(case((and_(_QUEUED, not_(_PARKED)), _OPERATION.submitted_at))).label("oldest_waiting_at"),
        func.avg(case((_RUNNING, _OPERATION.started_at))).label("running_since"),
        func.max(case((_RUNNING, _OPERATION.worker))).label("worker"),
    )
    .where(_OPERATION.finished_at.is_(None))
    .group_by(_OPERATION.cluster, _OPERATION.partition)
)
_PARKED_KEYS = (
    select(_OPERATION.cluster, _OPERATION.partition, func.count().label("parked"))
    .select_from(KEYS.join(OPERATIONS, _OPERATION.id == KEYS.c.parked_by))
    .where(KEYS.c.parked_by.is_not(None))
    .group_by(_OPERATION.cluster, _OPERATION.partition)
)
_LAST_FINISHED = (
    select(_OPERATION.started_at, _OPERATION.finished_at)
    .where(_OPERATION.cluster == bindparam("cluster"), _OPERATION.state == bindparam("state"))
    .order_by(_OPERATION.id.desc())
    .limit(bindparam("limit"))
)
_OUTBOX = (
    select(func.count(), func.min(_OPERATION.touched_at))
    .select_from(OUTBOX.join(OPERATIONS, _OPERATION.id == OUTBOX.c.operation))
    .where(OUTBOX.c.shard.in_(bindparam("shards", expanding=True)))
)


class FigureRows(Session):
    """The counts of the port ``FigureTables``."""

    def partition_figures(self) -> list[PartitionFigures]:
        """Every partition in which something is unsettled or parked."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self._rows(_BY_PARTITION):
            found[row.cluster, row.partition] = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
        for row in self._rows(_PARKED_KEYS):
            place = {"cluster": row.cluster, "partition": row.partition}
            found.setdefault((row.cluster, row.partition), place)["parked"] = row.parked
        return [PartitionFigures(**_plain(found[place])) for place in sorted(found)]

    def last_durations(self, cluster: str, limit: int) -> list[float]:
        """How many seconds the operations ran that workers finished last: at most ``limit`` of each end."""
        ends = (OperationState.SUCCEEDED, OperationState.FAILED)
        rows = [
            row
            for state in ends
            for row in self._rows(_LAST_FINISHED, {"cluster": cluster, "state": state.value, "limit": limit})
        ]
        return [max(0.0, finished - started) for started, finished in rows if started is not None]

    def outbox_figures(self, shards: Collection[int]) -> tuple[int, float | None]:
        """How much of these shards waits to be given to the broker, and since when the oldest does (Unix seconds)."""
        ((number, oldest),) = self._rows(_OUTBOX, {"shards": sorted(shards)})
        return number, oldest


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL sums into decimals."""
    counts = ("waiting", "running", "behind_parked", "parked")
    return {**row, **{name: int(row[name]) for name in counts if name in row}}
