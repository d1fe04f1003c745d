"""Epochs of a cluster: another number of partitions, the queues of an epoch that is over, and a rebuilt broker.

Rules (DESIGN §6.1; docs/explanation/epochs.md argues why they are safe):

1. An operation belongs to the epoch, and to the partition, that it was accepted in; neither ever changes.
2. While the next epoch is wanted nothing is accepted for the cluster; what was accepted goes on as ever.
3. The next epoch opens when everything of the cluster has been settled for one lease and margin, counted by one
   manager on its own clock from when it saw that.  Whoever opens it looks again, under the cluster's lock: nothing
   unsettled, and no operation newer than the one that was the newest when the wait began.
4. The queues of the next epoch are declared before it opens.  Workers learn of it by their next heartbeat, finish what
   runs, close their channel, and subscribe to the new queues.
5. The queues of an epoch that is over hold nothing but copies of settled operations.  They are deleted when nobody
   consumes them any more: at once when they are empty, or when they have been left alone for half a minute.
6. All of it is written in the store: any manager goes on where another one ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from federation.contract.errors import InvalidRequest, InvalidState, NotFound, OperationError
from federation.manager.clocks import Clock
from federation.manager.ports import ClusterQueues
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction
from federation.protocol.ordering_key import words_of
from federation.protocol.records import ClusterRecord, Drain, OldEpoch, WorkerState

log = logging.getLogger(__name__)

MAX_PARTITIONS = 1024
_LEFT_ALONE_SECONDS = 30.0
_DELETED_AGAIN_SECONDS = 120.0
_REPUBLISH_CHUNK = 500
_LIVE = {WorkerState.ADMITTED, WorkerState.DRAINING}


class EpochFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cluster stands between two epochs.

    ``phase`` is one of: steady, draining, waiting (everything is settled, one lease passes), moving (the next epoch is
    open, workers have still to come), clearing (queues of old epochs are still there).  ``unsettled`` and ``running``
    count operations; ``blocked`` are parked keys with operations behind them; ``workers`` live, ``behind`` of them are
    not in the epoch of now; ``old_epochs`` are those whose queues may still be there.
    """

    cluster: str
    epoch: int
    partitions: int
    wanted_partitions: int | None
    wanted_since: float | None
    phase: str
    unsettled: int
    running: int
    blocked: tuple[str, ...]
    workers: tuple[str, ...]
    behind: tuple[str, ...]
    old_epochs: tuple[int, ...]


class Republished(msgspec.Struct, frozen=True, kw_only=True):
    """One page of operations that were put into the outbox again; ``next`` is where the next page begins."""

    cluster: str
    operations: int
    next: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class _Quiet:
    """When this manager saw that everything was settled (its own clock), and what was so."""

    seconds: float
    clock: str
    epoch: int
    wanted: int
    newest: str | None


