"""What operators look at, alert on and scale by: the load of every cluster, read from the store.

The store is read at most once in ``fresh_for`` seconds, and less often where reading takes long, however many ask for
what is there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection

from federation.contract.errors import NotFound
from federation.manager.clocks import Clock
from federation.manager.store_ports import Store, Transaction
from federation.protocol.figures import ClusterFigures, PartitionFigures, backlog_seconds, seconds_each
from federation.protocol.records import ClusterRecord, WorkerRecord, WorkerState

_LAST_FINISHED = 100
_MOST_OF_THE_TIME = 10
"""The pause between two readings is at least so many times as long as one takes."""
_UNKNOWN_SLOTS = 1.0


class Measuring:
    """The use case ``figures``; thread-safe."""

    def __init__(self, store: Store, clock: Clock, fresh_for: float = 1.0) -> None:
        self._store = store
        self._clock = clock
        self._fresh_for = fresh_for
        self._lock = threading.Lock()
        self._read: list[ClusterFigures] = []
        self._good_until = 0.0

    def figures(self, cluster: str | None = None) -> list[ClusterFigures]:
        """Every cluster's, by name, or those of one; raises NotFound, StoreUnavailable."""
        with self._lock:
            if time.monotonic() >= self._good_until or not self._has(cluster):
                began = time.monotonic()
                self._read = self._look()
                ended = time.monotonic()
                self._good_until = ended + max(self._fresh_for, _MOST_OF_THE_TIME * (ended - began))
            chosen = [each for each in self._read if cluster in {None, each.cluster}]
        if cluster is not None and not chosen:
            message = f"cluster {cluster!r} is not known"
            raise NotFound(message, field="cluster", value=cluster)
        return chosen

    def outbox(self, shards: Collection[int]) -> tuple[int, float]:
        """How much of these shards waits to be given to the broker, and for how many seconds the oldest does."""
        with self._store.reading() as transaction:
            number, oldest = transaction.outbox_figures(shards)
        return number, 0.0 if oldest is None else max(0.0, self._clock.wall() - oldest)

    def _has(self, cluster: str | None) -> bool:
        """A cluster that has just been made is looked for at once."""
        return cluster is None or any(each.cluster == cluster for each in self._read)

    def _look(self) -> list[ClusterFigures]:
        with self._store.reading() as transaction:
            partitions = transaction.partition_figures()
            workers = transaction.workers()
            return [
                self._of_cluster(
                    transaction,
                    cluster,
                    [each for each in partitions if each.cluster == cluster.name],
                    [each for each in workers if each.cluster == cluster.name],
                )
                for cluster in transaction.clusters()
            ]

    def _of_cluster(
        self,
        transaction: Transaction,
        cluster: ClusterRecord,
        partitions: list[PartitionFigures],
        workers: list[WorkerRecord],
    ) -> ClusterFigures:
        now = self._clock.wall()
        waiting = sum(each.waiting for each in partitions)
        slots = sum(_slots(each) for each in workers if each.state is WorkerState.ADMITTED)
        each_takes = seconds_each(
            transaction.last_durations(cluster.name, _LAST_FINISHED),
            [(each.running, now - each.running_since) for each in partitions if each.running_since is not None],
        )
        oldest = [each.oldest_waiting_at for each in partitions if each.oldest_waiting_at is not None]
        return ClusterFigures(
            cluster=cluster.name,
            driver=cluster.driver,
            release=cluster.pin,
            waiting=waiting,
            running=sum(each.running for each in partitions),
            behind_parked=sum(each.behind_parked for each in partitions),
            parked=sum(each.parked for each in partitions),
            workers=dict(Counter(each.state.value for each in workers)),
            slots=slots,
            seconds_each=each_takes,
            backlog_seconds=backlog_seconds(waiting, each_takes, slots),
            oldest_waiting_seconds=max(0.0, now - min(oldest)) if oldest else 0.0,
            read_at=now,
            partitions=partitions,
        )


def _slots(worker: WorkerRecord) -> int:
    """How many operations a worker runs side by side, by its own word."""
    return int(worker.load.get("max_operations", _UNKNOWN_SLOTS))
