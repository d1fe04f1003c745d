"""Defining, modifying and destroying machines: Msvm_VirtualSystemManagementService on a simulated host."""

from __future__ import annotations

import datetime as dt
from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.testing import resources, words
from federation_hyperv.testing.host import Guest, Refused, SimulatedHost, new_identifier
from federation_hyperv.testing.parameters import embedded, machine_of

Arguments = dict[str, Any]
_ROOT = "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V"
_IMMUTABLE = {"InstanceID", "VirtualSystemIdentifier", "VirtualSystemType", "VirtualSystemSubType", "CreationTime"}


def define_system(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """DefineSystem: the machine with the devices that every machine has, and those that were asked for."""
    asked = embedded(arguments.get("SystemSettings"), "Msvm_VirtualSystemSettingData")
    wanted = [embedded(text, "") for text in arguments.get("ResourceSettings") or []]
    machine, settings = _new_machine(host, asked)
    for item in wanted:
        resources.add(host, settings, item)
    host.record(str(machine["Name"]), "define", str(settings["ElementName"]))
    return {"ResultingSystem": machine.reference, "ReturnValue": ReturnCode.COMPLETED}


def _new_machine(host: SimulatedHost, asked: Instance) -> tuple[Instance, Instance]:
    identifier = new_identifier()
    now = dt.datetime.now(dt.UTC)
    name = asked["ElementName"] or "New Virtual Machine"
    subtype = asked["VirtualSystemSubType"] or words.GENERATION_1
    machine = host.repository.add(Instance("Msvm_ComputerSystem", {
        "Name": identifier, "CreationClassName": "Msvm_ComputerSystem", "ElementName": name,
        "Caption": "Virtual Machine", "Description": words.MACHINE_DESCRIPTION, "EnabledState": int(words.State.OFF),
        "RequestedState": 12, "HealthState": 5, "OperationalStatus": [2], "Status": "OK", "EnabledDefault": 3,
        "StatusDescriptions": ["Operating normally"], "OnTimeInMilliseconds": 0, "InstallDate": now,
        "TimeOfLastStateChange": now, "TimeOfLastConfigurationChange": now, "NumberOfNumaNodes": 1, "ProcessID": 0,
    }))  # fmt: skip
    settings = asked.copy(
        InstanceID=f"Microsoft:{identifier}", ElementName=name, VirtualSystemIdentifier=identifier,
        ConfigurationID=identifier, VirtualSystemType=words.REALIZED, VirtualSystemSubType=subtype, CreationTime=now,
        Notes=asked["Notes"] or [], ConfigurationDataRoot=asked["ConfigurationDataRoot"] or _ROOT,
        SnapshotDataRoot=asked["SnapshotDataRoot"] or _ROOT, Caption="Virtual Machine Settings",
        Description="Active settings for the virtual machine.", Version=asked["Version"] or "10.0",
        ConfigurationFile=f"Virtual Machines\\{identifier}.vmcx",
        AutomaticStartupAction=asked["AutomaticStartupAction"] or 2,
        AutomaticShutdownAction=asked["AutomaticShutdownAction"] or 3, IsSaved=False,
    )  # fmt: skip
    host.repository.add(settings)
    host.repository.tie("Msvm_SettingsDefineState", ManagedElement=machine, SettingData=settings)
    system = host.repository.find(
        Reference("Msvm_ComputerSystem", (("CreationClassName", "Msvm_ComputerSystem"), ("Name", host.name)))
    )
    if system is not None:
        host.repository.tie("Msvm_HostedDependency", Antecedent=system, Dependent=machine)
    host.guests[identifier] = Guest()
    resources.add_default(host, settings, words.MEMORY)
    resources.add_default(host, settings, words.PROCESSOR)
    if subtype == words.GENERATION_1:
        for address in ("0", "1"):
            resources.add_default(host, settings, words.IDE, Address=address)
        for number in (1, 2):
            resources.add_default(host, settings, words.SERIAL, ElementName=f"COM {number}", Connection=[""])
    return machine, settings


def modify_system(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """ModifySystemSettings: the properties that are given replace those that are there."""
    given = embedded(arguments.get("SystemSettings"), "Msvm_VirtualSystemSettingData")
    settings = host.repository.find(Reference(given.class_name, (("InstanceID", str(given["InstanceID"])),)))
    if settings is None:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    for name, value in given.properties.items():
        if name not in _IMMUTABLE and value is not None:
            settings[name] = value
    identifier = str(settings["VirtualSystemIdentifier"])
    machine = host.machine(identifier)
    if machine is not None:
        if settings["VirtualSystemType"] == words.REALIZED:
            machine["ElementName"] = settings["ElementName"]
        machine["TimeOfLastConfigurationChange"] = dt.datetime.now(dt.UTC)
        changed = sorted(set(given.properties) - _IMMUTABLE)
        host.record(identifier, "modify", str(settings["InstanceID"]), properties=changed)
    return {"ReturnValue": ReturnCode.COMPLETED}


def destroy_system(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """DestroySystem: refused unless the machine is off or saved; its disks stay."""
    machine = machine_of(host, arguments.get("AffectedSystem"))
    identifier = str(machine["Name"])
    if machine["EnabledState"] not in {words.State.OFF, words.State.SAVED} or identifier in host.busy:
        raise Refused(ReturnCode.V2_INVALID_STATE)

    def finish() -> None:
        host.record(identifier, "destroy")
        forget(host, machine)

    job = host.start_job("Msvm_ConcreteJob", "Destroy System", machine, finish, machine=identifier)
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}


def forget(host: SimulatedHost, machine: Instance) -> None:
    """Remove a machine and everything of it from a host's repository."""
    for settings in [host.settings_of(machine), *host.repository.associated(machine, "Msvm_SnapshotOfVirtualSystem")]:
        for item in host.resources(settings):
            for feature in host.repository.associated(item, "Msvm_EthernetPortSettingDataComponent"):
                host.repository.remove(feature.reference)
            host.repository.remove(item.reference)
        host.repository.remove(settings.reference)
    for device in host.repository.associated(machine, "Msvm_SystemDevice"):
        host.repository.remove(device.reference)
    host.repository.remove(machine.reference)
    host.guests.pop(str(machine["Name"]), None)
