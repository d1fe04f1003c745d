"""A worker of a living world: a real WorkerCore on a clock of its own, and driver calls that take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Question, Report
from federation.protocol.lease import Leave
from federation.protocol.worker_actions import Acknowledge, Action, Ask, Held, SendReport, StartCall
from federation.protocol.worker_core import WorkerCore, WorkerTerms

DONE = Outcome(kind=OutcomeKind.SUCCEEDED, result={})
FAILED = Outcome(kind=OutcomeKind.FAILED, code="cancelled")
BUG = Outcome(kind=OutcomeKind.UNKNOWN, code="driver_bug")


@dataclass(eq=False)
class Delivery:
    """What a handle stands for: a message in a partition, while the broker believes that the worker has it."""

    partition: int
    operation: str
    round: int
    deliveries: int
    live: bool = True


@dataclass
class DriverCall:
    """A driver at work: the steps it has still to make (negative: to take back), and since when one is guarded."""

    start: StartCall
    steps: list[int]
    guarded_at: float | None = None
    undoing: bool = False

    @property
    def operation(self) -> str:
        """The operation's id."""
        return self.start.held.command.operation


@dataclass
class Worker:
    """A process, its sockets and its calls; ``look`` says which steps of an operation are done."""

    name: str
    terms: WorkerTerms
    offset: float
    look: Callable[[str, int], list[int]]
    started: Callable[[StartCall], None]
    new_id: Callable[[], str]
    core: WorkerCore = field(init=False)
    calls: dict[int, DriverCall] = field(default_factory=dict)
    socket: deque[Held | int | None] = field(default_factory=deque)
    """Deliveries, and losses: of a partition, or (None) of the connection."""
    answers: list[Answer] = field(default_factory=list)
    pipe: deque[Question | tuple[int, Report]] = field(default_factory=deque)
    connected: bool = True
    paused: bool = False
    acknowledged: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start."""
        self.core = WorkerCore(self.name, self.terms, self.new_id)

    def clock(self, now: float) -> float:
        """Its own monotonic clock."""
        return now + self.offset

    def do(self, actions: list[Action]) -> None:
        """Carry out what the core says."""
        for action in actions:
            if isinstance(action, Ask):
                self._publish(action.question)
            elif isinstance(action, SendReport):
                self._publish((action.call, action.report))
            elif isinstance(action, Acknowledge):
                assert isinstance(action.held.handle, Delivery)
                self.acknowledged.append(action.held.handle)
            elif isinstance(action, StartCall):
                self.started(action)
                steps = self.look(action.held.command.operation, action.attempt)
                self.calls[action.call] = DriverCall(action, steps)

    def _publish(self, message: Question | tuple[int, Report]) -> None:
        if self.connected and message not in self.pipe:
            self.pipe.append(message)

    def receive(self, now: float) -> None:
        """Read what the broker sent next."""
        item = self.socket.popleft()
        if isinstance(item, Held):
            self.do(self.core.deliver(item, self.clock(now)))
        else:
            self.do(self.core.lost(item, self.clock(now)))

    def hear(self, answer: Answer, now: float) -> None:
        """Read an answer."""
        self.answers.remove(answer)
        self.do(self.core.answered(answer, self.clock(now)))

    def tick(self, now: float) -> None:
        """Notice that time has passed."""
        self.do(self.core.tick(self.clock(now)))

    def step(self, number: int, now: float, undo: list[int]) -> None:
        """A driver does what it does next: it asks for leave, or ends."""
        call = self.calls[number]
        leave = call.start.lease.leave(self.clock(now))
        if leave is Leave.REVOKED:
            self.end(number, None, now)
        elif not call.steps:
            self.end(number, FAILED if call.undoing else DONE, now)
        elif leave is Leave.CANCEL:
            call.start.lease.cancel_told = call.undoing = True
            call.steps = undo
        elif leave is Leave.GO:
            call.guarded_at = now

    def end(self, number: int, outcome: Outcome | None, now: float) -> None:
        """A driver's thread ends."""
        del self.calls[number]
        self.do(self.core.call_ended(number, outcome, self.clock(now)))
