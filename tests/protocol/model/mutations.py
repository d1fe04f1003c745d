"""The parts of the protocol with one thing taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from federation.protocol import answer_table
from federation.protocol.answer_table import TABLE, Case, Decision, Row
from federation.protocol.envelope import Answer, Report
from federation.protocol.lease import Lease, LeaseTerms, Leave, Stamp
from federation.protocol.ledger import Dropped, KeyFacts, OperationFacts, Settlement, settle
from federation.protocol.publishing import KeyLine, PublisherCore, Unsent
from federation.protocol.worker_actions import Acknowledge, Action, Ask, Held
from federation.protocol.worker_core import Execution, KeyQueue, Phase, WorkerCore

from .parts import LEASE, Parts
from .state import KEY

# The answer table


def row(number: int) -> Parts:
    """A manager whose table lacks a row."""
    return Parts(answer=_answer_by(tuple(one for one in TABLE if one.number != number)))


def the_wait(change: Callable[[float], float]) -> Parts:
    """A manager whose row 7 answers another wait."""

    def decide(case: Case) -> Decision:
        decision = TABLE[6].decide(case)
        wait = change(decision.answer.wait_seconds)
        return replace(
            decision,
            operation=replace(decision.operation, granted_wait=wait),
            answer=_amended(decision.answer, wait_seconds=wait),
        )

    return Parts(answer=_answer_by(tuple(replace(r, decide=decide) if r.number == 7 else r for r in TABLE)))


def _answer_by(table: tuple[Row, ...]) -> Callable[[Case], Decision]:
    return lambda case: answer_table.answer(case, table)


def _amended(answer: Answer, **changes: object) -> Answer:
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
    return Answer(**{**fields, **changes})


def attempt_check_on_renewals(case: Case) -> Decision:
    """Renewals without looking at the attempt."""
    question = case.question
    if question.renews is not None and case.operation.attempt:
        fields = {name: getattr(question, name) for name in question.__struct_fields__}
        fields["renews"] = case.operation.attempt
        case = replace(case, question=type(question)(**fields))
    return answer_table.answer(case)


def revocation_by_parking(case: Case) -> Decision:
    """Renewals without looking whether the instance is parked, or its operation settled by parking."""
    if case.question.renews is None or case.key.parked_by is None:
        return answer_table.answer(case)
    operation = replace(case.operation, settled=False, attempt=case.question.renews)
    decision = answer_table.answer(replace(case, key=replace(case.key, parked_by=None), operation=operation))
    return replace(decision, key=case.key, operation=case.operation)


def memory_of_questions(case: Case) -> Decision:
    """The same question is answered as if it were new."""
    return answer_table.answer(replace(case, operation=replace(case.operation, granted_question=None)))


# The ledger


def attempt_check_on_outcomes(
    key: KeyFacts, operation: OperationFacts, report: Report, now: Stamp
) -> Settlement | Dropped:
    """Outcomes of every attempt count."""
    if operation.settled or key.parked_by is not None or operation.sequence != key.position + 1:
        return Dropped("the operation is settled already")
    return settle(key, operation, report.outcome, now)


def wait_before_resolve(_key: KeyFacts, _now: Stamp, _terms: LeaseTerms) -> float:
    """An operator need not wait for the lease of what was parked."""
    return 0.0


# Leases


class GuardWithoutMargin(Lease):
    """A guard that lets a call through up to the end of the lease."""

    def leave(self, now: float) -> Leave:
        """As the real one, but without the margin."""
        leave = super().leave(now)
        return Leave.GO if leave is Leave.WAIT and self.ends >= now else leave


def margins(*, guard: bool, wait: bool) -> Parts:
    """Under terms whose margin (2) is more than the reach (1): the rest of it pays for clocks."""
    terms = LeaseTerms(lease=6.0, margin=2.0)
    parts = the_wait(lambda w: max(0.0, w - terms.margin)) if wait else Parts()
    return replace(parts, lease=GuardWithoutMargin if guard else Lease).with_terms(terms)


# The worker


class _Trusting(WorkerCore):
    """Runs what the broker delivers, and asks nobody."""

    trust_delivery_count = False

    def _ask_next(self, now: float) -> list[Action]:
        actions = super()._ask_next(now)
        for active in list(self._active()):
            if active.phase is Phase.ASKING and active.question is not None:
                asked = active.question
                attempt = asked.delivery_count + 1 if self.trust_delivery_count else 1
                actions = [a for a in actions if not isinstance(a, Ask)]
                active.question = None
                grant = Answer(
                    question=asked.id,
                    operation="",
                    key=KEY,
                    verdict="grant",
                    attempt=attempt,
                    lease_seconds=LEASE.lease,
                )
                self._granted(active, grant, now, now, actions)
        return actions

    def _tick_one(self, active: Execution, now: float, actions: list[Action]) -> None:
        if active.lease is not None:
            active.lease.extend(now)
            active.renew_at = now + 1
        super()._tick_one(active, now, actions)


class TrustsTheBroker(_Trusting):
    """Exclusive delivery is taken for exclusion."""


class TrustsTheDeliveryCount(_Trusting):
    """What was delivered before is recovered, what was not is executed."""

    trust_delivery_count = True


class LeaseFromTheAnswer(WorkerCore):
    """The lease counts from when the answer arrived."""

    def answered(self, answer: Answer, now: float) -> list[Action]:
        for active in self._active():
            active.first_sent = now
        return super().answered(answer, now)


class LeaseFromTheLastSending(WorkerCore):
    """The lease counts from the last sending of the question."""

    def _tick_one(self, active: Execution, now: float, actions: list[Action]) -> None:
        super()._tick_one(active, now, actions)
        if active.question is not None:
            active.first_sent = active.last_sent


class AcknowledgesEarly(WorkerCore):
    """The delivery is acknowledged when the report is sent, not when it is confirmed."""

    def call_ended(self, call: int, outcome: object, now: float) -> list[Action]:
        active = self._find(call)
        actions = super().call_ended(call, outcome, now)  # type: ignore[arg-type]
        if active is not None and active.phase is Phase.REPORTING:
            actions.append(Acknowledge(active.held))
            active.held = replace(active.held, handle=False)
        return actions


class AsksWithoutRevoking(WorkerCore):
    """Rule 5 without the revocation: the older call goes on while the question is asked."""

    def deliver(self, held: Held, now: float) -> list[Action]:
        self._keep = True
        try:
            return super().deliver(held, now)
        finally:
            self._keep = False

    def _revoke(self, active: Execution, actions: list[Action]) -> None:
        if not getattr(self, "_keep", False):
            super()._revoke(active, actions)


class KeepsRunningWhenReceivedAgain(WorkerCore):
    """Rule 5 without its second half: what is received again waits behind itself, however long."""

    def deliver(self, held: Held, now: float) -> list[Action]:
        queue = self._keys.setdefault(held.command.key, KeyQueue())
        queue.held.append(held)
        self._enqueue(held.command.key, queue)
        return self._ask_next(now)


class RevokesAtOnce(WorkerCore):
    """Rule 5 without its first half: what is received again is revoked, however long its lease still lives."""

    def deliver(self, held: Held, now: float) -> list[Action]:
        queue = self._keys.get(held.command.key)
        active = queue.active if queue is not None else None
        actions: list[Action] = []
        if queue is not None and active is not None and active.held.command.operation == held.command.operation:
            self._revoke(active, actions)
            queue.active = None
            actions.append(Acknowledge(active.held))
            queue.held.appendleft(held)
            self._enqueue(held.command.key, queue)
            return actions + self._ask_next(now)
        return super().deliver(held, now)


class KeepsRunningWhenLost(WorkerCore):
    """Rule 6 without the revocation."""

    def lost(self, partition: int | None, now: float) -> list[Action]:
        self._keep = True
        try:
            return super().lost(partition, now)
        finally:
            self._keep = False

    def _revoke(self, active: Execution, actions: list[Action]) -> None:
        if not getattr(self, "_keep", False):
            super()._revoke(active, actions)


class StartsWithoutWaiting(WorkerCore):
    """The wait of a grant is not waited."""

    def answered(self, answer: Answer, now: float) -> list[Action]:
        return super().answered(_amended(answer, wait_seconds=0.0), now)


# The publisher


class SendsAheadOfConfirms(PublisherCore):
    """Everything that waits is sent at once, whatever is in flight or has failed."""

    def failed(self, key: str, sequence: int, round_: int) -> Unsent | None:
        super().failed(key, sequence, round_)
        line = self._lines.setdefault(key, KeyLine())
        if sequence not in line.waiting:
            line.blocked_by = sequence
        return Unsent("", sequence, round_)

    def _next(self, key: str, line: KeyLine) -> list[Unsent]:
        sends = [line.waiting.pop(sequence) for sequence in sorted(line.waiting)]
        if sends:
            line.in_flight = sends[-1]
        elif line.in_flight is None and line.blocked_by is None:
            del self._lines[key]
        return sends
