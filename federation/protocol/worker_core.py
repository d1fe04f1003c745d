"""What a worker does next: run, ask, revoke, settle.  No I/O, no threads, no clock of its own.

Rules (DESIGN §6.3, §6.4):

1. What is held of one key runs in arrival order, one at a time; different keys run side by side.
2. Nothing runs without a grant; the lease counts from the first sending of the question that was answered.
3. No answer counts but that to the newest question of an execution; a question that stays unanswered is sent again
   under the same id.
4. An outcome is reported, the report confirmed, and only then the delivery acknowledged.
5. An operation that is under way here and is received again: while its lease lives the copy waits behind it, and is
   asked for when it has ended (it is settled then); once the lease has run out the older call is revoked first, then
   the question asked.
6. When the channel goes, every delivery of it is void and every call of it is revoked.
7. A revoked call may still sit in one hypervisor call: it keeps its place among ``max_operations`` until it ends.
8. A drained worker asks for nothing new; what it has asked for by then runs, if granted, is reported and acknowledged
   (let go, it would make the next worker wait for a whole lease).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from federation.contract.outcomes import Outcome
from federation.protocol.envelope import Answer, Question, Report
from federation.protocol.lease import Lease, LeaseTerms
from federation.protocol.worker_actions import (
    Acknowledge,
    Action,
    Ask,
    Held,
    LeaseChanged,
    SendReport,
    StartCall,
)


class Phase(enum.Enum):
    """Where an execution stands."""

    ASKING = "asking"
    WAITING = "waiting"
    """Granted; an older attempt's lease may still run."""
    RUNNING = "running"
    REPORTING = "reporting"


@dataclass(slots=True)
class Execution:
    """The one operation of a key that is being asked for, run or reported."""

    call: int
    held: Held
    phase: Phase
    question: Question | None
    first_sent: float
    last_sent: float
    attempt: int = 0
    start_at: float = 0.0
    renew_at: float = 0.0
    lease: Lease | None = None
    report: Report | None = None
    retry_report_at: float | None = None


@dataclass(slots=True)
class KeyQueue:
    """What is held of one key, in arrival order, and the execution of its head."""

    held: deque[Held] = field(default_factory=deque)
    active: Execution | None = None


_TERMS = LeaseTerms()


@dataclass(frozen=True, slots=True)
class WorkerTerms:
    """``resend_after`` and ``report_retry`` are seconds; ``max_operations`` bounds driver threads."""

    lease: LeaseTerms = _TERMS
    max_operations: int = 16
    resend_after: float = 1.0
    report_retry: float = 0.5


