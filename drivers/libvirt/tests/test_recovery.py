"""Every operation, killed at every changing call, then taken up by another worker: same end, same outcome, no repeat.

The kill is a call whose n-th guard raises what no driver catches, so nothing that would have come after it happens; the
recovery is a new driver with connections of its own and the next attempt of the same operation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, Conflict, TimedOut
from federation.contract.instances import DataDisk, Flavour, GuestSetup, PowerState
from federation.contract.results import Destroyed
from federation.testing.calls import RecordedCall, SimulatedCrash

MEBIBYTE = 1 << 20


class Scenario(msgspec.Struct):
    """An operation to kill: what must be there before, what is asked, whether a guest must be up to answer."""

    operation: str
    request: Callable[[str], r.Request]
    before: tuple[str, ...] = ()
    start: bool = True
    needs_guest: bool = False


def power_off(instance: str) -> r.Request:
    return r.PowerOff(instance=instance, mode=r.PowerOffMode.GRACEFUL, timeout_seconds=60)


def soft_reboot(instance: str) -> r.Request:
    return r.Reboot(instance=instance, mode=r.RebootMode.SOFT, timeout_seconds=60)


def resize(instance: str) -> r.Request:
    return r.Resize(instance=instance, flavour=Flavour(vcpus=2, memory_bytes=192 * MEBIBYTE))


SCENARIOS = {
    "destroy": Scenario("destroy", lambda i: r.Destroy(instance=i)),
    "destroy of a suspended instance": Scenario("destroy", lambda i: r.Destroy(instance=i), before=("suspend",)),
    "resize": Scenario("resize", resize, start=False),
    "power_on": Scenario("power_on", lambda i: r.PowerOn(instance=i), start=False),
    "power_on of a suspended instance": Scenario("power_on", lambda i: r.PowerOn(instance=i), before=("suspend",)),
    "power_off": Scenario("power_off", lambda i: r.PowerOff(instance=i)),
    "power_off of a suspended instance": Scenario("power_off", lambda i: r.PowerOff(instance=i), before=("suspend",)),
    "graceful power_off": Scenario("power_off", power_off, needs_guest=True),
    "reboot": Scenario("reboot", lambda i: r.Reboot(instance=i)),
    "soft reboot": Scenario("reboot", soft_reboot, needs_guest=True),
    "pause": Scenario("pause", lambda i: r.Pause(instance=i)),
    "unpause": Scenario("unpause", lambda i: r.Unpause(instance=i), before=("pause",)),
    "suspend": Scenario("suspend", lambda i: r.Suspend(instance=i)),
    "suspend of a paused instance": Scenario("suspend", lambda i: r.Suspend(instance=i), before=("pause",)),
    "resume": Scenario("resume", lambda i: r.Resume(instance=i), before=("suspend",)),
}


def run(driver: Any, operation: str, call: RecordedCall, request: r.Request) -> Any:
    return getattr(driver, operation)(call, request)


def comparable(lab, instance: str, result: Any) -> dict[str, Any]:
    """What two runs for different instances must have in common: the result, and everything left on the hosts."""
    native = lab.native()
    domains = [d for d in native.listAllDomains() if d.UUIDString() == instance]
    left = {
        "result": msgspec.to_builtins(result),
        "state": domains and (domains[0].state()[0], domains[0].hasManagedSaveImage()),
        "stage": domains and 'stage="complete"' in domains[0].XMLDesc(),
        "volumes": {
            pool: sorted(name for name in names if name.startswith(instance))
            for pool, names in lab.inventory()["host0"]["pools"].items()
        },
    }
    text = str(left)
    if domains:
        text = text.replace(domains[0].name(), "NAME")
    return {"everything": text.replace(instance, "ID")}


def starts(lab, name: str) -> int:
    """How often QEMU was started for a machine of that name: libvirt writes each start into the machine's own log."""
    log = lab.folders[0] / "log" / "qemu" / f"{name}.log"
    return log.read_text(errors="replace").count(": starting up libvirt") if log.exists() else 0


