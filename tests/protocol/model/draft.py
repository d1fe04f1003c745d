"""A world being changed: the moves of broker, workers and manager that the events of ``events.py`` are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import manager_side, worker_side
from .claims import check_grant, check_landing, check_settlement
from .manager_side import Handled
from .parts import Parts
from .state import (
    FOREIGN,
    NEVER,
    Answered,
    Asked,
    Delivery,
    KeyState,
    Link,
    Message,
    OperationState,
    PublisherState,
    Reported,
    Worker,
    World,
)


@dataclass
class Machinery:
    """The parts under test, and every move of theirs that was made before."""

    parts: Parts
    steps: tuple[int, ...]
    """How many changing calls each operation makes."""
    moves: dict[Any, Any] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    """Rows of the answer table that have answered."""

    def remembered(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` once for each combination of arguments."""
        key = (function, arguments)
        result = self.moves.get(key)
        if result is None:
            result = self.moves[key] = function(*arguments, self.parts)
        return result

    def move(self, core: Any, event: tuple[Any, ...], elapsed: int) -> Any:
        """Move a worker's process."""
        key = (core, event, elapsed)
        result = self.moves.get(key)
        if result is None:
            result = self.moves[key] = worker_side.move(core, event, self.parts, elapsed)
        return result


class Draft:
    """A copy of a world that may be changed; ``frozen`` gives the new world."""

    def __init__(self, world: World, machinery: Machinery) -> None:
        self.machinery = machinery
        self.key = world.key
        self.operations = list(world.operations)
        self.outbox = world.outbox
        self.publisher = world.publisher
        self.wire = world.wire
        self.queue = world.queue
        self.consumer = world.consumer
        self.workers = list(world.workers)
        self.results = world.results
        self.effects = list(world.effects)
        self.started = world.started
        self.resolved = world.resolved
        self.faults = world.faults
        self.slow = world.slow
        self.elsewhere = False
        """Whether the manager that acts now is not the one that publishes: that one's memory is told nothing."""

    def snapshot(self) -> World:
        """The world as it is now, not normalised: for the claims."""
        return World(
            self.key,
            tuple(self.operations),
            self.outbox,
            self.publisher,
            self.wire,
            self.queue,
            self.consumer,
            tuple(self.workers),
            self.results,
            tuple(self.effects),
            self.started,
            self.resolved,
            self.faults,
            self.slow,
        )

    def frozen(self) -> World:
        """The new world: deliver what can be delivered, and give every fresh name the smallest free number."""
        if self.queue and self.consumer != NEVER:
            self._deliver()
        for index in range(len(self.workers)):
            self._renumber(index)
        for number, operation in enumerate(self.operations):
            if operation.question is not None and not self._refers(*operation.question):
                self.operations[number] = operation._replace(question=None, wait=0)
        return self.snapshot()

    # The broker

    def _deliver(self) -> None:
        """A worker that runs and has read everything reads what is delivered at once."""
        index = self.consumer
        sent, self.queue = self.queue, ()
        self.workers[index] = self.workers[index]._replace(unacked=self.workers[index].unacked + sent)
        for message in sent:
            delivery = Delivery(message.sequence, message.round, message.deliveries, live=True)
            worker = self.workers[index]
            if _reads(worker):
                self.move(index, ("deliver", delivery))
            else:
                self.workers[index] = worker._replace(socket=(*worker.socket, delivery))

    def take_back(self, index: int, *, counted: bool = True) -> None:
        """The broker returns everything unacknowledged of a worker to the front of the queue."""
        worker = self.workers[index]
        returned = tuple(m._replace(deliveries=m.deliveries + 1) if counted else m for m in worker.unacked)
        core = worker.core
        if core.active is not None and core.active.held.live:
            core = core._replace(active=core.active._replace(held=core.active.held._replace(live=False)))
        core = core._replace(held=tuple(d._replace(live=False) for d in core.held))
        socket = tuple(d._replace(live=False) if isinstance(d, Delivery) else d for d in worker.socket)
        self.workers[index] = worker._replace(core=core, socket=socket, unacked=())
        self.queue = returned + self.queue

    def activate(self, index: int) -> None:
        """The broker makes this worker's consumer the active one; with NEVER, any that is subscribed or none."""
        if index == NEVER:
            index = next((i for i, w in enumerate(self.workers) if w.link is Link.SUBSCRIBED), NEVER)
        self.consumer = index

    # The workers

    def move(self, index: int, event: tuple[Any, ...], elapsed: int = 0) -> Any:
        """Let an event happen to a worker's process and carry out what it asks for."""
        worker = self.workers[index]
        move = self.machinery.move(worker.core, event, elapsed)
        fresh = self._free_number(index)
        pipe, unacked, number = worker.pipe, worker.unacked, worker.number
        if worker.link is not Link.BROKEN:
            for new, sequence, round_, count, renews in move.asks:
                asked = Asked(index, fresh if new else number, sequence, round_, count, renews)
                if asked not in pipe and asked not in self.results:
                    pipe = (*pipe, asked)
            pipe += tuple(Reported(index, *report) for report in move.reports)
        for delivery in move.acks:
            if delivery.live:
                place = unacked.index(Message(*delivery[:3]))
                unacked = unacked[:place] + unacked[place + 1 :]
        if move.question != "same":
            number = fresh if move.question == "new" else NEVER
        answers = worker.answers if move.question == "same" else ()
        self.workers[index] = worker._replace(
            core=move.core, number=number, pipe=pipe, unacked=unacked, answers=answers
        )
        if move.started is not None:
            self._start(index, *move.started)
        return move

    def _start(self, index: int, sequence: int, attempt: int) -> None:
        """A driver call begins; a recovering one looks at what is there first."""
        self.started = max(self.started, (sequence, attempt))
        effects = self.effects[sequence - 1]
        steps = tuple(k for k, effect in enumerate(effects) if attempt == 1 or effect != 1)
        worker = self.workers[index]
        calls = worker.core.calls
        core = worker.core._replace(calls=(*calls[:-1], calls[-1]._replace(steps=steps)))
        self.workers[index] = worker._replace(core=core)
        if not steps:
            self.move(index, ("finish", len(calls) - 1))

    def land(self, index: int, number: int, *, fails: bool = False) -> None:
        """The changing call that a driver has guarded reaches the hypervisor."""
        worker = self.workers[index]
        call = worker.core.calls[number]
        step = call.steps[0]
        check_landing(self.snapshot(), call, step)
        effects = list(self.effects[call.sequence - 1])
        effects[step if step >= 0 else ~step] = 1 if step >= 0 else 2
        self.effects[call.sequence - 1] = tuple(effects)
        self.move(index, ("land", number, fails, worker.paused))

    # The manager

    def handle(self, message: Asked | Reported, *, answered: bool = True) -> None:
        """One transaction of the manager, and its answer."""
        operation = self.operations[message.sequence - 1]
        if isinstance(message, Reported):
            handled = self.machinery.remembered(manager_side.handle_report, self.key, operation, message)
            self._write(message.sequence, handled)
            return
        handled = self.machinery.remembered(manager_side.handle_question, self.key, operation, message)
        self.machinery.rows.add(handled.row)
        if handled.verdict == "grant" and handled.attempt > operation.attempt:
            check_grant(self.snapshot(), message.sequence, handled.attempt)
        self._write(message.sequence, handled)
        worker = self.workers[message.worker]
        newest = worker.number == message.number or (worker.number != NEVER and not self.machinery.parts.newest_only)
        if answered and newest and worker.link is not Link.BROKEN:
            answer = Answered(handled.verdict, handled.attempt, handled.wait, handled.cancel)
            if _reads(worker):
                self.move(message.worker, ("answer", answer))
            elif answer not in worker.answers:
                answers = tuple(sorted((*worker.answers, answer)))
                self.workers[message.worker] = worker._replace(answers=answers)

    def _write(self, sequence: int, handled: Handled) -> None:
        if handled.settled:
            check_settlement(self.snapshot(), sequence, handled.settled)
        self.key = handled.key
        self.operations[sequence - 1] = handled.operation
        if handled.settled:
            self.settled(sequence)
        if handled.parks_next:
            self.settle_unknown()
        if handled.republish:
            self.republish(s for s, o in enumerate(self.operations, start=1) if not o.outcome)

    def settle_unknown(self) -> None:
        """The operation at position + 1 ends as unknown."""
        sequence = self.key.position + 1
        handled = self.machinery.remembered(manager_side.settle_unknown, self.key, self.operations[sequence - 1])
        self._write(sequence, handled)

    def refuse_unasked(self, sequence: int) -> None:
        """The manager ends what may not start any more and nobody asks for."""
        operation = self.operations[sequence - 1]
        self._write(sequence, self.machinery.remembered(manager_side.refuse_unasked, self.key, operation, sequence))

    def settled(self, sequence: int) -> None:
        """An outcome was committed: the outbox row is gone, and the publisher is told."""
        self.outbox = tuple(s for s in self.outbox if s != sequence)
        self.publish("settled", sequence, 0)

    def republish(self, sequences: Any) -> None:
        """A new round of these operations: durable first, then the publisher is told."""
        for sequence in sequences:
            operation = self.operations[sequence - 1]
            operation = self.operations[sequence - 1] = operation._replace(round=operation.round + 1)
            self.outbox = tuple(sorted({*self.outbox, sequence}))
            self.publish("accepted", sequence, operation.round)

    def refuse(self, sequence: int) -> None:
        """An operator's decision refuses what waited behind a parked operation."""
        check_settlement(self.snapshot(), sequence, "refused")
        self.operations[sequence - 1] = OperationState("refused")
        self.settled(sequence)

    def accept(self) -> None:
        """One more operation of the key is accepted."""
        self.operations.append(OperationState())
        sequence = len(self.operations)
        self.effects.append((0,) * self.machinery.steps[sequence - 1])
        self.outbox = (*self.outbox, sequence)
        self.publish("accepted", sequence, 1)

    def publish(self, event: str, sequence: int, round_: int) -> None:
        """Move the publisher core; what it sends is under way to the broker."""
        if self.elsewhere:
            return
        self.publisher, sends = self.machinery.remembered(manager_side.publish, self.publisher, event, sequence, round_)
        if sends:
            self.wire = tuple(sorted((*self.wire, *sends)))

    def retry_publishing(self) -> None:
        """What failed gets a new round, unless it was settled meanwhile (perhaps by another manager)."""
        sequence = self.publisher.blocked_by
        if not self.operations[sequence - 1].outcome:
            self.republish([sequence])
        elif self.machinery.parts.unblocks_settled:
            self.publish("settled", sequence, 0)

    def read_outbox(self) -> None:
        """The publisher learns of what other managers have written."""
        for sequence in unknown_to_publisher(self.snapshot()):
            self.publish("accepted", sequence, self.operations[sequence - 1].round)

    def restart_manager(self) -> None:
        """The publisher's memory is lost and read back from the outbox; stamps are of another clock."""
        self.foreign_clock()
        self.publisher = PublisherState()
        for sequence in self.outbox:
            self.publish("accepted", sequence, self.operations[sequence - 1].round)

    def foreign_clock(self) -> None:
        """Whoever reads the stamps next reads them on another clock."""
        self.key = _foreign_key(self.key)
        self.operations = [_foreign(o) for o in self.operations]

    def age_stamps(self) -> None:
        """A tick passed on the manager's clock."""
        whole = self.machinery.parts.whole
        if self.key.parked_age >= 0:
            self.key = self.key._replace(parked_age=min(whole, self.key.parked_age + 1))
        for number, operation in enumerate(self.operations):
            if 0 <= operation.answered_age < whole:
                self.operations[number] = operation._replace(answered_age=operation.answered_age + 1)

    # Names

    def _numbers(self, index: int) -> list[int]:
        worker = self.workers[index]
        numbers = [worker.number] if worker.number != NEVER else []
        for message in (*worker.pipe, *self.results):
            if isinstance(message, Asked) and message.worker == index and message.number not in numbers:
                numbers.append(message.number)
        return numbers

    def _refers(self, index: int, number: int) -> bool:
        return number in self._numbers(index)

    def _free_number(self, index: int) -> int:
        questions = [o.question[1] for o in self.operations if o.question is not None and o.question[0] == index]
        return max((*self._numbers(index), *questions), default=NEVER) + 1

    def _renumber(self, index: int) -> None:
        numbers = self._numbers(index)
        if numbers == list(range(len(numbers))):
            return
        new = {number: place for place, number in enumerate(numbers)}
        worker = self.workers[index]

        def named(messages: tuple[Asked | Reported, ...]) -> tuple[Asked | Reported, ...]:
            return tuple(
                m._replace(number=new[m.number]) if isinstance(m, Asked) and m.worker == index else m for m in messages
            )

        self.workers[index] = worker._replace(number=new.get(worker.number, NEVER), pipe=named(worker.pipe))
        self.results = named(self.results)
        for place, operation in enumerate(self.operations):
            if operation.question is not None and operation.question[0] == index:
                known = new.get(operation.question[1])
                question = None if known is None else (index, known)
                wait = 0 if known is None else operation.wait
                self.operations[place] = operation._replace(question=question, wait=wait)


