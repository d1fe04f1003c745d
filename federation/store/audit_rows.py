"""The audit log: rows are added and, when they are old enough, removed; none is ever changed."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select

from federation.protocol.records import AuditRecord
from federation.store.session import Session
from federation.store.tables import AUDIT

_AUDIT = AUDIT.c
_ADD = insert(AUDIT)
_OLD = (
    select(_AUDIT.id).where(_AUDIT.at < bindparam("before")).order_by(_AUDIT.id).limit(bindparam("most"))
).scalar_subquery()


class AuditRows(Session):
    """The port ``AuditTable`` of federation.manager.store_ports."""

    def add_audit(self, *records: AuditRecord) -> None:
        """Add them."""
        if records:
            self._execute(
                _ADD, [{name: getattr(each, name) for name in AuditRecord.__struct_fields__} for each in records]
            )

    def audit(
        self,
        *,
        actor: str | None = None,
        cluster: str | None = None,
        action: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """At most ``limit`` records, newest first, from before the id ``before``."""
        wanted = {_AUDIT.actor: actor, _AUDIT.cluster: cluster, _AUDIT.action: action}
        filters = [column == value for column, value in wanted.items() if value is not None]
        if before is not None:
            filters.append(_AUDIT.id < before)
        rows = self._rows(select(AUDIT).where(*filters).order_by(_AUDIT.id.desc()).limit(limit))
        return [AuditRecord(**row._asdict()) for row in rows]

    def forget_audit(self, before: float, limit: int) -> int:
        """Remove at most ``limit`` records of before (Unix seconds), the oldest first; returns how many."""
        return self._changed(delete(AUDIT).where(_AUDIT.id.in_(_OLD)), {"before": before, "most": limit})