class Epochs:
    """The use cases; ``keep`` is called every second in a thread of its own."""

    def __init__(
        self, store: Store, queues: ClusterQueues, publisher: Publisher, clock: Clock, settings: ManagerSettings
    ) -> None:
        self._store = store
        self._queues = queues
        self._publisher = publisher
        self._clock = clock
        self._settings = settings
        self._declared: dict[str, tuple[int, int]] = {}
        self._quiet: dict[str, _Quiet] = {}

    # What an operator asks for

    def repartition(self, name: str, partitions: int) -> EpochFacts:
        """Want the next epoch with so many partitions; asked again it says how far that has come.

        Raises NotFound, InvalidRequest; InvalidState when another number is on its way, or where parked instances or
        nodes have operations behind them, which only an operator can settle.
        """
        if not 1 <= partitions <= MAX_PARTITIONS:
            message = f"partitions is {partitions}, expected 1 to {MAX_PARTITIONS}"
            raise InvalidRequest(message, field="partitions", value=partitions)
        with self._store.transaction() as transaction:
            cluster = _known(transaction.cluster(name, lock=True), name)
            if cluster.wanted_partitions not in {None, partitions}:
                message = (
                    f"cluster {name!r} is on its way to {cluster.wanted_partitions} partitions; wait for it, or take it "
                    f"back first: federation cluster repartition {name} --take-back"
                )
                raise InvalidState(message, cluster=name)
            if cluster.wanted_partitions is None and cluster.partitions != partitions:
                _refuse_blocked(name, transaction.drain(name))
                cluster = msgspec.structs.replace(
                    cluster, wanted_partitions=partitions, wanted_since=self._clock.wall()
                )
                transaction.save_cluster(cluster)
                log.info("cluster=%s wants partitions=%d (has %d)", name, partitions, cluster.partitions)
        return self.facts(name)

    def take_back(self, name: str) -> EpochFacts:
        """Do not want the next epoch any more: operations are accepted again; raises NotFound, InvalidState."""
        with self._store.transaction() as transaction:
            cluster = _known(transaction.cluster(name, lock=True), name)
            if cluster.wanted_partitions is None:
                message = f"cluster {name!r} has epoch {cluster.epoch} with {cluster.partitions} partitions; no change is under way"
                raise InvalidState(message, cluster=name)
            if cluster.wanted_partitions == cluster.partitions:
                message = f"cluster {name!r} was restored from a backup and must open a new epoch before it goes on"
                raise InvalidState(message, cluster=name)
            transaction.save_cluster(msgspec.structs.replace(cluster, wanted_partitions=None, wanted_since=None))
        log.info("cluster=%s keeps partitions=%d: the change was taken back", name, cluster.partitions)
        return self.facts(name)

    def facts(self, name: str) -> EpochFacts:
        """Where a cluster stands; raises NotFound."""
        with self._store.reading() as transaction:
            cluster = _known(transaction.cluster(name), name)
            drain = transaction.drain(name)
            live = [w for w in transaction.workers(name) if w.state in _LIVE]
            old = [each for each in transaction.old_epochs() if each.cluster == name]
        behind = tuple(w.id for w in live if w.epoch not in {None, cluster.epoch})
        left = tuple(each.epoch for each in old if each.deleted_at is None)
        return EpochFacts(
            cluster=name,
            epoch=cluster.epoch,
            partitions=cluster.partitions,
            wanted_partitions=cluster.wanted_partitions,
            wanted_since=cluster.wanted_since,
            phase=_phase(cluster, drain, behind, left),
            unsettled=drain.unsettled,
            running=drain.running,
            blocked=drain.blocked,
            workers=tuple(w.id for w in live),
            behind=behind,
            old_epochs=left,
        )

    def republish(self, name: str, after: tuple[str, int] | None = None) -> Republished:
        """Declare a cluster's queues, and put a page of its unsettled operations into the outbox in a new round.

        Safe at any time: a copy too many is answered like any other.  Raises NotFound, Unavailable.
        """
        with self._store.reading() as transaction:
            cluster = _known(transaction.cluster(name), name)
        if after is None:
            self._queues.restore(name, cluster.epoch, cluster.partitions)
            self._declared[name] = (cluster.epoch, cluster.partitions)
        with self._store.transaction() as transaction:
            page = transaction.republishable(name, _REPUBLISH_CHUNK, after)
            outgoing = transaction.new_round([copy.operation for copy in page]) if page else []
        self._publisher.accepted(outgoing)
        log.info("cluster=%s published again operations=%d", name, len(outgoing))
        end = (page[-1].key, page[-1].sequence) if len(page) == _REPUBLISH_CHUNK else None
        return Republished(cluster=name, operations=len(outgoing), next=end)

    # What goes on by itself

    def declare_all(self) -> None:
        """Declare the queues of every cluster, at the start."""
        with self._store.reading() as transaction:
            clusters = transaction.clusters()
        for cluster in clusters:
            self._declare(cluster)

    def keep(self) -> None:
        """Follow the epochs in the store: declare, open, clear away; raises StoreUnavailable, tells of what fails."""
        with self._store.reading() as transaction:
            clusters, old = transaction.clusters(), transaction.old_epochs()
        for gone in self._declared.keys() - {cluster.name for cluster in clusters}:
            del self._declared[gone]
        for cluster in clusters:
            try:
                if self._declared.get(cluster.name) != (cluster.epoch, cluster.partitions):
                    self._declare(cluster)
                if cluster.wanted_partitions is not None:
                    self._advance(cluster, cluster.wanted_partitions)
            except OperationError as error:
                log.warning("cluster=%s epoch=%d stays for now: %s", cluster.name, cluster.epoch, error)
        for epoch in old:
            try:
                self._clear(epoch)
            except OperationError as error:
                log.warning("cluster=%s old epoch=%d not cleared yet: %s", epoch.cluster, epoch.epoch, error)

    def _declare(self, cluster: ClusterRecord) -> None:
        self._queues.declare(cluster.name, cluster.epoch, cluster.partitions)
        before = self._declared.get(cluster.name)
        self._declared[cluster.name] = (cluster.epoch, cluster.partitions)
        if before is not None and before[0] != cluster.epoch:
            self._queues.leave(cluster.name, *before)

    def _advance(self, cluster: ClusterRecord, wanted: int) -> None:
        with self._store.reading() as transaction:
            drain = transaction.drain(cluster.name)
        if drain.unsettled:
            self._quiet.pop(cluster.name, None)
            return
        now = self._clock.stamp()
        quiet = self._quiet.get(cluster.name)
        if quiet is None or (quiet.clock, quiet.epoch, quiet.wanted, quiet.newest) != (
            now.clock,
            cluster.epoch,
            wanted,
            drain.newest,
        ):
            self._quiet[cluster.name] = _Quiet(now.seconds, now.clock, cluster.epoch, wanted, drain.newest)
            return
        terms = self._settings.limits.terms
        if now.seconds - quiet.seconds >= terms.lease + terms.margin:
            self._open(cluster, quiet)

    def _open(self, seen: ClusterRecord, quiet: _Quiet) -> None:
        self._queues.declare(seen.name, seen.epoch + 1, quiet.wanted)
        with self._store.transaction() as transaction:
            if not _still_quiet(transaction, seen, quiet):
                return
            cluster = _known(transaction.cluster(seen.name, lock=True), seen.name)
            transaction.add_old_epoch(
                OldEpoch(
                    cluster=cluster.name,
                    epoch=cluster.epoch,
                    partitions=cluster.partitions,
                    closed_at=self._clock.wall(),
                )
            )
            opened = msgspec.structs.replace(
                cluster,
                epoch=cluster.epoch + 1,
                partitions=quiet.wanted,
                wanted_partitions=None,
                wanted_since=None,
            )
            transaction.save_cluster(opened)
        self._quiet.pop(seen.name, None)
        self._declare(opened)
        log.info("cluster=%s opened epoch=%d partitions=%d", opened.name, opened.epoch, opened.partitions)

    def _clear(self, epoch: OldEpoch) -> None:
        now = self._clock.wall()
        if epoch.deleted_at is None:
            left = self._queues.leftover(epoch.cluster, epoch.epoch, epoch.partitions)
            if left.consumers or (left.messages and now - epoch.closed_at < _LEFT_ALONE_SECONDS):
                return
            self._queues.delete(epoch.cluster, epoch.epoch, epoch.partitions)
            with self._store.transaction() as transaction:
                transaction.note_deleted(epoch, now)
            told = (epoch.cluster, epoch.epoch, left.messages)
            log.info("cluster=%s deleted the queues of epoch=%d with copies=%d of settled operations", *told)
        elif now - epoch.deleted_at >= _DELETED_AGAIN_SECONDS:
            # A manager that reconnected before it had heard of the new epoch has declared them once more.
            self._queues.delete(epoch.cluster, epoch.epoch, epoch.partitions)
            with self._store.transaction() as transaction:
                transaction.remove_old_epoch(epoch)


