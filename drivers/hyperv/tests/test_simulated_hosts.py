"""The simulated hosts behave as Hyper-V's pages and its clients say, seen through real requests."""

import dataclasses
import subprocess
import time

import pytest

from federation_hyperv.cim import CIMV2, Instance, Reference
from federation_hyperv.cim.codes import Meaning
from federation_hyperv.cim.embedded import read_embedded
from federation_hyperv.testing import Fault, FaultKind
from federation_hyperv.testing.words import TRANSITIONS, Request, State
from federation_hyperv.wsman import CallFailed, InstanceNotFound, JobFailed, WsmanFault, follow

DISK = "C:\\disks\\one.vhdx"


def kinds(cluster):
    return [effect.kind for effect in cluster.effects()]


def refused(meaning):
    return pytest.raises(CallFailed, match=str(meaning))


@pytest.mark.parametrize("state", [State.OFF, State.RUNNING, State.PAUSED, State.SAVED])
def test_every_request_for_a_state_is_granted_or_refused_as_the_table_says(cluster, operator, state):
    machine = operator.define("m")
    way = {State.OFF: (), State.RUNNING: (2,), State.PAUSED: (2, 9), State.SAVED: (2, 6)}[state]
    for request in Request:
        current = operator.state(machine)
        if current != State.OFF:
            operator.request(machine, Request.DISABLED)
        for step in way:
            operator.request(machine, step)
        goal = TRANSITIONS.get((state, request))
        if goal is None:
            with refused(Meaning.INVALID_STATE):
                operator.request(machine, request)
            assert operator.state(machine) == state
        else:
            operator.request(machine, request)
            assert operator.state(machine) == goal


def test_a_machine_is_busy_while_a_job_works_on_it(cluster, operator):
    machine = operator.define("m")
    cluster.order(Fault(kind=FaultKind.HANG_JOB, action="RequestStateChange", seconds=0.5))
    outputs = operator.host.invoke(machine, "RequestStateChange", RequestedState=2)
    assert operator.state(machine) == State.STARTING
    with refused(Meaning.INVALID_STATE):
        operator.host.invoke(machine, "RequestStateChange", RequestedState=3)
    seen = []
    report = follow(operator.host, outputs, seconds=10, pause_seconds=0.01, on_progress=seen.append)
    assert report.percent == 100
    assert [one.percent for one in seen] == sorted(one.percent for one in seen)
    assert operator.state(machine) == State.RUNNING


def test_a_failed_job_keeps_its_code_and_its_words_and_changes_nothing(cluster, operator):
    machine = operator.define("m")
    cluster.order(Fault(kind=FaultKind.FAIL_JOB, action="RequestStateChange", code=0x80070020, description="in use"))
    with pytest.raises(JobFailed, match="in use") as failure:
        operator.request(machine, 2)
    assert (failure.value.code, failure.value.meaning) == (32, Meaning.CONFLICT)
    assert kinds(cluster) == ["define"]


def test_a_disk_is_a_file_that_other_programs_read(cluster, operator):
    operator.disk(DISK, 3 << 30)
    place = cluster.host("HV1").files.place(DISK)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", str(place)], capture_output=True, text=True, check=True, timeout=30
    )
    assert '"virtual-size": 3221225472' in told.stdout
    subprocess.run(["qemu-img", "check", "-f", "vhdx", str(place)], check=True, capture_output=True, timeout=30)
    with pytest.raises(JobFailed) as failure:
        operator.disk(DISK)
    assert failure.value.code == 80


def test_a_differencing_disk_names_its_parent_and_a_disk_grows_but_never_shrinks(operator):
    operator.disk(DISK)
    operator.disk("C:\\disks\\child.vhdx", 0, Type=4, ParentPath=DISK)
    images = operator.service("ImageManagementService")
    found = read_embedded(
        operator.host.invoke(images, "GetVirtualHardDiskSettingData", Path="C:\\disks\\child.vhdx")["SettingData"]
    )
    assert (found["Type"], found["ParentPath"], found["MaxInternalSize"]) == (4, DISK, 1 << 30)
    operator.call("ImageManagementService", "ResizeVirtualHardDisk", Path=DISK, MaxInternalSize=2 << 30)
    with pytest.raises(JobFailed):
        operator.call("ImageManagementService", "ResizeVirtualHardDisk", Path=DISK, MaxInternalSize=1 << 30)
    with refused(Meaning.NOT_FOUND):
        operator.host.invoke(images, "GetVirtualHardDiskState", Path="C:\\disks\\absent.vhdx")


