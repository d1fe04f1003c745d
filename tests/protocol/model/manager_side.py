"""The manager in the model: the real answer table, ledger and publisher over frozen facts, each move remembered."""

from __future__ import annotations

from typing import NamedTuple

from federation.protocol import ledger
from federation.protocol.answer_table import Case, refused_unasked
from federation.protocol.envelope import Question, Report
from federation.protocol.lease import Stamp
from federation.protocol.ledger import Dropped, KeyFacts, OperationFacts, resolve, settle
from federation.protocol.publishing import KeyLine, PublisherCore, Unsent

from .parts import BASE, OUTCOMES, Parts, operation_id, sequence_of
from .state import FOREIGN, KEY, NEVER, Asked, KeyState, OperationState, PublisherState, Reported

NOW = Stamp("this manager", BASE)
WALL_CLOCK = 1.0


class Handled(NamedTuple):
    """What a transaction wrote and what is answered; ``parks_next`` asks to settle position + 1 as unknown."""

    key: KeyState
    operation: OperationState
    verdict: str = ""
    attempt: int = 0
    wait: int = 0
    cancel: bool = False
    settled: str = ""
    republish: bool = False
    parks_next: bool = False
    row: int = 0


def handle_question(key: KeyState, operation: OperationState, asked: Asked, parts: Parts) -> Handled:
    """The real answer to a question."""
    question = Question(
        id=_id((asked.worker, asked.number)),
        worker=str(asked.worker),
        cluster="c",
        partition=0,
        operation=operation_id(asked.sequence),
        key=KEY,
        sequence=asked.sequence,
        round=asked.round,
        delivery_count=asked.deliveries,
        renews=asked.renews or None,
    )
    facts = _operation_facts(operation, asked.sequence)
    decision = parts.answer(Case(question, _key_facts(key), facts, NOW, WALL_CLOCK, parts.limits))
    key_after, operation_after = decision.key, decision.operation
    settled = ""
    if decision.settles is not None:
        moved = settle(key_after, operation_after, decision.settles, NOW)
        key_after, operation_after, settled = moved.key, moved.operation, decision.settles.kind.value
    answer = decision.answer
    return Handled(
        _key_state(key_after),
        _operation_state(operation_after, settled or operation.outcome),
        answer.verdict,
        answer.attempt,
        round(answer.wait_seconds),
        answer.cancel,
        settled,
        decision.republish,
        decision.parks_next is not None,
        decision.row,
    )


def handle_report(key: KeyState, operation: OperationState, reported: Reported, parts: Parts) -> Handled:
    """The real application of an outcome."""
    report = Report(
        worker=str(reported.worker),
        cluster="c",
        partition=0,
        operation=operation_id(reported.sequence),
        key=KEY,
        sequence=reported.sequence,
        attempt=reported.attempt,
        outcome=OUTCOMES[reported.kind],
    )
    applied = parts.apply_report(_key_facts(key), _operation_facts(operation, reported.sequence), report, NOW)
    if isinstance(applied, Dropped):
        return Handled(key, operation)
    after = _operation_state(applied.operation, reported.kind)
    return Handled(_key_state(applied.key), after, settled=reported.kind)


def settle_unknown(key: KeyState, operation: OperationState, _parts: Parts) -> Handled:
    """The real settling of a dead letter, or of what never arrives."""
    facts = _operation_facts(operation, key.position + 1)
    applied = settle(_key_facts(key), facts, OUTCOMES["unknown"], NOW)
    return Handled(_key_state(applied.key), _operation_state(applied.operation, "unknown"), settled="unknown")


def refuse_unasked(key: KeyState, operation: OperationState, sequence: int, _parts: Parts) -> Handled:
    """The real refusal of what was cancelled or is late while no worker asks; nothing is settled where there is none."""
    key_facts, facts = _key_facts(key), _operation_facts(operation, sequence)
    refusal = refused_unasked(key_facts, facts, WALL_CLOCK)
    if refusal is None:
        return Handled(key, operation)
    applied = settle(key_facts, facts, refusal, NOW)
    kind = refusal.kind.value
    return Handled(_key_state(applied.key), _operation_state(applied.operation, kind), settled=kind)