class WorkerCore:
    """The decision core of one worker; every method returns the actions to take, in order."""

    def __init__(self, worker: str, terms: WorkerTerms, new_id: Callable[[], str]) -> None:
        self.worker = worker
        self.terms = terms
        self.draining = False
        self._new_id = new_id
        self._keys: dict[str, KeyQueue] = {}
        self._ready: deque[str] = deque()
        self._calls = 0
        self._revoked: dict[int, str] = {}

    # What happens

    def deliver(self, held: Held, now: float) -> list[Action]:
        """A delivery arrived."""
        actions: list[Action] = []
        queue = self._keys.setdefault(held.command.key, KeyQueue())
        active = queue.active
        if active is not None and active.held.command.operation == held.command.operation:
            if _lives(active, now):
                queue.held.appendleft(held)
                return self._ask_next(now)
            self._revoke(active, actions)
            queue.active = None
            actions.append(Acknowledge(active.held))
            queue.held.appendleft(held)
        else:
            queue.held.append(held)
        self._enqueue(held.command.key, queue)
        return actions + self._ask_next(now)

    def answered(self, answer: Answer, now: float) -> list[Action]:
        """An answer arrived; one to an older question than the newest is dropped."""
        queue = self._keys.get(answer.key)
        active = queue.active if queue else None
        if queue is None or active is None or active.question is None or active.question.id != answer.question:
            return []
        actions: list[Action] = []
        first_sent, active.question = active.first_sent, None
        if answer.verdict == "grant":
            self._granted(active, answer, first_sent, now, actions)
        elif answer.verdict == "renewed" and active.lease is not None:
            active.lease.extend(first_sent, answer.lease_seconds)
            active.lease.cancel_requested = active.lease.cancel_requested or answer.cancel
            active.renew_at = first_sent + self.terms.lease.renew_every
            actions.append(LeaseChanged(active.call))
        elif answer.verdict in {"stale", "revoked"}:
            self._let_go(queue, active, actions)
        else:
            queue.active = None
            actions.append(Acknowledge(active.held))
        self._enqueue(answer.key, queue)
        return actions + self._ask_next(now)

    def call_ended(self, call: int, outcome: Outcome | None, now: float) -> list[Action]:
        """A driver thread ended: with an outcome, or with None when it was revoked."""
        if self._revoked.pop(call, None) is not None:
            return self._ask_next(now)
        active = self._find(call)
        if active is None or active.phase is not Phase.RUNNING:
            return self._ask_next(now)
        if outcome is None:
            message = f"call {call} ended as revoked, but nobody revoked it"
            raise AssertionError(message)
        command = active.held.command
        active.phase, active.question = Phase.REPORTING, None
        active.report = Report(
            worker=self.worker,
            cluster=command.cluster,
            partition=command.partition,
            operation=command.operation,
            key=command.key,
            sequence=command.sequence,
            attempt=active.attempt,
            outcome=outcome,
        )
        return [SendReport(call, active.report)]

    def report_settled(self, call: int, *, confirmed: bool, now: float) -> list[Action]:
        """The broker confirmed a report, or refused it: then it is sent again a little later."""
        active = self._find(call)
        if active is None or active.phase is not Phase.REPORTING:
            return []
        if not confirmed:
            active.retry_report_at = now + self.terms.report_retry
            return []
        key = active.held.command.key
        queue = self._keys[key]
        queue.active = None
        self._enqueue(key, queue)
        return [Acknowledge(active.held), *self._ask_next(now)]

    def lost(self, partition: int | None, now: float) -> list[Action]:
        """The broker took a partition's consumer away, or (None) the channel went: what was held of it is void."""
        actions: list[Action] = []
        for key, queue in list(self._keys.items()):
            active = queue.active
            if active is not None and partition in {None, active.held.command.partition}:
                self._revoke(active, actions)
                queue.active = None
            queue.held = deque(h for h in queue.held if partition not in {None, h.command.partition})
            self._enqueue(key, queue)
        return actions + self._ask_next(now)

    def drain(self) -> None:
        """Ask for nothing new from now on."""
        self.draining = True

    def tick(self, now: float) -> list[Action]:
        """Time has passed: start what has waited, renew, send again."""
        actions: list[Action] = []
        for active in list(self._active()):
            self._tick_one(active, now, actions)
        return actions + self._ask_next(now)

    # What can be asked

    def next_tick(self) -> float | None:
        """When ``tick`` has something to do, on the clock that ``now`` is read from; None when nothing is due."""
        return min((when for active in self._active() for when in self._due(active)), default=None)

    @property
    def idle(self) -> bool:
        """Whether nothing is being asked for, run or reported."""
        return next(self._active(), None) is None

    @property
    def held_count(self) -> int:
        """Deliveries held, running ones included."""
        return sum(len(queue.held) + (queue.active is not None) for queue in self._keys.values())

    @property
    def running_count(self) -> int:
        """Executions of any phase."""
        return sum(1 for _ in self._active())

    @property
    def revoked_count(self) -> int:
        """Calls that were revoked and have not ended yet."""
        return len(self._revoked)

    # How

    def _active(self) -> Iterator[Execution]:
        return (queue.active for queue in self._keys.values() if queue.active is not None)

    def _find(self, call: int) -> Execution | None:
        return next((active for active in self._active() if active.call == call), None)

    def _enqueue(self, key: str, queue: KeyQueue) -> None:
        if queue.active is None and not queue.held:
            self._keys.pop(key, None)
        elif queue.active is None and key not in self._ready:
            self._ready.append(key)

    def _ask_next(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._ready and not self.draining:
            if self.running_count + len(self._revoked) >= self.terms.max_operations:
                break
            queue = self._keys.get(self._ready.popleft())
            if queue is None or queue.active is not None or not queue.held:
                continue
            held = queue.held.popleft()
            self._calls += 1
            question = self._question(held)
            queue.active = Execution(self._calls, held, Phase.ASKING, question, first_sent=now, last_sent=now)
            actions.append(Ask(question))
        return actions

    def _question(self, held: Held, renews: int | None = None) -> Question:
        command = held.command
        return Question(
            id=self._new_id(),
            worker=self.worker,
            cluster=command.cluster,
            partition=command.partition,
            operation=command.operation,
            key=command.key,
            sequence=command.sequence,
            round=command.round,
            delivery_count=held.delivery_count,
            renews=renews,
        )

    def _granted(self, active: Execution, answer: Answer, first_sent: float, now: float, actions: list[Action]) -> None:
        active.attempt = answer.attempt
        active.lease = Lease(self.terms.lease, ends=first_sent + answer.lease_seconds, cancel_requested=answer.cancel)
        active.start_at = now + answer.wait_seconds
        active.renew_at = first_sent + self.terms.lease.renew_every
        active.phase = Phase.WAITING
        self._start_if_due(active, now, actions)

    def _start_if_due(self, active: Execution, now: float, actions: list[Action]) -> None:
        if active.phase is Phase.WAITING and now >= active.start_at and active.lease is not None:
            active.phase = Phase.RUNNING
            actions.append(StartCall(active.call, active.held, active.attempt, active.lease))

    def _tick_one(self, active: Execution, now: float, actions: list[Action]) -> None:
        self._start_if_due(active, now, actions)
        if active.phase is Phase.REPORTING:
            if active.report is not None and active.retry_report_at is not None and now >= active.retry_report_at:
                active.retry_report_at = None
                actions.append(SendReport(active.call, active.report))
        elif active.question is not None:
            if now >= active.last_sent + self.terms.resend_after:
                active.last_sent = now
                actions.append(Ask(active.question))
        elif now >= active.renew_at:
            active.question = self._question(active.held, renews=active.attempt)
            active.first_sent = active.last_sent = now
            actions.append(Ask(active.question))

    def _due(self, active: Execution) -> Iterator[float]:
        if active.phase is Phase.REPORTING:
            if active.retry_report_at is not None:
                yield active.retry_report_at
            return
        if active.phase is Phase.WAITING:
            yield active.start_at
        yield active.last_sent + self.terms.resend_after if active.question is not None else active.renew_at

    def _revoke(self, active: Execution, actions: list[Action]) -> None:
        if active.lease is not None:
            active.lease.revoked = True
        if active.phase is Phase.RUNNING:
            self._revoked[active.call] = active.held.command.operation
            actions.append(LeaseChanged(active.call))

    def _let_go(self, queue: KeyQueue, active: Execution, actions: list[Action]) -> None:
        """A superseded worker acknowledges everything it holds of the instance."""
        self._revoke(active, actions)
        queue.active = None
        actions.append(Acknowledge(active.held))
        actions.extend(Acknowledge(held) for held in queue.held)
        queue.held.clear()


def _lives(active: Execution, now: float) -> bool:
    """Whether an execution may still come to its end: it is asked for, reported, or under a lease that has not run out.

    A burst of copies (of a sweep over a long queue, of a flap) must not use up an operation's grants.
    """
    if active.lease is None or active.phase is Phase.REPORTING:
        return True
    return not active.lease.revoked and active.lease.ends > now