@pytest.mark.parametrize("size", [5 << 30, 8 << 40])
def test_a_disk_that_another_program_filled_grows_and_keeps_what_it_holds(operator, cluster, tmp_path, size):
    raw, grown = tmp_path / "raw", tmp_path / "grown"
    raw.write_bytes(b"federation" * 100_000)
    place = cluster.host("HV1").files.place(DISK)
    place.parent.mkdir(parents=True)
    for command in (["resize", "-q", "-f", "raw", raw, "1G"], ["convert", "-O", "vhdx", "-f", "raw", raw, place]):
        subprocess.run(["qemu-img", *map(str, command)], check=True, timeout=60)
    operator.call("ImageManagementService", "ResizeVirtualHardDisk", Path=DISK, MaxInternalSize=size)
    subprocess.run(["qemu-img", "check", "-f", "vhdx", str(place)], check=True, capture_output=True, timeout=30)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", str(place)], capture_output=True, text=True, check=True, timeout=30
    )
    assert f'"virtual-size": {size}' in told.stdout
    copy = ["qemu-img", "dd", "-f", "vhdx", "-O", "raw", "bs=1000000", "count=1", f"if={place}", f"of={grown}"]
    subprocess.run(copy, check=True, timeout=60)
    assert grown.read_bytes()[:1_000_000] == b"federation" * 100_000


def test_a_file_is_seen_copied_and_deleted_but_not_while_a_machine_has_it_open(operator):
    operator.disk(DISK)
    machine = operator.define("m")
    operator.attach(machine, DISK)
    operator.request(machine, 2)
    file = Reference("CIM_DataFile", (("Name", DISK),), CIMV2)
    assert operator.host.get(file)["FileSize"] > 0
    with pytest.raises(CallFailed):
        operator.host.invoke(file, "Delete")
    operator.host.invoke(file, "Copy", FileName="C:\\disks\\copy.vhdx")
    operator.host.invoke(Reference("CIM_DataFile", (("Name", "C:\\disks\\copy.vhdx"),), CIMV2), "Delete")
    with pytest.raises(InstanceNotFound):
        operator.host.get(Reference("CIM_DataFile", (("Name", "C:\\disks\\copy.vhdx"),), CIMV2))


def test_two_machines_do_not_run_on_one_disk(operator):
    operator.disk(DISK)
    first, second = operator.define("first"), operator.define("second")
    for machine in (first, second):
        operator.attach(machine, DISK)
    operator.request(first, 2)
    with pytest.raises(JobFailed, match="another process"):
        operator.request(second, 2)
    assert operator.state(second) == State.OFF


def test_a_drive_has_one_place_and_goes_with_its_disk(operator):
    operator.disk(DISK)
    machine = operator.define("m")
    disk = operator.attach(machine, DISK)
    controller = operator.host.query(
        "SELECT * FROM Msvm_ResourceAllocationSettingData WHERE ResourceType = 6 AND NOT InstanceID LIKE '%Default'"
    )[0]
    with refused(Meaning.INVALID_REQUEST):
        operator.add(
            machine, operator.default("Synthetic Disk Drive").copy(Parent=controller.path, AddressOnParent="0")
        )
    with refused(Meaning.INVALID_STATE):
        operator.call(
            "VirtualSystemManagementService", "RemoveResourceSettings", ResourceSettings=[controller.reference]
        )
    drive = Reference("Msvm_ResourceAllocationSettingData", (("InstanceID", disk["InstanceID"].replace("\\L", "\\D")),))
    operator.call("VirtualSystemManagementService", "RemoveResourceSettings", ResourceSettings=[disk.reference, drive])
    operator.call("VirtualSystemManagementService", "RemoveResourceSettings", ResourceSettings=[controller.reference])


