"""Admission: who may consume, in which contract release; heartbeats; workers that are no more."""

from __future__ import annotations

import logging

import msgspec

from federation.contract.errors import InvalidRequest, NotFound
from federation.contract.release import Release
from federation.manager.clocks import Clock
from federation.manager.ports import Store, Transaction
from federation.manager.settings import ManagerSettings
from federation.protocol.admission import Admission, Announcement, Departure, Heartbeat, HeartbeatAnswer
from federation.protocol.pinning import Range, highest_common, pin_with
from federation.protocol.records import ClusterRecord, WorkerRecord, WorkerState

log = logging.getLogger(__name__)

_LIVE = {WorkerState.ADMITTED, WorkerState.DRAINING}


class Admitting:
    """The use cases around workers."""

    def __init__(self, store: Store, clock: Clock, settings: ManagerSettings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    def admit(self, announcement: Announcement) -> Admission:
        """Admit a worker, or raise NotFound, InvalidRequest or ContractMismatch."""
        with self._store.transaction() as transaction:
            cluster = transaction.cluster(announcement.cluster, lock=True)
            if cluster is None:
                message = (
                    f"cluster {announcement.cluster!r} is not known; make it first: federation cluster create "
                    f"{announcement.cluster} --driver {announcement.description.driver}"
                )
                raise NotFound(message, field="cluster", value=announcement.cluster)
            description = announcement.description
            if description.driver != cluster.driver:
                message = f"cluster {cluster.name!r} is driven by {cluster.driver!r}, the worker brings {description.driver!r}"
                raise InvalidRequest(message, field="driver", value=description.driver, expected=cluster.driver)
            namesake = transaction.worker(announcement.worker)
            if namesake is not None and namesake.cluster != cluster.name and namesake.state in _LIVE:
                message = f"worker {namesake.id!r} serves cluster {namesake.cluster!r}; a worker's id is its own: choose another"
                raise InvalidRequest(message, field="worker", value=namesake.id)
            pin = self._pin(transaction, cluster, announcement)
            cluster = msgspec.structs.replace(cluster, pin=str(pin))
            transaction.save_cluster(cluster)
            transaction.save_worker(self._record(announcement))
        log.info("admitted worker=%s cluster=%s pin=%s", announcement.worker, cluster.name, pin)
        terms = self._settings.limits.terms
        return Admission(
            worker=announcement.worker,
            cluster=cluster.name,
            partitions=cluster.partitions,
            epoch=cluster.epoch,
            pin=str(pin),
            lease_seconds=terms.lease,
            margin_seconds=terms.margin,
            prefetch=self._settings.prefetch,
            heartbeat_seconds=self._settings.heartbeat_every,
        )

    def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Note that a worker lives; tell it when it is not known (any more) or the epoch changed."""
        with self._store.transaction() as transaction:
            cluster = transaction.cluster(heartbeat.cluster)
            known = cluster is not None and transaction.heard_of(heartbeat.worker, self._clock.wall(), heartbeat.load)
            worker = transaction.worker(heartbeat.worker) if known else None
        drain = worker is not None and worker.state is WorkerState.DRAINING
        return HeartbeatAnswer(known=known, epoch=cluster.epoch if cluster else 0, drain=drain)

    def drain(self, worker: str) -> WorkerRecord:
        """Ask a worker to finish and leave; it learns of it by its next heartbeat."""
        with self._store.transaction() as transaction:
            record = transaction.worker(worker)
            if record is None:
                message = f"worker {worker!r} is not known"
                raise NotFound(message, field="worker", value=worker)
            if record.state is WorkerState.ADMITTED:
                record = msgspec.structs.replace(record, state=WorkerState.DRAINING)
                transaction.set_worker_state(worker, WorkerState.DRAINING)
        return record

    def leave(self, departure: Departure) -> None:
        """A drained worker leaves; the pin may rise."""
        with self._store.transaction() as transaction:
            transaction.set_worker_state(departure.worker, WorkerState.LEFT)
            self._raise_pin(transaction, departure.cluster)
        log.info("left worker=%s cluster=%s: %s", departure.worker, departure.cluster, departure.reason)

    def mark_lost(self) -> list[str]:
        """Mark workers that have not been heard of; the pins of their clusters may rise."""
        before = self._clock.wall() - self._settings.worker_timeout
        with self._store.transaction() as transaction:
            lost = transaction.mark_lost(before)
            clusters = {record.cluster for record in map(transaction.worker, lost) if record is not None}
            for cluster in sorted(clusters):
                self._raise_pin(transaction, cluster)
        for worker in lost:
            log.warning("lost worker=%s: not heard of for %s s", worker, self._settings.worker_timeout)
        return lost

    def workers(self, cluster: str | None = None) -> list[WorkerRecord]:
        """Workers by cluster and id."""
        with self._store.reading() as transaction:
            return transaction.workers(cluster)

    def _pin(self, transaction: Transaction, cluster: ClusterRecord, announcement: Announcement) -> Release:
        others = [w for w in transaction.workers(cluster.name) if w.state in _LIVE and w.id != announcement.worker]
        lowest, highest = announcement.description.releases
        queued = map(Release.parse, transaction.queued_releases(cluster.name))
        return pin_with((Release.parse(lowest), Release.parse(highest)), map(_range, others), queued)

    def _raise_pin(self, transaction: Transaction, name: str) -> None:
        cluster = transaction.cluster(name, lock=True)
        live = [_range(w) for w in transaction.workers(name) if w.state in _LIVE]
        if cluster is None or not live:
            return
        pin = highest_common(live)
        if pin is not None and str(pin) != cluster.pin:
            log.info("cluster=%s pin=%s (was %s)", name, pin, cluster.pin)
            transaction.save_cluster(msgspec.structs.replace(cluster, pin=str(pin)))

    def _record(self, announcement: Announcement) -> WorkerRecord:
        description, now = announcement.description, self._clock.wall()
        return WorkerRecord(
            id=announcement.worker,
            cluster=announcement.cluster,
            driver=description.driver,
            driver_version=description.driver_version,
            release_lowest=description.releases[0],
            release_highest=description.releases[1],
            capabilities=msgspec.to_builtins(description.capabilities),
            state=WorkerState.ADMITTED,
            host=announcement.host,
            pid=announcement.pid,
            admitted_at=now,
            last_seen=now,
        )


def _range(worker: WorkerRecord) -> Range:
    return Release.parse(worker.release_lowest), Release.parse(worker.release_highest)
