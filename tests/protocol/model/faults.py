"""What may go wrong, each time for one of the budget, and what is rare enough to be counted with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from . import happenings as then
from .draft import Draft
from .state import FOREIGN, NEVER, Asked, Link, Reported, World

FAULTS = (
    "flap",
    "flap, uncounted",
    "consumer cancelled",
    "connection lost",
    "takeover",
    "dead letter",
    "pause",
    "copy nacked",
    "copy late",
    "confirm lost",
    "copy purged",
    "manager crash",
    "confirmed in memory only",
    "answer lost",
    "results slow",
    "result redelivered",
    "report nacked",
    "needless sweep",
    "cancel",
    "deadline",
    "driver fails",
    "driver bug",
)
"""Beside them there is "clock stands": a worker's clock misses one tick.  It needs terms under which the reach is less than the
margin, because the margin is what pays for it."""

Change = Callable[[Draft], None]
Fault = tuple[str, tuple[object, ...], Change]


def every_fault(world: World, whole: int) -> Iterator[Fault]:
    """Every fault that can happen now; ``whole`` is lease and margin in ticks."""
    for index in range(len(world.workers)):
        yield from _of_connection(world, index)
        yield from _of_consumer(world, index)
        yield from _of_worker(world, index)
    if world.results:
        yield from _of_result(world.results[0], NEVER)
    yield from _of_publisher(world)
    if not world.slow:
        yield "results slow", (), then.results_slow
    head = world.key.position + 1
    if stuck(world, head) and not abandoned(world, head, whole):
        yield "needless sweep", (head,), partial(then.sweeps, sequence=head)
    yield from _wishes(world)


def _of_connection(world: World, index: int) -> Iterator[Fault]:
    worker = world.workers[index]
    if worker.link is Link.BROKEN:
        return
    for kept in range(len(worker.pipe) + 1):
        yield "connection lost", (index, kept), partial(then.connection_lost, index=index, kept=kept)
    if not worker.pipe:
        return
    if isinstance(worker.pipe[0], Reported) and not worker.paused:
        yield "report nacked", (index,), partial(then.report_nacked, index=index)
    if not world.results:
        yield from _of_result(worker.pipe[0], index)


def _of_consumer(world: World, index: int) -> Iterator[Fault]:
    worker = world.workers[index]
    if worker.link is not Link.SUBSCRIBED or world.consumer != index:
        return
    others = [i for i, w in enumerate(world.workers) if i != index and w.link is Link.SUBSCRIBED]
    if not worker.unacked:
        for other in others:
            yield "takeover", (index, other), partial(then.takeover, other=other)
        return
    for other in [*others, index]:
        yield "flap", (index, other), partial(then.flap, index=index, other=other, counted=True)
        yield "flap, uncounted", (index, other), partial(then.flap, index=index, other=other, counted=False)
    yield "consumer cancelled", (index,), partial(then.consumer_cancelled, index=index)
    yield "dead letter", (index,), partial(then.dead_letter, index=index)


def _of_worker(world: World, index: int) -> Iterator[Fault]:
    worker = world.workers[index]
    if worker.paused:
        return
    yield "pause", (index,), partial(then.pauses, index=index, paused=True)
    for number, call in enumerate(worker.core.calls):
        if call.guarded != NEVER:
            undo = undoing(world, call.sequence)
            yield "driver fails", (index, call.sequence), partial(then.does, index=index, event=("fail", number, undo))
            yield "driver bug", (index, call.sequence), partial(then.lands_badly, index=index, number=number)


def _of_result(message: Asked | Reported, index: int) -> Iterator[Fault]:
    yield "result redelivered", (message,), partial(then.redelivered, index=index)
    if isinstance(message, Asked):
        yield "answer lost", (message,), partial(then.handles, index=index, answered=False)


def _of_publisher(world: World) -> Iterator[Fault]:
    for copy in dict.fromkeys(world.wire):
        yield "copy nacked", copy, partial(then.copy_arrives, copy=copy, kept=False, confirmed=False)
        yield "confirm lost", copy, partial(then.copy_arrives, copy=copy, kept=True, confirmed=False)
        yield "copy purged", copy, partial(then.copy_arrives, copy=copy, kept=False, confirmed=True)
        if copy == world.publisher.in_flight:
            yield "copy late", copy, partial(then.copy_late, copy=copy)
        yield "confirmed in memory only", copy, partial(then.confirmed_in_memory_only, copy=copy)
    yield "manager crash", (), Draft.restart_manager


def _wishes(world: World) -> Iterator[Fault]:
    for number, operation in enumerate(world.operations):
        if operation.outcome:
            continue
        if not operation.cancel:
            cancelled = operation._replace(cancel=True)
            yield "cancel", (number + 1,), partial(then.amended, number=number, operation=cancelled)
        if not operation.overdue:
            late = operation._replace(overdue=True)
            yield "deadline", (number + 1,), partial(then.amended, number=number, operation=late)


def undoing(world: World, sequence: int) -> tuple[int, ...]:
    """The steps with which a driver takes back what an operation has done."""
    return tuple(~step for step, effect in enumerate(world.effects[sequence - 1]) if effect == 1)


def stuck(world: World, head: int) -> bool:
    """Whether an operation waits at the head of its unparked key, and not in the outbox."""
    if world.key.parked_by or head > len(world.operations):
        return False
    return head not in world.outbox and not world.operations[head - 1].outcome


def abandoned(world: World, head: int, whole: int) -> bool:
    """No copy or result of it is anywhere, and no attempt of it was answered for longer than a lease."""
    if world.operations[head - 1].answered_age not in {NEVER, FOREIGN, whole}:
        return False
    if any(m.sequence == head for m in (*world.results, *world.queue)):
        return False
    if any(sequence == head for sequence, _ in world.wire):
        return False
    return not any(m.sequence == head for worker in world.workers for m in worker.unacked)
