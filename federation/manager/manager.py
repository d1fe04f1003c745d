"""The manager: its use cases and its threads, wired to a store and a bus."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from federation.contract.adapters import REVISIONS, Revisions
from federation.contract.errors import DeadLettered
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.accepting import Accepting
from federation.manager.access import Access
from federation.manager.adapting import Adapting
from federation.manager.admitting import Admitting
from federation.manager.auditing import Auditing
from federation.manager.clocks import Clock, SystemClock
from federation.manager.comparing import Comparing
from federation.manager.counters import ManagerCounters
from federation.manager.epochs import Epochs
from federation.manager.estate import Estate
from federation.manager.expiring import Expiring
from federation.manager.granting import Granting
from federation.manager.judging import Judging
from federation.manager.measuring import Measuring
from federation.manager.observing import observe
from federation.manager.operating import Operating
from federation.manager.ports import Answers, ClusterQueues, Commands, Queries, Results
from federation.manager.publisher import Publisher
from federation.manager.reading import Reading
from federation.manager.results import ResultsLoop
from federation.manager.retaining import Retaining
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store
from federation.manager.submitting import Submitting
from federation.protocol.envelope import Command
from federation.protocol.errors import StoreUnavailable
from federation.protocol.ledger import settle

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ManagerBus:
    """What the manager needs of the bus."""

    commands: Commands
    answers: Answers
    queries: Queries
    queues: ClusterQueues


class Manager:
    """All use cases of the manager; ``start`` its threads before use."""

    def __init__(
        self,
        store: Store,
        bus: ManagerBus,
        settings: ManagerSettings | None = None,
        clock: Clock | None = None,
        revisions: Revisions = REVISIONS,
    ) -> None:
        self.settings = settings or ManagerSettings()
        self.clock = clock or SystemClock()
        self.store = store
        self.publisher = Publisher(store, bus.commands, self.settings)
        self.counters = ManagerCounters()
        adapting = Adapting(revisions, self.counters)
        judging = Judging(adapting, self.counters)
        self.granting = Granting(store, self.clock, self.settings)
        self.results = ResultsLoop(
            store, bus.answers, self.publisher, self.clock, self.settings, judging, self.granting
        )
        accepting = Accepting(store, self.clock, adapting)
        self.submitting = Submitting(accepting, self.publisher, self.settings, adapting)
        self.operating = Operating(store, self.publisher, self.clock, self.settings, adapting)
        self.expiring = Expiring(store, self.publisher, self.clock)
        self.admitting = Admitting(store, self.clock, self.settings)
        self.access = Access(store, self.clock)
        self.reading = Reading(store, bus.queries, self.settings, judging)
        self.comparing = Comparing(store, self.reading, self.clock)
        self.auditing = Auditing(store, self.clock)
        self.retaining = Retaining(store, self.clock, self.settings)
        self.epochs = Epochs(store, bus.queues, self.publisher, self.clock, self.settings)
        self.estate = Estate(store, self.reading, bus.queues, self.clock, self.settings)
        self.measuring = Measuring(store, self.clock)
        self._stop = threading.Event()
        self._housekeepers = [
            threading.Thread(target=self._again_and_again, args=(duty,), name=name, daemon=True)
            for name, duty in (
                ("housekeeping", self._keep_house),
                ("epochs", self.epochs.keep),
                ("retention", self.retaining.step),
                ("inventory", self._read_inventories),
            )
        ]
        self._next_nodes = 0.0

    def start(self, results: Results[Any]) -> None:
        """Declare the clusters' queues and start publishing, answering and housekeeping."""
        self.epochs.declare_all()
        self.results.start(results)
        self.publisher.start()
        for housekeeper in self._housekeepers:
            housekeeper.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop accepting results, write down what is confirmed, give the shards back."""
        self._stop.set()
        self.results.stop(timeout)
        self.publisher.stop(timeout)
        for housekeeper in self._housekeepers:
            housekeeper.join(timeout)

    def figures(self) -> dict[str, dict[str, int]]:
        """What this manager has counted since it started: by group, then by name."""
        published = self.publisher.counters
        return {
            **self.counters.snapshot(),
            "results": dict(self.results.counters),
            "not_granted": self.granting.dropped,
            "published": {
                "sent": published.published,
                "confirmed": published.confirmed,
                "republished": published.republished,
                "swept": published.swept,
            },
        }

    def dead_lettered(self, copy: Command, reason: str) -> bool:
        """The broker gave a copy up: the outcome is unknown if nothing settled the operation and it is next in its line.

        Returns whether it was parked.  An operation that is not next is left: its copies are published again; and so is
        one of which another copy than the newest died, or a copy that was never published.
        """
        operation, key = copy.operation, copy.key
        with self.store.transaction() as transaction:
            facts = transaction.operations([operation]).get(operation)
            if facts is not None:
                self.counters.dead_letter(facts.cluster, facts.partition)
            key_facts = transaction.keys([key]).get(key)
            if facts is None or key_facts is None or facts.settled or key_facts.parked_by is not None:
                return False
            if facts.key != key or facts.sequence != key_facts.position + 1:
                return False
            if (copy.sequence, copy.round, copy.cluster) != (facts.sequence, facts.round, facts.cluster):
                return False
            outcome = Outcome(
                kind=OutcomeKind.UNKNOWN, code=DeadLettered.code, message=f"the broker gave it up: {reason}"
            )
            done = settle(key_facts, facts, outcome, self.clock.stamp())
            transaction.save([done.key], [done.operation], {operation: outcome}, self.clock.wall())
            record = transaction.operation(operation)
            if record is not None:
                observe(transaction, record, outcome, self.clock.wall())
        self.publisher.settled([(key, facts.sequence)])
        log.error("operation=%s key=%s dead-lettered (%s): the instance is parked", operation, key, reason)
        return True

    def _again_and_again(self, duty: Callable[[], object]) -> None:
        while not self._stop.wait(self.settings.housekeeping_every):
            try:
                duty()
            except StoreUnavailable as error:
                log.warning("store unavailable, %s waits: %s", threading.current_thread().name, error)
            except Exception:
                log.exception("%s failed; it goes on", threading.current_thread().name)

    def _keep_house(self) -> None:
        """Mark lost workers, follow other managers' upgrades with the pins, end what may not start any more."""
        self.admitting.mark_lost()
        self.admitting.move_pins()
        while self.expiring.expire() and not self._stop.is_set():
            continue

    def _read_inventories(self) -> None:
        """Every round is bounded by the queries' timeout; lost workers do not wait for it."""
        now = self.clock.stamp().seconds
        due = now >= self._next_nodes
        if due:
            self._next_nodes = now + self.settings.nodes_every
        self.estate.refresh_nodes(self._stop.is_set, only_unknown=not due)