def wait_before_resolve(key: KeyState, parts: Parts) -> int:
    """Ticks until an operator may decide."""
    return round(parts.wait_before_resolve(_key_facts(key), NOW, parts.limits.terms))


def restamped(key: KeyState) -> KeyState:
    """The real reading of a foreign stamp on this clock."""
    return _key_state(ledger.restamped(_key_facts(key), NOW))


def resolved(key: KeyState, last_sequence: int) -> KeyState:
    """The real resolving."""
    return _key_state(resolve(_key_facts(key), last_sequence))


def publish(
    state: PublisherState, event: str, sequence: int, round_: int, parts: Parts
) -> tuple[PublisherState, tuple[tuple[int, int], ...]]:
    """Move the real publisher core once: its memory after it, and the copies to send."""
    core = parts.publisher()
    if state != PublisherState():
        line = core._lines[KEY] = KeyLine()
        line.waiting = {s: _unsent(s, r) for s, r in state.waiting}
        line.in_flight = _unsent(*state.in_flight) if state.in_flight is not None else None
        line.blocked_by = state.blocked_by or None
    if event == "accepted":
        sends = core.accepted(KEY, _unsent(sequence, round_))
    elif event == "confirmed":
        sends = core.confirmed(KEY, sequence, round_)
    elif event == "settled":
        sends = core.settled(KEY, sequence)
    else:
        core.failed(KEY, sequence, round_)
        sends = core.pending(KEY)
    return _publisher_state(core), tuple((u.sequence, u.round) for u in sends)


def _publisher_state(core: PublisherCore) -> PublisherState:
    line = core._lines.get(KEY)
    if line is None:
        return PublisherState()
    waiting = tuple(sorted((s, u.round) for s, u in line.waiting.items()))
    in_flight = (line.in_flight.sequence, line.in_flight.round) if line.in_flight is not None else None
    return PublisherState(waiting, in_flight, line.blocked_by or 0)


def _unsent(sequence: int, round_: int) -> Unsent:
    return Unsent(operation_id(sequence), sequence, round_)


def _id(question: tuple[int, int]) -> str:
    return f"{question[0]}.{question[1]}"


def _stamp(age: int) -> Stamp | None:
    if age == NEVER:
        return None
    return Stamp("another manager", 0.0) if age == FOREIGN else Stamp(NOW.clock, BASE - age)


def _age(stamp: Stamp | None) -> int:
    if stamp is None:
        return NEVER
    return round(BASE - stamp.seconds) if stamp.clock == NOW.clock else FOREIGN


def _key_facts(key: KeyState) -> KeyFacts:
    parked_by = operation_id(key.parked_by) if key.parked_by else None
    return KeyFacts(KEY, key.position, parked_by, _stamp(key.parked_age), key.gap_rounds)


def _key_state(facts: KeyFacts) -> KeyState:
    parked_by = sequence_of(facts.parked_by) if facts.parked_by else 0
    return KeyState(facts.position, parked_by, _age(facts.parked_at), facts.gap_rounds)


def _operation_facts(operation: OperationState, sequence: int) -> OperationFacts:
    return OperationFacts(
        id=operation_id(sequence),
        key=KEY,
        sequence=sequence,
        round=operation.round,
        settled=bool(operation.outcome),
        deadline=0.0 if operation.overdue else None,
        cancel_requested=operation.cancel,
        attempt=operation.attempt,
        granted_copy=operation.copy,
        granted_question=_id(operation.question) if operation.question is not None else None,
        granted_wait=float(operation.wait),
        last_answer=_stamp(operation.answered_age),
    )


def _operation_state(facts: OperationFacts, outcome: str) -> OperationState:
    if outcome:
        return OperationState(outcome)
    question = None
    if facts.granted_question is not None:
        worker, number = facts.granted_question.split(".")
        question = int(worker), int(number)
    return OperationState(
        "",
        facts.round,
        facts.deadline is not None,
        facts.cancel_requested,
        facts.attempt,
        facts.granted_copy,
        question,
        round(facts.granted_wait),
        _age(facts.last_answer),
    )