def unknown_to_publisher(world: World) -> list[int]:
    """What stands in the outbox and the publisher does not have in its memory."""
    memory = world.publisher
    known = {*memory.waiting, *([memory.in_flight] if memory.in_flight is not None else [])}
    return [
        sequence
        for sequence in world.outbox
        if sequence != memory.blocked_by and (sequence, world.operations[sequence - 1].round) not in known
    ]


def _reads(worker: Worker) -> bool:
    return not (worker.paused or worker.socket or worker.answers)


def _foreign_key(key: KeyState) -> KeyState:
    return key._replace(parked_age=FOREIGN) if key.parked_age >= 0 else key


def _foreign(operation: OperationState) -> OperationState:
    return operation._replace(answered_age=FOREIGN) if operation.answered_age >= 0 else operation


def first_world(machinery: Machinery, operations: int, workers: int, faults: int) -> World:
    """Accepted, written to the outbox, nothing sent."""
    draft = Draft(
        World(
            KeyState(),
            tuple(OperationState() for _ in range(operations)),
            tuple(range(1, operations + 1)),
            PublisherState(),
            (),
            (),
            0,
            tuple(Worker() for _ in range(workers)),
            (),
            tuple((0,) * machinery.steps[n] for n in range(operations)),
            (0, 0),
            0,
            faults,
        ),
        machinery,
    )
    for sequence in range(1, operations + 1):
        draft.publish("accepted", sequence, 1)
    return draft.frozen()
