"""The answer table: every row, their order, and what holds of every answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from federation.contract.outcomes import OutcomeKind
from federation.protocol.answer_table import TABLE, Case, Limits, answer, refused_unasked
from federation.protocol.envelope import Question
from federation.protocol.lease import LeaseTerms, Stamp
from federation.protocol.ledger import KeyFacts, OperationFacts, settle

LIMITS = Limits(grants=5, gap_rounds=8, terms=LeaseTerms(lease=6.0, margin=1.0))
NOW = Stamp("clock", 100.0)


def case(
    *,
    key: dict[str, Any] | None = None,
    operation: dict[str, Any] | None = None,
    question: dict[str, Any] | None = None,
    wall_clock: float = 50.0,
) -> Case:
    """An ordinary question for operation 5 at position 4, with changes."""
    asked = {"id": "q", "worker": "w", "cluster": "c", "partition": 0, "operation": "op5", "key": "k", "sequence": 5}
    return Case(
        question=Question(**{**asked, "round": 1, "delivery_count": 0, **(question or {})}),
        key=KeyFacts(**{"key": "k", "position": 4, **(key or {})}),
        operation=OperationFacts(**{"id": "op5", "key": "k", "sequence": 5, **(operation or {})}),
        now=NOW,
        wall_clock=wall_clock,
        limits=LIMITS,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any facts at all, also such as no history leads to."""
    small = st.integers(0, 6)
    copies = st.tuples(st.integers(1, 3), st.integers(0, 3))
    stamps = st.builds(Stamp, st.sampled_from(["clock", "other"]), st.floats(0, 100))
    round_, deliveries = draw(copies)
    sequence = draw(st.integers(1, 6))
    return Case(
        Question(
            id=draw(st.sampled_from(["q1", "q2"])),
            worker="w",
            cluster="c",
            partition=0,
            operation="op",
            key="k",
            sequence=sequence,
            round=round_,
            delivery_count=deliveries,
            renews=draw(st.none() | small),
        ),
        KeyFacts("k", draw(small), draw(st.none() | st.just("op9")), draw(st.none() | stamps), draw(st.integers(0, 9))),
        OperationFacts(
            id="op",
            key="k",
            sequence=sequence,
            round=draw(st.integers(1, 3)),
            settled=draw(st.booleans()),
            deadline=draw(st.none() | st.floats(0, 100)),
            cancel_requested=draw(st.booleans()),
            attempt=draw(small),
            granted_copy=draw(st.none() | copies),
            granted_question=draw(st.none() | st.sampled_from(["q1", "q2"])),
            granted_wait=draw(st.floats(0, 7)),
            last_answer=draw(st.none() | stamps),
        ),
        NOW,
        draw(st.floats(0, 100)),
        LIMITS,
    )


# The rows


def test_row_1_what_is_settled_is_told_so() -> None:
    for position in (5, 6):
        decision = answer(case(key={"position": position}))
        assert (decision.row, decision.answer.verdict) == (1, "settled")


def test_row_2_nothing_runs_on_a_parked_instance_and_the_answer_names_what_parked_it() -> None:
    decision = answer(case(key={"parked_by": "op4"}))
    assert (decision.row, decision.answer.verdict) == (2, "parked")
    assert "op4" in decision.answer.reason


def test_row_3_a_gap_is_published_again_in_a_new_round_and_counted() -> None:
    decision = answer(case(key={"position": 2, "gap_rounds": 1}))
    assert (decision.row, decision.answer.verdict, decision.republish) == (3, "gap", True)
    assert decision.key.gap_rounds == 2


def test_row_3_a_copy_of_an_older_round_publishes_nothing() -> None:
    decision = answer(case(key={"position": 2}, operation={"round": 2}))
    assert (decision.row, decision.republish, decision.key.gap_rounds) == (3, False, 0)