def _still_quiet(transaction: Transaction, seen: ClusterRecord, quiet: _Quiet) -> bool:
    """What the wait began with is still so; nothing is accepted before this transaction ends."""
    cluster = transaction.cluster(seen.name, lock=True)
    if cluster is None or (cluster.epoch, cluster.wanted_partitions) != (quiet.epoch, quiet.wanted):
        return False
    drain = transaction.drain(seen.name)
    return drain.unsettled == 0 and drain.newest == quiet.newest


def _known(cluster: ClusterRecord | None, name: str) -> ClusterRecord:
    if cluster is None:
        message = f"cluster {name!r} is not known"
        raise NotFound(message, field="cluster", value=name)
    return cluster


def _refuse_blocked(name: str, drain: Drain) -> None:
    if drain.blocked:
        who = ", ".join(words_of(key) for key in drain.blocked)
        message = (
            f"cluster {name!r} cannot settle everything: {who} parked with operations behind; resolve first: "
            f"federation instance resolve ID --retry | --accept | --abandon"
        )
        raise InvalidState(message, cluster=name)


def _phase(cluster: ClusterRecord, drain: Drain, behind: tuple[str, ...], left: tuple[int, ...]) -> str:
    if cluster.wanted_partitions is not None:
        return "draining" if drain.unsettled else "waiting"
    if behind:
        return "moving"
    return "clearing" if left else "steady"
