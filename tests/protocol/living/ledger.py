"""The durable truth of a living world, and the managers that work on it: real decisions over plain dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.answer_table import Case, Limits, answer, refused_unasked
from federation.protocol.envelope import Answer, Question, Report
from federation.protocol.lease import Stamp
from federation.protocol.ledger import (
    Dropped,
    KeyFacts,
    OperationFacts,
    apply_report,
    refused_by_resolve,
    resolve,
    restamped,
    settle,
    wait_before_resolve,
)
from federation.protocol.publishing import PublisherCore, Unsent

UNKNOWN = Outcome(kind=OutcomeKind.UNKNOWN, code="dead_lettered")
Copy = tuple[str, int]
"""Operation id and round."""


@dataclass
class Truth:
    """What is written down; survives everything."""

    limits: Limits
    on_settled: Callable[[OperationFacts, Outcome], None]
    keys: dict[str, KeyFacts] = field(default_factory=dict)
    operations: dict[str, OperationFacts] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    outbox: set[str] = field(default_factory=set)
    resolved: dict[str, int] = field(default_factory=dict)
    """By key: the last sequence that an operator's decision covers."""

    def accept(self, key: str) -> str:
        """Give an operation the next sequence of its key."""
        self.keys.setdefault(key, KeyFacts(key))
        sequence = 1 + sum(o.key == key for o in self.operations.values())
        operation = OperationFacts(f"{key}/{sequence}", key, sequence)
        self.operations[operation.id] = operation
        self.outbox.add(operation.id)
        return operation.id

    def unsettled(self, key: str) -> list[OperationFacts]:
        """The operations of a key that have no outcome, by sequence."""
        return sorted((o for o in self.operations.values() if o.key == key and not o.settled), key=lambda o: o.sequence)

    def settle(self, operation: OperationFacts, outcome: Outcome, now: Stamp) -> None:
        """Write an outcome that moves the position."""
        settlement = settle(self.keys[operation.key], operation, outcome, now)
        self.keys[operation.key] = settlement.key
        self._write(settlement.operation, outcome)

    def _write(self, operation: OperationFacts, outcome: Outcome) -> None:
        assert operation.id not in self.outcomes, f"{operation.id} is settled twice"
        self.on_settled(operation, outcome)
        self.operations[operation.id] = replace(operation, settled=True)
        self.outcomes[operation.id] = outcome
        self.outbox.discard(operation.id)

    def new_round(self, operations: list[str]) -> list[OperationFacts]:
        """Raise the round of what has no outcome, and put it into the outbox."""
        renewed = []
        for operation in operations:
            facts = self.operations[operation]
            if not facts.settled:
                facts = self.operations[operation] = replace(facts, round=facts.round + 1)
                self.outbox.add(operation)
                renewed.append(facts)
        return sorted(renewed, key=lambda o: (o.key, o.sequence))

    def refuse_unasked(self, now: Stamp, wall: float) -> None:
        """End what may not start any more and nobody asks for."""
        for key in list(self.keys):
            head = next(iter(self.unsettled(key)), None)
            refusal = refused_unasked(self.keys[key], head, wall) if head is not None else None
            if head is not None and refusal is not None:
                self.settle(head, refusal, now)

    def resolve(self, key: str, now: Stamp) -> bool:
        """What an operator does with a parked key; False when it is too early."""
        facts = self.keys[key]
        assert facts.parked_by is not None
        if wait_before_resolve(facts, now, self.limits.terms) > 0:
            self.keys[key] = restamped(facts, now)
            return False
        last = max(o.sequence for o in self.operations.values() if o.key == key)
        for operation in self.unsettled(key):
            self._write(operation, refused_by_resolve(facts.parked_by))
        self.keys[key] = resolve(facts, last)
        self.resolved[key] = last
        return True


