"""Ends what was never granted and may not start any more, also where no worker asks: cancelled, or its deadline passed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from federation.contract.outcomes import Outcome
from federation.manager.clocks import Clock
from federation.manager.observing import observe_all
from federation.manager.publisher import Publisher
from federation.manager.store_ports import Store, Transaction
from federation.protocol.answer_table import refused_unasked
from federation.protocol.ledger import KeyFacts, OperationFacts, settle

log = logging.getLogger(__name__)

_CHUNK = 200


class Expiring:
    """The use case; safe beside workers' questions, because both decide under the lock of the key."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock

    def expire(self) -> int:
        """Refuse what stands at the head of its key; returns how many.  What stands behind it is next time's."""
        with self._store.reading() as transaction:
            candidates = transaction.unstartable(self._clock.wall(), _CHUNK)
        if not candidates:
            return 0
        with self._store.transaction() as transaction:
            refused = self.refuse(transaction, candidates)
        self.told(refused)
        return len(refused)

    def refuse(self, transaction: Transaction, candidates: Sequence[tuple[str, str]]) -> list[OperationFacts]:
        """Refuse those of these (key, operation id) that may be refused; call ``told`` once it is committed."""
        now = self._clock.wall()
        keys = transaction.keys({key for key, _ in candidates})
        operations = transaction.operations({operation for _, operation in candidates})
        changed: dict[str, KeyFacts] = {}
        settled: list[OperationFacts] = []
        outcomes: dict[str, Outcome] = {}
        for key, identity in candidates:
            operation = operations.get(identity)
            if operation is None or key not in keys or operation.key != key:
                continue
            outcome = refused_unasked(keys[key], operation, now)
            if outcome is None:
                continue
            done = settle(keys[key], operation, outcome, self._clock.stamp())
            keys[key] = changed[key] = done.key
            settled.append(done.operation)
            outcomes[identity] = outcome
        if settled:
            transaction.save(changed.values(), settled, outcomes, now)
            records = transaction.operations_by_id(outcomes)
            observe_all(transaction, [(records[identity], outcome) for identity, outcome in outcomes.items()], now)
        return settled

    def told(self, refused: Sequence[OperationFacts]) -> None:
        """Say it to the publisher and in the log."""
        self._publisher.settled((facts.key, facts.sequence) for facts in refused)
        for facts in refused:
            why = "cancelled" if facts.cancel_requested else "its deadline passed"
            log.info("operation=%s key=%s refused before it started: %s", facts.id, facts.key, why)
