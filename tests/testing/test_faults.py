"""Planted faults fire where and as often as was asked for, and can be steered from outside."""

from __future__ import annotations

import threading

import msgspec
import pytest
from testing.scenarios import INSTANCE, do, new_id, spec

from federation.contract import requests as r
from federation.contract.call import Revoked
from federation.contract.errors import HypervisorUnreachable, OutcomeUnknown
from federation.contract.instances import PowerState
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.clock import SystemClock
from federation.testing.faults import Action, Calls, Fault, FaultControl, Phase, PlantedBugError
from federation.testing.hypervisor.log import read_log
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver

UNREACHABLE = {"action": Action.RAISE, "code": "hypervisor_unreachable"}


@pytest.fixture
def running(driver):
    do(driver, r.Create(instance=INSTANCE, spec=spec()))
    return driver


def pause_and_unpause(driver):
    """How often out of six changes a planted error came through."""
    failed = []
    for number, request in enumerate((r.Pause(instance=INSTANCE), r.Unpause(instance=INSTANCE)) * 3):
        try:
            do(driver, request)
        except HypervisorUnreachable:
            failed.append(number)
    return failed


def test_a_one_shot_fault_fires_at_the_nth_call_and_never_again(running, faults):
    name = faults.plant(Fault(**UNREACHABLE, nth=3))
    assert pause_and_unpause(running) == [2]
    assert [f.spot.kind for f in faults.firings(name)] == ["pause"]


def test_a_repeated_fault_fires_from_the_nth_call_on_as_often_as_asked_for(running, faults):
    faults.plant(Fault(**UNREACHABLE, nth=2, times=2, kind="pause"))
    assert pause_and_unpause(running) == [2, 4]


def test_an_endless_fault_fires_until_it_is_released(running, faults):
    name = faults.plant(Fault(**UNREACHABLE, kind="unpause", times=None))
    assert pause_and_unpause(running)[:1] == [1]
    faults.release(name)
    do(running, r.Unpause(instance=INSTANCE))
    with pytest.raises(KeyError):
        faults.release("nobody")


@pytest.mark.parametrize(
    ("aim", "fires"),
    [
        ({"operation": "pause"}, True),
        ({"operation": "reboot"}, False),
        ({"instance": INSTANCE}, True),
        ({"instance": "other"}, False),
        ({"attempt": 1}, True),
        ({"attempt": 2}, False),
        ({"calls": Calls.READS}, True),
        ({"calls": Calls.ANY, "kind": "pause"}, True),
        ({"calls": Calls.READS, "kind": "pause"}, False),
    ],
)
def test_a_fault_looks_only_at_the_calls_that_it_names(aim, fires, running, faults):
    name = faults.plant(Fault(**UNREACHABLE, **aim))
    if fires:
        with pytest.raises(HypervisorUnreachable):
            do(running, r.Pause(instance=INSTANCE))
    else:
        do(running, r.Pause(instance=INSTANCE))
    assert len(faults.firings(name)) == fires


def test_an_undeclared_exception_comes_out_as_it_is_and_the_log_says_so(running, faults, tmp_path):
    faults.plant(Fault(action=Action.BUG))
    with pytest.raises(PlantedBugError):
        do(running, r.Pause(instance=INSTANCE))
    assert read_log(tmp_path / "state").executions[-1].how == "bug PlantedBugError"


def test_a_lie_says_done_without_doing(running, faults, tmp_path):
    faults.plant(Fault(action=Action.LIE, kind="pause"))
    effects = len(read_log(tmp_path / "state").effects)
    assert do(running, r.Pause(instance=INSTANCE)).power_state is PowerState.RUNNING
    assert len(read_log(tmp_path / "state").effects) == effects


def test_an_ignored_guard_lets_a_revoked_attempt_change_things(running, faults):
    with pytest.raises(Revoked):
        do(running, r.Pause(instance=INSTANCE), RecordedCall(revoke_at=1))
    faults.plant(Fault(action=Action.IGNORE_GUARD))
    call = RecordedCall(revoke_at=1)
    assert do(running, r.Pause(instance=INSTANCE), call).power_state is PowerState.PAUSED
    assert call.guards == 0


def test_a_call_that_its_guard_stops_counts_for_no_fault(running, faults):
    name = faults.plant(Fault(**UNREACHABLE))
    with pytest.raises(Revoked):
        do(running, r.Pause(instance=INSTANCE), RecordedCall(revoke_at=1))
    assert faults.firings(name) == ()


