"""Answers lost at any call, hosts lost in the middle, jobs that fail: what is left, and what is told."""

from __future__ import annotations

import logging
import threading
import time
import uuid

import pytest

from federation.contract.call import Revoked
from federation.contract.errors import HypervisorUnreachable, OperationError, OutcomeUnknown, PermissionDenied
from federation.contract.instances import PowerState
from federation_hyperv.testing.faults import Fault, FaultKind

MIB = 1 << 20
PASSWORD = "correct-horse-battery-canary"


def _comparable(lab, instance, node="HV1"):
    shown = lab.ask("get_instance", instance=instance.id)
    return shown.power_state, shown.vcpus, shown.memory_bytes, len(shown.disks), len(shown.interfaces), shown.metadata


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER])
@pytest.mark.parametrize(
    "method", ["DefineSystem", "ModifyResourceSettings", "CreateVirtualHardDisk", "AddResourceSettings",
               "ModifySystemSettings", "RequestStateChange", "AddFeatureSettings"],
)  # fmt: skip
def test_a_creation_whose_call_or_answer_is_lost_ends_as_if_nothing_had_happened(lab, kind, method):
    lab.cluster.order(Fault(kind=kind, action=method))
    interfaces = [{"network": "external", "vlan": 7}]
    made = lab.create(start=True, interfaces=interfaces, data_disks=[{"size_bytes": 16 * MIB}], metadata={"k": "v"})
    assert _comparable(lab, made) == (PowerState.RUNNING, 1, 256 * MIB, 2, 1, {"k": "v"})
    assert len([effect for effect in lab.cluster.effects() if effect.kind == "enabled"]) == 1, "it was started twice"
    lab.ask("destroy", instance=made.id)
    assert not [name for name in lab.files() if made.id in name]
    assert lab.ask("list_instances", foreign=True).instances == ()


def test_an_attempt_that_ends_at_any_guard_is_taken_up_by_the_next(lab, call_of):
    reference = call_of()
    request = {"spec": lab.spec(interfaces=[{"network": "external"}]), "start": True}
    lab.ask("create", reference, instance=str(uuid.uuid4()), **request)
    for guard in range(1, reference.guards + 1):
        instance, call = str(uuid.uuid4()), call_of(stop_at=guard, error=Revoked())
        spec = lab.spec(interfaces=[{"network": "external"}])
        with pytest.raises(Revoked):
            lab.ask("create", call, instance=instance, spec=spec, start=True)
        made = lab.ask("create", call.again(), driver=lab.another_driver(), instance=instance, spec=spec, start=True)
        assert made.power_state is PowerState.RUNNING
        assert len(made.interfaces) == 1
        assert len([one for one in lab.cluster.effects() if one.kind == "enabled" and one.name == made.name]) == 1
        lab.ask("destroy", instance=instance)


def test_a_disk_that_an_earlier_attempt_still_makes_is_waited_for(lab, call_of):
    lab.create()  # fetches the image
    lab.cluster.order(Fault(kind=FaultKind.HANG_JOB, action="CreateVirtualHardDisk", seconds=0.6))
    instance, call = str(uuid.uuid4()), call_of(revoked_in_stage="make the root disk")
    spec = lab.spec()
    with pytest.raises(Revoked):
        lab.ask("create", call, instance=instance, spec=spec, start=True)
    assert not [name for name in lab.files() if instance in name], "the disk was not to be there yet"
    again = call.again()
    made = lab.ask("create", again, driver=lab.another_driver(), instance=instance, spec=spec, start=True)
    assert made.power_state is PowerState.RUNNING
    assert "waiting for what an earlier attempt has begun" in again.stages
    lab.ask("destroy", instance=instance)
    assert not [name for name in lab.files() if instance in name]


def test_a_failed_job_is_told_in_its_own_words_and_undone(lab):
    lab.cluster.order(
        Fault(
            kind=FaultKind.PARTIAL_JOB,
            action="CreateVirtualHardDisk",
            code=112,
            description="There is not enough space.",
        )
    )
    with pytest.raises(OperationError, match="not enough space") as caught:
        lab.create(data_disks=[{"size_bytes": 16 * MIB}])
    assert caught.value.code == "insufficient_resources"
    assert [name for name in lab.files() if not name.startswith("cached-")] == []
    assert lab.ask("list_instances", foreign=True).instances == ()


def test_access_denied_is_permission_denied_and_names_the_group(lab):
    lab.cluster.order(Fault(kind=FaultKind.DENY, times=100))
    with pytest.raises(PermissionDenied, match="Hyper-V Administrators"):
        lab.ask("get_instance", instance=str(uuid.uuid4()))


def test_one_lost_host_hides_its_own_instances_only(lab):
    here, there = lab.create(node="HV1"), lab.create(node="HV2")
    lab.cluster.lose("HV2")
    page = lab.ask("list_instances")
    assert [one.id for one in page.instances] == [here.id]
    assert page.unreachable == ("HV2",)
    nodes = {node.name: node.reachable for node in lab.ask("list_nodes").nodes}
    assert nodes == {"HV1": True, "HV2": False}
    assert lab.ask("power_on", instance=here.id).power_state is PowerState.RUNNING
    with pytest.raises(HypervisorUnreachable):
        lab.ask("get_instance", instance=there.id)


@pytest.mark.parametrize("lost", ["HV1", "HV2"])
def test_a_machine_whose_migration_loses_a_host_is_on_exactly_one_of_them(lab, call_of, lost):
    made = lab.create(start=True)
    lab.cluster.order(Fault(kind=FaultKind.HANG_JOB, action="MigrateVirtualSystem", seconds=0.5))
    call = call_of()

    def lose() -> None:
        deadline = time.monotonic() + 20
        while call.guards < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        lab.cluster.lose(lost)

    thread = threading.Thread(target=lose)
    thread.start()
    code = "succeeded"
    try:
        lab.ask("migrate", call, instance=made.id, node="HV2", mode="live")
    except OperationError as error:
        code = error.code
    thread.join()
    assert code in {"succeeded", "outcome_unknown", "hypervisor_unreachable", "backend_unavailable"}
    lab.cluster.bring_back(lost)
    time.sleep(0.8)
    lab.ask("list_nodes")
    holders = [host.name for host in lab.cluster.hosts if host.machines()]
    assert len(holders) == 1
    try:
        shown = lab.ask("migrate", call.again(), instance=made.id, node="HV2", mode="live")
    except OutcomeUnknown:
        return
    assert shown.node == "HV2"
    assert [host.name for host in lab.cluster.hosts if host.machines()] == ["HV2"]


def test_the_password_is_in_no_log_and_no_message(lab, caplog):
    caplog.set_level(logging.DEBUG)
    driver = lab.another_driver()
    made = lab.create(start=True)
    lab.ask("get_instance", driver=driver, instance=made.id)
    lab.ask("destroy", driver=driver, instance=made.id)
    wrong = lab.folder / "wrong"
    wrong.write_text("another-canary-secret")
    with pytest.raises(PermissionDenied) as caught:
        lab.ask("get_instance", driver=lab.another_driver(password_file=str(wrong)), instance=made.id)
    text = caplog.text + str(caught.value) + str(caught.value.detail)
    assert caplog.records, "nothing was logged at all"
    assert PASSWORD not in text
    assert "another-canary-secret" not in text