def test_row_3_after_too_many_rounds_the_operation_that_never_arrives_parks_the_instance() -> None:
    decision = answer(case(key={"position": 2, "gap_rounds": LIMITS.gap_rounds}))
    assert not decision.republish
    assert decision.parks_next is not None
    assert (decision.parks_next.kind, decision.parks_next.code) == (OutcomeKind.UNKNOWN, "dead_lettered")
    assert decision.settles is None, "it is not the operation asked about that is settled"


@pytest.mark.parametrize(("granted", "stale"), [((1, 0), False), ((1, 1), True), ((2, 0), True)])
def test_row_4_a_copy_below_the_last_granted_one_is_stale(granted: tuple[int, int], stale: bool) -> None:  # noqa: FBT001
    decision = answer(case(operation={"attempt": 1, "granted_copy": granted, "last_answer": NOW}))
    assert (decision.answer.verdict == "stale") == stale
    assert decision.row == (4 if stale else 7)


def test_row_5_what_was_granted_too_often_parks_the_instance() -> None:
    decision = answer(case(operation={"attempt": LIMITS.grants, "granted_copy": (1, 0)}))
    assert (decision.row, decision.answer.verdict) == (5, "poison")
    assert decision.settles is not None
    assert (decision.settles.kind, decision.settles.code) == (OutcomeKind.UNKNOWN, "poison")


@pytest.mark.parametrize(
    ("facts", "code"),
    [({"cancel_requested": True}, "cancelled"), ({"deadline": 50.0}, "deadline_passed")],
)
def test_row_6_what_is_cancelled_or_late_before_it_starts_is_refused(facts: dict[str, Any], code: str) -> None:
    decision = answer(case(operation=facts))
    assert (decision.row, decision.answer.verdict) == (6, "refused")
    assert decision.settles is not None
    assert (decision.settles.kind, decision.settles.code) == (OutcomeKind.REFUSED, code)


def test_row_6_a_deadline_that_is_still_to_come_refuses_nothing() -> None:
    assert answer(case(operation={"deadline": 50.1})).row == 8


def test_row_7_an_operation_granted_before_is_granted_again_with_the_wait_that_remains() -> None:
    facts = {"attempt": 1, "granted_copy": (1, 0), "last_answer": Stamp("clock", 97.0), "worker": "old"}
    decision = answer(case(operation=facts, question={"delivery_count": 1}))
    assert decision.row == 7
    assert (decision.answer.attempt, decision.answer.wait_seconds, decision.answer.lease_seconds) == (2, 4.0, 6.0)
    assert decision.operation == OperationFacts(
        id="op5",
        key="k",
        sequence=5,
        attempt=2,
        granted_copy=(1, 1),
        granted_question="q",
        granted_wait=4.0,
        worker="w",
        last_answer=NOW,
    )


def test_row_7_tells_a_recovering_worker_of_a_cancellation_and_refuses_nothing() -> None:
    facts = {"attempt": 1, "granted_copy": (1, 0), "last_answer": NOW, "cancel_requested": True, "deadline": 1.0}
    decision = answer(case(operation=facts))
    assert (decision.row, decision.answer.verdict, decision.answer.cancel) == (7, "grant", True)


def test_row_8_what_is_next_is_granted_at_once() -> None:
    decision = answer(case())
    assert decision.row == 8
    assert (decision.answer.attempt, decision.answer.wait_seconds) == (1, 0.0)
    assert decision.operation.granted_copy == (1, 0)


@given(cases())
@settings(max_examples=500)
def test_row_6_decides_unasked_exactly_what_it_would_answer_to_any_worker(asked: Case) -> None:
    """Whichever copy a worker held: nothing was granted, so none can be stale."""
    fresh = replace(asked.operation, granted_question=None)
    if fresh.attempt == 0:
        fresh = replace(fresh, granted_copy=None)
    decision = answer(replace(asked, operation=fresh, question=structs.replace(asked.question, renews=None)))
    expected = decision.settles if decision.row == 6 and not fresh.settled else None
    assert refused_unasked(asked.key, fresh, asked.wall_clock) == expected