@dataclass
class Manager:
    """One manager: a clock of its own, a publisher's memory that dies with it, and the copies that it has sent."""

    name: str
    truth: Truth
    offset: float
    publisher: PublisherCore = field(default_factory=PublisherCore)
    wire: list[Copy] = field(default_factory=list)
    """Copies under way to the broker whose fate it waits for."""
    to_retry: set[str] = field(default_factory=set)
    lives: int = 0

    def stamp(self, now: float) -> Stamp:
        """A reading of its clock, which has another name after each crash."""
        return Stamp(f"{self.name}.{self.lives}", now + self.offset)

    def crash(self) -> list[Copy]:
        """Lose everything in memory; gives what is still under way."""
        late, self.wire = self.wire, []
        self.publisher, self.to_retry = PublisherCore(), set()
        self.lives += 1
        return late

    def send(self, key: str, sends: list[Unsent]) -> None:
        """What the publisher core says is put on the wire."""
        self.wire += [(unsent.operation, unsent.round) for unsent in sends]
        if not sends:
            return
        in_flight = [o for o, _ in self.wire if self.truth.operations[o].key == key]
        assert len(in_flight) == 1, f"two copies of {key} in flight: {in_flight}"

    def accepted(self, operation: OperationFacts) -> None:
        """Something has to be published."""
        unsent = Unsent(operation.id, operation.sequence, operation.round)
        self.send(operation.key, self.publisher.accepted(operation.key, unsent))

    def poll(self, keys: set[str]) -> None:
        """Read the outbox for what others wrote."""
        rows = [self.truth.operations[o] for o in self.truth.outbox]
        for facts in sorted(rows, key=lambda o: (o.key, o.sequence)):
            if facts.key in keys and facts.id not in self.to_retry:
                self.accepted(facts)

    def published(self, copy: Copy, *, certain: bool) -> None:
        """The broker answered for a copy, or nobody knows."""
        operation, round_ = copy
        facts = self.truth.operations[operation]
        self.wire.remove(copy)
        if certain:
            if facts.round == round_:
                self.truth.outbox.discard(operation)
            self.send(facts.key, self.publisher.confirmed(facts.key, facts.sequence, round_))
        elif self.publisher.failed(facts.key, facts.sequence, round_) is not None:
            self.send(facts.key, self.publisher.pending(facts.key))
            self.to_retry.add(operation)

    def retry(self) -> None:
        """Give what failed a new round, or let its successors go when it has its outcome."""
        for operation in sorted(self.to_retry):
            facts = self.truth.operations[operation]
            if facts.settled:
                self.settled(facts)
            for renewed in self.truth.new_round([operation]):
                self.accepted(renewed)
        self.to_retry.clear()

    def settled(self, facts: OperationFacts) -> None:
        """An outcome was written."""
        before = {(o, r) for o, r in self.wire if self.truth.operations[o].key == facts.key}
        sends = self.publisher.settled(facts.key, facts.sequence)
        line = self.publisher._lines.get(facts.key)
        if line is None or line.in_flight is None or (line.in_flight.operation, line.in_flight.round) not in before:
            self.given_up += [copy for copy in self.wire if copy in before]
            self.wire = [copy for copy in self.wire if copy not in before]
        self.send(facts.key, sends)

    given_up: list[Copy] = field(default_factory=list)
    """Copies whose fate does not matter any more; they may still arrive."""

    def handle(self, message: Question | Report, now: float, wall: float) -> Answer | None:
        """One transaction: the real decision, written; gives the answer."""
        truth, stamp = self.truth, self.stamp(now)
        key, operation = truth.keys[message.key], truth.operations[message.operation]
        if isinstance(message, Report):
            applied = apply_report(key, operation, message, stamp)
            if not isinstance(applied, Dropped):
                truth.settle(operation, applied.outcome, stamp)
                self.settled(operation)
            return None
        decision = answer(Case(message, key, operation, stamp, wall, truth.limits))
        truth.keys[key.key], truth.operations[operation.id] = decision.key, decision.operation
        if decision.settles is not None:
            truth.settle(decision.operation, decision.settles, stamp)
            self.settled(operation)
        if decision.parks_next is not None:
            truth.settle(truth.unsettled(key.key)[0], decision.parks_next, stamp)
        if decision.republish:
            for renewed in truth.new_round([o.id for o in truth.unsettled(key.key)]):
                self.accepted(renewed)
        return decision.answer
