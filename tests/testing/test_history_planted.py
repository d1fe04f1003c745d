"""Real faults, planted in the simulated driver, are found in its hypervisor's own log; without the fault it is clean."""

from __future__ import annotations

import threading

import msgspec
import pytest
from testing.scenarios import INSTANCE, NODE_KEY, SCENARIOS, STORAGE, Named, new_id, spec

from federation.contract import requests as r
from federation.contract.call import Revoked
from federation.contract.errors import Effect, OperationError
from federation.contract.outcomes import OutcomeKind
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.clock import SystemClock
from federation.testing.faults import Action, Calls, Fault, FaultControl, Phase
from federation.testing.history import Accepted, FindingKind, History, Settled, check
from federation.testing.hypervisor.log import HypervisorControl, read_log
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver

K = FindingKind
CLOCK = SystemClock()


class Ledger:
    """A manager reduced to its books, with one driver to run what it has accepted."""

    def __init__(self, directory, **settings):
        self.directory = directory
        given = STORAGE | settings | {"state_directory": str(directory)}
        self.driver = SimulatedDriver.open(SimulatedSettings(**given), "test")
        self.faults = FaultControl(directory)
        self.accepted = []
        self.settled = {}

    def accept(self, request):
        operation = new_id()
        if isinstance(request, Named):
            operation, request = request.operation, request.request
        key = NODE_KEY if isinstance(request, r.NodeRequest) else request.instance
        name = "".join(f"_{x.lower()}" if x.isupper() else x for x in type(request).__name__).strip("_")
        sequence = 1 + sum(one.key == key for one, _ in self.accepted)
        accepted = Accepted(
            operation=operation, cluster="test", key=key, sequence=sequence, name=name,
            arguments=msgspec.to_builtins(request),
        )  # fmt: skip
        self.accepted.append((accepted, request))
        return accepted

    def run(self, accepted, call=None):
        """Execute an attempt; a crash or a revocation settles nothing, anything else settles it."""
        request = next(request for one, request in self.accepted if one is accepted)
        call = call or self.call(accepted)
        try:
            getattr(self.driver, accepted.name)(call, request)
        except (SimulatedCrash, Revoked):
            return call
        except OperationError as error:
            kind = OutcomeKind.UNKNOWN if error.effect is Effect.UNKNOWN else OutcomeKind.FAILED
            self.settle(accepted, kind, error.code, call.attempt)
        else:
            self.settle(accepted, OutcomeKind.SUCCEEDED, None, call.attempt)
        return call

    def call(self, accepted, **more):
        return RecordedCall(accepted.operation, cluster="test", clock=CLOCK, **more)

    def settle(self, accepted, kind, code=None, attempts=1):
        self.settled[accepted.operation] = Settled(
            operation=accepted.operation, kind=kind, code=code, attempts=attempts
        )

    def do(self, request):
        accepted = self.accept(request)
        self.run(accepted)
        return accepted

    def start(self, accepted, call=None):
        thread = threading.Thread(target=self.run, args=(accepted, call))
        thread.start()
        return thread

    def report(self):
        log = read_log(self.directory)
        return check(
            History(
                accepted=tuple(one for one, _ in self.accepted),
                settled=tuple(self.settled.values()),
                effects=log.effects,
                executions=log.executions,
                finals=log.finals,
            )
        )

    def close(self):
        self.faults.close()
        self.driver.close()

    def found(self):
        return {finding.kind for finding in self.report().findings}


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def running(ledger):
    ledger.do(r.Create(instance=INSTANCE, spec=spec()))
    return ledger


@pytest.mark.parametrize("crash_at", [None, 1, 2, 3])
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_crashes_is_recovered_and_clean(name, crash_at, tmp_path):
    scenario = SCENARIOS[name]
    ledger = Ledger(tmp_path, **scenario.settings)
    for request in (*scenario.before, scenario.request):
        accepted = ledger.accept(request)
        call = ledger.run(accepted, ledger.call(accepted, crash_at=crash_at))
        if accepted.operation not in ledger.settled:
            ledger.run(accepted, call.again())
    report = ledger.report()
    ledger.close()
    assert report.clean, report.to_text()
    assert report.counts.applied_once == len(ledger.accepted)


def test_a_request_that_fails_is_clean(running):
    taken = running.do(r.Create(instance=new_id(), spec=spec()))
    running.do(r.Resume(instance=INSTANCE))
    running.do(r.PowerOff(instance=INSTANCE))
    failed = running.do(r.Resume(instance=INSTANCE))
    assert running.settled[taken.operation].code == "already_exists"
    assert running.settled[failed.operation].code == "invalid_state"
    assert running.report().clean


def test_what_is_accepted_and_forgotten_is_lost(running):
    forgotten = running.accept(r.Pause(instance=INSTANCE))
    (finding,) = running.report().findings
    assert (finding.kind, finding.records) == (K.LOST, (forgotten,))