# Questions that come again, and renewals


def test_the_same_question_gets_the_same_grant_again() -> None:
    first = answer(case())
    again = answer(replace(case(), key=first.key, operation=first.operation, now=Stamp("other manager", 7.0)))
    assert again.answer == first.answer
    assert (again.key, again.operation) == (first.key, first.operation)


def test_the_same_question_of_a_superseded_attempt_gets_no_grant_of_it() -> None:
    first = answer(case())
    newer = answer(replace(case(question={"id": "q2", "delivery_count": 1}), operation=first.operation))
    again = answer(replace(case(), operation=newer.operation))
    assert again.answer.verdict == "stale"


def test_a_renewal_of_the_newest_attempt_is_granted_and_dated() -> None:
    facts = {"attempt": 2, "last_answer": Stamp("clock", 90.0), "cancel_requested": True}
    decision = answer(case(operation=facts, question={"renews": 2}))
    assert (decision.answer.verdict, decision.answer.attempt, decision.answer.cancel) == ("renewed", 2, True)
    assert decision.operation.last_answer == NOW


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": {"attempt": 3}},
        {"operation": {"attempt": 2, "settled": True}},
        {"operation": {"attempt": 2}, "key": {"parked_by": "op4"}},
    ],
    ids=["superseded", "settled", "parked"],
)
def test_any_other_renewal_is_refused_and_changes_nothing(changes: dict[str, Any]) -> None:
    asked = case(question={"renews": 2}, **changes)
    decision = answer(asked)
    assert decision.answer.verdict == "revoked"
    assert (decision.key, decision.operation) == (asked.key, asked.operation)


def test_a_renewal_of_what_was_never_granted_is_refused() -> None:
    assert answer(case(question={"renews": 0})).answer.verdict == "revoked"


# Every answer


def test_the_rows_are_numbered_as_in_the_design_and_the_last_one_always_holds() -> None:
    assert [row.number for row in TABLE] == list(range(1, 9))


@given(cases())
@settings(max_examples=500)
def test_exactly_the_first_row_that_holds_decides(asked: Case) -> None:
    decision = answer(asked)
    if decision.row == 0:
        return
    assert decision.row == next(row.number for row in TABLE if row.holds(asked))
    assert decision.answer.verdict == TABLE[decision.row - 1].verdict
    others = [row for row in TABLE if row.number != decision.row]
    assert all(row.number > decision.row for row in others if row.holds(asked))


@given(cases())
@settings(max_examples=500)
def test_every_answer_is_to_its_question_and_every_grant_is_written(asked: Case) -> None:
    decision = answer(asked)
    assert (decision.answer.question, decision.answer.key) == (asked.question.id, "k")
    if decision.answer.verdict == "grant":
        assert asked.key.parked_by is None
        assert decision.operation.attempt == decision.answer.attempt
        assert decision.operation.granted_question == asked.question.id
        assert 0 <= decision.answer.wait_seconds <= 7.0


@given(cases())
@settings(max_examples=500)
def test_only_the_next_operation_of_an_unparked_key_is_ever_granted_anew(asked: Case) -> None:
    decision = answer(asked)
    if decision.row in {7, 8}:
        assert asked.operation.sequence == asked.key.position + 1
        assert asked.operation.attempt < LIMITS.grants
        assert decision.operation.attempt == asked.operation.attempt + 1


@given(cases())
@settings(max_examples=500)
def test_what_an_answer_settles_can_be_settled(asked: Case) -> None:
    decision = answer(asked)
    if decision.settles is not None:
        assert settle(decision.key, decision.operation, decision.settles, NOW).key.position == asked.operation.sequence
    if decision.answer.verdict not in {"grant", "renewed"}:
        assert decision.operation == asked.operation, "facts change by granting, renewing and settling only"
