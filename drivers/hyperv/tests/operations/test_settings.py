"""What a machine is given on its host: memory that is static or not, signed boot, addresses, and notes that stay others'."""

from __future__ import annotations

import pytest

from federation.contract.errors import NotFound
from federation_hyperv.cim import Instance

MIB = 1 << 20
FLAVOUR = {"vcpus": 1, "memory_bytes": 512 * MIB}


def _settings(lab, made, class_name="Msvm_VirtualSystemSettingData"):
    link = lab.driver._fleet.host("HV1").link
    (machine,) = [
        one for one in link.query("SELECT * FROM Msvm_VirtualSystemSettingData") if one["ElementName"] == made.name
    ]  # fmt: skip
    (found,) = [
        one for one in link.query(f"SELECT * FROM {class_name}")
        if str(one["InstanceID"]).startswith(str(machine["InstanceID"]))
    ]  # fmt: skip
    return found


def _memory(lab, made):
    found = _settings(lab, made, "Msvm_MemorySettingData")
    return found["DynamicMemoryEnabled"], found["Reservation"], found["VirtualQuantity"], found["Limit"]


def test_memory_is_static_unless_a_minimum_is_asked_for_and_a_resize_keeps_which(lab):
    static = lab.create(flavour=FLAVOUR)
    dynamic = lab.create(flavour=FLAVOUR, extensions={"hyperv": {"dynamic_memory_minimum_mib": 128}})
    assert _memory(lab, static) == (False, 512, 512, 512)
    assert _memory(lab, dynamic) == (True, 128, 512, 512)
    for made in (static, dynamic):
        shown = lab.ask("resize", instance=made.id, flavour={"vcpus": 2, "memory_bytes": 1024 * MIB})
        assert (shown.vcpus, shown.memory_bytes) == (2, 1024 * MIB)
    assert _memory(lab, static) == (False, 1024, 1024, 1024)
    assert _memory(lab, dynamic) == (True, 128, 1024, 1024)


@pytest.mark.parametrize("wanted", [None, True])
def test_a_machine_of_generation_2_starts_what_is_not_signed_unless_it_is_told_not_to(lab, wanted):
    options = {} if wanted is None else {"secure_boot": wanted}
    made = lab.create(flavour=FLAVOUR | {"firmware": "uefi"}, extensions={"hyperv": options})
    settings = _settings(lab, made)
    assert settings["VirtualSystemSubType"] == "Microsoft:Hyper-V:SubType:2"
    assert settings["SecureBootEnabled"] is bool(wanted)


def test_an_address_is_the_one_that_is_asked_for_or_one_of_microsoft_s_that_stays(lab):
    asked = lab.create(interfaces=[{"network": "external", "mac": "52:54:00:01:02:03", "vlan": 42}])
    assert [(one.mac, one.vlan) for one in asked.interfaces] == [("52:54:00:01:02:03", 42)]
    (given,) = lab.create(interfaces=[{"network": "external"}]).interfaces
    assert given.mac.startswith("00:15:5d:")
    with pytest.raises(NotFound, match="nowhere"):
        lab.create(interfaces=[{"network": "nowhere"}])


def test_what_others_write_into_the_notes_stays_through_every_operation(lab):
    made = lab.create(metadata={"owner": "somebody"})
    host = lab.driver._fleet.host("HV1")
    held = _settings(lab, made)
    others = ["  backed up on Monday ", "", "é ✓ 4711"]
    notes = "\n".join([others[0], *held["Notes"], *others[1:]])
    changed = Instance("Msvm_VirtualSystemSettingData", {"InstanceID": held["InstanceID"], "Notes": [notes]})
    service = host.service("Msvm_VirtualSystemManagementService")
    host.link.invoke(service, "ModifySystemSettings", {"SystemSettings": changed})
    lab.ask("power_on", instance=made.id)
    lab.ask("reboot", instance=made.id)
    taken = lab.ask("create_snapshot", instance=made.id, name="a", memory=True)
    lab.ask("revert_snapshot", instance=made.id, snapshot=taken.id)
    lab.ask("delete_snapshot", instance=made.id, snapshot=taken.id)
    lines = "\n".join(_settings(lab, made)["Notes"]).split("\n")
    assert [line for line in lines if not line.startswith("driver-federation:")] == others
    assert lab.ask("get_instance", instance=made.id).metadata == {"owner": "somebody"}
