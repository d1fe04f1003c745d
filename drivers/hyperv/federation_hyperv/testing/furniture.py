"""What every host has: its own computer system, services, pools, defaults for new resources, switches, and Win32 facts."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING

from federation_hyperv.cim import Instance
from federation_hyperv.testing import words

if TYPE_CHECKING:
    from federation_hyperv.testing.host import SimulatedHost

SERVICES = {
    "Msvm_VirtualSystemManagementService": "vmms",
    "Msvm_VirtualSystemSnapshotService": "vmms",
    "Msvm_VirtualSystemMigrationService": "vmms",
    "Msvm_ImageManagementService": "vmms",
    "Msvm_VirtualEthernetSwitchManagementService": "nvspwmi",
    "Msvm_TerminalService": "vmms",
    "Msvm_MetricService": "vmms",
}
_DEFAULTS = {
    words.SCSI: "Msvm_ResourceAllocationSettingData",
    words.IDE: "Msvm_ResourceAllocationSettingData",
    words.DISK_DRIVE: "Msvm_ResourceAllocationSettingData",
    words.DVD_DRIVE: "Msvm_ResourceAllocationSettingData",
    words.PHYSICAL_DRIVE: "Msvm_ResourceAllocationSettingData",
    words.SERIAL: "Msvm_ResourceAllocationSettingData",
    words.HARD_DISK: "Msvm_StorageAllocationSettingData",
    words.DVD_DISK: "Msvm_StorageAllocationSettingData",
    words.NETWORK_ADAPTER: "Msvm_SyntheticEthernetPortSettingData",
    words.LEGACY_ADAPTER: "Msvm_EmulatedEthernetPortSettingData",
    words.CONNECTION: "Msvm_EthernetPortAllocationSettingData",
    words.DISPLAY: "Msvm_SyntheticDisplayControllerSettingData",
    words.MEMORY: "Msvm_MemorySettingData",
    words.PROCESSOR: "Msvm_ProcessorSettingData",
}
FEATURES = (
    "Msvm_EthernetSwitchPortVlanSettingData",
    "Msvm_EthernetSwitchPortSecuritySettingData",
    "Msvm_EthernetSwitchPortBandwidthSettingData",
    "Msvm_EthernetSwitchPortOffloadSettingData",
    "Msvm_EthernetSwitchPortProfileSettingData",
    "Msvm_EthernetSwitchPortAclSettingData",
)


def furnish(host: SimulatedHost) -> None:
    """Put all of it there."""
    keep = host.repository.add
    system = keep(Instance("Msvm_ComputerSystem", {
        "Name": host.name, "CreationClassName": "Msvm_ComputerSystem", "ElementName": host.name,
        "Caption": "Hosting Computer System", "Description": words.HOST_DESCRIPTION, "EnabledState": 2,
        "RequestedState": 12, "HealthState": 5, "OperationalStatus": [2], "Status": "OK", "InstallDate": host.booted,
    }))  # fmt: skip
    for class_name, short in SERVICES.items():
        service = Instance(class_name, {
            "CreationClassName": class_name, "Name": short, "SystemName": host.name,
            "SystemCreationClassName": "Msvm_ComputerSystem", "ElementName": class_name.removeprefix("Msvm_"),
            "EnabledState": 5, "Started": True, "Status": "OK", "OperationalStatus": [2],
        })  # fmt: skip
        keep(service)
        host.repository.tie("Msvm_HostedService", Antecedent=system, Dependent=service)
    _settings_of_services(host)
    _defaults(host)
    for index, name in enumerate(host.facts.switches):
        add_switch(host, name, index)
    _windows(host)


def _settings_of_services(host: SimulatedHost) -> None:
    keep = host.repository.add
    root = "C:\\ProgramData\\Microsoft\\Windows\\Virtual Hard Disks"
    keep(Instance("Msvm_VirtualSystemManagementServiceSettingData", {
        "InstanceID": f"Microsoft:{host.name}", "DefaultVirtualHardDiskPath": root, "ElementName": "Hyper-V Settings",
        "DefaultExternalDataRoot": "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V", "NumaSpanningEnabled": True,
    }))  # fmt: skip
    migration = keep(Instance("Msvm_VirtualSystemMigrationServiceSettingData", {
        "InstanceID": f"Microsoft:{host.name}\\Migration", "EnableVirtualSystemMigration": True,
        "MaximumActiveVirtualSystemMigration": 2, "MaximumActiveStorageMigration": 2, "AuthenticationType": 0,
    }))  # fmt: skip
    service = host.repository.one("Msvm_VirtualSystemMigrationService")
    service["MigrationServiceListenerIPAddressList"] = ["127.0.0.1"]
    host.repository.tie("Msvm_ElementSettingData", ManagedElement=service, SettingData=migration)
    keep(Instance("Msvm_TerminalServiceSettingData", {
        "InstanceID": f"Microsoft:{host.name}\\Terminal", "ElementName": "Terminal", "ListenerPort": 2179,
    }))  # fmt: skip
    keep(Instance("Msvm_VirtualSystemCapabilities", {"InstanceID": f"Microsoft:{host.name}\\Capabilities"}))


_BOUNDS = {
    "Msvm_ProcessorSettingData": {"Minimum": 1, "Maximum": 2048, "Increment": 1},
    "Msvm_MemorySettingData": {"Minimum": 32, "Maximum": 12 << 20, "Increment": 2},
}
"""What a machine of Windows Server may have at least and at most, in MiB of memory ("Plan for Hyper-V scalability")."""


def _defaults(host: SimulatedHost) -> None:
    for subtype, class_name in _DEFAULTS.items():
        default = Instance(class_name, {
            "InstanceID": f"Microsoft:Definition\\{_stable(subtype)}\\Default", "ResourceSubType": subtype,
            "ResourceType": words.RESOURCE_TYPES[subtype], "ElementName": subtype.rpartition(":")[2],
            "Caption": subtype.rpartition(":")[2], "Description": f"Settings for the {subtype.rpartition(':')[2]}.",
            "PoolID": "", "AutomaticAllocation": True, "AutomaticDeallocation": True, "ConsumerVisibility": 3,
        })  # fmt: skip
        if class_name == "Msvm_MemorySettingData":
            default = default.copy(
                VirtualQuantity=1024,
                Reservation=1024,
                Limit=1048576,
                Weight=5000,
                DynamicMemoryEnabled=False,
                AllocationUnits="byte * 2^20",
                MaxMemoryBlocksPerNumaNode=32768,
                TargetMemoryBuffer=20,
            )
        elif class_name == "Msvm_ProcessorSettingData":
            default = default.copy(
                VirtualQuantity=1,
                Reservation=0,
                Limit=100000,
                Weight=100,
                LimitProcessorFeatures=False,
                AllocationUnits="percent / 1000",
                MaxProcessorsPerNumaNode=64,
            )
        host.defaults[subtype] = host.repository.add(default)
        for value, quantity in _BOUNDS.get(class_name, {}).items():
            bound = str(default["InstanceID"]).replace("\\Default", f"\\{value}")
            host.repository.add(default.copy(InstanceID=bound, VirtualQuantity=quantity))
    for class_name in FEATURES:
        host.repository.add(Instance(class_name, {
            "InstanceID": f"Microsoft:Definition\\{_stable(class_name)}\\Default",
            "ElementName": class_name.removeprefix("Msvm_EthernetSwitchPort"),
        }))  # fmt: skip
    host.repository.add(Instance("Msvm_VirtualHardDiskSettingData", {
        "InstanceID": "Microsoft:Definition\\VHD\\Default", "Type": 3, "Format": 3, "BlockSize": 0,
        "LogicalSectorSize": 512, "PhysicalSectorSize": 4096, "MaxInternalSize": 0,
    }))  # fmt: skip
    host.repository.add(Instance("Msvm_VirtualSystemMigrationSettingData", {
        "InstanceID": "Microsoft:Definition\\Migration\\Default", "MigrationType": 32768, "TransportType": 5,
    }))  # fmt: skip


def _stable(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name)).upper()


def add_switch(host: SimulatedHost, name: str, index: int) -> Instance:
    """Put an external virtual switch there, with the chain that leads to the host's adapter."""
    identifier = _stable(f"{host.name}/{name}")
    keep = host.repository.add
    switch = keep(Instance("Msvm_VirtualEthernetSwitch", {
        "Name": identifier, "CreationClassName": "Msvm_VirtualEthernetSwitch", "ElementName": name,
        "Caption": "Virtual Switch", "EnabledState": 5, "HealthState": 5, "OperationalStatus": [2],
    }))  # fmt: skip
    keep(Instance("Msvm_VirtualEthernetSwitchSettingData", {
        "InstanceID": f"Microsoft:{identifier}", "ElementName": name, "VirtualSystemIdentifier": identifier,
    }))  # fmt: skip
    port = keep(Instance("Msvm_ExternalEthernetPort", {
        "DeviceID": f"Microsoft:{{{identifier}}}", "CreationClassName": "Msvm_ExternalEthernetPort",
        "SystemName": host.name, "SystemCreationClassName": "Msvm_ComputerSystem", "ElementName": f"Ethernet {index}",
        "PermanentAddress": f"00155D0000{index:02X}", "EnabledState": 2, "IsBound": True,
    }))  # fmt: skip
    ends = [
        keep(Instance("Msvm_LANEndpoint", {
            "Name": f"{identifier}\\{side}", "CreationClassName": "Msvm_LANEndpoint", "SystemName": owner,
            "SystemCreationClassName": owner_class, "ElementName": f"{name} {side}", "EnabledState": 5,
        }))
        for side, owner, owner_class in (
            ("port", host.name, "Msvm_ComputerSystem"), ("switch", identifier, "Msvm_VirtualEthernetSwitch"),
        )
    ]  # fmt: skip
    host.repository.tie("Msvm_EthernetDeviceSAPImplementation", Antecedent=port, Dependent=ends[0])
    host.repository.tie("Msvm_ActiveConnection", Antecedent=ends[1], Dependent=ends[0])
    return switch


