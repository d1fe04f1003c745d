"""What goes wrong in a living world: one function a fault, which finds something it can happen to, or does nothing."""

from __future__ import annotations

from collections.abc import Callable

from .world import World


def flap(world: World) -> None:
    """A broker node goes and comes back."""
    partition = _partition(world)
    if world.consumers[partition]:
        world.flap(partition, world.consumers[partition][0], counted=world.random.random() < 0.5)


def takeover(world: World) -> None:
    """A consumer of higher priority joins, once nothing is in flight."""
    partition = _partition(world)
    consumers = world.consumers[partition]
    if consumers and not world.unacked[partition].get(consumers[0]):
        consumers.append(consumers.pop(0))


def consumer_cancelled(world: World) -> None:
    """The broker takes a consumer away and says so."""
    partition = _partition(world)
    if world.consumers[partition]:
        world.cancel_consumer(partition, world.consumers[partition][0])


def connection_lost(world: World) -> None:
    """The broker closes a worker's connection."""
    index = _worker(world)
    if world.workers[index].connected:
        world.lose_connection(index, world.random.randrange(4))


def worker_crashes(world: World) -> None:
    """A worker dies and is started again."""
    world.crash_worker(_worker(world))


def worker_pauses(world: World) -> None:
    """A worker stops, or goes on."""
    worker = world.workers[_worker(world)]
    worker.paused = not worker.paused


def manager_crashes(world: World) -> None:
    """A manager dies and is started again."""
    world.crash_manager(world.random.randrange(len(world.managers)))


def owner_changes(world: World) -> None:
    """Another manager publishes for a partition."""
    world.change_owner(_partition(world))


def copy_nacked(world: World) -> None:
    """The broker refuses a copy."""
    _publish(world, kept=False, certain=False)


def confirm_lost(world: World) -> None:
    """The broker has a copy and nobody knows."""
    _publish(world, kept=True, certain=False)


def copy_purged(world: World) -> None:
    """A copy is confirmed and purged."""
    _publish(world, kept=False, certain=True)


def copy_late(world: World) -> None:
    """A copy is given up and still on its way."""
    copy = _publish(world, kept=False, certain=False)
    world.late += [copy] if copy is not None else []


def late_copy_arrives(world: World) -> None:
    """It arrives."""
    if world.late:
        world.arrives(world.late.pop(world.random.randrange(len(world.late))))


def queue_purged(world: World) -> None:
    """What is ready in a queue is gone."""
    world.queues[_partition(world)].clear()


def dead_letter(world: World) -> None:
    """A message that is returned has reached its delivery limit."""
    partition = _partition(world)
    flap(world)
    if world.queues[partition]:
        world.dead_letter(partition)


def answer_lost(world: World) -> None:
    """A manager handles a result and its answer is lost; perhaps it dies before it acknowledges."""
    _handle(world, answered=False, acknowledged=world.random.random() < 0.5)


def result_redelivered(world: World) -> None:
    """A manager handles a result and dies before it acknowledges."""
    _handle(world, answered=True, acknowledged=False)


def report_nacked(world: World) -> None:
    """The broker refuses a report."""
    index = _worker(world)
    worker = world.workers[index]
    if worker.connected and worker.pipe and isinstance(worker.pipe[0], tuple):
        world.take(index, confirmed=False)


def needless_sweep(world: World) -> None:
    """The sweeper does not wait."""
    world.sweep()


def cancel(world: World) -> None:
    """Somebody changes their mind."""
    _amend(world, cancel=True)


def deadline(world: World) -> None:
    """It is too late."""
    _amend(world, cancel=False)


def driver_bug(world: World) -> None:
    """A driver raises what nobody declared."""
    index = _worker(world)
    worker = world.workers[index]
    guarded = [number for number, call in worker.calls.items() if call.guarded_at is not None]
    if guarded and not worker.paused:
        world.drive(index, guarded[0], bug=True)


def _partition(world: World) -> int:
    return world.random.randrange(len(world.queues))


def _worker(world: World) -> int:
    return world.random.randrange(len(world.workers))


def _publish(world: World, *, kept: bool, certain: bool) -> tuple[str, int] | None:
    number = world.random.randrange(len(world.managers))
    wire = world.managers[number].wire
    if not wire:
        return None
    copy = world.random.choice(wire)
    world.publish(number, copy, kept=kept, certain=certain)
    return copy


def _handle(world: World, *, answered: bool, acknowledged: bool) -> None:
    partition = _partition(world)
    if world.results[partition]:
        number = world.random.randrange(len(world.managers))
        world.handle(partition, number, answered=answered, acknowledged=acknowledged)


def _amend(world: World, *, cancel: bool) -> None:
    unsettled = sorted(o.id for o in world.truth.operations.values() if not o.settled)
    if unsettled:
        world.amend(world.random.choice(unsettled), cancel=cancel)


FAULTS: dict[str, Callable[[World], None]] = {
    each.__name__: each
    for each in (
        flap,
        takeover,
        consumer_cancelled,
        connection_lost,
        worker_crashes,
        worker_pauses,
        manager_crashes,
        owner_changes,
        copy_nacked,
        confirm_lost,
        copy_purged,
        copy_late,
        late_copy_arrives,
        queue_purged,
        dead_letter,
        answer_lost,
        result_redelivered,
        report_nacked,
        needless_sweep,
        cancel,
        deadline,
        driver_bug,
    )
}
