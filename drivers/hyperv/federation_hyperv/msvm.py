r"""Hyper-V's words: resource types, states, and the objects that its services take.  Pure.

Sources: Microsoft's pages of the root\virtualization\\v2 classes, named beside what comes from them.  Numbers of a
resource are those of CIM_ResourceAllocationSettingData.ResourceType.
"""

from __future__ import annotations

import re
from typing import Any

from federation.contract.instances import Firmware, Flavour, PowerState
from federation_hyperv.cim import Instance, Reference

REALIZED = "Microsoft:Hyper-V:System:Realized"
SNAPSHOT = "Microsoft:Hyper-V:Snapshot:Realized"
GENERATION_1 = "Microsoft:Hyper-V:SubType:1"
GENERATION_2 = "Microsoft:Hyper-V:SubType:2"

IDE_CONTROLLER = "Microsoft:Hyper-V:Emulated IDE Controller"
SCSI_CONTROLLER = "Microsoft:Hyper-V:Synthetic SCSI Controller"
DISK_DRIVE = "Microsoft:Hyper-V:Synthetic Disk Drive"
DVD_DRIVE = "Microsoft:Hyper-V:Synthetic DVD Drive"
DISK = "Microsoft:Hyper-V:Virtual Hard Disk"
DVD = "Microsoft:Hyper-V:Virtual CD/DVD Disk"
ETHERNET_PORT = "Microsoft:Hyper-V:Synthetic Ethernet Port"
ETHERNET_CONNECTION = "Microsoft:Hyper-V:Ethernet Connection"

MIB = 1 << 20

SCSI_SLOTS = 64
"""Of one synthetic SCSI controller."""

STATES = {
    2: PowerState.RUNNING,
    3: PowerState.STOPPED,
    4: PowerState.RUNNING,  # shutting down: the guest still runs
    6: PowerState.SUSPENDED,
    9: PowerState.PAUSED,
    32768: PowerState.PAUSED,
    32769: PowerState.SUSPENDED,
}
"""Msvm_ComputerSystem.EnabledState.  The last two are those of Windows Server 2008."""

START, STOP, SAVE, PAUSE, RESET = 2, 3, 6, 9, 11
"""Msvm_ComputerSystem.RequestStateChange."""