def test_a_checkpoint_brings_back_what_the_machine_had(operator, cluster):
    operator.disk(DISK)
    machine = operator.define("m")
    operator.attach(machine, DISK)
    snapshots = "VirtualSystemSnapshotService"
    operator.call(snapshots, "CreateSnapshot", AffectedSystem=machine, SnapshotType=2)
    taken = operator.host.associators(machine, association="Msvm_SnapshotOfVirtualSystem")[0]
    settings = operator.settings(machine)
    memory = operator.host.associators(settings.reference, result="Msvm_MemorySettingData")[0]
    operator.call(
        "VirtualSystemManagementService", "ModifyResourceSettings", ResourceSettings=[memory.copy(VirtualQuantity=4096)]
    )
    operator.call(snapshots, "ApplySnapshot", Snapshot=taken.reference)
    memory = operator.host.associators(operator.settings(machine).reference, result="Msvm_MemorySettingData")[0]
    assert memory["VirtualQuantity"] == 1024
    assert cluster.effects()[-1].after["disks"] == [DISK]
    operator.request(machine, 2)
    with refused(Meaning.INVALID_STATE):
        operator.call(snapshots, "ApplySnapshot", Snapshot=taken.reference)
    operator.call(snapshots, "DestroySnapshot", AffectedSnapshot=taken.reference)
    assert operator.host.associators(machine, association="Msvm_SnapshotOfVirtualSystem") == []


def test_a_running_machine_moves_with_all_it_has_to_another_host(cluster, operator, connect):
    path = "\\\\files\\vms\\one.vhdx"
    operator.disk(path)
    machine = operator.define("m", Notes=["mine"])
    operator.attach(machine, path)
    operator.request(machine, 2)
    operator.call(
        "VirtualSystemMigrationService", "MigrateVirtualSystemToHost", ComputerSystem=machine, DestinationHost="HV2"
    )
    with pytest.raises(InstanceNotFound):
        operator.host.get(machine)
    there = connect("HV2")
    assert there.get(machine)["EnabledState"] == State.RUNNING
    settings = there.associators(machine, association="Msvm_SettingsDefineState")[0]
    assert settings["Notes"] == ["mine"]
    disk = there.associators(settings.reference, result="Msvm_StorageAllocationSettingData")[0]
    assert disk["HostResource"] == [path]
    assert disk["Parent"].startswith("\\\\HV2\\")
    last = cluster.effects()[-1]
    assert (last.kind, last.node, last.after["boots"]) == ("migrate", "HV2", 1)


@pytest.mark.parametrize("reason", ["local disk", "lost host", "unknown host"])
def test_a_migration_that_cannot_be_leaves_the_machine_where_it_was(cluster, operator, reason):
    machine = operator.define("m")
    if reason == "local disk":
        operator.disk(DISK)
        operator.attach(machine, DISK)
    if reason == "lost host":
        cluster.lose("HV2")
    with pytest.raises(JobFailed):
        operator.call(
            "VirtualSystemMigrationService", "MigrateVirtualSystemToHost", ComputerSystem=machine,
            DestinationHost="HV9" if reason == "unknown host" else "HV2",
        )  # fmt: skip
    assert operator.state(machine) == State.OFF
    assert "migrate" not in kinds(cluster)


def test_a_guest_shuts_down_when_it_is_asked_and_obeys(cluster, operator):
    machine = operator.define("m")
    operator.request(machine, 2)
    component = operator.host.associators(machine, association="Msvm_SystemDevice", result="Msvm_ShutdownComponent")[0]
    operator.host.invoke(component.reference, "InitiateShutdown", Force=False, Reason="test")
    end = time.monotonic() + 5
    while operator.state(machine) != State.OFF:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert kinds(cluster)[-1] == "guest_shutdown"
    assert operator.host.associators(machine, association="Msvm_SystemDevice", result="Msvm_ShutdownComponent") == []


