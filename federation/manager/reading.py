"""The query lane: any worker of a cluster is asked, in the revision and release that the cluster speaks."""

from __future__ import annotations

from typing import Any

from federation.contract.errors import InvalidRequest, NotFound
from federation.contract.operations import Lane
from federation.manager.counters import Caller
from federation.manager.judging import Judging
from federation.manager.ports import Queries
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store
from federation.protocol.records import ClusterRecord


class Reading:
    """The use case ``query``."""

    def __init__(self, store: Store, queries: Queries, settings: ManagerSettings, judging: Judging) -> None:
        self._store = store
        self._queries = queries
        self._settings = settings
        self._judging = judging

    def query(
        self,
        cluster: str,
        name: str,
        arguments: dict[str, Any],
        revision: int = 1,
        caller: Caller = Caller.PROGRAM,
    ) -> dict[str, Any]:
        """Ask any worker of a cluster; raises errors of the catalogue, Unavailable when no worker answers."""
        adapting = self._judging.adapting
        if adapting.revisions.find(name, revision).lane is not Lane.QUERY:
            message = f"{name} changes something; submit it"
            raise InvalidRequest(message, field="name", value=name)
        record = self._cluster(cluster)
        asked = adapting.read(name, revision, arguments, caller)
        fitted = adapting.fit(asked, record.pin)
        plain = adapting.spoken(fitted.request, record.pin)
        sent = fitted.operation
        raw = self._queries.query(cluster, name, sent.revision, plain, timeout=self._settings.query_timeout)
        return self._judging.answer(asked.operation, sent, raw, record.driver)

    def _cluster(self, name: str) -> ClusterRecord:
        with self._store.reading() as transaction:
            cluster = transaction.cluster(name)
        if cluster is None:
            message = f"cluster {name!r} is not known; federation cluster list shows those that are"
            raise NotFound(message, field="cluster", value=name)
        return cluster
