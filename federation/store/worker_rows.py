"""Workers: who announced itself, and when it was last heard of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from federation.contract.errors import NotFound
from federation.protocol.records import WorkerRecord, WorkerState
from federation.store.encoding import dict_of, load_of, text_of
from federation.store.session import Session, insert_into
from federation.store.tables import WORKERS

_WORKER = WORKERS.c
_ALIVE = _WORKER.state.in_([WorkerState.ADMITTED.value, WorkerState.DRAINING.value])
_ONE = select(WORKERS).where(_WORKER.id == bindparam("id"))
_ALL = select(WORKERS).order_by(_WORKER.cluster, _WORKER.id)
_OF_CLUSTER = _ALL.where(_WORKER.cluster == bindparam("cluster"))
_HEARD_OF = (
    update(WORKERS)
    .where(_WORKER.id == bindparam("at"), _ALIVE)
    .values(last_seen=bindparam("new_last_seen"), load=bindparam("new_load"), epoch=bindparam("new_epoch"))
)


class WorkerRows(Session):
    """Workers of the port ``Estate``."""

    def save_worker(self, worker: WorkerRecord) -> None:
        """Add or replace."""
        row = _worker_row(worker)
        others = {name: value for name, value in row.items() if name != "id"}
        statement = insert_into(self._dialect, WORKERS).values(row)
        self._execute(statement.on_conflict_do_update(index_elements=[_WORKER.id], set_=others))

    def worker(self, worker: str) -> WorkerRecord | None:
        """One worker."""
        row = self._row(_ONE, {"id": worker})
        return None if row is None else _worker(row)

    def workers(self, cluster: str | None = None) -> list[WorkerRecord]:
        """Workers by cluster and id."""
        rows = self._rows(_ALL) if cluster is None else self._rows(_OF_CLUSTER, {"cluster": cluster})
        return [_worker(row) for row in rows]

    def heard_of(self, worker: str, now: float, load: Mapping[str, float], epoch: int | None = None) -> bool:
        """Note that an admitted or draining worker lives, and in which epoch; False when it is not known as one."""
        row = {"at": worker, "new_last_seen": now, "new_load": text_of(dict(load)), "new_epoch": epoch}
        return self._changed(_HEARD_OF, row) == 1

    def mark_lost(self, before: float) -> list[str]:
        """Mark admitted and draining workers last seen before (Unix seconds) as lost; their ids in order."""
        statement = update(WORKERS).where(_ALIVE, _WORKER.last_seen < before).values(state=WorkerState.LOST.value)
        return sorted(id_ for (id_,) in self._rows(statement.returning(_WORKER.id)))

    def forget_waiting(self, before: float) -> list[str]:
        """Workers that wait to be admitted and last asked before (Unix seconds) wait no more; their ids in order."""
        waiting = (_WORKER.waiting_since.is_not(None), _WORKER.last_seen < before)
        statement = update(WORKERS).where(*waiting).values(waiting_since=None)
        return sorted(id_ for (id_,) in self._rows(statement.returning(_WORKER.id)))

    def set_worker_state(self, worker: str, state: WorkerState) -> None:
        """Write a worker's state; NotFound when it is not known."""
        if not self._changed(update(WORKERS).where(_WORKER.id == worker).values(state=state.value)):
            raise NotFound(f"there is no worker {worker}", worker=worker)


def _worker_row(worker: WorkerRecord) -> dict[str, Any]:
    return {
        "id": worker.id,
        "cluster": worker.cluster,
        "driver": worker.driver,
        "driver_version": worker.driver_version,
        "release_lowest": worker.release_lowest,
        "release_highest": worker.release_highest,
        "capabilities": text_of(worker.capabilities),
        "state": worker.state.value,
        "host": worker.host,
        "pid": worker.pid,
        "admitted_at": worker.admitted_at,
        "last_seen": worker.last_seen,
        "load": text_of(worker.load),
        "epoch": worker.epoch,
        "waiting_since": worker.waiting_since,
    }


def _worker(row: Any) -> WorkerRecord:
    return WorkerRecord(
        id=row.id,
        cluster=row.cluster,
        driver=row.driver,
        driver_version=row.driver_version,
        release_lowest=row.release_lowest,
        release_highest=row.release_highest,
        capabilities=dict_of(row.capabilities),
        state=WorkerState(row.state),
        host=row.host,
        pid=row.pid,
        admitted_at=row.admitted_at,
        last_seen=row.last_seen,
        load=load_of(row.load),
        epoch=row.epoch,
        waiting_since=row.waiting_since,
    )
