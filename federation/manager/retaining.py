"""Forgetting what is settled and old: operations, keys, workers that left, the audit log.  Bounded steps, no haste.

Rules beside those of the store (``store.retention_rows``):

1. Nothing younger than a day is forgotten, whatever the options say: an idempotency key works for at least a day, and no
   copy of a settled operation waits that long beside workers that live.
2. One step removes at most a batch in each cluster and each table, in a transaction of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from federation.manager.clocks import Clock
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction

log = logging.getLogger(__name__)

_DAY = 86400.0


class Retaining:
    """The use case; ``step`` is called every second."""

    def __init__(self, store: Store, clock: Clock, settings: ManagerSettings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._next = 0.0

    def step(self) -> int:
        """Forget a batch when it is time; returns how many rows went.  A full batch is followed by the next at once."""
        now = self._clock.stamp().seconds
        if now < self._next:
            return 0
        gone, most = 0, 0
        for forget in self._duties():
            with self._store.transaction() as transaction:
                count = forget(transaction)
            gone, most = gone + count, max(most, count)
        self._next = now if most >= self._settings.retention_batch else now + self._settings.retention_every
        if gone:
            log.info("forgot rows=%d that are settled and old", gone)
        return gone

    def _duties(self) -> list[Callable[[Transaction], int]]:
        settings, wall = self._settings, self._clock.wall()
        with self._store.reading() as transaction:
            clusters = [cluster.name for cluster in transaction.clusters()]
        duties: list[Callable[[Transaction], int]] = []
        for name in clusters if settings.keep_days or settings.keep_operations else []:
            duties.extend(self._of_cluster(name, wall))
        if settings.audit_days:
            before = wall - max(1.0, settings.audit_days) * _DAY
            duties.append(lambda transaction: transaction.forget_audit(before, settings.retention_batch))
        if settings.keep_days:
            old = wall - max(1.0, settings.keep_days) * _DAY
            duties.append(lambda transaction: transaction.forget_workers(old))
        return duties

    def _of_cluster(self, name: str, wall: float) -> list[Callable[[Transaction], int]]:
        settings, yesterday = self._settings, wall - _DAY
        batch = settings.retention_batch
        duties: list[Callable[[Transaction], int]] = []
        if settings.keep_days:
            before = min(yesterday, wall - settings.keep_days * _DAY)
            duties.append(lambda transaction: transaction.forget_operations(name, before, batch))

        def above_the_number(transaction: Transaction) -> int:
            newest = transaction.nth_newest(name, settings.keep_operations)
            return 0 if newest is None else transaction.forget_operations(name, yesterday, batch, newest)

        if settings.keep_operations:
            duties.append(above_the_number)
        return [*duties, lambda transaction: transaction.forget_keys(name, yesterday, batch)]
