"""A living world: several keys, partitions, workers and managers, real objects, continuous time."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from itertools import count
from random import Random

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.answer_table import Limits
from federation.protocol.envelope import Command, Question, Report
from federation.protocol.lease import LeaseTerms
from federation.protocol.ledger import OperationFacts
from federation.protocol.partition_map import partition_of
from federation.protocol.worker_actions import Held, StartCall
from federation.protocol.worker_core import WorkerTerms

from .ledger import UNKNOWN, Copy, Manager, Truth
from .worker import BUG, Delivery, DriverCall, Worker

STEPS = 2
LIMITS = Limits(grants=5, gap_rounds=4, terms=LeaseTerms(lease=6.0, margin=1.0))
TERMS = WorkerTerms(lease=LIMITS.terms, max_operations=3)


class World:
    """Everything, and the events that happen to it; the claims are checked at every effect and every outcome."""

    def __init__(self, random: Random, *, workers: int = 3, managers: int = 2, partitions: int = 2) -> None:
        self.random = random
        self.now = 0.0
        self.ids = count(1)
        self.truth = Truth(LIMITS, self._check_outcome)
        self.managers = [Manager(f"m{n}", self.truth, 1000.0 * n) for n in range(managers)]
        self.owner = [n % managers for n in range(partitions)]
        self.workers = [self._worker(n) for n in range(workers)]
        self.queues: list[deque[tuple[str, int, int]]] = [deque() for _ in range(partitions)]
        self.consumers: list[list[int]] = [list(range(workers)) for _ in range(partitions)]
        """By partition: who is subscribed; the first is active."""
        self.unacked: list[dict[int, list[Delivery]]] = [defaultdict(list) for _ in range(partitions)]
        self.results: list[deque[Question | Report]] = [deque() for _ in range(partitions)]
        self.late: list[Copy] = []
        self.effects: dict[str, list[int]] = defaultdict(lambda: [0] * STEPS)
        self.started: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))

    def _worker(self, number: int) -> Worker:
        offset = self.random.uniform(0, 1e4)
        return Worker(f"w{number}", TERMS, offset, self._look, self._started, lambda: f"q{next(self.ids)}")

    # What the claims need

    def _look(self, operation: str, attempt: int) -> list[int]:
        return [k for k, effect in enumerate(self.effects[operation]) if attempt == 1 or effect != 1]

    def _started(self, start: StartCall) -> None:
        command = start.held.command
        self.started[command.key] = max(self.started[command.key], (command.sequence, start.attempt))

    def land(self, worker: Worker, number: int) -> None:
        """A guarded call reaches the hypervisor."""
        call = worker.calls[number]
        command, step = call.start.held.command, call.steps.pop(0)
        call.guarded_at = None
        mine = (command.sequence, call.start.attempt)
        text = f"attempt {call.start.attempt} of {command.operation}"
        key = self.truth.keys[command.key]
        assert mine >= self.started[command.key], f"C2: {text} acts after {self.started[command.key]} may have"
        assert command.sequence > self.truth.resolved.get(command.key, 0), f"C1: {text} acts after it was resolved"
        outcome = self.truth.outcomes.get(command.operation)
        assert outcome is None or outcome.kind is OutcomeKind.UNKNOWN, f"C3: {text} acts after its outcome"
        assert key.parked_by in {None, command.operation}, f"C2: {text} acts while {key.parked_by} parks the key"
        assert all(o.sequence >= command.sequence for o in self.truth.unsettled(command.key)), (
            f"C1: {text} is too early"
        )
        effects = self.effects[command.operation]
        assert step < 0 or effects[step] != 1, f"C3: {text} repeats step {step}"
        effects[step if step >= 0 else ~step] = 1 if step >= 0 else 2

    def _check_outcome(self, operation: OperationFacts, outcome: Outcome) -> None:
        effects = self.effects[operation.id]
        if outcome.kind is OutcomeKind.SUCCEEDED:
            assert effects == [1] * STEPS, f"C3: {operation.id} succeeded and did {effects}"
        elif outcome.kind is OutcomeKind.FAILED:
            assert 1 not in effects, f"C3: {operation.id} failed and left {effects}"
        elif outcome.kind is OutcomeKind.REFUSED:
            assert not any(effects), f"C3: {operation.id} was refused and did {effects}"

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass; what was guarded reaches the hypervisor within the margin, also from a paused worker."""
        until = self.now + seconds
        while True:
            due = [
                (call.guarded_at + LIMITS.terms.margin * 0.99, index, number)
                for index, worker in enumerate(self.workers)
                for number, call in worker.calls.items()
                if call.guarded_at is not None
            ]
            if not due or min(due)[0] > until:
                break
            self.now, index, number = max(min(due)[0], self.now), min(due)[1], min(due)[2]
            self.land(self.workers[index], number)
        self.now = until
        for worker in self.workers:
            if not worker.paused:
                worker.tick(self.now)
        self._settle_acks()

    # The broker

    def partition(self, operation: str) -> int:
        """Where an operation of this key goes."""
        return partition_of(self.truth.operations[operation].key, len(self.queues))

    def arrives(self, copy: Copy) -> None:
        """The broker takes a copy."""
        self.queues[self.partition(copy[0])].append((*copy, 0))

    def deliver(self, partition: int) -> None:
        """The broker sends everything it has to the active consumer."""
        consumers, queue = self.consumers[partition], self.queues[partition]
        while consumers and queue:
            operation, round_, deliveries = queue.popleft()
            delivery = Delivery(partition, operation, round_, deliveries)
            self.unacked[partition][consumers[0]].append(delivery)
            held = Held(self._command(operation, round_, partition), deliveries, handle=delivery)
            self.workers[consumers[0]].socket.append(held)

    def _command(self, operation: str, round_: int, partition: int) -> Command:
        facts = self.truth.operations[operation]
        return Command(
            operation=operation,
            name="create",
            revision=1,
            release="1.0",
            cluster="c",
            epoch=1,
            partition=partition,
            key=facts.key,
            sequence=facts.sequence,
            round=round_,
            deadline=facts.deadline,
            arguments={},
        )

    def _settle_acks(self) -> None:
        for index, worker in enumerate(self.workers):
            for delivery in worker.acknowledged:
                if delivery.live:
                    self.unacked[delivery.partition][index].remove(delivery)
                    delivery.live = False
            worker.acknowledged.clear()

    def take_back(self, partition: int, index: int, *, counted: bool = True) -> None:
        """Everything unacknowledged of a worker returns to the front, in order; it loses its place."""
        returned = self.unacked[partition].pop(index, [])
        for delivery in reversed(returned):
            delivery.live = False
            again = delivery.deliveries + int(counted)
            self.queues[partition].appendleft((delivery.operation, delivery.round, again))
        if index in self.consumers[partition]:
            self.consumers[partition].remove(index)

    def subscribe(self, partition: int, index: int) -> None:
        """A worker's consumer waits for its turn."""
        if index not in self.consumers[partition]:
            self.consumers[partition].append(index)

    # Faults

    def flap(self, partition: int, index: int, *, counted: bool) -> None:
        """The messages return, another consumer is active, and the worker is not told."""
        self.take_back(partition, index, counted=counted)
        self.subscribe(partition, index)

    def cancel_consumer(self, partition: int, index: int) -> None:
        """The same, and the worker is told, behind what is on its way to it."""
        self.take_back(partition, index)
        self.workers[index].socket.append(partition)

    def lose_connection(self, index: int, kept: int) -> None:
        """The broker closes a connection; ``kept`` of what was published arrived before."""
        worker = self.workers[index]
        for partition in range(len(self.queues)):
            self.take_back(partition, index)
        for _ in range(min(kept, len(worker.pipe))):
            self._into_results(worker.pipe.popleft())
        worker.pipe.clear()
        worker.answers.clear()
        worker.connected = False
        worker.socket.append(None)

    def crash_worker(self, index: int) -> None:
        """The process dies and is started again; the calls that it had guarded are on their way."""
        self.lose_connection(index, 0)
        old = self.workers[index]
        for number in [number for number, call in old.calls.items() if call.guarded_at is not None]:
            self.land(old, number)
        self.workers[index] = self._worker(index)
        self.reconnect(index)

    def crash_manager(self, number: int) -> None:
        """Everything in memory is lost; what it had sent may still arrive."""
        self.late += self.managers[number].crash()

    def change_owner(self, partition: int) -> None:
        """Another manager publishes for a partition from now on."""
        old = self.managers[self.owner[partition]]
        keys = {o.key for o in self.truth.operations.values() if self.partition(o.id) == partition}
        old.publisher.forget(keys)
        self.late += [copy for copy in old.wire if self.partition(copy[0]) == partition]
        old.wire = [copy for copy in old.wire if self.partition(copy[0]) != partition]
        old.to_retry = {o for o in old.to_retry if self.partition(o) != partition}
        self.owner[partition] = (self.owner[partition] + 1) % len(self.managers)

    def dead_letter(self, partition: int) -> None:
        """The first message of a queue reaches its delivery limit; a manager treats it as unknown."""
        operation, _, _ = self.queues[partition].popleft()
        facts = self.truth.operations[operation]
        key = self.truth.keys[facts.key]
        if not facts.settled and facts.sequence == key.position + 1 and key.parked_by is None:
            self.truth.settle(facts, UNKNOWN, self.random.choice(self.managers).stamp(self.now))

    # Messages

    def _into_results(self, item: Question | tuple[int, Report]) -> None:
        message = item[1] if isinstance(item, tuple) else item
        self.results[message.partition].append(message)

    def take(self, index: int, *, confirmed: bool = True) -> None:
        """The broker takes what a worker published next; it confirms reports."""
        worker = self.workers[index]
        item = worker.pipe.popleft()
        if confirmed:
            self._into_results(item)
        if isinstance(item, tuple):
            worker.do(worker.core.report_settled(item[0], confirmed=confirmed, now=worker.clock(self.now)))
        self._settle_acks()

    def handle(self, partition: int, number: int, *, acknowledged: bool = True, answered: bool = True) -> None:
        """A manager handles the next result of a partition."""
        message = self.results[partition].popleft() if acknowledged else self.results[partition][0]
        answer = self.managers[number].handle(message, self.now, self.now)
        if answer is not None and answered:
            worker = self.workers[int(message.worker[1:])]
            if worker.connected:
                worker.answers.append(answer)

    def receive(self, index: int) -> None:
        """A worker reads what the broker sent next; after a loss it subscribes again."""
        worker = self.workers[index]
        item = worker.socket[0]
        worker.receive(self.now)
        if item is None:
            self.reconnect(index)
        elif isinstance(item, int):
            self.subscribe(item, index)
        self._settle_acks()

    def reconnect(self, index: int) -> None:
        """The connection works again."""
        self.workers[index].connected = True
        self.workers[index].socket.clear()
        for partition in range(len(self.queues)):
            self.subscribe(partition, index)

    def hear(self, index: int) -> None:
        """A worker reads an answer, in any order."""
        worker = self.workers[index]
        worker.hear(self.random.choice(worker.answers), self.now)
        self._settle_acks()

    def drive(self, index: int, number: int, *, bug: bool = False) -> None:
        """A driver goes on; what was guarded lands, perhaps to be misunderstood."""
        worker = self.workers[index]
        call: DriverCall = worker.calls[number]
        if call.guarded_at is not None:
            self.land(worker, number)
            if bug and not call.start.lease.revoked:
                worker.end(number, BUG, self.now)
            return
        undo = [~k for k, effect in enumerate(self.effects[call.operation]) if effect == 1]
        worker.step(number, self.now, undo)
        self._settle_acks()

    # Managers

    def accept(self, key: str) -> None:
        """An operation is accepted; its publisher learns of it."""
        operation = self.truth.accept(key)
        self.managers[self.owner[self.partition(operation)]].accepted(self.truth.operations[operation])

    def publish(self, number: int, copy: Copy, *, kept: bool = True, certain: bool = True) -> None:
        """The fate of a copy."""
        if kept:
            self.arrives(copy)
        self.managers[number].published(copy, certain=certain)

    def poll(self) -> None:
        """Every manager looks into its part of the outbox and tries again what failed."""
        for number, manager in enumerate(self.managers):
            keys = {o.key for o in self.truth.operations.values() if self.owner[self.partition(o.id)] == number}
            manager.retry()
            manager.poll(keys)
            self.late += manager.given_up
            manager.given_up.clear()

    def expire(self) -> None:
        """A manager looks for what was cancelled or is late; the publishers are not told."""
        self.truth.refuse_unasked(self.random.choice(self.managers).stamp(self.now), self.now)

    def sweep(self) -> None:
        """Publish again what waits at the head of its key and stands in no outbox."""
        for key, facts in self.truth.keys.items():
            head = next(iter(self.truth.unsettled(key)), None)
            if head is None or facts.parked_by is not None or head.id in self.truth.outbox:
                continue
            for renewed in self.truth.new_round([head.id]):
                self.managers[self.owner[self.partition(head.id)]].accepted(renewed)

    def amend(self, operation: str, *, cancel: bool) -> None:
        """A wish to cancel, or a deadline that is now."""
        facts = self.truth.operations[operation]
        if not facts.settled:
            deadline = facts.deadline if cancel else self.now
            changed = replace(facts, deadline=deadline, cancel_requested=cancel or facts.cancel_requested)
            self.truth.operations[operation] = changed