@pytest.mark.parametrize("ignoring", [False, True])
def test_an_attempt_that_ignores_its_guard_after_a_newer_one_is_found(ignoring, running):
    hang = running.faults.plant(
        # The fourth look is the one before the reset.
        Fault(
            action=Action.HANG,
            phase=Phase.AFTER,
            calls=Calls.READS,
            kind="read_machine",
            attempt=1,
            nth=4,
            operation="reboot",
        )
    )
    if ignoring:
        running.faults.plant(Fault(action=Action.IGNORE_GUARD, kind="reset", attempt=1))
    reboot = running.accept(r.Reboot(instance=INSTANCE))
    first = running.call(reboot)
    thread = running.start(reboot, first)
    running.faults.wait_until_fired(hang)
    first.revoke()
    running.run(reboot, first.again())
    running.settle(reboot, OutcomeKind.SUCCEEDED, attempts=2)
    running.faults.release(hang)
    thread.join(10)
    running.settle(reboot, OutcomeKind.SUCCEEDED, attempts=2)
    if ignoring:
        assert running.found() == {K.REVOKED, K.DUPLICATED, K.CONTRADICTED}
        (finding,) = running.report().of(K.REVOKED)
        assert [record.attempt for record in finding.records] == [2, 1]
    else:
        assert running.report().clean, running.report().to_text()
        assert "revoked" in {execution.how for execution in read_log(running.directory).executions}


def test_a_marker_that_was_not_written_makes_a_repeated_reboot_a_duplicate(running):
    running.faults.plant(Fault(action=Action.LIE, kind="mark"))
    running.faults.plant(Fault(action=Action.CRASH, phase=Phase.AFTER, kind="reset"))
    reboot = running.accept(r.Reboot(instance=INSTANCE))
    running.run(reboot, running.run(reboot).again())
    (finding,) = running.report().of(K.DUPLICATED)
    assert [(e.kind, e.attempt) for e in finding.records] == [("reset", 1), ("reset", 2)]


def test_operations_that_run_in_the_wrong_order_are_found(running):
    first = running.accept(r.Reboot(instance=INSTANCE))
    second = running.accept(r.Pause(instance=INSTANCE))
    third = running.accept(r.Unpause(instance=INSTANCE))
    for accepted in (second, third, first):
        running.run(accepted)
    findings = running.report().of(K.OUT_OF_ORDER)
    assert {f.records[-1].operation for f in findings} >= {first.operation}
    assert {f.records[0].operation for f in findings} & {second.operation, third.operation}


def test_operations_that_run_at_the_same_time_are_found(running):
    hang = running.faults.plant(Fault(action=Action.HANG, kind="reset", attempt=1, name="a"))
    slow = running.faults.plant(Fault(action=Action.SLOW, kind="reset", attempt=1, seconds=0.4, nth=2, name="b"))
    first, second = (running.accept(r.Reboot(instance=INSTANCE)) for _ in range(2))
    one = running.start(first)
    running.faults.wait_until_fired(hang)
    two = running.start(second)
    running.faults.wait_until_fired(slow)
    running.faults.release(hang)
    one.join(10)
    two.join(10)
    overlaps = running.report().of(K.OVERLAPPING)
    assert any({getattr(x, "kind", None) for x in f.records} == {"reset"} for f in overlaps), running.report().to_text()
    assert any(type(f.records[0]).__name__ == "Execution" for f in overlaps)


LIES = {
    "create": "start", "destroy": "undefine", "resize": "set_memory", "power_on": "start", "power_off": "stop",
    "reboot": "reset", "pause": "pause", "unpause": "unpause", "suspend": "suspend", "resume": "restore",
    "detach_volume": "detach_volume", "extend_volume": "extend_volume", "detach_interface": "detach_interface",
    "revert_snapshot": "revert_snapshot", "delete_snapshot": "delete_snapshot", "migrate": "migrate_live",
    "set_admin_password": "set_password", "send_nmi": "inject_nmi", "set_node_maintenance": "enter_maintenance",
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_hypervisor_that_says_done_without_doing_contradicts_the_success(name, ledger):
    scenario = SCENARIOS[name]
    for request in scenario.before:
        ledger.do(request)
    ledger.faults.plant(Fault(action=Action.LIE, kind=LIES[name], operation=name))
    if name == "destroy":  # the disks of a machine that is still there cannot be deleted
        ledger.faults.plant(Fault(action=Action.LIE, kind="delete_disk", times=None))
    lied = ledger.do(scenario.request)
    assert ledger.settled[lied.operation].kind is OutcomeKind.SUCCEEDED
    (finding,) = ledger.report().of(K.CONTRADICTED)
    assert finding.records[0].operation == lied.operation
    assert "succeeded, but" in finding.message


def test_a_failure_that_leaves_something_behind_is_contradicted(ledger):
    ledger.faults.plant(Fault(action=Action.RAISE, code="hypervisor_unreachable", kind="start"))
    ledger.faults.plant(Fault(action=Action.LIE, kind="delete_disk"))
    failed = ledger.do(r.Create(instance=INSTANCE, spec=spec()))
    assert ledger.settled[failed.operation].code == "hypervisor_unreachable"
    (finding,) = ledger.report().findings
    assert finding.kind is K.CONTRADICTED
    assert "failed with hypervisor_unreachable" in finding.message


def test_a_refusal_of_what_was_done_is_contradicted(running):
    done = running.do(r.Pause(instance=INSTANCE))
    running.settle(done, OutcomeKind.REFUSED, "deadline_passed", attempts=0)
    (finding,) = running.report().findings
    assert finding.kind is K.CONTRADICTED


def test_a_guest_that_panics_by_itself_accuses_nobody(running, tmp_path):
    control = HypervisorControl(tmp_path)
    control.crash_guest(INSTANCE)
    control.close()
    running.do(r.PowerOn(instance=INSTANCE))
    assert running.report().clean, running.report().to_text()