def _windows(host: SimulatedHost) -> None:
    keep = host.repository.add
    facts = host.facts
    system = keep(Instance("Win32_ComputerSystem", {
        "Name": host.name, "DNSHostName": host.name, "Domain": "WORKGROUP", "Caption": host.name,
        "TotalPhysicalMemory": facts.memory_bytes, "NumberOfProcessors": 1, "SystemType": "x64-based PC",
        "NumberOfLogicalProcessors": facts.processors, "Manufacturer": "Simulated", "Model": "Simulated Hyper-V",
        "HypervisorPresent": True, "Status": "OK",
    }))  # fmt: skip
    keep(Instance("Win32_ComputerSystemProduct", {
        "IdentifyingNumber": _stable(host.name)[:8], "Name": "Simulated Hyper-V", "Version": "1", "Vendor": "Simulated",
        "UUID": _stable(f"{host.name}/uuid"), "Caption": "Computer System Product",
    }))  # fmt: skip
    keep(Instance("Win32_OperatingSystem", {
        "Name": "Microsoft Windows Server 2022 Standard|C:\\Windows|\\Device\\Harddisk0\\Partition3",
        "Caption": "Microsoft Windows Server 2022 Standard", "Version": "10.0.20348", "BuildNumber": "20348",
        "CSName": host.name, "LastBootUpTime": host.booted, "OSArchitecture": "64-bit", "ProductType": 3,
        "TotalVisibleMemorySize": facts.memory_bytes >> 10, "FreePhysicalMemory": facts.memory_bytes >> 10,
        "Manufacturer": "Microsoft Corporation", "Status": "OK", "OSType": 18,
    }))  # fmt: skip
    processor = keep(Instance("Win32_Processor", {
        "DeviceID": "CPU0", "Name": "Simulated Processor", "Architecture": 9, "Manufacturer": "GenuineIntel",
        "NumberOfCores": max(1, facts.processors // 2), "NumberOfLogicalProcessors": facts.processors,
        "MaxClockSpeed": 2400, "CurrentClockSpeed": 2400, "LoadPercentage": 0, "SocketDesignation": "CPU 0",
        "Description": "Simulated", "Caption": "Simulated", "AddressWidth": 64, "Family": 179, "Role": "CPU",
        "CpuStatus": 1, "ProcessorType": 3,
    }))  # fmt: skip
    host.repository.tie("Win32_ComputerSystemProcessor", GroupComponent=system, PartComponent=processor)
    keep(Instance("Win32_LogicalDisk", {
        "DeviceID": "C:", "Name": "C:", "Caption": "C:", "DriveType": 3, "FileSystem": "NTFS",
        "Size": facts.disk_bytes, "FreeSpace": facts.disk_bytes,
    }))  # fmt: skip


def with_moving_facts(host: SimulatedHost, instance: Instance) -> Instance:
    """Free memory, load and time as they are now."""
    if instance.class_name == "Win32_OperatingSystem":
        free = max(host.facts.memory_bytes - host.memory_in_use() - (2 << 30), 0)
        return instance.copy(FreePhysicalMemory=free >> 10, LocalDateTime=dt.datetime.now(dt.UTC))
    if instance.class_name == "Win32_Processor":
        running = sum(1 for machine in host.machines() if host.is_running(machine))
        return instance.copy(LoadPercentage=min(100, running))
    return instance