def prepared(lab, scenario: Scenario) -> str:
    instance = lab.create(start=scenario.start).id
    if scenario.needs_guest:
        lab.wait_ready(instance)
    for name in scenario.before:
        run(lab.driver, name, lab.call(), getattr(r, name.capitalize())(instance=instance))
    return instance


def undisturbed(lab, scenario: Scenario) -> tuple[int, int, dict[str, Any]]:
    """Number of changing calls, of starts, and what is there afterwards."""
    instance = prepared(lab, scenario)
    call, name = lab.call(), lab.get(instance).name
    before = starts(lab, name)
    result = run(lab.driver, scenario.operation, call, scenario.request(instance))
    return call.guards, starts(lab, name) - before, comparable(lab, instance, result)


def killed(driver: Any, operation: str, call: RecordedCall, request: r.Request) -> None:
    """Run until the crash; a call that asks for less leave than that ends by itself, which is a crash after the last change."""
    try:
        run(driver, operation, call, request)
    except SimulatedCrash:
        return


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", SCENARIOS)
def test_an_operation_killed_at_any_changing_call_ends_as_if_nothing_had_happened(lab, case):
    scenario = SCENARIOS[case]
    guards, started, expected = undisturbed(lab, scenario)
    assert guards >= 1
    for n in range(1, guards + 2):
        instance = prepared(lab, scenario)
        call, name = lab.call(crash_at=n), lab.get(instance).name
        before = starts(lab, name)
        killed(lab.driver, scenario.operation, call, scenario.request(instance))
        driver, again = lab.another_driver(), call.again()
        result = run(driver, scenario.operation, again, scenario.request(instance))
        again_started = starts(lab, name) - before
        assert again_started == started, f"killed at {n} of {guards}"
        assert comparable(lab, instance, result) == expected, f"killed at {n} of {guards}"
        driver.close()
        lab.clear()


def creations(lab) -> Iterator[tuple[str, r.Create]]:
    rich = {"data_disks": (DataDisk(size_bytes=MEBIBYTE),), "guest": GuestSetup(user_data="#cloud-config\n{}\n")}
    for name, boot in (("image", lab.image()), ("kernel", lab.kernel())):
        yield name, r.Create(instance=str(uuid.uuid4()), spec=lab.spec(boot, **rich), start=False)


def fresh(request: r.Create) -> r.Create:
    """The same request for another instance."""
    instance = str(uuid.uuid4())
    spec = msgspec.structs.replace(request.spec, name=f"lab-{instance[:8]}")
    return msgspec.structs.replace(request, instance=instance, spec=spec)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["image", "kernel"])
def test_a_create_that_has_to_fetch_killed_at_any_changing_call_ends_as_if_nothing_had_happened(lab, kind):
    template = dict(creations(lab))[kind]
    lab.forget_cache()
    call, request = lab.call(), fresh(template)
    result = lab.driver.create(call, request)
    expected, guards = comparable(lab, request.instance, result), call.guards
    cached = len([n for n in lab.inventory()["host0"]["pools"]["lab"] if n.startswith("cached-")])
    for n in range(1, guards + 2):
        lab.clear()
        lab.forget_cache()
        request, call = fresh(template), lab.call(crash_at=n)
        killed(lab.driver, "create", call, request)
        driver = lab.another_driver()
        result = driver.create(call.again(), request)
        assert comparable(lab, request.instance, result) == expected, f"killed at {n} of {guards}"
        left = [name for name in lab.inventory()["host0"]["pools"]["lab"] if name.startswith("cached-")]
        assert len(left) == cached, f"killed at {n} of {guards}: unfinished fetches are left: {left}"
        driver.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_create_that_starts_killed_at_any_changing_call_starts_exactly_once(lab):
    template = msgspec.structs.replace(dict(creations(lab))["image"], start=True)
    lab.create(template.spec)
    lab.clear()
    call, request = lab.call(), fresh(template)
    result = lab.driver.create(call, request)
    expected, guards = comparable(lab, request.instance, result), call.guards
    assert starts(lab, result.name) == 1
    for n in range(1, guards + 2):
        lab.clear()
        request, call = fresh(template), lab.call(crash_at=n)
        killed(lab.driver, "create", call, request)
        driver = lab.another_driver()
        result = driver.create(call.again(), request)
        assert starts(lab, result.name) == 1, f"killed at {n} of {guards}"
        assert comparable(lab, request.instance, result) == expected, f"killed at {n} of {guards}"
        driver.close()


