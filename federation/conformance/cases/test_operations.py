"""Every way of every ordered operation: undisturbed, repeated, killed, revoked, cancelled, out of time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from federation.conformance.bench import Bench, Subject
from federation.conformance.scenarios import SCENARIOS, Scenario
from federation.conformance.scripted_call import Script, What
from federation.conformance.trying import (
    kill_and_recover,
    plain,
    prepared,
    reference,
    require,
    state_when_killed_before,
)

MARGIN_SECONDS = 1.0
EVERY = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
CHANGING = pytest.mark.parametrize(
    "scenario", [scenario for scenario in SCENARIOS if not scenario.reached], ids=lambda scenario: scenario.id
)
REACHED = pytest.mark.parametrize(
    "scenario", [scenario for scenario in SCENARIOS if scenario.reached], ids=lambda scenario: scenario.id
)


@pytest.mark.clause("DRV-1", "CAP-1", "REQ-1", "CHG-7", "DRV-8")
@EVERY
def test_it_does_what_it_says(bench: Bench, scenario: Scenario) -> None:
    """An operation ends in time, in the state that the contract names, and its result says so in the contract's units."""
    subject, request = prepared(bench, scenario)
    run = bench.do(scenario.name, request, operation=subject.operation)
    scenario.expect(bench, subject, run.result())
    assert run.done is not None
    assert [event.problem for event in run.done.trace if event.problem] == []


@pytest.mark.clause("CON-5")
@REACHED
def test_a_state_that_is_reached_is_left_alone(bench: Bench, scenario: Scenario) -> None:
    """What the request names is there already: the operation succeeds and changes nothing."""
    subject, request = prepared(bench, scenario)
    before = bench.look(subject)
    bench.do(scenario.name, request, operation=subject.operation).result()
    assert bench.settle(subject) == before
    assert not bench.observer.changes(subject.operation)


@pytest.mark.clause("CON-2", "CON-3")
@EVERY
def test_a_repeat_changes_nothing_and_answers_the_same(bench: Bench, scenario: Scenario) -> None:
    """Called again with the same id after its end, an operation repeats no effect and gives the same result."""
    subject, request = prepared(bench, scenario)
    first = bench.do(scenario.name, request, operation=subject.operation).result()
    ended, changes = bench.settle(subject), bench.observer.changes(subject.operation)
    again = bench.do(scenario.name, request, operation=subject.operation, attempt=2).result()
    assert again == first
    assert bench.settle(subject) == ended
    assert bench.observer.changes(subject.operation) == changes


@pytest.mark.clause("CHG-1", "CON-1", "CON-3")
@CHANGING
def test_killed_before_any_changing_call_it_is_finished_by_the_next_attempt(bench: Bench, scenario: Scenario) -> None:
    """SIGKILL in each guard: the first leaves nothing, and a recovery ends as the undisturbed run does."""
    require(bench, scenario.needs(bench))
    undisturbed = reference(bench, scenario)
    for guard in range(1, undisturbed.guards + 1):
        between = kill_and_recover(bench, scenario, Script(what=What.KILL_BEFORE, at=guard))
        if guard == 1:
            assert between == undisturbed.before, "something had changed before the first guard"


@pytest.mark.clause("CHG-1", "CON-1", "CON-3")
@CHANGING
def test_killed_after_any_changing_call_it_is_finished_by_the_next_attempt(bench: Bench, scenario: Scenario) -> None:
    """SIGKILL at the driver's first word behind each changing call; where that is a guard, it was tried before."""
    require(bench, scenario.needs(bench))
    undisturbed = reference(bench, scenario)
    for guard, followed in enumerate(undisturbed.followed_by_guard, start=1):
        if not followed:
            kill_and_recover(bench, scenario, Script(what=What.KILL_AFTER, at=guard))


@pytest.mark.clause("CON-1", "CON-3", "CON-4")
@CHANGING
def test_killed_in_the_middle_of_any_changing_call_it_is_finished_by_the_next_attempt(
    bench: Bench, scenario: Scenario
) -> None:
    """SIGKILL halfway between each guard and the driver's next word: the call outlives its caller, or was never sent."""
    require(bench, scenario.needs(bench))
    for guard, gap in enumerate(reference(bench, scenario).gaps, start=1):
        kill_and_recover(bench, scenario, Script(what=What.KILL_DURING, at=guard, seconds=gap / 2))


