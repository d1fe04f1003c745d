"""What the manager answers to a worker's question: the table of DESIGN §6.3, first match wins.

The rows are data, so that the page in the documentation is drawn from them and a test can take one away and watch the
history checker object.  Nothing here does I/O: facts in, a decision out; the store writes it in the transaction that
read the facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from federation.contract.errors import Cancelled, DeadLettered, DeadlinePassed, Poison
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Question, Verdict
from federation.protocol.lease import LeaseTerms, Stamp, remaining_wait
from federation.protocol.ledger import KeyFacts, OperationFacts

_TERMS = LeaseTerms()


@dataclass(frozen=True, slots=True)
class Limits:
    """``grants`` (K) is how often an operation may be granted; ``gap_rounds`` (R) how often a gap is republished."""

    grants: int = 5
    gap_rounds: int = 8
    terms: LeaseTerms = _TERMS


@dataclass(frozen=True, slots=True)
class Case:
    """All that an answer depends on."""

    question: Question
    key: KeyFacts
    operation: OperationFacts
    now: Stamp
    wall_clock: float
    limits: Limits

    @property
    def copy(self) -> tuple[int, int]:
        """Which copy, and which delivery of it, the worker holds."""
        return self.question.round, self.question.delivery_count

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        deadline = self.operation.deadline
        return deadline is not None and self.wall_clock >= deadline


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and what has to be written before it is sent.

    ``republish`` asks for all unsettled operations of the key, in order, in a new round.  ``dead`` is the sequence
    of the operation that parks the key when it is not the one asked about.
    """

    answer: Answer
    key: KeyFacts
    operation: OperationFacts
    settles: Outcome | None = None
    republish: bool = False
    parks_next: Outcome | None = None
    row: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number in DESIGN §6.3, when it holds, what is answered and what the worker does then."""

    number: int
    condition: str
    verdict: Verdict
    worker: str
    holds: Callable[[Case], bool]
    decide: Callable[[Case], Decision]


def _say(case: Case, verdict: Verdict, reason: str) -> Decision:
    q = case.question
    answer = Answer(question=q.id, operation=q.operation, key=q.key, verdict=verdict, reason=reason)
    return Decision(answer, case.key, case.operation)


def _settled(case: Case) -> Decision:
    return _say(case, "settled", f"position is {case.key.position}")


def _parked(case: Case) -> Decision:
    return _say(case, "parked", f"parked by operation {case.key.parked_by}")


def _gap(case: Case) -> Decision:
    expected = case.key.position + 1
    decision = _say(case, "gap", f"operation {expected} of the key comes first")
    if case.question.round != case.operation.round:
        return decision
    if case.key.gap_rounds >= case.limits.gap_rounds:
        message = f"no copy of it arrived in {case.key.gap_rounds} rounds of publishing"
        outcome = Outcome(kind=OutcomeKind.UNKNOWN, code=DeadLettered.code, message=message)
        return replace(decision, parks_next=outcome)
    return replace(decision, republish=True, key=replace(case.key, gap_rounds=case.key.gap_rounds + 1))


def _stale(case: Case) -> Decision:
    return _say(case, "stale", f"a later copy or delivery was granted attempt {case.operation.attempt}")


def _poison(case: Case) -> Decision:
    message = f"it was granted {case.operation.attempt} times and never ended"
    decision = _say(case, "poison", message)
    return replace(decision, settles=Outcome(kind=OutcomeKind.UNKNOWN, code=Poison.code, message=message))


def _refused(case: Case) -> Decision:
    refusal = _refusal(case.operation)
    return replace(_say(case, "refused", refusal.message), settles=refusal)


def _refusal(operation: OperationFacts) -> Outcome:
    if operation.cancel_requested:
        return Outcome(kind=OutcomeKind.REFUSED, code=Cancelled.code, message="it was cancelled before it started")
    message = "the deadline passed before a worker started it"
    return Outcome(kind=OutcomeKind.REFUSED, code=DeadlinePassed.code, message=message)


def refused_unasked(key: KeyFacts, operation: OperationFacts, wall_clock: float) -> Outcome | None:
    """Row 6 where no worker is there to ask: the refusal of what was never granted and may not start any more.

    None when another row would answer the question of a worker; which copy it held does not matter, because nothing was
    granted.
    """
    overdue = operation.deadline is not None and wall_clock >= operation.deadline
    if operation.settled or key.parked_by is not None or operation.sequence != key.position + 1:
        return None
    return _refusal(operation) if operation.attempt == 0 and (operation.cancel_requested or overdue) else None


def _grant(case: Case, wait: float) -> Decision:
    operation = replace(
        case.operation,
        attempt=case.operation.attempt + 1,
        granted_copy=case.copy,
        granted_question=case.question.id,
        granted_wait=wait,
        worker=case.question.worker,
        last_answer=case.now,
    )
    return Decision(_grant_answer(case, operation), case.key, operation)


def _grant_answer(case: Case, operation: OperationFacts) -> Answer:
    return Answer(
        question=case.question.id,
        operation=operation.id,
        key=operation.key,
        verdict="grant",
        attempt=operation.attempt,
        wait_seconds=operation.granted_wait,
        lease_seconds=case.limits.terms.lease,
        cancel=operation.cancel_requested,
    )


def _grant_again(case: Case) -> Decision:
    return _grant(case, remaining_wait(case.operation.last_answer, case.now, case.limits.terms))


def _grant_first(case: Case) -> Decision:
    return _grant(case, 0.0)


TABLE: tuple[Row, ...] = (
    Row(1, "sequence ≤ position", "settled", "acknowledges, reports nothing",
        lambda c: c.operation.sequence <= c.key.position, _settled),
    Row(2, "the instance is parked", "parked", "acknowledges",
        lambda c: c.key.parked_by is not None, _parked),
    Row(3, "sequence > position + 1", "gap", "acknowledges, reports nothing",
        lambda c: c.operation.sequence > c.key.position + 1, _gap),
    Row(4, "(round, delivery count) is below that of the last grant", "stale",
        "acknowledges everything it holds of that instance",
        lambda c: c.operation.granted_copy is not None and c.copy < c.operation.granted_copy, _stale),
    Row(5, "granted K times", "poison", "acknowledges",
        lambda c: c.operation.attempt >= c.limits.grants, _poison),
    Row(6, "never granted, and deadline passed or cancelled", "refused", "acknowledges",
        lambda c: c.operation.attempt == 0 and (c.operation.cancel_requested or c.overdue), _refused),
    Row(7, "an earlier attempt was granted", "grant", "waits, then executes, recovering",
        lambda c: c.operation.attempt > 0, _grant_again),
    Row(8, "otherwise", "grant", "executes", lambda _: True, _grant_first),
)  # fmt: skip
"""The answer table; a manager may not answer otherwise."""


def answer(case: Case, table: tuple[Row, ...] = TABLE) -> Decision:
    """Answer a question; the same question gets the same grant again."""
    operation = case.operation
    if case.question.renews is not None:
        return _renew(case)
    if operation.granted_question == case.question.id and not operation.settled and case.key.parked_by is None:
        return Decision(_grant_answer(case, operation), case.key, operation, row=0)
    for row in table:
        if row.holds(case):
            return replace(row.decide(case), row=row.number)
    message = "no row of the answer table holds; the last one must always hold"
    raise AssertionError(message)


def _renew(case: Case) -> Decision:
    operation = case.operation
    if operation.settled:
        return _say(case, "revoked", "the operation is settled")
    if case.key.parked_by is not None:
        return _say(case, "revoked", f"the instance is parked by operation {case.key.parked_by}")
    if operation.attempt == 0:
        return _say(case, "revoked", "no attempt of it was ever granted")
    if case.question.renews != operation.attempt:
        return _say(case, "revoked", f"attempt {operation.attempt} superseded it")
    operation = replace(operation, last_answer=case.now)
    answer = Answer(
        question=case.question.id,
        operation=operation.id,
        key=operation.key,
        verdict="renewed",
        attempt=operation.attempt,
        lease_seconds=case.limits.terms.lease,
        cancel=operation.cancel_requested,
    )
    return Decision(answer, case.key, operation)