def test_a_create_cancelled_at_any_changing_call_leaves_nothing_behind(lab):
    template = msgspec.structs.replace(dict(creations(lab))["image"], start=True)
    lab.create(template.spec)
    lab.clear()
    empty = lab.inventory()
    call = lab.call()
    lab.driver.create(call, fresh(template))
    lab.clear()
    for n in range(1, call.guards + 1):
        with pytest.raises(Cancelled):
            lab.driver.create(lab.call(cancel_at=n), fresh(template))
        assert lab.inventory() == empty, f"cancelled at {n} of {call.guards}"


def test_a_destroy_that_is_cancelled_once_it_has_begun_goes_on_to_the_end(lab):
    empty = lab.inventory()
    call = lab.call()
    lab.driver.destroy(call, r.Destroy(instance=lab.create(start=False).id))
    instance = lab.create(start=False).id
    with pytest.raises(Cancelled):
        lab.driver.destroy(lab.call(cancel_at=1), r.Destroy(instance=instance))
    assert lab.exists(instance)
    lab.destroy(instance)
    for n in range(2, call.guards + 1):
        assert lab.driver.destroy(lab.call(cancel_at=n), r.Destroy(instance=lab.create(start=False).id)) == Destroyed()
        assert without_cache(lab.inventory()) == without_cache(empty)


def test_a_reboot_that_is_cancelled_leaves_the_instance_running(lab):
    instance = lab.create().id
    for n in (1, 2, 3):
        try:
            lab.driver.reboot(lab.call(cancel_at=n), r.Reboot(instance=instance))
        except Cancelled:
            assert n < 3, "stopped already: the cancel came too late and the reboot has to end well"
        assert lab.get(instance).power_state is PowerState.RUNNING


def without_cache(inventory: dict[str, Any]) -> dict[str, Any]:
    for found in inventory.values():
        if "pools" in found:
            found["pools"]["lab"] = [name for name in found["pools"]["lab"] if not name.startswith("cached-")]
    return {
        key: [path for path in found if "/cached-" not in path] if isinstance(found, list) else found
        for key, found in inventory.items()
    }


def test_a_revoked_create_changes_nothing_more_and_undoes_nothing(lab):
    template = dict(creations(lab))["kernel"]
    lab.create(template.spec, start=False)
    lab.clear()
    call = lab.call(revoke_at=4)
    with pytest.raises(Revoked):
        lab.driver.create(call, fresh(template))
    assert call.guards == 4
    assert len(lab.inventory()["host0"]["domains"]) == 1


def test_a_create_cancelled_after_the_kill_of_an_earlier_attempt_removes_what_that_had_made(lab):
    template = dict(creations(lab))["image"]
    lab.create(template.spec, start=False)
    lab.clear()
    empty, request, call = lab.inventory(), fresh(template), lab.call(crash_at=7)
    killed(lab.driver, "create", call, request)
    assert lab.inventory() != empty
    with pytest.raises(Cancelled):
        lab.another_driver().create(call.again(cancel_at=1), request)
    assert lab.inventory() == empty


class OutOfTime(RecordedCall):
    """Its deadline passes at a guard: the worker raises timed_out there, once."""

    late_at = 0

    def guard(self) -> None:
        super().guard()
        if self.guards == self.late_at:
            raise TimedOut("the deadline has passed")