def test_the_port_of_an_adapter_has_a_switch_and_a_vlan(operator):
    machine = operator.define("m")
    adapter = operator.add(
        machine,
        operator.default("Synthetic Ethernet Port").copy(
            ElementName="a", Address="00155D010203", StaticMacAddress=True
        ),
    )
    switch = operator.host.query("SELECT * FROM Msvm_VirtualEthernetSwitch WHERE ElementName = 'external'")[0]
    port = operator.add(
        machine, operator.default("Ethernet Connection").copy(Parent=adapter.path, HostResource=[switch.path])
    )
    assert port["LastKnownSwitchName"] == "external"
    vlan = Instance("Msvm_EthernetSwitchPortVlanSettingData", {"AccessVlanId": 7, "OperationMode": 1})
    operator.call(
        "VirtualSystemManagementService",
        "AddFeatureSettings",
        AffectedConfiguration=port.reference,
        FeatureSettings=[vlan],
    )
    found = operator.host.associators(port.reference, association="Msvm_EthernetPortSettingDataComponent")
    assert [item["AccessVlanId"] for item in found] == [7]
    with refused(Meaning.INVALID_REQUEST):
        operator.add(machine, operator.default("Ethernet Connection").copy(Parent=adapter.path + "x"))


def test_memory_that_is_not_there_keeps_a_machine_from_starting(operator):
    machine = operator.define("m")
    memory = operator.host.associators(operator.settings(machine).reference, result="Msvm_MemorySettingData")[0]
    operator.call(
        "VirtualSystemManagementService",
        "ModifyResourceSettings",
        ResourceSettings=[memory.copy(VirtualQuantity=1 << 20)],
    )
    with pytest.raises(JobFailed) as failure:
        operator.request(machine, 2)
    assert failure.value.meaning is Meaning.INSUFFICIENT_RESOURCES
    assert operator.state(machine) == State.OFF


@pytest.mark.parametrize("elements", [1, 2, 7, 1000])
def test_an_enumeration_is_pulled_in_parts_of_any_size(operator, monkeypatch, elements):
    names = {f"m{number}" for number in range(5)}
    for name in names:
        operator.define(name)
    monkeypatch.setattr("federation_hyperv.wsman.host._PULL_ITEMS", elements)
    found = operator.host.query("SELECT ElementName FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'")
    assert {item["ElementName"] for item in found} == names


def test_what_is_no_query_and_what_is_no_class_is_a_fault_of_its_own(host):
    with pytest.raises(WsmanFault) as wrong:
        host.query("SELECT FROM WHERE")
    assert wrong.value.code in {0x8033801A, 0x80041017}
    with pytest.raises(WsmanFault) as absent:
        host.query("SELECT * FROM Msvm_Imaginary")
    assert absent.value.code in {0x80338000, 0x80041010}


def test_a_query_for_a_property_that_the_class_does_not_have_is_no_query(host):
    with pytest.raises(WsmanFault) as wrong:
        host.query("SELECT Name, Imaginary FROM Msvm_ComputerSystem")
    assert wrong.value.code in {0x8033801A, 0x80041017}


def test_some_properties_of_a_class_are_those_of_the_whole_instance(operator):
    operator.define("m", Notes=["one", "two"])
    asked = "InstanceID, Notes, VirtualSystemIdentifier, CreationTime"
    whole = operator.host.query("SELECT * FROM Msvm_VirtualSystemSettingData")
    some = operator.host.query(f"SELECT {asked} FROM Msvm_VirtualSystemSettingData")
    assert [dict(one.properties) for one in some] == [
        {name: one.properties[name] for name in one if name in asked.split(", ")} for one in whole
    ]


def test_no_answer_is_larger_than_the_host_sends(cluster, operator):
    for number in range(60):
        operator.define(f"m{number}")
    management = operator.service("VirtualSystemManagementService")
    before = cluster.requests("HV1")
    assert len(operator.host.query("SELECT * FROM CIM_ResourceAllocationSettingData")) > 120
    assert cluster.requests("HV1") - before == 1
    cluster.host("HV1").facts = dataclasses.replace(cluster.host("HV1").facts, max_envelope_bytes=20_000)
    before = cluster.requests("HV1")
    assert len(operator.host.query("SELECT * FROM CIM_ResourceAllocationSettingData")) > 120
    assert cluster.requests("HV1") - before > 5
    with pytest.raises(WsmanFault, match="MaxEnvelopeSize"):
        operator.host.invoke(management, "GetSummaryInformation", RequestedInformation=[0, 1, 100])