@pytest.mark.clause("CHG-3", "CHG-1")
@CHANGING
def test_without_leave_nothing_more_is_changed(bench: Bench, scenario: Scenario) -> None:
    """The lease is lost at each guard: the driver ends, changes nothing more and undoes nothing."""
    require(bench, scenario.needs(bench))
    for guard in range(1, reference(bench, scenario).guards + 1):
        # First, because an instance may hold what another one of the scenario needs.
        expected = state_when_killed_before(bench, scenario, guard)
        subject, request = prepared(bench, scenario)
        run = bench.do(scenario.name, request, operation=subject.operation, script=Script(what=What.REVOKE, at=guard))
        assert run.revoked, f"revoked at guard {guard}, the driver ended {run.outcome}"
        assert run.guards == guard, f"revoked at guard {guard}, the driver asked {run.guards - guard} times more"
        left = bench.settle(subject)
        changes = bench.observer.changes(subject.operation)
        assert changes is None or changes < guard, f"{changes} changes although leave was given {guard - 1} times"
        assert left == expected, f"guard {guard}: it went on, or undid something"
        bench.discharge(subject)


def _interrupt(bench: Bench, scenario: Scenario, what: What, code: str, guards: Iterable[int]) -> None:
    """An instance that is left as it was serves for the next interruption, of another operation, too."""
    undisturbed = reference(bench, scenario)
    left: tuple[Subject, dict[str, Any]] | None = None
    for guard in guards:
        subject, request = left or prepared(bench, scenario)
        subject.operation = str(uuid.uuid4())
        run = bench.do(scenario.name, request, operation=subject.operation, script=Script(what=what, at=guard))
        where = f"{what} at guard {guard}"
        if run.code == "succeeded" and scenario.no_way_back and guard > 1:
            assert plain(run.result(), subject) == undisturbed.result, where
            assert bench.look(subject) == undisturbed.after, where
            bench.discharge(subject)
            left = None
        else:
            assert run.code == code, f"{where}: the driver ended {run.outcome}"
            assert bench.look(subject) == undisturbed.before, f"{where}: something is left of it"
            left = subject, request


@pytest.mark.clause("CHG-4", "CHG-5", "CHG-8", "ERR-3")
@CHANGING
def test_cancelled_at_any_changing_call_it_leaves_what_was_there(bench: Bench, scenario: Scenario) -> None:
    """Cancelled, an operation takes back what it did and says so; one that cannot be taken back any more ends well."""
    require(bench, scenario.needs(bench))
    every = range(1, reference(bench, scenario).guards + 1)
    _interrupt(bench, scenario, What.CANCEL, "cancelled", every)


@pytest.mark.clause("CHG-4", "CHG-5", "CHG-8", "ERR-3")
@CHANGING
def test_out_of_time_in_the_middle_it_leaves_what_was_there(bench: Bench, scenario: Scenario) -> None:
    """A deadline that passes at the first, a middle or the last changing call is treated like a cancellation, and told as timed_out."""
    require(bench, scenario.needs(bench))
    last = reference(bench, scenario).guards
    _interrupt(bench, scenario, What.DEADLINE, "timed_out", sorted({1, last // 2 + 1, last}) if last else ())


@pytest.mark.clause("CON-1", "CHG-4", "CHG-8", "ERR-3")
@CHANGING
def test_a_cancelled_recovery_takes_back_what_the_first_attempt_did(bench: Bench, scenario: Scenario) -> None:
    """What an earlier attempt did is found on the hypervisor and taken back, or the operation ends as if not cancelled."""
    require(bench, scenario.needs(bench))
    undisturbed = reference(bench, scenario)
    guard = undisturbed.guards
    if not guard:
        return
    subject, request = prepared(bench, scenario)
    killed = bench.disturbed(scenario.name, request, subject.operation, Script(what=What.KILL_BEFORE, at=guard))
    assert killed.died
    script = Script(what=What.CANCEL, at=1)
    run = bench.do(scenario.name, request, operation=subject.operation, attempt=2, script=script)
    if run.code == "succeeded":
        assert bench.settle(subject) == undisturbed.after
    else:
        assert run.code in {"cancelled", "outcome_unknown"}, run.outcome
        assert run.code == "outcome_unknown" or bench.settle(subject) == undisturbed.before


@pytest.mark.clause("CHG-2", "CHG-1")
@CHANGING
def test_there_is_no_more_changing_than_leave_was_given_for(bench: Bench, scenario: Scenario) -> None:
    """Every changing call has a guard of its own: not more calls than guards reach the hypervisor, and the driver's next
    word comes within the margin where the call itself is short.
    """  # noqa: D205 (one sentence)
    subject, request = prepared(bench, scenario)
    run = bench.do(scenario.name, request, operation=subject.operation)
    run.result()
    changes = bench.observer.changes(subject.operation)
    assert run.guards > 0, "something was changed without leave"
    assert changes is None or changes <= run.guards, f"{changes} changes, leave was asked for {run.guards} times"