def test_a_create_whose_deadline_passes_at_any_changing_call_leaves_nothing_behind(lab):
    template = msgspec.structs.replace(dict(creations(lab))["kernel"], start=True)
    call = lab.call()
    lab.driver.create(call, fresh(template))
    lab.clear()
    empty = lab.inventory()
    for n in range(1, call.guards + 1):
        late = OutOfTime(clock=call.clock)
        late.late_at = n
        with pytest.raises(TimedOut, match="deadline"):
            lab.driver.create(late, fresh(template))
        assert without_cache(lab.inventory()) == without_cache(empty), f"late at {n} of {call.guards}"


class DiesWhileWaiting(RecordedCall):
    """Dies at the first wait: the hypervisor has begun what it was asked."""

    def sleep(self, seconds: float) -> None:
        raise SimulatedCrash("crashed while waiting")


def test_a_save_that_an_earlier_attempt_began_is_waited_for_and_not_begun_again(lab):
    instance = lab.create().id
    call = DiesWhileWaiting(clock=lab.call().clock)
    with pytest.raises(SimulatedCrash):
        lab.driver.suspend(call, r.Suspend(instance=instance))
    again = lab.call(operation=call.operation, attempt=2)
    result = lab.another_driver().suspend(again, r.Suspend(instance=instance))
    assert (result.power_state, again.guards) == (PowerState.SUSPENDED, 0)


def test_a_cancelled_save_is_given_up_and_the_guest_runs_on(lab):
    instance = lab.create().id
    call = lab.call()

    class CancelledWhileSaving(RecordedCall):
        def sleep(self, seconds: float) -> None:
            if not self.slept:
                self.cancel()
            super().sleep(seconds)

    call = CancelledWhileSaving(clock=call.clock)
    try:
        result = lab.driver.suspend(call, r.Suspend(instance=instance))
    except Cancelled:
        assert lab.get(instance).power_state is PowerState.RUNNING
        assert not lab.native().lookupByUUIDString(instance).hasManagedSaveImage()
    else:
        # The save was faster than the cancel: then the operation has succeeded, and says so.
        assert result.power_state is PowerState.SUSPENDED


@pytest.mark.parametrize(
    ("case", "native"),
    [
        ("power_on", lambda domain: domain.create()),
        ("power_on of a suspended instance", lambda domain: domain.create()),
        ("resume", lambda domain: domain.create()),
        ("power_off", lambda domain: domain.destroy()),
        ("unpause", lambda domain: domain.resume()),
        ("suspend", lambda domain: domain.managedSave()),
    ],
)
def test_an_older_call_that_comes_through_at_the_last_moment_counts_as_done(lab, case, native):
    scenario = SCENARIOS[case]
    _, _, expected = undisturbed(lab, scenario)
    instance = prepared(lab, scenario)
    call = lab.meddling(1, lambda: native(lab.native().lookupByUUIDString(instance)))
    result = run(lab.driver, scenario.operation, call, scenario.request(instance))
    assert comparable(lab, instance, result) == expected


def test_somebody_who_moves_the_instance_elsewhere_meanwhile_makes_a_conflict(lab):
    instance = lab.create().id
    call = lab.meddling(1, lambda: lab.native().lookupByUUIDString(instance).destroy())
    with pytest.raises(Conflict, match="not running"):
        lab.driver.pause(call, r.Pause(instance=instance))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_destroy_that_somebody_overtakes_succeeds_and_leaves_nothing(lab, at):
    instance = lab.create(start=False).id
    call = lab.meddling(at, lambda: lab.native().lookupByUUIDString(instance).undefine())
    assert lab.driver.destroy(call, r.Destroy(instance=instance)) == Destroyed()
    left = lab.inventory()["host0"]
    assert not left["domains"]
    assert not any(instance in name for names in left["pools"].values() for name in names)


@pytest.mark.parametrize("case", [name for name in SCENARIOS if not SCENARIOS[name].needs_guest])
def test_an_operation_that_is_revoked_before_its_first_change_changes_nothing(lab, case):
    scenario = SCENARIOS[case]
    instance = prepared(lab, scenario)
    before = lab.inventory()
    with pytest.raises(Revoked):
        run(lab.driver, scenario.operation, lab.call(revoke_at=1), scenario.request(instance))
    assert lab.inventory() == before