@pytest.mark.parametrize("calls", [Calls.CHANGES, Calls.READS])
def test_a_slow_call_takes_its_seconds_longer(calls, running, faults, clock):
    faults.plant(Fault(action=Action.SLOW, seconds=30, calls=calls))
    before = clock.monotonic()
    do(running, r.Pause(instance=INSTANCE))
    assert clock.monotonic() - before == pytest.approx(30)


@pytest.mark.parametrize("phase", Phase)
def test_a_call_hangs_for_its_seconds_and_then_goes_on(phase, running, faults, clock):
    faults.plant(Fault(action=Action.HANG, seconds=30, phase=phase))
    before = clock.monotonic()
    assert do(running, r.Pause(instance=INSTANCE)).power_state is PowerState.PAUSED
    assert clock.monotonic() - before == pytest.approx(30)


@pytest.mark.parametrize("phase", Phase)
def test_a_call_hangs_until_it_is_released_from_outside(phase, tmp_path):
    driver = SimulatedDriver.open(SimulatedSettings(state_directory=str(tmp_path)), "test")
    control = FaultControl(tmp_path)
    do(driver, r.Create(instance=INSTANCE, spec=spec()))
    name = control.plant(Fault(action=Action.HANG, phase=phase))
    hanging = threading.Thread(target=do, args=(driver, r.Pause(instance=INSTANCE), RecordedCall(clock=SystemClock())))
    hanging.start()
    control.wait_until_fired(name)
    hanging.join(0.1)
    assert hanging.is_alive()
    state = do(driver, r.GetInstance(instance=INSTANCE)).power_state
    assert state is (PowerState.PAUSED if phase is Phase.AFTER else PowerState.RUNNING)
    control.release(name)
    hanging.join(10)
    assert not hanging.is_alive()
    assert do(driver, r.GetInstance(instance=INSTANCE)).power_state is PowerState.PAUSED
    control.close()
    driver.close()


def test_several_faults_at_one_call_act_in_the_order_of_their_names(running, faults):
    faults.plant(Fault(action=Action.CRASH, name="b"))
    faults.plant(Fault(**UNREACHABLE, name="a"))
    with pytest.raises(HypervisorUnreachable):
        do(running, r.Pause(instance=INSTANCE))
    faults.plant(Fault(action=Action.CRASH, name="c"))
    with pytest.raises(SimulatedCrash):
        do(running, r.Pause(instance=INSTANCE))


def test_faults_of_the_settings_are_planted_once_however_many_workers_open(open_driver, faults):
    settings = {"faults": (Fault(**UNREACHABLE, kind="define"),)}
    first, second = open_driver(**settings), open_driver(**settings)
    with pytest.raises(HypervisorUnreachable):
        do(first, r.Create(instance=INSTANCE, spec=spec()))
    do(second, r.Create(instance=INSTANCE, spec=spec()))
    do(open_driver(**settings), r.Create(instance=new_id(), spec=spec("two")))
    assert len(faults.firings()) == 1


def test_when_reading_fails_as_well_the_outcome_is_unknown(running, faults):
    faults.plant(Fault(**UNREACHABLE, kind="pause", phase=Phase.AFTER))
    faults.plant(Fault(**UNREACHABLE, kind="read_machine", calls=Calls.READS, nth=3))
    with pytest.raises(OutcomeUnknown, match="cannot be read"):
        do(running, r.Pause(instance=INSTANCE))


def test_clearing_forgets_all_faults_and_firings(running, faults):
    faults.plant(Fault(**UNREACHABLE, times=None))
    assert pause_and_unpause(running)
    faults.clear()
    assert faults.firings() == ()
    assert pause_and_unpause(running) == []


def test_waiting_for_a_fault_that_does_not_fire_ends_with_the_count(faults):
    name = faults.plant(Fault(**UNREACHABLE))
    with pytest.raises(TimeoutError, match="fired 0 times"):
        faults.wait_until_fired(name, timeout_seconds=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "raise"},
        {"action": "raise", "code": "nonsense"},
        {"action": "kill", "code": "not_found"},
        {"action": "slow"},
        {"action": "hang", "phase": "under_way", "calls": "any"},
        {"action": "lie", "calls": "reads"},
        {"action": "kill", "nth": 0},
        {"action": "explode"},
        {"action": "kill", "colour": "red"},
    ],
)
def test_a_fault_that_says_nothing_sensible_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Fault)
