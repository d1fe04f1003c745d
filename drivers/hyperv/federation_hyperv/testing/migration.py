"""Live migration between simulated hosts, and export: the machine is at one host or at the other, never at both."""

from __future__ import annotations

from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.cim.values import Value
from federation_hyperv.testing import machines, words
from federation_hyperv.testing.files import BadPath
from federation_hyperv.testing.host import Refused, SimulatedHost
from federation_hyperv.testing.jobs import JobError
from federation_hyperv.testing.parameters import embedded, machine_of

Arguments = dict[str, Any]
MACHINE_ONLY, STORAGE, STAGED, MACHINE_AND_STORAGE = 32768, 32769, 32770, 32771


def migrate(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """MigrateVirtualSystemToHost: a Msvm_MigrationJob; the machine changes hosts at its end, all of it at once."""
    machine = machine_of(host, arguments.get("ComputerSystem"))
    identifier = str(machine["Name"])
    destination = str(arguments.get("DestinationHost") or "")
    asked = arguments.get("MigrationSettingData")
    kind = embedded(asked, "Msvm_VirtualSystemMigrationSettingData")["MigrationType"] if asked else MACHINE_ONLY
    if kind not in {MACHINE_ONLY, MACHINE_AND_STORAGE}:
        raise Refused(ReturnCode.V2_NOT_SUPPORTED)
    if identifier in host.busy or machine["EnabledState"] == words.State.PAUSED:
        raise Refused(ReturnCode.V2_INVALID_STATE)

    def finish() -> None:
        _check(host, machine, destination, int(kind))
        _move(host, host.peers[destination.lower()], machine)

    job = host.start_job("Msvm_MigrationJob", "Migrate Virtual System", machine, finish, machine=identifier)
    job["DestinationHost"] = destination
    job["VirtualSystemName"] = identifier
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}


def check(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """CheckVirtualSystemIsMigratableToHost."""
    machine = machine_of(host, arguments.get("ComputerSystem"))
    try:
        _check(host, machine, str(arguments.get("DestinationHost") or ""), MACHINE_ONLY)
    except JobError:
        return {"IsMigratable": False, "ReturnValue": ReturnCode.COMPLETED}
    return {"IsMigratable": True, "ReturnValue": ReturnCode.COMPLETED}


def _check(host: SimulatedHost, machine: Instance, destination: str, kind: int) -> None:
    target = host.peers.get(destination.lower())
    if target is None or target is host or target.is_gone:
        raise JobError(53, f"The connection to the server '{destination}' could not be completed.")
    for disk in host.resources(host.settings_of(machine), "Msvm_StorageAllocationSettingData"):
        for path in disk["HostResource"] or []:
            if kind == MACHINE_ONLY and not host.files.is_shared(path):
                raise JobError(32784, f"'{path}' is not accessible from '{destination}'.")
    if host.is_running(machine) and target.memory_in_use() + host.memory_of(machine) > target.facts.memory_bytes:
        raise JobError(14, f"'{destination}' has not enough memory.")
    here = {item["ElementName"] for item in target.repository.all("Msvm_VirtualEthernetSwitch")}
    for port in host.resources(host.settings_of(machine), "Msvm_EthernetPortAllocationSettingData"):
        if port["HostResource"] and port["LastKnownSwitchName"] not in here:
            raise JobError(33012, f"'{destination}' has no virtual switch '{port['LastKnownSwitchName']}'.")


def _move(source: SimulatedHost, target: SimulatedHost, machine: Instance) -> None:
    identifier = str(machine["Name"])
    guest = source.guests[identifier]
    parts = _parts(source, machine)
    ties = [
        tie for class_name in (
            "Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingDataComponent", "Msvm_SnapshotOfVirtualSystem",
            "Msvm_SystemDevice", "Msvm_EthernetPortSettingDataComponent", "Msvm_MostCurrentSnapshotInBranch",
        )
        for tie in source.repository.all(class_name)
        if any(isinstance(end, Reference) and end.identity() in parts for end in tie.properties.values())
    ]  # fmt: skip
    _move_files(source, target, machine)
    machines.forget(source, machine)
    switches = {item["ElementName"]: item.path for item in target.repository.all("Msvm_VirtualEthernetSwitch")}
    for item in parts.values():
        for name, value in item.properties.items():
            item.properties[name] = _elsewhere(value, source.name, target.name)
        if item.class_name == "Msvm_EthernetPortAllocationSettingData" and item["LastKnownSwitchName"] in switches:
            item["HostResource"] = [switches[item["LastKnownSwitchName"]]]
        target.repository.add(item)
    for tie in ties:
        ends = {name: end for name, end in tie.properties.items() if isinstance(end, Reference)}
        target.repository.tie(tie.class_name, **ends)
    target.guests[identifier] = guest
    target.record(identifier, "migrate", target.name, source=source.name)


def _parts(host: SimulatedHost, machine: Instance) -> dict[Any, Instance]:
    found = [machine, *host.repository.associated(machine, "Msvm_SystemDevice")]
    for settings in [host.settings_of(machine), *host.repository.associated(machine, "Msvm_SnapshotOfVirtualSystem")]:
        items = host.resources(settings)
        features = [
            feature for item in items
            for feature in host.repository.associated(item, "Msvm_EthernetPortSettingDataComponent")
        ]  # fmt: skip
        found += [settings, *items, *features]
    return {item.reference.identity(): item for item in found}


def _elsewhere(value: Value, source: str, target: str) -> Value:
    """Object paths name their host; what moved names the new one."""
    if isinstance(value, str) and value.startswith(f"\\\\{source}\\root"):
        return value.replace(f"\\\\{source}\\", f"\\\\{target}\\", 1)
    if isinstance(value, list):
        return [_elsewhere(item, source, target) for item in value]  # type: ignore[misc]
    return value


def _move_files(source: SimulatedHost, target: SimulatedHost, machine: Instance) -> None:
    for disk in source.resources(source.settings_of(machine), "Msvm_StorageAllocationSettingData"):
        for path in disk["HostResource"] or []:
            if source.files.is_shared(path):
                continue
            old, new = source.files.place(path), target.files.place(path)
            new.parent.mkdir(parents=True, exist_ok=True)
            old.replace(new)


def export(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """ExportSystemDefinition: copies of the disks below the folder, in a folder of the machine's name."""
    machine = machine_of(host, arguments.get("ComputerSystem"))
    identifier = str(machine["Name"])
    try:
        folder = host.files.place(f"{arguments.get('ExportDirectory')}\\{machine['ElementName']}")
    except BadPath as error:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER) from error

    def finish() -> None:
        if folder.exists():
            raise JobError(80, f"The export folder of '{machine['ElementName']}' exists.")
        place = folder / "Virtual Hard Disks"
        place.mkdir(parents=True)
        for disk in host.resources(host.settings_of(machine), "Msvm_StorageAllocationSettingData"):
            for path in disk["HostResource"] or []:
                source = host.files.place(path)
                (place / source.name).write_bytes(source.read_bytes())
        host.record(identifier, "export", str(arguments.get("ExportDirectory")))

    job = host.start_job("Msvm_ConcreteJob", "Export System Definition", machine, finish, machine=identifier)
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}
