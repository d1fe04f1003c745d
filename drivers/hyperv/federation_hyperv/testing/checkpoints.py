"""Checkpoints: Msvm_VirtualSystemSnapshotService on a simulated host.

A checkpoint is settings of their own with copies of the machine's resources; applying one puts the copies back and, when
it was taken of a running machine, leaves the machine saved, as Hyper-V does.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.testing import power, words
from federation_hyperv.testing.host import Refused, SimulatedHost, new_identifier
from federation_hyperv.testing.parameters import machine_of

Arguments = dict[str, Any]


def create(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """CreateSnapshot: always a job; the checkpoint is what the job affects."""
    machine = machine_of(host, arguments.get("AffectedSystem"))
    identifier = str(machine["Name"])
    if identifier in host.busy or machine["EnabledState"] not in {
        words.State.RUNNING, words.State.OFF, words.State.SAVED, words.State.PAUSED,
    }:  # fmt: skip
        raise Refused(ReturnCode.V2_INVALID_STATE)
    settings = host.settings_of(machine)
    taken = new_identifier()
    now = dt.datetime.now(dt.UTC)
    snapshot = settings.copy(
        InstanceID=f"Microsoft:{taken}", ConfigurationID=taken, VirtualSystemType=words.SNAPSHOT, CreationTime=now,
        ElementName=f"{settings['ElementName']} - ({now:%m/%d/%Y - %H:%M:%S})", Parent=_current(host, machine),
        IsSaved=machine["EnabledState"] in {words.State.RUNNING, words.State.SAVED, words.State.PAUSED},
    )  # fmt: skip

    def finish() -> None:
        host.repository.add(snapshot)
        _copy_resources(host, settings, snapshot)
        host.repository.tie("Msvm_SnapshotOfVirtualSystem", Antecedent=machine, Dependent=snapshot)
        host.repository.tie("Msvm_AffectedJobElement", AffectedElement=snapshot, AffectingElement=job)
        _set_current(host, machine, snapshot)
        host.record(identifier, "create_checkpoint", str(snapshot["InstanceID"]))

    job = host.start_job("Msvm_ConcreteJob", "Create Snapshot", machine, finish, machine=identifier)
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}


def apply(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """ApplySnapshot: refused while the machine runs."""
    snapshot, machine = _snapshot(host, arguments.get("Snapshot"))
    identifier = str(machine["Name"])
    if host.is_running(machine) or identifier in host.busy:
        raise Refused(ReturnCode.V2_INVALID_STATE)

    def finish() -> None:
        settings = host.settings_of(machine)
        for item in host.resources(settings):
            host.repository.remove(item.reference)
        for name, value in snapshot.properties.items():
            if name not in {"InstanceID", "VirtualSystemType", "ElementName", "Notes", "CreationTime", "ConfigurationID",
                            "VirtualSystemIdentifier", "IsSaved", "Parent"}:  # fmt: skip
                settings[name] = value
        _copy_resources(host, snapshot, settings)
        _set_current(host, machine, snapshot)
        goal = words.State.SAVED if snapshot["IsSaved"] else words.State.OFF
        power.reach(host, machine, goal, cold=False)
        host.record(identifier, "apply_checkpoint", str(snapshot["InstanceID"]))

    job = host.start_job("Msvm_ConcreteJob", "Apply Snapshot", machine, finish, machine=identifier)
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}


def destroy(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """DestroySnapshot: its children become children of its parent."""
    snapshot, machine = _snapshot(host, arguments.get("AffectedSnapshot"))
    identifier = str(machine["Name"])
    if identifier in host.busy:
        raise Refused(ReturnCode.V2_INVALID_STATE)

    def finish() -> None:
        for other in host.repository.associated(machine, "Msvm_SnapshotOfVirtualSystem"):
            if other["Parent"] == snapshot.path:
                other["Parent"] = snapshot["Parent"]
        target = str(snapshot["InstanceID"])
        for item in host.resources(snapshot):
            host.repository.remove(item.reference)
        host.repository.remove(snapshot.reference)
        host.record(identifier, "destroy_checkpoint", target)

    job = host.start_job("Msvm_ConcreteJob", "Destroy Snapshot", machine, finish, machine=identifier)
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}


def _snapshot(host: SimulatedHost, reference: Any) -> tuple[Instance, Instance]:
    found = host.repository.find(reference) if isinstance(reference, Reference) else None
    if found is None or found.class_name != "Msvm_VirtualSystemSettingData":
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    machine = host.machine(str(found["VirtualSystemIdentifier"]))
    if machine is None or found["VirtualSystemType"] != words.SNAPSHOT:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    return found, machine


def _copy_resources(host: SimulatedHost, source: Instance, target: Instance) -> None:
    """Resources of one set of settings under the ids of another, their parents too."""
    old, new = str(source["InstanceID"]), str(target["InstanceID"])
    for item in host.resources(source):
        copied = item.copy(InstanceID=str(item["InstanceID"]).replace(old, new, 1))
        if "Parent" in item.cim_class.properties and item["Parent"]:
            copied["Parent"] = str(item["Parent"]).replace(old, new)
        host.repository.add(copied)
        host.repository.tie("Msvm_VirtualSystemSettingDataComponent", GroupComponent=target, PartComponent=copied)


def _current(host: SimulatedHost, machine: Instance) -> str | None:
    found = host.repository.associated(machine, "Msvm_MostCurrentSnapshotInBranch")
    return found[0].path if found else None


def _set_current(host: SimulatedHost, machine: Instance, snapshot: Instance) -> None:
    for class_name in ("Msvm_MostCurrentSnapshotInBranch", "Msvm_LastAppliedSnapshot"):
        for tie in [
            item for item in host.repository.all(class_name) if item["Antecedent"].identity() == machine.reference.identity()
        ]:  # fmt: skip
            host.repository.remove_tie(tie)
        host.repository.tie(class_name, Antecedent=machine, Dependent=snapshot)
