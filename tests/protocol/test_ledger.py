"""Settling, applying outcomes, parking and resolving."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Report
from federation.protocol.lease import LeaseTerms, Stamp
from federation.protocol.ledger import (
    Dropped,
    KeyFacts,
    OperationFacts,
    Settlement,
    apply_report,
    refused_by_resolve,
    resolve,
    restamped,
    settle,
    wait_before_resolve,
)

NOW = Stamp("clock", 100.0)
TERMS = LeaseTerms(lease=6.0, margin=1.0)
DONE = Outcome(kind=OutcomeKind.SUCCEEDED, result={})
UNKNOWN = Outcome(kind=OutcomeKind.UNKNOWN, code="driver_bug")
KEY = KeyFacts("k", position=4, gap_rounds=2)
RUNNING = OperationFacts("op5", "k", sequence=5, attempt=2)


def report(attempt: int, outcome: Outcome = DONE) -> Report:
    return Report(
        worker="w", cluster="c", partition=0, operation="op5", key="k", sequence=5, attempt=attempt, outcome=outcome
    )


def test_the_outcome_of_the_current_attempt_moves_the_position_by_one() -> None:
    applied = apply_report(KEY, RUNNING, report(2), NOW)
    assert isinstance(applied, Settlement)
    assert applied.key == KeyFacts("k", position=5)
    assert applied.operation.settled
    assert applied.outcome == DONE


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_the_outcome_of_any_other_attempt_is_dropped(attempt: int) -> None:
    assert isinstance(apply_report(KEY, RUNNING, report(attempt), NOW), Dropped)


def test_an_outcome_of_what_was_never_granted_is_dropped() -> None:
    """A lying worker must not settle what nobody has started."""
    assert isinstance(apply_report(KEY, replace(RUNNING, attempt=0), report(0), NOW), Dropped)
    assert isinstance(apply_report(KEY, replace(RUNNING, attempt=0, sequence=9), report(0), NOW), Dropped)


def test_a_second_outcome_is_dropped() -> None:
    assert isinstance(apply_report(KEY, replace(RUNNING, settled=True), report(2), NOW), Dropped)


def test_an_outcome_for_a_parked_instance_is_dropped() -> None:
    assert isinstance(apply_report(replace(KEY, parked_by="op4"), RUNNING, report(2), NOW), Dropped)


def test_an_unknown_outcome_parks_the_instance_and_says_by_what_and_when() -> None:
    applied = apply_report(KEY, RUNNING, report(2, UNKNOWN), NOW)
    assert isinstance(applied, Settlement)
    assert (applied.key.parked_by, applied.key.parked_at, applied.key.position) == ("op5", NOW, 5)


@given(st.integers(0, 20), st.integers(1, 20), st.sampled_from(list(OutcomeKind)))
def test_a_position_moves_by_exactly_one_or_not_at_all(position: int, sequence: int, kind: OutcomeKind) -> None:
    key, operation = KeyFacts("k", position), OperationFacts("op", "k", sequence)
    if sequence != position + 1:
        with pytest.raises(AssertionError, match="cannot settle at position"):
            settle(key, operation, Outcome(kind=kind), NOW)
        return
    settlement = settle(key, operation, Outcome(kind=kind), NOW)
    assert settlement.key.position == sequence
    assert (settlement.key.parked_by is not None) == (kind is OutcomeKind.UNKNOWN)


@given(st.floats(min_value=0, max_value=30))
def test_a_parked_instance_may_be_resolved_one_lease_and_margin_later(passed: float) -> None:
    parked = replace(KEY, parked_by="op4", parked_at=NOW)
    wait = wait_before_resolve(parked, Stamp("clock", 100.0 + passed), TERMS)
    assert wait == pytest.approx(max(0.0, 7.0 - passed))


def test_a_key_parked_on_another_clock_can_be_resolved_once_its_stamp_was_read_again() -> None:
    """Without that it could never be resolved after the manager's machine was booted again."""
    parked = replace(KEY, parked_by="op4", parked_at=Stamp("before the boot", 5.0))
    assert wait_before_resolve(parked, Stamp("clock", 1e9), TERMS) == 7.0
    here = restamped(parked, NOW)
    assert wait_before_resolve(here, NOW, TERMS) == 7.0
    assert wait_before_resolve(here, Stamp("clock", 107.0), TERMS) == 0.0
    assert restamped(here, Stamp("clock", 103.0)) == here, "asking again does not begin the wait again"


def test_a_key_that_is_not_parked_is_not_stamped() -> None:
    assert restamped(KEY, NOW) == KEY


def test_resolving_unparks_and_moves_behind_everything_that_was_accepted() -> None:
    parked = replace(KEY, parked_by="op4", parked_at=NOW)
    assert resolve(parked, 9) == KeyFacts("k", position=9)


def test_what_an_operator_refuses_names_the_operation_that_parked_the_instance() -> None:
    outcome = refused_by_resolve("op4")
    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, "parked")
    assert "op4" in outcome.message
