"""Epochs: what keeps one from ending, and those that are over."""

from __future__ import annotations

from sqlalchemy import bindparam, case, delete, func, select, tuple_, update

from federation.protocol.records import Drain, OldEpoch, OperationState, WaitingCopy
from federation.store.session import Session, insert_into
from federation.store.tables import KEYS, OLD_EPOCHS, OPERATIONS

_OPERATION = OPERATIONS.c
_KEY = KEYS.c
_OLD = OLD_EPOCHS.c
_OF_CLUSTER = (_OPERATION.cluster == bindparam("cluster"), _OPERATION.finished_at.is_(None))
_RUNNING = case((_OPERATION.state == OperationState.RUNNING.value, 1), else_=0)
_UNSETTLED = select(func.count(), func.coalesce(func.sum(_RUNNING), 0)).select_from(OPERATIONS).where(*_OF_CLUSTER)
_NEWEST = (
    select(_OPERATION.id).where(_OPERATION.cluster == bindparam("cluster")).order_by(_OPERATION.id.desc()).limit(1)
)
_UNSETTLED_KEYS = (
    select(_OPERATION.key).where(*_OF_CLUSTER).distinct().order_by(_OPERATION.key).limit(bindparam("most"))
)
_TOLD_OF_BLOCKED = 20
_WITH_KEY = OPERATIONS.join(KEYS, _KEY.key == _OPERATION.key)
_BLOCKED = (
    select(_OPERATION.key)
    .select_from(_WITH_KEY)
    .where(*_OF_CLUSTER, _KEY.parked_by.is_not(None))
    .distinct()
    .order_by(_OPERATION.key)
    .limit(_TOLD_OF_BLOCKED)
)
_REPUBLISHABLE = (
    select(_OPERATION.id, _OPERATION.key, _OPERATION.sequence, _OPERATION.round)
    .select_from(_WITH_KEY)
    .where(
        *_OF_CLUSTER,
        _KEY.parked_by.is_(None),
        tuple_(_OPERATION.key, _OPERATION.sequence) > tuple_(bindparam("after_key"), bindparam("after_sequence")),
    )
    .order_by(_OPERATION.key, _OPERATION.sequence)
    .limit(bindparam("most"))
)


class EpochRows(Session):
    """The port ``Epochs`` of federation.manager.store_ports."""

    def drain(self, cluster: str) -> Drain:
        """What is unsettled in a cluster, and which operation is its newest."""
        told = {"cluster": cluster}
        ((unsettled, running),) = self._rows(_UNSETTLED, told)
        newest = self._row(_NEWEST, told)
        blocked = tuple(key for (key,) in self._rows(_BLOCKED, told)) if unsettled else ()
        return Drain(
            unsettled=unsettled, running=int(running), newest=None if newest is None else newest[0], blocked=blocked
        )

    def add_old_epoch(self, epoch: OldEpoch) -> None:
        """Remember an epoch whose queues have to go; one that is remembered stays as it is."""
        row = {name: getattr(epoch, name) for name in OldEpoch.__struct_fields__}
        self._execute(insert_into(self._dialect, OLD_EPOCHS).values(row).on_conflict_do_nothing())

    def old_epochs(self) -> list[OldEpoch]:
        """Epochs that are over, by cluster and epoch."""
        rows = self._rows(select(OLD_EPOCHS).order_by(_OLD.cluster, _OLD.epoch))
        return [OldEpoch(**row._asdict()) for row in rows]

    def note_deleted(self, epoch: OldEpoch, now: float) -> None:
        """Write when the queues of one were deleted (Unix seconds)."""
        at = (_OLD.cluster == epoch.cluster, _OLD.epoch == epoch.epoch)
        self._execute(update(OLD_EPOCHS).where(*at).values(deleted_at=now))

    def remove_old_epoch(self, epoch: OldEpoch) -> None:
        """Forget one: its queues are gone."""
        self._execute(delete(OLD_EPOCHS).where(_OLD.cluster == epoch.cluster, _OLD.epoch == epoch.epoch))

    def unsettled_keys(self, cluster: str, limit: int) -> list[str]:
        """At most ``limit`` keys of a cluster that have unsettled operations, in order."""
        return [key for (key,) in self._rows(_UNSETTLED_KEYS, {"cluster": cluster, "most": limit})]

    def republishable(self, cluster: str, limit: int, after: tuple[str, int] | None = None) -> list[WaitingCopy]:
        """At most ``limit`` unsettled operations of unparked keys, by key and sequence, from behind ``after``."""
        after_key, after_sequence = after or ("", 0)
        page = {"cluster": cluster, "after_key": after_key, "after_sequence": after_sequence, "most": limit}
        return [
            WaitingCopy(operation=id_, key=key, sequence=sequence, round=round_)
            for id_, key, sequence, round_ in self._rows(_REPUBLISHABLE, page)
        ]
