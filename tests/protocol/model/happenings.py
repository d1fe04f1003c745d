"""What each event does to a world, by itself or as a fault: small scripts over the moves of ``Draft``."""

from __future__ import annotations

from . import manager_side
from .draft import Draft
from .state import NEVER, Delivery, Link, Message, OperationState, Reported, World

# Time


def tick(draft: Draft, world: World, standing: int = NEVER) -> None:
    """Every clock moves by one; the process of a paused worker does not notice, the clock of a standing one neither."""
    draft.age_stamps()
    for index, worker in enumerate(world.workers):
        if index == standing:
            draft.move(index, ("stand",))
        else:
            draft.move(index, ("age" if worker.paused else "tick",), elapsed=1)


# Workers


def lands(draft: Draft, index: int, number: int) -> None:
    """A guarded call reaches the hypervisor."""
    draft.land(index, number)


def lands_badly(draft: Draft, index: int, number: int) -> None:
    """It does, and the driver raises what nobody declared: the outcome is unknown."""
    draft.land(index, number, fails=True)


def does(draft: Draft, index: int, event: tuple[object, ...]) -> None:
    """The process takes one step."""
    draft.move(index, event)


def pauses(draft: Draft, index: int, *, paused: bool) -> None:
    """The process stops, or goes on."""
    draft.workers[index] = draft.workers[index]._replace(paused=paused)


def receives(draft: Draft, index: int) -> None:
    """The worker reads what the broker sent next."""
    worker = draft.workers[index]
    item = worker.socket[0]
    draft.workers[index] = worker._replace(socket=worker.socket[1:])
    if isinstance(item, Delivery):
        draft.move(index, ("deliver", item))
        return
    draft.move(index, ("lost", 0 if worker.link is Link.CANCELLED else None))
    draft.workers[index] = draft.workers[index]._replace(link=Link.SUBSCRIBED)
    if draft.consumer == NEVER:
        draft.activate(index)


def broker_takes(draft: Draft, index: int) -> None:
    """The broker takes what a worker published into the results queue; a report is confirmed."""
    worker = draft.workers[index]
    head = worker.pipe[0]
    draft.workers[index] = worker._replace(pipe=worker.pipe[1:])
    draft.results = (*draft.results, head)
    if isinstance(head, Reported) and _reports(draft, index, head):
        draft.move(index, ("report_settled", True))


def report_nacked(draft: Draft, index: int) -> None:
    """The broker refuses a report."""
    worker = draft.workers[index]
    head = worker.pipe[0]
    draft.workers[index] = worker._replace(pipe=worker.pipe[1:])
    if isinstance(head, Reported) and _reports(draft, index, head):
        draft.move(index, ("report_settled", False))


def _reports(draft: Draft, index: int, reported: Reported) -> bool:
    active = draft.workers[index].core.active
    if active is None or not active.report:
        return False
    return (active.held.sequence, active.attempt) == (reported.sequence, reported.attempt)


# The broker


def connection_lost(draft: Draft, index: int, kept: int) -> None:
    """The broker closes a connection: ``kept`` of what the worker had published arrived before."""
    draft.take_back(index)
    worker = draft.workers[index]
    draft.results += worker.pipe[:kept]
    draft.workers[index] = worker._replace(link=Link.BROKEN, socket=("connection lost",), pipe=(), answers=())
    if draft.consumer == index:
        draft.activate(NEVER)


def flap(draft: Draft, index: int, other: int, *, counted: bool) -> None:
    """A broker node goes and comes back: the messages return, another consumer is active, and nobody tells the worker."""
    draft.take_back(index, counted=counted)
    draft.activate(other)


def takeover(draft: Draft, other: int) -> None:
    """A consumer of higher priority becomes the active one."""
    draft.activate(other)


