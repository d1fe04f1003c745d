"""Everything that can happen next in a world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from federation.protocol.lease import Leave

from . import happenings as then
from . import manager_side
from .draft import Draft, Machinery, unknown_to_publisher
from .faults import FAULTS, Change, abandoned, every_fault, stuck, undoing
from .state import FOREIGN, NEVER, Delivery, Label, Link, Reported, Worker, World


@dataclass(frozen=True)
class Rules:
    """What may happen: which faults, whether an operator resolves a parked key, and whether a retry follows."""

    faults: frozenset[str] = frozenset(FAULTS)
    resolve: bool = False
    retry: bool = False
    elsewhere: bool = False
    """Whether another manager than the one that publishes handles the results, as it is among several."""


Event = tuple[Label, Change]


class Events:
    """The successors of worlds."""

    def __init__(self, machinery: Machinery, rules: Rules) -> None:
        self.machinery = machinery
        self.rules = rules
        self._several_managers = rules.elsewhere or "result redelivered" in rules.faults

    def after(self, world: World) -> Iterator[Event]:
        """Every event that can happen now, with the change it makes."""
        yield from self._time(world)
        for index, worker in enumerate(world.workers):
            yield from self._driver_calls(world, index)
            if not worker.paused:
                yield from _messages(world, index)
            else:
                yield Label("wakes", (index,)), partial(then.pauses, index=index, paused=False)
        yield from self._manager(world)
        yield from self._operator(world)
        yield from self._publisher(world)
        if world.faults:
            for name, details, change in every_fault(world, self.machinery.parts.whole):
                if name in self.rules.faults:
                    yield Label(name, details, fault=True), change

    def apply(self, world: World, change: Change, *, fault: bool) -> World:
        """The world after a change."""
        draft = Draft(world, self.machinery)
        if fault:
            draft.faults -= 1
        change(draft)
        return draft.frozen()

    def _time(self, world: World) -> Iterator[Event]:
        if _time_stands(world, self.machinery.parts.reach):
            return
        yield Label("tick"), partial(then.tick, world=world)
        if world.faults and "clock stands" in self.rules.faults:
            for index in range(len(world.workers)):
                yield Label("clock stands", (index,), fault=True), partial(then.tick, world=world, standing=index)

    def _driver_calls(self, world: World, index: int) -> Iterator[Event]:
        worker = world.workers[index]
        for number, call in enumerate(worker.core.calls):
            who = (index, call.sequence, call.attempt)
            if call.guarded != NEVER:
                yield Label("lands", (*who, call.steps[0])), partial(then.lands, index=index, number=number)
            elif worker.paused:
                continue
            elif not call.steps:
                yield Label("ends", who), partial(then.does, index=index, event=("finish", number))
            else:
                guard = ("guard", number, undoing(world, call.sequence))
                leave = self.machinery.move(worker.core, guard, 0).leave
                if leave is not Leave.WAIT:
                    yield Label("guards", (*who, leave)), partial(then.does, index=index, event=guard)

    def _manager(self, world: World) -> Iterator[Event]:
        elsewhere = self.rules.elsewhere
        if world.results:
            change = partial(then.handles, index=NEVER, elsewhere=elsewhere)
            yield Label("manager handles", (world.results[0],)), change
        else:
            for index, worker in enumerate(world.workers):
                if worker.pipe and worker.link is not Link.BROKEN and not isinstance(worker.pipe[0], Reported):
                    change = partial(then.handles, index=index, elsewhere=elsewhere)
                    yield Label("manager handles", (worker.pipe[0],)), change
        head = world.key.position + 1
        if head <= len(world.operations):
            operation = world.operations[head - 1]
            if self.machinery.remembered(manager_side.refuse_unasked, world.key, operation, head).settled:
                yield (
                    Label("manager refuses unasked", (head,)),
                    partial(then.refused_unasked, sequence=head, elsewhere=elsewhere),
                )
        if self.machinery.parts.sweeper and stuck(world, head) and abandoned(world, head, self.machinery.parts.whole):
            yield Label("sweeper republishes", (head,)), partial(then.sweeps, sequence=head)

    def _operator(self, world: World) -> Iterator[Event]:
        if not (world.key.parked_by and self.rules.resolve):
            return
        if manager_side.wait_before_resolve(world.key, self.machinery.parts) <= 0:
            yield Label("operator resolves"), partial(then.operator_resolves, retry=self.rules.retry)
        elif world.key.parked_age == FOREIGN and self.machinery.parts.restamps:
            yield Label("operator is too early"), then.operator_is_early

    def _publisher(self, world: World) -> Iterator[Event]:
        if world.publisher.blocked_by:
            yield Label("publisher tries again"), Draft.retry_publishing
        if self._several_managers and unknown_to_publisher(world):
            yield Label("publisher reads the outbox"), Draft.read_outbox
        for copy in dict.fromkeys(world.wire):
            change = partial(then.copy_arrives, copy=copy, kept=True, confirmed=True)
            yield Label("broker confirms copy", copy), change


def _messages(world: World, index: int) -> Iterator[Event]:
    """What a worker that runs reads, and what the broker takes of it."""
    worker = world.workers[index]
    if worker.socket:
        yield Label("receives", (index, worker.socket[0])), partial(then.receives, index=index)
    for answer in worker.answers:
        yield Label("hears", (index, answer)), partial(then.does, index=index, event=("answer", answer))
    if worker.pipe and worker.link is not Link.BROKEN:
        head = worker.pipe[0]
        if isinstance(head, Reported) or world.results:
            yield Label("broker takes", (head,)), partial(then.broker_takes, index=index)


def _time_stands(world: World, reach: int) -> bool:
    """Whether something has to happen before the next tick."""
    for worker in world.workers:
        if any(call.guarded >= reach for call in worker.core.calls):
            return True  # what was guarded that long ago has reached the hypervisor by now
        if _busy(worker):
            return True  # who runs reads what has arrived within a tick: that it does not is "pause"
    if world.publisher.in_flight in world.wire:
        return True  # so does the broker; that it does not is "copy late"
    if world.slow:
        return False
    return bool(world.results) or any(_sends(worker) for worker in world.workers)


def _busy(worker: Worker) -> bool:
    return not worker.paused and bool(worker.answers or (worker.socket and isinstance(worker.socket[0], Delivery)))


def _sends(worker: Worker) -> bool:
    if not worker.pipe or worker.link is Link.BROKEN:
        return False
    return not (worker.paused and isinstance(worker.pipe[0], Reported))
