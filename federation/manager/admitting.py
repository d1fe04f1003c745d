"""Admission: who may consume, in which contract release; heartbeats; workers that are no more.

Locks, in this order: clusters by name, then workers.  Whoever changes a pin, or what a pin is made of, holds the cluster's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from federation.contract.errors import InvalidRequest, NotFound, Unavailable
from federation.contract.release import Release
from federation.manager.clocks import Clock
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction
from federation.protocol.admission import (
    WORKER_NAME_RULE,
    Admission,
    Announcement,
    Departure,
    Heartbeat,
    HeartbeatAnswer,
    is_worker_name,
    usable_load,
)
from federation.protocol.pinning import Joining, Range, join, pin_for
from federation.protocol.records import ClusterRecord, WorkerRecord, WorkerState

log = logging.getLogger(__name__)

_LIVE = {WorkerState.ADMITTED, WorkerState.DRAINING}
_ASKS_AGAIN_WITHIN = 30.0
"""Seconds; a worker that waits to be admitted asks every ten or sooner."""


class Admitting:
    """The use cases around workers."""

    def __init__(self, store: Store, clock: Clock, settings: ManagerSettings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    def admit(self, announcement: Announcement) -> Admission:
        """Admit a worker.

        Raises NotFound, InvalidRequest or ContractMismatch, which end it, and Unavailable, upon which it asks again: it
        waits until others have carried out what is queued in releases that it does not know.
        """
        if not is_worker_name(announcement.worker):
            message = f"worker is {announcement.worker[:200]!r}, expected {WORKER_NAME_RULE}"
            raise InvalidRequest(message, field="worker", expected=WORKER_NAME_RULE)
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
            pin, waits_for = self._joining(transaction, cluster, announcement)
            cluster = msgspec.structs.replace(cluster, pin=str(pin))
            transaction.save_cluster(cluster)
            record = self._record(announcement, cluster.epoch)
            if waits_for:
                since = record.admitted_at if namesake is None else namesake.waiting_since or record.admitted_at
                record = msgspec.structs.replace(record, state=WorkerState.LEFT, waiting_since=since)
            transaction.save_worker(record)
        if waits_for:
            message = (
                f"operations of release {', '.join(map(str, waits_for))} are queued, which worker {announcement.worker!r} "
                f"does not serve: it waits until others have carried them out; new ones are sent in release {pin}"
            )
            log.info("worker waits worker=%s cluster=%s: %s", announcement.worker, cluster.name, message)
            raise Unavailable(message)
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
            worker = transaction.worker(heartbeat.worker)
            known = (
                cluster is not None
                and worker is not None
                and worker.cluster == cluster.name
                and transaction.heard_of(
                    heartbeat.worker, self._clock.wall(), usable_load(heartbeat.load), heartbeat.epoch
                )
            )
        drain = known and worker is not None and worker.state is WorkerState.DRAINING
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
            cluster = transaction.cluster(departure.cluster, lock=True)
            worker = transaction.worker(departure.worker)
            if cluster is None or worker is None or worker.cluster != cluster.name:
                message = f"worker {departure.worker!r} is not known in cluster {departure.cluster!r}"
                raise NotFound(message, field="worker", value=departure.worker)
            transaction.set_worker_state(departure.worker, WorkerState.LEFT)
            self._move_pin(transaction, cluster)
        log.info("left worker=%s cluster=%s reason=%.300r", departure.worker, departure.cluster, departure.reason)

    def mark_lost(self) -> list[str]:
        """Mark workers that have not been heard of, forget those that waited; the pins of their clusters may rise."""
        before = self._clock.wall() - self._settings.worker_timeout
        asked_before = min(before, self._clock.wall() - _ASKS_AGAIN_WITHIN)
        with self._store.reading() as transaction:
            workers = transaction.workers()
        silent = {w.cluster for w in workers if w.state in _LIVE and w.last_seen < before}
        silent |= {w.cluster for w in workers if w.waiting_since is not None and w.last_seen < asked_before}
        if not silent:
            return []
        with self._store.transaction() as transaction:
            clusters = [transaction.cluster(name, lock=True) for name in sorted(silent)]
            lost = transaction.mark_lost(before)
            given_up = transaction.forget_waiting(asked_before)
            for cluster in clusters:
                self._move_pin(transaction, cluster)
        for worker in lost:
            log.warning("lost worker=%s: not heard of for %s s", worker, self._settings.worker_timeout)
        for worker in given_up:
            log.warning("worker=%s waits no more to be admitted: it has stopped asking", worker)
        return lost

    def move_pins(self) -> list[str]:
        """Bring every pin to where it belongs, after managers came, went or were upgraded; returns the changed clusters."""
        with self._store.reading() as transaction:
            clusters = [c for c in transaction.clusters() if self._right_pin(transaction, c) != c.pin]
        changed = []
        for cluster in clusters:
            with self._store.transaction() as transaction:
                if self._move_pin(transaction, transaction.cluster(cluster.name, lock=True)):
                    changed.append(cluster.name)
        return changed

    def workers(self, cluster: str | None = None) -> list[WorkerRecord]:
        """Workers by cluster and id."""
        with self._store.reading() as transaction:
            return transaction.workers(cluster)

    def _joining(self, transaction: Transaction, cluster: ClusterRecord, announcement: Announcement) -> Joining:
        others = [w for w in transaction.workers(cluster.name) if w.id != announcement.worker]
        lowest, highest = announcement.description.releases
        queued = map(Release.parse, transaction.queued_releases(cluster.name))
        announced = (Release.parse(lowest), Release.parse(highest))
        return join(announced, _live(others), queued, self._managed(transaction), _waiting(others))

    def _managed(self, transaction: Transaction) -> Range:
        """What all living managers serve; this one alone where they have nothing in common."""
        ranges = [(Release.parse(low), Release.parse(high)) for low, high in transaction.managed_releases()]
        own = self._settings.releases
        lowest = max([own[0], *(low for low, _ in ranges)])
        highest = min([own[1], *(high for _, high in ranges)])
        return (lowest, highest) if lowest <= highest else own

    def _right_pin(self, transaction: Transaction, cluster: ClusterRecord) -> str | None:
        """Where the pin belongs by the workers and managers of now; without a live worker it only follows managers down."""
        managed = self._managed(transaction)
        workers = transaction.workers(cluster.name)
        if live := _live(workers):
            pin = pin_for(live, _waiting(workers), managed)
            return cluster.pin if pin is None else str(pin)
        return None if cluster.pin is None else str(min(Release.parse(cluster.pin), managed[1]))

    def _move_pin(self, transaction: Transaction, cluster: ClusterRecord | None) -> bool:
        """Write the pin where it belongs; ``cluster`` is locked."""
        pin = None if cluster is None else self._right_pin(transaction, cluster)
        if cluster is None or pin == cluster.pin:
            return False
        log.info("cluster=%s pin=%s (was %s)", cluster.name, pin, cluster.pin)
        transaction.save_cluster(msgspec.structs.replace(cluster, pin=pin))
        return True

    def _record(self, announcement: Announcement, epoch: int) -> WorkerRecord:
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
            load={"max_operations": float(announcement.max_operations)},
            epoch=epoch,
        )


def _live(workers: Iterable[WorkerRecord]) -> list[Range]:
    return [_range(worker) for worker in workers if worker.state in _LIVE]


def _waiting(workers: Iterable[WorkerRecord]) -> list[Range]:
    return [_range(worker) for worker in workers if worker.waiting_since is not None]


def _range(worker: WorkerRecord) -> Range:
    return Release.parse(worker.release_lowest), Release.parse(worker.release_highest)