_INSTANCE_ID = re.compile(r'InstanceID="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_NAME = re.compile(r'(?:^|[.,])Name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


def power_state(enabled_state: int | None) -> PowerState:
    """The contract's word; states on the way from one to another have none."""
    return STATES.get(enabled_state or 0, PowerState.UNKNOWN)


def settled(enabled_state: int | None) -> bool:
    """Whether a machine is in a state that lasts."""
    return (enabled_state or 0) in STATES


def instance_id(path: str) -> str:
    r"""The InstanceID in a WMI path; empty when it names none.

    WMI writes ``\\\\HOST\\root\\virtualization\\v2:Class.InstanceID="Microsoft:…"`` with backslashes doubled.
    """
    found = _INSTANCE_ID.search(path)
    return _plain(found[1]) if found else ""


def name_in(path: str) -> str:
    """The key ``Name`` in a WMI path; empty when it has none."""
    found = _NAME.search(path)
    return _plain(found[1]) if found else ""


def setting_path(classname: str, identity: str) -> str:
    """The WMI path of a setting by its InstanceID, as ``Parent`` and ``HostResource`` take it."""
    return setting(identity, classname).path(".")


def setting(identity: str, classname: str = "Msvm_VirtualSystemSettingData") -> Reference:
    """The reference to a setting by its InstanceID."""
    return Reference(classname, (("InstanceID", identity),))


def machine(guid: str) -> Reference:
    """The reference to a machine's Msvm_ComputerSystem by Hyper-V's id of it."""
    return Reference("Msvm_ComputerSystem", (("CreationClassName", "Msvm_ComputerSystem"), ("Name", guid)))


def machine_of(identity: str) -> str:
    r"""The id of the machine or checkpoint that a setting belongs to: ``Microsoft:<guid>\\…``, upper case."""
    return identity.removeprefix("Microsoft:").partition("\\")[0].upper()


def system(  # noqa: PLR0913 (what a machine is)
    name: str, instance: str, firmware: Firmware, notes: str, *, folder: str, secure_boot: bool
) -> Instance:
    """Settings for DefineSystem (Msvm_VirtualSystemSettingData).

    Checkpoints are standard ones (UserSnapshotType 5), the host's stop saves nothing by itself, and the machine is not
    started with the host: the manager says what runs.
    """
    uefi = firmware is Firmware.UEFI
    properties: dict[str, Any] = {
        "ElementName": name,
        "VirtualSystemSubType": GENERATION_2 if uefi else GENERATION_1,
        "BIOSGUID": "{" + instance.upper() + "}",
        "Notes": [notes],
        "ConfigurationDataRoot": folder,
        "SnapshotDataRoot": folder,
        "SwapFileDataRoot": folder,
        "AutomaticStartupAction": 2,
        "UserSnapshotType": 5,
    }
    if uefi:
        properties["SecureBootEnabled"] = secure_boot
    return Instance("Msvm_VirtualSystemSettingData", properties)


def processors(identity: str, flavour: Flavour) -> Instance:
    """Msvm_ProcessorSettingData for ModifyResourceSettings; Hyper-V knows threads of a core and nothing above."""
    return Instance(
        "Msvm_ProcessorSettingData",
        {"InstanceID": identity, "VirtualQuantity": flavour.vcpus, "Reservation": 0, "Limit": 100_000},
    )


def memory(identity: str, flavour: Flavour, minimum_mib: int | None = None) -> Instance:
    """Msvm_MemorySettingData for ModifyResourceSettings, in MiB; dynamic from ``minimum_mib`` up when that is given."""
    total = flavour.memory_bytes // MIB
    least = total if minimum_mib is None else min(minimum_mib, total)
    return Instance(
        "Msvm_MemorySettingData",
        {
            "InstanceID": identity,
            "VirtualQuantity": total,
            "Reservation": least,
            "Limit": total,
            "DynamicMemoryEnabled": minimum_mib is not None,
        },
    )


def scsi_controller() -> Instance:
    """A synthetic SCSI controller."""
    return Instance(
        "Msvm_ResourceAllocationSettingData", {"ResourceType": 6, "ResourceSubType": SCSI_CONTROLLER}
    )  # fmt: skip


def drive(controller: str, slot: int, *, dvd: bool = False) -> Instance:
    """A drive in a slot of a controller (its WMI path)."""
    return Instance(
        "Msvm_ResourceAllocationSettingData",
        {
            "ResourceType": 16 if dvd else 17,
            "ResourceSubType": DVD_DRIVE if dvd else DISK_DRIVE,
            "Parent": controller,
            "AddressOnParent": str(slot),
        },
    )


def medium(drive_path: str, file: str, *, dvd: bool = False) -> Instance:
    """A disk file in a drive (its WMI path)."""
    return Instance(
        "Msvm_StorageAllocationSettingData",
        {
            "ResourceType": 16 if dvd else 31,
            "ResourceSubType": DVD if dvd else DISK,
            "Parent": drive_path,
            "HostResource": [file],
        },
    )


def port(mac: str, name: str) -> Instance:
    """A network adapter with a fixed address (Msvm_SyntheticEthernetPortSettingData)."""
    return Instance(
        "Msvm_SyntheticEthernetPortSettingData",
        {
            "ResourceType": 10,
            "ResourceSubType": ETHERNET_PORT,
            "ElementName": name,
            "StaticMacAddress": True,
            "Address": mac.replace(":", "").upper(),
        },
    )


def connection(port_path: str, switch_path: str) -> Instance:
    """The connection of an adapter to a virtual switch (Msvm_EthernetPortAllocationSettingData)."""
    return Instance(
        "Msvm_EthernetPortAllocationSettingData",
        {
            "ResourceType": 33,
            "ResourceSubType": ETHERNET_CONNECTION,
            "Parent": port_path,
            "HostResource": [switch_path],
            "EnabledState": 2,
        },
    )


def access_vlan(vlan: int) -> Instance:
    """The VLAN of a connection (Msvm_EthernetSwitchPortVlanSettingData, OperationMode 1: access)."""
    return Instance("Msvm_EthernetSwitchPortVlanSettingData", {"AccessVlanId": vlan, "OperationMode": 1})


def blank_disk(path: str, size_bytes: int) -> Instance:
    """A growing VHDX (Msvm_VirtualHardDiskSettingData, Type 3, Format 3)."""
    return Instance(
        "Msvm_VirtualHardDiskSettingData",
        {"Type": 3, "Format": 3, "Path": path, "MaxInternalSize": size_bytes, "BlockSize": 0, "LogicalSectorSize": 512},
    )


def child_disk(path: str, parent: str) -> Instance:
    """A differencing VHDX (Type 4) over another."""
    return Instance(
        "Msvm_VirtualHardDiskSettingData",
        {"Type": 4, "Format": 3, "Path": path, "ParentPath": parent},
    )


def copied_disk(path: str) -> Instance:
    """A growing VHDX that ConvertVirtualHardDisk makes of another, without a parent."""
    return Instance("Msvm_VirtualHardDiskSettingData", {"Type": 3, "Format": 3, "Path": path})


def mac_of(address: str) -> str:
    """``00155D010203`` as the contract has it."""
    digits = address.lower().replace("-", "").replace(":", "")
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _plain(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted)
