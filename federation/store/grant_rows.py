"""Which broker user speaks for which worker."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import bindparam, or_, select

from federation.protocol.records import WorkerGrant
from federation.store.session import Session, insert_into
from federation.store.tables import WORKER_GRANTS

_GRANT = WORKER_GRANTS.c
_ALL = select(WORKER_GRANTS).order_by(_GRANT.cluster, _GRANT.worker, _GRANT.user)
_ABOUT = _ALL.where(
    or_(
        _GRANT.user.in_(bindparam("users", expanding=True)),
        _GRANT.cluster.in_(bindparam("clusters", expanding=True)),
    )
)


class GrantRows(Session):
    """The port ``GrantTable`` of federation.manager.store_ports."""

    def save_worker_grant(self, grant: WorkerGrant) -> None:
        """Add or replace the grant of a user."""
        row = msgspec.structs.asdict(grant)
        others = {name: value for name, value in row.items() if name != "user"}
        statement = insert_into(self._dialect, WORKER_GRANTS).values(row)
        self._execute(statement.on_conflict_do_update(index_elements=[_GRANT.user], set_=others))

    def worker_grants(self, users: Collection[str] = (), clusters: Collection[str] = ()) -> list[WorkerGrant]:
        """All grants of these users and all of these clusters, revoked ones, too."""
        rows = self._rows(_ABOUT, {"users": sorted(users), "clusters": sorted(clusters)})
        return [_grant(row) for row in rows]

    def all_worker_grants(self, cluster: str | None = None) -> list[WorkerGrant]:
        """Grants by cluster and worker, of one cluster or of all."""
        return [_grant(row) for row in self._rows(_ALL)] if cluster is None else self.worker_grants((), {cluster})


def _grant(row: Any) -> WorkerGrant:
    return WorkerGrant(
        user=row.user,
        cluster=row.cluster,
        worker=row.worker,
        granted_at=row.granted_at,
        revoked_at=row.revoked_at,
    )
