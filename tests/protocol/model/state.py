"""What the model world is made of: plain tuples, so that a state can be hashed, kept and compared.

Times are whole ticks relative to now: an age counts backwards, a due time forwards; what has passed is kept only as far as
anybody can still tell the difference.  Every name of the protocol that only has to be *fresh* (question ids, call ids) is
replaced by the smallest number that is free, so that two histories with the same future are one state.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

KEY = "k"
NEVER = -1
FOREIGN = -2
"""A stamp taken on another manager's clock."""


class Link(enum.IntEnum):
    """What the broker and a worker think of the worker's consumer."""

    SUBSCRIBED = 0
    BROKEN = 1
    """The broker has closed the connection and the worker has not noticed."""
    CANCELLED = 2
    """The broker has cancelled the consumer; the notice is on its way, the connection works."""


class Message(NamedTuple):
    """One copy of a command in the partition."""

    sequence: int
    round: int
    deliveries: int = 0
    """The delivery count."""


class Delivery(NamedTuple):
    """A message as a worker has it; not ``live`` once the broker has taken it back (acknowledging it does nothing)."""

    sequence: int
    round: int
    deliveries: int
    live: bool


class LeaseState(NamedTuple):
    """A worker's lease: when it ends, from now."""

    ends: int
    revoked: bool
    cancel_requested: bool
    cancel_told: bool


class CallState(NamedTuple):
    """A driver call: the changing steps it has still to make; ``guarded`` is how long ago ``guard()`` let it through.

    ``lease`` is None when it is the lease of the active execution.  Steps that are taken back are negative (``~step``).
    """

    sequence: int
    attempt: int
    steps: tuple[int, ...]
    guarded: int
    lease: LeaseState | None
    undoing: bool = False


class ActiveState(NamedTuple):
    """The execution of the head of the key in a worker's core (WorkerCore's ``Execution``)."""

    held: Delivery
    phase: str
    asks: int
    """NEVER: nothing is asked; 0: the question for leave is open; n: the renewal of attempt n is."""
    first_sent: int
    last_sent: int
    attempt: int
    start_at: int
    renew_at: int
    lease: LeaseState | None
    report: str
    retry_at: int


class CoreState(NamedTuple):
    """A worker's process: its decision core and its driver calls (the active one last)."""

    active: ActiveState | None = None
    held: tuple[Delivery, ...] = ()
    calls: tuple[CallState, ...] = ()


class Asked(NamedTuple):
    """A question under way to the manager; ``number`` stands for its id."""

    worker: int
    number: int
    sequence: int
    round: int
    deliveries: int
    renews: int


class Reported(NamedTuple):
    """An outcome under way to the manager."""

    worker: int
    sequence: int
    attempt: int
    kind: str


class Answered(NamedTuple):
    """An answer to the worker's newest question, under way (answers to older questions change nothing and are left out)."""

    verdict: str
    attempt: int
    wait: int
    cancel: bool


class Worker(NamedTuple):
    """A worker with everything that is under way to and from it."""

    core: CoreState = CoreState()
    number: int = NEVER
    """The id of its newest question."""
    paused: bool = False
    link: Link = Link.SUBSCRIBED
    socket: tuple[Delivery | str, ...] = ()
    """What the broker sent and the worker has not read: deliveries, or the notice of a loss."""
    unacked: tuple[Message, ...] = ()
    pipe: tuple[Asked | Reported, ...] = ()
    """What the worker published and the broker has not taken."""
    answers: tuple[Answered, ...] = ()


class KeyState(NamedTuple):
    """The durable facts of the key; ``parked_by`` is a sequence."""

    position: int = 0
    parked_by: int = 0
    parked_age: int = NEVER
    gap_rounds: int = 0


class OperationState(NamedTuple):
    """The durable facts of an operation; once ``outcome`` is set nothing else is kept."""

    outcome: str = ""
    round: int = 1
    overdue: bool = False
    cancel: bool = False
    attempt: int = 0
    copy: tuple[int, int] | None = None
    question: tuple[int, int] | None = None
    wait: int = 0
    answered_age: int = NEVER


class PublisherState(NamedTuple):
    """The publisher's memory: lost when the manager crashes."""

    waiting: tuple[tuple[int, int], ...] = ()
    in_flight: tuple[int, int] | None = None
    blocked_by: int = 0


class World(NamedTuple):
    """Everything."""

    key: KeyState
    operations: tuple[OperationState, ...]
    outbox: tuple[int, ...]
    """Durable: sequences whose current round is not confirmed."""
    publisher: PublisherState
    wire: tuple[tuple[int, int], ...]
    """Copies (sequence, round) under way to the broker, in no order."""
    queue: tuple[Message, ...]
    consumer: int
    """The worker whose consumer the broker holds active, or NEVER."""
    workers: tuple[Worker, ...]
    results: tuple[Asked | Reported, ...]
    effects: tuple[tuple[int, ...], ...]
    """The hypervisor: for each operation and step, 0 untouched, 1 done, 2 undone."""
    started: tuple[int, int]
    """The newest (sequence, attempt) that may have acted."""
    resolved: int
    """The last sequence that an operator's decision covers."""
    faults: int
    """How many faults may still happen."""
    slow: bool = False
    """Whether questions and outcomes may from now on take any time to reach the manager and be handled."""


class Label(NamedTuple):
    """What happened between two worlds; ``fault`` says whether it took one from the budget."""

    name: str
    details: tuple[object, ...] = ()
    fault: bool = False
