"""What a real vCenter does and its simulator does not: seen through a proxy that refuses, breaks off, delays and cuts."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import ssl
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.errors import (
    Cancelled,
    Conflict,
    HypervisorRefused,
    HypervisorUnreachable,
    OutcomeUnknown,
    PermissionDenied,
)
from federation.contract.instances import BootTemplate, Flavour, PowerState
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation_vmware.settings import Timeouts

MEBIBYTE = 1 << 20
_spec = importlib.util.spec_from_file_location("faulty_proxy", Path(__file__).with_name("faulty_proxy.py"))
_module: Any = importlib.util.module_from_spec(_spec)
sys.modules["faulty_proxy"] = _module
_spec.loader.exec_module(_module)


@pytest.fixture
def proxy(lab, tmp_path):
    proxy = _module.FaultyProxy(lab.vcenter, tmp_path / "proxy")
    yield proxy
    proxy.close()


@pytest.fixture
def driver(lab, proxy):
    """A driver that reaches vCenter through the proxy."""
    quick = Timeouts(
        request_seconds=3,
        task_seconds=20,
        busy_seconds=3,
        cancel_seconds=5,
        read_tries=3,
        settle_tries=3,
        watch_seconds=60,
    )
    return lab.another_driver(port=proxy.port, ca_file=proxy.ca_file, timeouts=quick)


def power_on(lab, driver, instance, **options):
    call = lab.call(**options)
    return call, driver.power_on(call, r.PowerOn(instance=instance))


def test_a_machine_that_is_busy_is_waited_for_and_then_started(lab, proxy, driver):
    instance = lab.create(start=False).id
    proxy.refuse("PowerOnVM_Task", "TaskInProgress", times=2)
    call, seen = power_on(lab, driver, instance)
    assert (seen.power_state, call.guards, proxy.seen["PowerOnVM_Task"]) == (PowerState.RUNNING, 3, 3)


def test_a_machine_that_stays_busy_is_a_conflict_and_unchanged(lab, proxy, driver):
    instance = lab.create(start=False).id
    proxy.refuse("PowerOnVM_Task", "TaskInProgress", times=-1)
    with pytest.raises(Conflict, match="TaskInProgress"):
        power_on(lab, driver, instance)
    assert lab.get(instance).power_state is PowerState.STOPPED


def test_a_change_names_the_version_that_it_was_made_for_and_concurrent_access_is_a_conflict(lab, proxy, driver):
    instance = lab.create(start=False).id
    version = b'<propSet><name>config.changeVersion</name><val xsi:type="xsd:string">2026-01-01T00:00:00.000001Z</val></propSet>'
    firmware = b"<propSet><name>config.firmware</name>"
    proxy.rewrite("RetrievePropertiesEx", firmware, version + firmware, times=-1)
    proxy.refuse("ReconfigVM_Task", "ConcurrentAccess")
    request = r.Resize(instance=instance, flavour=Flavour(vcpus=2, memory_bytes=192 * MEBIBYTE))
    with pytest.raises(Conflict, match="ConcurrentAccess"):
        driver.resize(lab.call(), request)
    sent = next(body for method, body in proxy.bodies if method == "ReconfigVM_Task")
    assert b"<changeVersion>2026-01-01T00:00:00.000001Z</changeVersion>" in sent
    assert lab.get(instance).vcpus == 1


def test_a_session_that_has_ended_is_opened_again_without_a_word(lab, proxy, driver):
    instance = lab.create(start=False).id
    driver.get_instance(lab.call(), r.GetInstance(instance=instance))
    proxy.refuse("FindByUuid", "NotAuthenticated")
    proxy.refuse("PowerOnVM_Task", "NotAuthenticated")
    call, seen = power_on(lab, driver, instance)
    assert (seen.power_state, call.guards, proxy.seen["Login"]) == (PowerState.RUNNING, 1, 3)


def test_credentials_that_are_refused_are_permission_denied_and_never_shown(lab, proxy, tmp_path):
    secret = tmp_path / "wrong"
    secret.write_text("hunter2-not-it")
    driver = lab.another_driver(port=proxy.port, ca_file=proxy.ca_file, password_file=str(secret))
    with pytest.raises(PermissionDenied, match="InvalidLogin") as refused:
        driver.list_instances(lab.call(), r.ListInstances())
    assert "hunter2" not in f"{refused.value} {refused.value.detail} {refused.value.__cause__}"
    report = driver.probe(lab.call(), r.Probe())
    assert (report.reachable, "hunter2" in report.message) == (False, False)


def test_an_account_that_was_refused_is_not_tried_until_it_is_locked_but_at_once_when_its_password_changes(
    lab, proxy, tmp_path
):
    secret = tmp_path / "wrong"
    secret.write_text("not it")
    quick = Timeouts(request_seconds=5, watch_seconds=0.02)
    driver = lab.another_driver(port=proxy.port, ca_file=proxy.ca_file, password_file=str(secret), timeouts=quick)
    for _ in range(20):
        with pytest.raises(PermissionDenied, match="InvalidLogin"):
            driver.list_instances(lab.call(), r.ListInstances())
    assert proxy.seen["Login"] <= 2, "the inventory's watcher and one caller may have come at once"
    secret.write_text(lab.vcenter.password)
    driver.list_instances(lab.call(), r.ListInstances())


def test_a_linked_clone_asks_for_a_child_of_the_templates_snapshot(lab, proxy, driver):
    boot = BootTemplate(template="small linux", linked=True)
    driver.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec(boot), start=False))
    [sent] = [body for method, body in proxy.bodies if method == "CloneVM_Task"]
    assert b"<diskMoveType>createNewChildDiskBacking</diskMoveType>" in sent
    assert re.search(rb'<snapshot type="VirtualMachineSnapshot">snapshot-\d+</snapshot>', sent)


def test_a_watch_that_is_begun_anew_leaves_nothing_of_the_old_one_at_vcenter(lab, proxy, driver):
    driver.list_instances(lab.call(), r.ListInstances())
    proxy.break_off("WaitForUpdatesEx", after=False, times=9)
    for _ in range(3):
        with pytest.raises(HypervisorUnreachable):
            driver.list_instances(lab.call(), r.ListInstances())
    driver.list_instances(lab.call(), r.ListInstances())
    begun, ended = proxy.seen["CreatePropertyCollector"], proxy.seen["DestroyPropertyCollector"]
    assert (begun, ended) == (4, 3)


def test_a_privilege_that_is_missing_is_named(lab, proxy, driver):
    instance = lab.create(start=False).id
    proxy.refuse("PowerOnVM_Task", "NoPermission")
    with pytest.raises(PermissionDenied, match=r"VirtualMachine\.Interact\.PowerOn"):
        power_on(lab, driver, instance)


def test_a_fault_that_nobody_knows_is_named(lab, proxy, driver):
    instance = lab.create(start=False).id
    proxy.refuse("PowerOnVM_Task", "SwapDatastoreUnset", "something odd")
    with pytest.raises(HypervisorRefused, match=r"SwapDatastoreUnset.*something odd"):
        power_on(lab, driver, instance)


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_that_breaks_in_the_middle_of_a_change_is_taken_up_and_nothing_done_twice(
    lab, proxy, driver, after
):
    instance = lab.create(start=False).id
    proxy.break_off("PowerOnVM_Task", after=after)
    call, seen = power_on(lab, driver, instance)
    assert seen.power_state is PowerState.RUNNING
    assert call.guards == (1 if after else 2)


@pytest.mark.parametrize("after", [False, True])
def test_a_clone_whose_answer_is_lost_is_found_again(lab, proxy, driver, after):
    proxy.break_off("CloneVM_Task", after=after)
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec())
    assert driver.create(lab.call(), request).power_state is PowerState.RUNNING
    same = [one for one in lab.eyes.machines() if one.name == request.spec.name]
    assert (len(same), proxy.seen["CloneVM_Task"]) == (1, 1 if after else 2)


def test_a_vcenter_that_does_not_come_back_leaves_the_outcome_unknown(lab, proxy, driver):
    instance = lab.create(start=False).id
    driver.get_instance(lab.call(), r.GetInstance(instance=instance))
    proxy.break_off("PowerOnVM_Task", after=True)
    proxy.break_off("FindByUuid", after=False, times=-1, skip=1)
    with pytest.raises(OutcomeUnknown, match="power_on"):
        power_on(lab, driver, instance)


def test_answers_that_are_cut_or_late_are_asked_for_again(lab, proxy, driver):
    instance = lab.create(start=False).id
    proxy.cut("RetrievePropertiesEx", times=1)
    proxy.delay("FindByUuid", 4.0, times=1)
    assert driver.get_instance(lab.call(), r.GetInstance(instance=instance)).id == instance
    proxy.delay("FindByUuid", 4.0, times=-1)
    with pytest.raises(HypervisorUnreachable, match="timed out"):
        driver.get_instance(lab.call(), r.GetInstance(instance=instance))


def test_progress_of_a_task_that_takes_long_is_reported(lab, proxy, driver):
    call = lab.call()
    halfway = _module.Rule("RetrievePropertiesEx", after=_half_done, times=4, contains=b"info.state")
    proxy.rules.append(halfway)
    driver.create(call, r.Create(instance=str(uuid.uuid4()), spec=lab.spec()))
    assert any(percent == 20.0 for percent, _ in call.progressed), call.progressed


def _half_done(answer):
    running = answer.replace(b">success</val>", b">running</val>")
    return re.sub(rb"(<name>info.progress</name><val [^>]*>)\d+", rb"\g<1>50", running)


def test_a_cancel_while_the_task_runs_cancels_it_and_undoes_what_it_made(lab, proxy, driver):
    before = len(lab.eyes.machines())

    class CancelledWhileWaiting(RecordedCall):
        interrupted = False

        def sleep(self, seconds: float) -> None:
            if not self.interrupted:
                self.interrupted = True
                self.cancel()
            super().sleep(seconds)

    proxy.still_running(3)
    call = CancelledWhileWaiting(clock=lab.call().clock, cluster="lab-cluster")
    with pytest.raises(Cancelled):
        driver.create(call, r.Create(instance=str(uuid.uuid4()), spec=lab.spec()))
    assert proxy.seen["CancelTask"] == 1
    assert len(lab.eyes.machines()) == before


def test_a_clone_that_a_dead_worker_left_running_is_waited_for_and_not_repeated(lab, proxy, driver):
    class DiesWhileWaiting(RecordedCall):
        def sleep(self, seconds: float) -> None:
            raise SimulatedCrash("crashed while waiting")

    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec())
    proxy.still_running(1)
    call = DiesWhileWaiting(clock=lab.call().clock, cluster="lab-cluster")
    with pytest.raises(SimulatedCrash):
        driver.create(call, request)
    proxy.still_running(2)
    again = lab.call(operation=call.operation, attempt=2)
    assert driver.create(again, request).power_state is PowerState.RUNNING
    assert any("earlier attempt" in stage for _, stage in again.progressed)
    assert proxy.seen["CloneVM_Task"] == 1


def test_a_cancel_that_meets_tasks_of_others_cancels_none_of_them_and_undoes_what_is_its_own(lab, proxy, driver):
    class DiesWhileWaiting(RecordedCall):
        def sleep(self, seconds: float) -> None:
            raise SimulatedCrash("crashed while waiting")

    before = len(lab.eyes.machines())
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec())
    proxy.still_running(1)
    call = DiesWhileWaiting(clock=lab.call().clock, cluster="lab-cluster")
    with pytest.raises(SimulatedCrash):
        driver.create(call, request)
    assert len(lab.eyes.machines()) == before + 1
    proxy.still_running(4)
    again = lab.call(operation=call.operation, attempt=2)
    again.cancel()
    with pytest.raises(Cancelled):
        driver.create(again, request)
    assert any("earlier attempt" in stage for _, stage in again.progressed)
    assert proxy.seen["CancelTask"] == 0
    assert len(lab.eyes.machines()) == before


def test_the_certificate_is_verified_and_a_thumbprint_takes_this_one_only(lab, proxy):
    with pytest.raises(HypervisorUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        lab.another_driver(port=proxy.port).list_instances(lab.call(), r.ListInstances())
    der = ssl.PEM_cert_to_DER_cert(Path(proxy.certificate).read_text())
    right = hashlib.sha256(der).hexdigest()
    pinned = msgspec.structs.replace(lab.settings, port=proxy.port, ca_file="", thumbprint=right)
    lab.another_driver(**msgspec.structs.asdict(pinned)).list_instances(lab.call(), r.ListInstances())
    wrong = lab.another_driver(port=proxy.port, ca_file="", thumbprint="00" * 32)
    with pytest.raises(HypervisorUnreachable, match="humbprint"):
        wrong.list_instances(lab.call(), r.ListInstances())
