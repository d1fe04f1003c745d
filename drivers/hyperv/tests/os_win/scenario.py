"""os-win, unmodified, driving a host: one step after another, each with what must be true after it.

Run in os-win's own environment; prints one JSON line of what was done.  os-win imports and
uses `wmi` only where the platform is called win32, so that name is changed once everything is imported.
"""

from __future__ import annotations

import json
import os
import sys

import wmi
from os_win import constants, exceptions
from os_win.utils import baseutils
from os_win.utils.compute import vmutils10
from os_win.utils.network import networkutils

# What `import wmi` does in these modules on Windows.
baseutils.wmi = wmi
wmi.x_wmi = exceptions.x_wmi
sys.platform = "win32"

DONE: list[str] = []
NAME = "os-win-machine"
DISK = os.environ["HYPERV_DISK"]


def step(name: str, *, holds: bool) -> None:
    """Note a step, or end with its name when what must be true is not."""
    if not holds:
        raise SystemExit(f"failed: {name}")
    DONE.append(name)


def create(vm: vmutils10.VMUtils10) -> None:
    vm.check_admin_permissions()
    vm.create_vm(
        NAME, vnuma_enabled=False, vm_gen=constants.VM_GEN_2, instance_path="C:\\vms", notes=["id-1", "second"]
    )
    step("create", holds=vm.vm_exists(NAME) and NAME in vm.list_instances())
    step("notes", holds=(NAME, ["id-1", "second"]) in vm.list_instance_notes())
    step("generation", holds=vm.get_vm_generation(NAME) == constants.VM_GEN_2)
    vm.update_vm(
        NAME, memory_mb=2048, memory_per_numa_node=None, vcpus_num=4, vcpus_per_numa_node=None,
        limit_cpu_features=False, dynamic_mem_ratio=2.0, snapshot_type=None,
    )  # fmt: skip
    memory = vm.get_vm_memory_info(NAME)
    step(
        "configure", holds=memory["DynamicMemoryEnabled"] and memory["Limit"] == 2048 and memory["Reservation"] == 1024
    )
    step("processors", holds=vm.get_vm_summary_info(NAME)["NumberOfProcessors"] == 4)


def states(vm: vmutils10.VMUtils10) -> None:
    for wanted in (
        constants.HYPERV_VM_STATE_ENABLED, constants.HYPERV_VM_STATE_PAUSED, constants.HYPERV_VM_STATE_ENABLED,
        constants.HYPERV_VM_STATE_SUSPENDED, constants.HYPERV_VM_STATE_ENABLED,
    ):  # fmt: skip
        vm.set_vm_state(NAME, wanted)
        step(f"state {wanted}", holds=vm.get_vm_state(NAME) == wanted)
    vm.set_vm_state(NAME, constants.HYPERV_VM_STATE_REBOOT)
    step("reset", holds=vm.get_vm_state(NAME) == constants.HYPERV_VM_STATE_ENABLED)
    vm.set_vm_state(NAME, constants.HYPERV_VM_STATE_ENABLED)  # 32775, which os-win takes for done
    step("active", holds=NAME in vm.get_active_instances() and vm.get_vm_summary_info(NAME)["UpTime"] >= 0)


def disks(vm: vmutils10.VMUtils10) -> None:
    vm.create_scsi_controller(NAME)
    controller = vm.get_vm_scsi_controller(NAME)
    vm.attach_scsi_drive(NAME, DISK)
    step("attach", holds=vm.is_disk_attached(DISK, is_physical=False) and vm.get_vm_storage_paths(NAME)[0] == [DISK])
    info = vm.get_disk_attachment_info(DISK, is_physical=False)
    step("where attached", holds=info["controller_slot"] == 0 and info["controller_path"] == controller)
    step("next slot", holds=vm.get_free_controller_slot(controller) == 1)
    try:
        vm.attach_drive(NAME, "C:\\disks\\absent.vhdx", controller, 5)
    except exceptions.HyperVException:
        step("absent disk refused and drive undone", holds=vm.get_free_controller_slot(controller) == 1)
    else:
        step("absent disk refused", holds=False)
    vm.detach_vm_disk(NAME, DISK, is_physical=False)
    step("detach", holds=not vm.is_disk_attached(DISK, is_physical=False) and not vm.get_attached_disks(controller))
    vm.attach_scsi_drive(NAME, DISK)


def adapters(vm: vmutils10.VMUtils10, network: networkutils.NetworkUtilsR2) -> None:
    vm.create_nic(NAME, "port-1", "00:15:5d:aa:bb:cc")
    step("adapter", holds=vm.get_vm_nic_names(NAME) == ["port-1"])
    step("address", holds=network.get_vnic_mac_address("port-1") == "00155daabbcc")
    network.connect_vnic_to_vswitch("external", "port-1")
    network.set_vswitch_port_vlan_id(123, "port-1")
    step("switch", holds=network.get_vswitch_external_network_name("external") == "Ethernet 0")
    network.set_vswitch_port_vlan_id(124, "port-1")
    port = network._get_switch_port_allocation("port-1")[0]
    step("vlan", holds=network._get_vlan_setting_data_from_port_alloc(port).AccessVlanId == 124)
    network.set_vswitch_port_mac_spoofing("port-1", state=True)
    step("spoofing", holds=network._get_security_setting_data_from_port_alloc(port).AllowMacSpoofing)
    network.remove_switch_port("port-1")
    vm.destroy_nic(NAME, "port-1")
    step("adapter gone", holds=not vm.get_vm_nic_names(NAME))


def checkpoints(vm: vmutils10.VMUtils10) -> None:
    first = vm.take_vm_snapshot(NAME, "first")
    second = vm.take_vm_snapshot(NAME, "second")
    step("checkpoints", holds=sorted(vm.get_vm_snapshots(NAME)) == sorted([first, second]))
    step("by name", holds=vm.get_vm_snapshots(NAME, "second") == [second])
    vm.remove_vm_snapshot(first)
    step("checkpoint gone", holds=vm.get_vm_snapshots(NAME) == [second])
    vm.remove_vm_snapshot(second)


def end(vm: vmutils10.VMUtils10) -> None:
    try:
        vm.destroy_vm(NAME)
    except exceptions.WMIJobFailed as refused:
        step("running machine stays", holds=refused.error_code == 32775 and vm.vm_exists(NAME))
    vm.soft_shutdown_vm(NAME)
    vm.stop_vm_jobs(NAME)
    vm.set_vm_state(NAME, constants.HYPERV_VM_STATE_DISABLED)
    vm.destroy_vm(NAME)
    step("destroy", holds=not vm.vm_exists(NAME))
    try:
        vm.get_vm_summary_info(NAME)
    except exceptions.HyperVVMNotFoundException:
        step("not found", holds=True)


def main() -> None:
    vm, network = vmutils10.VMUtils10(), networkutils.NetworkUtilsR2()
    create(vm)
    states(vm)
    vm.set_vm_state(NAME, constants.HYPERV_VM_STATE_DISABLED)
    disks(vm)
    adapters(vm, network)
    checkpoints(vm)
    vm.set_vm_state(NAME, constants.HYPERV_VM_STATE_ENABLED)
    end(vm)
    print(json.dumps(DONE))


main()
