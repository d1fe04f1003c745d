"""GetSummaryInformation: what was asked for of each machine, in one answer."""

from __future__ import annotations

import time
from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.testing import words
from federation_hyperv.testing.host import SimulatedHost

Arguments = dict[str, Any]

# The numbers of RequestedInformation, from the page of GetSummaryInformation.
REQUESTS = {
    0: "Name", 1: "ElementName", 2: "CreationTime", 3: "Notes", 4: "NumberOfProcessors", 8: "AllocatedGPU",
    9: "VirtualSwitchNames", 10: "Version", 11: "Shielded", 100: "EnabledState", 101: "ProcessorLoad",
    102: "ProcessorLoadHistory", 103: "MemoryUsage", 104: "Heartbeat", 105: "UpTime", 106: "GuestOperatingSystem",
    107: "Snapshots", 108: "AsynchronousTasks", 109: "HealthState", 110: "OperationalStatus",
    111: "StatusDescriptions", 112: "MemoryAvailable", 113: "AvailableMemoryBuffer",
}  # fmt: skip


def get_summary(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """One Msvm_SummaryInformation for each settings; all machines when none are named."""
    references = arguments.get("SettingData") or []
    if references:
        found = [host.repository.find(item) for item in references if isinstance(item, Reference)]
        settings = [item for item in found if item is not None]
    else:
        settings = [host.settings_of(machine) for machine in host.machines()]
    wanted = {REQUESTS[number] for number in arguments.get("RequestedInformation") or [] if number in REQUESTS}
    return {
        "SummaryInformation": [_summary(host, item, wanted) for item in settings], "ReturnValue": ReturnCode.COMPLETED,
    }  # fmt: skip


def _summary(host: SimulatedHost, settings: Instance, wanted: set[str]) -> Instance:
    machine = host.machine(str(settings["VirtualSystemIdentifier"]))
    made = Instance("Msvm_SummaryInformation", {"InstanceID": settings["InstanceID"]})
    if machine is None:
        return made
    identifier = str(machine["Name"])
    running = host.is_running(machine)
    guest = host.guests[identifier]
    up = time.monotonic() - guest.running_since if guest.running_since is not None else 0.0
    processors = host.resources(settings, "Msvm_ProcessorSettingData")
    ports = host.resources(settings, "Msvm_EthernetPortAllocationSettingData")
    values: dict[str, Any] = {
        "Name": identifier, "ElementName": settings["ElementName"], "CreationTime": settings["CreationTime"],
        "Notes": "\n".join(settings["Notes"] or []), "EnabledState": machine["EnabledState"],
        "NumberOfProcessors": processors[0]["VirtualQuantity"] if processors else 0,
        "ProcessorLoad": 1 if running else 0, "ProcessorLoadHistory": [],
        "MemoryUsage": host.memory_of(machine) >> 20 if running else 0, "UpTime": int(up * 1000),
        "Heartbeat": 2 if machine["EnabledState"] == words.State.RUNNING else 12, "HealthState": machine["HealthState"],
        "OperationalStatus": machine["OperationalStatus"], "StatusDescriptions": machine["StatusDescriptions"],
        "Version": settings["Version"], "VirtualSwitchNames": [str(port["LastKnownSwitchName"] or "") for port in ports],
        "MemoryAvailable": 0, "AvailableMemoryBuffer": 0, "Shielded": False, "GuestOperatingSystem": "",
        "Snapshots": host.repository.associated(machine, "Msvm_SnapshotOfVirtualSystem"),
        "AsynchronousTasks": [], "AllocatedGPU": "",
    }  # fmt: skip
    for name in wanted:
        made[name] = values[name]
    made["VirtualSystemSubType"] = settings["VirtualSystemSubType"]
    made["HostComputerSystemName"] = host.name
    return made
