"""Every ordered operation, disturbed at every call, ends as the undisturbed one does, or leaves nothing."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from testing.scenarios import INSTANCE, NODE_KEY, SCENARIOS, do

from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, HypervisorUnreachable, OutcomeUnknown
from federation.contract.operations import Lane, on_lane
from federation.contract.snapshots import Snapshot
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.faults import Action, Fault, FaultControl, Phase
from federation.testing.history import ABSENT
from federation.testing.hypervisor.dump import read_world
from federation.testing.hypervisor.log import read_log

OPERATION = "99999999-9999-4999-8999-999999999999"
SLOW = {"pace": 1.0}
EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


def prepared(open_driver, scenario, where, **settings):
    driver = open_driver(where, **scenario.settings | settings)
    for request in scenario.before:
        do(driver, request)
    return driver


def undisturbed(open_driver, scenario, **settings):
    driver = prepared(open_driver, scenario, "undisturbed", **settings)
    call = RecordedCall(OPERATION)
    result = run(driver, scenario, call)
    return result, call.guards


def run(driver, scenario, call):
    """The result; of snapshots it is not asked that they were taken at the same time."""
    result = do(driver, scenario.request, call)
    return msgspec.structs.replace(result, created_at=EPOCH) if isinstance(result, Snapshot) else result


def log(tmp_path, where):
    return read_log(tmp_path / where)


def final(tmp_path, where):
    """What is seen of the instance or node, what the storage holds, and what is booked on the nodes."""
    finals = {one.key: one.seen for one in log(tmp_path, where).finals}
    world = read_world(tmp_path / where)
    return finals.get(NODE_KEY, finals.get(INSTANCE, ABSENT)), world.volumes, world.templates, world.nodes


def seen(tmp_path, where):
    return final(tmp_path, where)[0]


def mine(tmp_path, where):
    return sorted((e.kind, e.target) for e in log(tmp_path, where).effects if e.operation == OPERATION and e.visible)


def test_every_ordered_operation_of_the_contract_has_a_scenario():
    declared = {o.name for o in on_lane(Lane.ORDERED)}
    assert {name.split()[0] for name in SCENARIOS} == declared


@pytest.mark.parametrize("settings", [{}, SLOW], ids=["instant", "slow"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_operation_killed_at_any_guard_is_finished_by_the_next_attempt(name, settings, open_driver, tmp_path, clock):
    scenario = SCENARIOS[name]
    result, guards = undisturbed(open_driver, scenario, **settings)
    for crash_at in range(1, guards + 1):
        where = f"crash-{crash_at}"
        dying = prepared(open_driver, scenario, where, **settings)
        call = RecordedCall(OPERATION, clock=clock, crash_at=crash_at)
        with pytest.raises(SimulatedCrash):
            do(dying, scenario.request, call)
        survivor = open_driver(where, **settings)
        assert run(survivor, scenario, call.again()) == result
        assert final(tmp_path, where) == final(tmp_path, "undisturbed")
        assert mine(tmp_path, where) == mine(tmp_path, "undisturbed")


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_operation_killed_at_any_call_is_finished_by_the_next_attempt(name, phase, open_driver, tmp_path, clock):
    scenario = SCENARIOS[name]
    result, guards = undisturbed(open_driver, scenario, **SLOW)
    for nth in range(1, guards + 1):
        where = f"crash-{nth}"
        dying = prepared(open_driver, scenario, where, **SLOW)
        control = FaultControl(tmp_path / where, clock)
        control.plant(Fault(action=Action.CRASH, phase=phase, nth=nth))
        control.close()
        call = RecordedCall(OPERATION, clock=clock)
        with pytest.raises(SimulatedCrash):
            do(dying, scenario.request, call)
        assert run(open_driver(where, **SLOW), scenario, call.again()) == result
        assert final(tmp_path, where) == final(tmp_path, "undisturbed")
        assert mine(tmp_path, where) == mine(tmp_path, "undisturbed")


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_crashes_in_a_row_are_survived_too(name, open_driver, tmp_path, clock):
    scenario = SCENARIOS[name]
    result, guards = undisturbed(open_driver, scenario)
    for first in range(1, guards + 1):
        for second in range(1, guards + 2 - first):
            where = f"crash-{first}-{second}"
            driver = prepared(open_driver, scenario, where)
            call = RecordedCall(OPERATION, clock=clock, crash_at=first)
            with pytest.raises(SimulatedCrash):
                do(driver, scenario.request, call)
            call = call.again(crash_at=second)
            with pytest.raises(SimulatedCrash):
                do(driver, scenario.request, call)
            assert run(driver, scenario, call.again()) == result
            assert mine(tmp_path, where) == mine(tmp_path, "undisturbed")


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_operation_repeated_after_its_end_repeats_no_effect_and_gives_the_same_result(name, open_driver, tmp_path):
    scenario = SCENARIOS[name]
    result, _ = undisturbed(open_driver, scenario)
    effects = len(log(tmp_path, "undisturbed").effects)
    repeated = RecordedCall(OPERATION, attempt=2)
    assert run(open_driver("undisturbed"), scenario, repeated) == result
    assert repeated.guards == 0
    assert len(log(tmp_path, "undisturbed").effects) == effects


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_revoked_operation_changes_nothing_more_and_undoes_nothing(name, open_driver, tmp_path):
    scenario = SCENARIOS[name]
    _, guards = undisturbed(open_driver, scenario)
    for revoke_at in range(1, guards + 1):
        where = f"revoked-{revoke_at}"
        driver = prepared(open_driver, scenario, where)
        with pytest.raises(Revoked):
            do(driver, scenario.request, RecordedCall(OPERATION, revoke_at=revoke_at))
        kinds = [e.kind for e in log(tmp_path, where).effects if e.operation == OPERATION]
        whole = [e.kind for e in log(tmp_path, "undisturbed").effects if e.operation == OPERATION]
        assert kinds == whole[: revoke_at - 1]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_cancelled_operation_leaves_what_was_there_before_or_finishes(name, open_driver, tmp_path):
    scenario = SCENARIOS[name]
    result, guards = undisturbed(open_driver, scenario)
    for cancel_at in range(1, guards + 1):
        where = f"cancelled-{cancel_at}"
        driver = prepared(open_driver, scenario, where)
        before = final(tmp_path, where)
        try:
            ended = run(driver, scenario, RecordedCall(OPERATION, cancel_at=cancel_at))
        except Cancelled:
            assert final(tmp_path, where) == before
        else:
            assert name.startswith("destroy")
            assert cancel_at > 1
            assert ended == result
            assert final(tmp_path, where) == final(tmp_path, "undisturbed")


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_error_at_any_call_is_undone_or_survived_or_reported_as_unknown(name, phase, open_driver, tmp_path, clock):
    scenario = SCENARIOS[name]
    result, guards = undisturbed(open_driver, scenario, **SLOW)
    for nth in range(1, guards + 1):
        where = f"error-{nth}"
        driver = prepared(open_driver, scenario, where, **SLOW)
        before = final(tmp_path, where)
        control = FaultControl(tmp_path / where, clock)
        control.plant(Fault(action=Action.RAISE, code="hypervisor_unreachable", phase=phase, nth=nth))
        control.close()
        call = RecordedCall(OPERATION, clock=clock)
        try:
            ended = run(driver, scenario, call)
        except HypervisorUnreachable:
            assert final(tmp_path, where) == before
            assert phase is Phase.BEFORE
        except OutcomeUnknown:
            assert name.startswith("destroy")
        else:
            assert ended == result
            assert final(tmp_path, where) == final(tmp_path, "undisturbed")
            assert phase is not Phase.BEFORE


@pytest.mark.parametrize("name", ["create", "suspend", "resize", "reboot"])
def test_an_error_that_cannot_be_undone_is_reported_as_unknown(name, open_driver, tmp_path, clock):
    scenario = SCENARIOS[name]
    driver = prepared(open_driver, scenario, "down")
    control = FaultControl(tmp_path / "down", clock)
    control.plant(Fault(action=Action.RAISE, code="hypervisor_unreachable", nth=2, times=None))
    control.close()
    with pytest.raises(OutcomeUnknown, match="could not be undone"):
        do(driver, scenario.request, RecordedCall(OPERATION, clock=clock))


def test_a_cancelled_recovery_of_a_destroy_goes_on_because_nothing_brings_back_what_is_gone(
    open_driver, tmp_path, clock
):
    scenario = SCENARIOS["destroy"]
    _, guards = undisturbed(open_driver, scenario)
    for crash_at in range(2, guards + 1):
        where = f"gone-{crash_at}"
        driver = prepared(open_driver, scenario, where)
        call = RecordedCall(OPERATION, clock=clock, crash_at=crash_at)
        with pytest.raises(SimulatedCrash):
            do(driver, scenario.request, call)
        do(driver, scenario.request, call.again(cancel_at=1))
        assert seen(tmp_path, where) == ABSENT


def test_the_log_says_when_an_execution_was_let_through_even_if_it_dies_later(open_driver, tmp_path, clock):
    driver = prepared(open_driver, SCENARIOS["reboot"], "guarded")
    clock.advance(10)
    guarded = clock.monotonic()
    control = FaultControl(tmp_path / "guarded", clock)
    control.plant(Fault(action=Action.CRASH, phase=Phase.AFTER, kind="reset"))
    control.close()
    with pytest.raises(SimulatedCrash):
        do(driver, SCENARIOS["reboot"].request, RecordedCall(OPERATION, clock=clock))
    execution = log(tmp_path, "guarded").executions[-1]
    assert (execution.guarded, execution.ended, execution.how) == (guarded, None, None)


def test_a_cancelled_recovery_undoes_what_the_earlier_attempt_made(open_driver, tmp_path, clock):
    scenario = SCENARIOS["create"]
    _, guards = undisturbed(open_driver, scenario)
    for crash_at in range(2, guards + 1):
        where = f"both-{crash_at}"
        driver = prepared(open_driver, scenario, where)
        call = RecordedCall(OPERATION, clock=clock, crash_at=crash_at)
        with pytest.raises(SimulatedCrash):
            do(driver, scenario.request, call)
        with pytest.raises(Cancelled):
            do(driver, scenario.request, call.again(cancel_at=1))
        assert seen(tmp_path, where) == ABSENT