def consumer_cancelled(draft: Draft, index: int) -> None:
    """The same as a flap, but the worker is told, behind what is on its way to it."""
    draft.take_back(index)
    worker = draft.workers[index]
    draft.workers[index] = worker._replace(link=Link.CANCELLED, socket=(*worker.socket, "consumer cancelled"))
    draft.activate(NEVER)


def dead_letter(draft: Draft, index: int) -> None:
    """The broker takes messages back and the first has reached its delivery limit."""
    draft.take_back(index)
    dead, draft.queue = draft.queue[0], draft.queue[1:]
    if dead.sequence == draft.key.position + 1 and not draft.key.parked_by:
        draft.settle_unknown()


def copy_arrives(draft: Draft, copy: tuple[int, int], *, kept: bool, confirmed: bool) -> None:
    """A copy reaches the broker, which keeps it or not, and the manager learns of a confirm or of a failure."""
    sequence, round_ = copy
    _off_the_wire(draft, copy)
    if kept:
        draft.queue = (*draft.queue, Message(*copy))
    if not confirmed:
        draft.publish("failed", *copy)
        return
    if draft.operations[sequence - 1].round == round_:
        draft.outbox = tuple(s for s in draft.outbox if s != sequence)
    draft.publish("confirmed", sequence, round_)


def copy_late(draft: Draft, copy: tuple[int, int]) -> None:
    """The manager gives a copy up that is still on its way."""
    draft.publish("failed", *copy)


def _off_the_wire(draft: Draft, copy: tuple[int, int]) -> None:
    wire = list(draft.wire)
    wire.remove(copy)
    draft.wire = tuple(wire)


# The manager


def handles(draft: Draft, index: int, *, answered: bool = True, elsewhere: bool = False) -> None:
    """A manager handles the next result: of the queue, or straight from a worker (``index``) when the queue is empty."""
    draft.elsewhere = elsewhere
    if index == NEVER:
        message, draft.results = draft.results[0], draft.results[1:]
    else:
        worker = draft.workers[index]
        message = worker.pipe[0]
        draft.workers[index] = worker._replace(pipe=worker.pipe[1:])
    draft.handle(message, answered=answered)


def redelivered(draft: Draft, index: int) -> None:
    """Another manager handles a result, answers, and dies before it acknowledges: it stays where it is."""
    if index != NEVER:
        broker_takes(draft, index)
    draft.elsewhere = True
    draft.foreign_clock()
    draft.handle(draft.results[0])
    draft.foreign_clock()


def confirmed_in_memory_only(draft: Draft, copy: tuple[int, int]) -> None:
    """The manager dies between a confirm and writing it down."""
    _off_the_wire(draft, copy)
    draft.queue = (*draft.queue, Message(*copy))
    draft.restart_manager()


def results_slow(draft: Draft) -> None:
    """From now on time may pass before a result is handled."""
    draft.slow = True


def sweeps(draft: Draft, sequence: int) -> None:
    """The sweeper publishes again."""
    draft.republish([sequence])


def refused_unasked(draft: Draft, sequence: int, *, elsewhere: bool) -> None:
    """A manager, this one or another, ends what was cancelled or is late and was never granted."""
    draft.elsewhere = elsewhere
    draft.refuse_unasked(sequence)


def amended(draft: Draft, number: int, operation: OperationState) -> None:
    """A wish to cancel is written, or a deadline passes."""
    draft.operations[number] = operation


def operator_is_early(draft: Draft) -> None:
    """A resolve that is refused as too early."""
    draft.key = manager_side.restamped(draft.key)


def operator_resolves(draft: Draft, *, retry: bool) -> None:
    """Everything unsettled is refused and the key goes on, perhaps with a retry."""
    last = len(draft.operations)
    for sequence in range(draft.key.position + 1, last + 1):
        draft.refuse(sequence)
    draft.key = manager_side.resolved(draft.key, last)
    draft.resolved = last
    if retry and last < len(draft.machinery.steps):
        draft.accept()
