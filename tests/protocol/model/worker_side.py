"""A worker's process in the model: the real WorkerCore and real Leases, thawed from a state, moved once, frozen again.

Every move is computed once for each local state and remembered: histories that differ only elsewhere share it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from federation.protocol.envelope import Answer, Question, Report
from federation.protocol.lease import Lease, Leave
from federation.protocol.worker_actions import Acknowledge, Action, Ask, Held, SendReport, StartCall
from federation.protocol.worker_core import Execution, KeyQueue, Phase, WorkerCore

from .parts import BASE, OUTCOMES, Parts, command, operation_id
from .state import KEY, NEVER, ActiveState, Answered, CallState, CoreState, Delivery, LeaseState

CURRENT = "current"
"""The id of the question that a thawed process has open."""


class Move(NamedTuple):
    """What one event did to a process.

    ``question`` says whether its newest question is the one it had ("same"), a new one ("new") or none ("").  ``asks`` are
    (is it new, sequence, round, delivery count, renews); ``reports`` (sequence, attempt, kind); ``started`` is the (sequence,
    attempt) of a driver call that began and whose steps are still to be filled in; ``leave`` what a guard was told.
    """

    core: CoreState
    question: str
    asks: tuple[tuple[bool, int, int, int, int], ...] = ()
    acks: tuple[Delivery, ...] = ()
    reports: tuple[tuple[int, int, str], ...] = ()
    started: tuple[int, int] | None = None
    leave: Leave | None = None


@dataclass(slots=True)
class _Call:
    sequence: int
    attempt: int
    steps: tuple[int, ...]
    guarded: int
    lease: Lease
    undoing: bool


def move(state: CoreState, event: tuple[Any, ...], parts: Parts, elapsed: int = 0) -> Move:
    """Thaw, let ``event`` (the name of a method below and its arguments) happen, freeze."""
    process = _Process(state, parts, elapsed)
    leave = getattr(process, event[0])(*event[1:])
    process.end_revoked_calls()
    return process.freeze(leave)


class _Process:
    """A thawed worker; its public methods are the events."""

    def __init__(self, state: CoreState, parts: Parts, elapsed: int) -> None:
        self.now = BASE + elapsed
        self._parts = parts
        self._fresh = 0
        self._actions: list[Action] = []
        self._core: WorkerCore = parts.core("w", parts.worker_terms, self._new_id)
        lease = self._lease(state.active.lease) if state.active is not None and state.active.lease else None
        self._calls: dict[int, _Call] = {}
        for number, call in enumerate(state.calls, start=1):
            guarded = call.guarded if call.guarded == NEVER else call.guarded + elapsed
            own = self._lease(call.lease) if call.lease is not None else lease
            assert own is not None
            self._calls[number] = _Call(call.sequence, call.attempt, call.steps, guarded, own, call.undoing)
            if own.revoked:
                self._core._revoked[number] = operation_id(call.sequence)
        self._core._calls = len(state.calls)
        if state.active is not None or state.held:
            queue = self._core._keys[KEY] = KeyQueue(deque(_held(d) for d in state.held))
            if state.active is not None:
                queue.active = self._execution(state.active, lease)
            else:
                self._core._ready.append(KEY)

    # Events

    def tick(self) -> None:
        """The clock moved and the process notices."""
        self._actions += self._core.tick(self.now)

    def age(self) -> None:
        """The clock moved and the process does not run."""

    def stand(self) -> None:
        """Time passes and this process's clock does not notice."""
        for call in self._calls.values():
            if call.guarded != NEVER:
                call.guarded += 1

    def deliver(self, delivery: Delivery) -> None:
        self._actions += self._core.deliver(_held(delivery), self.now)

    def answer(self, answer: Answered) -> None:
        message = Answer(
            question=CURRENT,
            operation="",
            key=KEY,
            verdict=answer.verdict,  # type: ignore[arg-type]
            attempt=answer.attempt,
            wait_seconds=float(answer.wait),
            lease_seconds=self._parts.limits.terms.lease,
            cancel=answer.cancel,
        )
        self._actions += self._core.answered(message, self.now)

    def report_settled(self, confirmed: bool) -> None:  # noqa: FBT001 an event's arguments are positional
        active = self._core._keys[KEY].active
        assert active is not None
        self._actions += self._core.report_settled(active.call, confirmed=confirmed, now=self.now)

    def lost(self, partition: int | None) -> None:
        self._actions += self._core.lost(partition, self.now)

    def guard(self, index: int, undo: tuple[int, ...]) -> Leave:
        """The driver asks its lease; ``undo`` are the steps that it takes back when it is told to cancel."""
        call = self._calls[index + 1]
        leave = call.lease.leave(self.now)
        if leave is Leave.GO:
            call.guarded = 0
        elif leave is Leave.CANCEL:
            call.lease.cancel_told = call.undoing = True
            call.steps = undo
            self._end_if_done(index + 1)
        return leave

    def land(self, index: int, fails: bool, paused: bool) -> None:  # noqa: FBT001
        """The guarded step reached the hypervisor; ``fails``: the driver can make no sense of what came back."""
        call = self._calls[index + 1]
        call.guarded = NEVER
        call.steps = call.steps[1:]
        if not paused:
            self._end_if_done(index + 1, "unknown" if fails else None)

    def fail(self, index: int, undo: tuple[int, ...]) -> None:
        """The hypervisor refuses the guarded step; the driver takes back what was done and fails."""
        call = self._calls[index + 1]
        call.guarded, call.steps, call.undoing = NEVER, undo, True
        self._end_if_done(index + 1)

    def finish(self, index: int) -> None:
        """A call with nothing left to do ends."""
        self._end_if_done(index + 1)

    # How

    def _end_if_done(self, number: int, kind: str | None = None) -> None:
        call = self._calls[number]
        if kind is None and call.steps:
            return
        if call.lease.leave(self.now) is Leave.REVOKED:
            return
        del self._calls[number]
        outcome = OUTCOMES[kind or ("failed" if call.undoing else "succeeded")]
        self._actions += self._core.call_ended(number, outcome, self.now)

    def end_revoked_calls(self) -> None:
        """A driver that waits in a guard is told of a revocation at once; one inside a hypervisor call is not."""
        for number, call in list(self._calls.items()):
            if call.guarded == NEVER and call.lease.leave(self.now) is Leave.REVOKED:
                del self._calls[number]
                self._actions += self._core.call_ended(number, None, self.now)

    def _new_id(self) -> str:
        self._fresh += 1
        return f"fresh{self._fresh}"

    def _lease(self, state: LeaseState) -> Lease:
        terms = self._parts.worker_terms.lease
        return self._parts.lease(terms, BASE + state.ends, state.revoked, state.cancel_requested, state.cancel_told)

    def _execution(self, state: ActiveState, lease: Lease | None) -> Execution:
        phase = Phase(state.phase)
        number = len(self._calls) if phase is Phase.RUNNING else len(self._calls) + 1
        self._core._calls = number
        return Execution(
            call=number,
            held=_held(state.held),
            phase=phase,
            question=_question(state.held, state.asks) if state.asks != NEVER else None,
            first_sent=BASE + state.first_sent,
            last_sent=BASE + state.last_sent,
            attempt=state.attempt,
            start_at=BASE + state.start_at,
            renew_at=BASE + state.renew_at,
            lease=lease,
            report=_report(state) if phase is Phase.REPORTING else None,
            retry_report_at=BASE + state.retry_at if state.retry_at != NEVER else None,
        )

    def freeze(self, leave: Leave | None) -> Move:
        """The process as a state, and what it did."""
        queue = self._core._keys.get(KEY)
        active = queue.active if queue is not None else None
        question = ""
        if active is not None and active.question is not None:
            question = "same" if active.question.id == CURRENT else "new"
        running: list[tuple[int, int]] = []
        asks: list[tuple[bool, int, int, int, int]] = []
        acks: list[Delivery] = []
        reports: list[tuple[int, int, str]] = []
        for action in self._actions:
            if isinstance(action, StartCall):
                sequence = action.held.command.sequence
                self._calls[action.call] = _Call(sequence, action.attempt, (), NEVER, action.lease, undoing=False)
                running.append((sequence, action.attempt))
            elif isinstance(action, Ask):
                q = action.question
                asks.append((q.id != CURRENT, q.sequence, q.round, q.delivery_count, q.renews or 0))
            elif isinstance(action, Acknowledge):
                acks.append(_delivery(action.held))
            elif isinstance(action, SendReport):
                report = action.report
                reports.append((report.sequence, report.attempt, report.outcome.kind.value))
        assert len(running) <= 1
        held = tuple(_delivery(h) for h in queue.held) if queue is not None else ()
        core = CoreState(self._frozen_active(active), held, self._frozen_calls(active))
        return Move(core, question, tuple(asks), tuple(acks), tuple(reports), running[0] if running else None, leave)

    def _frozen_calls(self, active: Execution | None) -> tuple[CallState, ...]:
        own = active.call if active is not None and active.phase is Phase.RUNNING else None
        return tuple(
            CallState(c.sequence, c.attempt, c.steps, c.guarded, None if n == own else self._frozen(c.lease), c.undoing)
            for n, c in sorted(self._calls.items())
        )

    def _frozen(self, lease: Lease) -> LeaseState:
        if lease.revoked:
            return LeaseState(NEVER, revoked=True, cancel_requested=False, cancel_told=False)
        ends = max(NEVER, self._ticks(lease.ends))
        return LeaseState(ends, lease.revoked, lease.cancel_requested, lease.cancel_told)

    def _frozen_active(self, active: Execution | None) -> ActiveState | None:
        if active is None:
            return None
        phase, asking = active.phase, active.question is not None
        leased = active.lease is not None and phase in {Phase.WAITING, Phase.RUNNING}
        oldest = -int(self._parts.worker_terms.lease.lease)
        resend = -int(self._parts.worker_terms.resend_after)
        due = not asking and leased
        retry = active.retry_report_at
        return ActiveState(
            held=_delivery(active.held),
            phase=phase.value,
            asks=(active.question.renews or 0) if active.question is not None else NEVER,
            first_sent=max(oldest, self._ticks(active.first_sent)) if asking else 0,
            last_sent=max(resend, self._ticks(active.last_sent)) if asking else 0,
            attempt=active.attempt,
            start_at=max(0, self._ticks(active.start_at)) if phase is Phase.WAITING else 0,
            renew_at=max(0, self._ticks(active.renew_at)) if due else 0,
            lease=self._frozen(active.lease) if leased and active.lease is not None else None,
            report=active.report.outcome.kind.value if active.report is not None else "",
            retry_at=max(0, self._ticks(retry)) if retry is not None else NEVER,
        )

    def _ticks(self, instant: float) -> int:
        return round(instant - self.now)


def _held(delivery: Delivery) -> Held:
    return Held(command(delivery.sequence, delivery.round), delivery.deliveries, handle=delivery.live)


def _delivery(held: Held) -> Delivery:
    return Delivery(held.command.sequence, held.command.round, held.delivery_count, bool(held.handle))


def _question(delivery: Delivery, renews: int) -> Question:
    return Question(
        id=CURRENT,
        worker="w",
        cluster="c",
        partition=0,
        operation=operation_id(delivery.sequence),
        key=KEY,
        sequence=delivery.sequence,
        round=delivery.round,
        delivery_count=delivery.deliveries,
        renews=renews or None,
    )


def _report(state: ActiveState) -> Report:
    return Report(
        worker="w",
        cluster="c",
        partition=0,
        operation=operation_id(state.held.sequence),
        key=KEY,
        sequence=state.held.sequence,
        attempt=state.attempt,
        outcome=OUTCOMES[state.report],
    )
