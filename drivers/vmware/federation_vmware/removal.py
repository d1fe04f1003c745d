"""destroy: stop a machine, let go of its volumes, remove it with its own disks."""

from __future__ import annotations

from typing import Any

from federation.contract.errors import HypervisorUnreachable, NotFound, OperationError, OutcomeUnknown
from federation.contract.instances import PowerState
from federation_vmware import facts, hardware, tasks
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session, gone
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet, Machine, replaced
from federation_vmware.ownership import Ownership


def destroy(fleet: Fleet, attempt: Attempt, instance: str) -> None:
    """Stop and remove an instance; one that is not there succeeds.

    A cancel or a deadline that comes after the first change comes too late: what is half removed is removed.
    """
    try:
        _destroy(fleet, attempt, instance)
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError as error:
        if error is not attempt.interruption or not (attempt.changes or attempt.recovering):
            raise
        _destroy(fleet, attempt, instance)


def _destroy(fleet: Fleet, attempt: Attempt, instance: str) -> None:
    found = fleet.find_any(instance)
    if found is None:
        return
    machine, look = found
    owner = machine.owner(look)
    try:
        machine.settled(attempt)
        remove(fleet, attempt, machine, owner)
    except NotFound:
        return  # an earlier attempt's last call has come through after we had looked


def remove(fleet: Fleet, attempt: Attempt, machine: Machine, owner: Ownership) -> None:
    """Stop a machine and remove it; NotFound when it vanishes meanwhile."""
    look = machine.look()
    if look.power_state is PowerState.RUNNING:
        attempt.progress(None, "stopping")
        machine.power_off(attempt)
        look = machine.look()
    kept = [disk for disk in facts.disks(look.devices) if _is_volume(disk, owner)]
    if kept:
        attempt.progress(None, "letting go of volumes")
        devices = [hardware.removed(disk) for disk in kept]
        machine.reconfigure(attempt, look, "detach volumes of", owner=replaced(owner, volumes=()), devices=devices)
    if owner.upload and not _in_use(look, owner.upload):
        delete_file(fleet, attempt, owner.upload)
    attempt.progress(None, "removing")
    try:
        machine.run(attempt, "remove", lambda one: one.Destroy_Task())
    except OperationError as error:
        if gone(error):
            raise NotFound(f"instance {machine.instance} has gone meanwhile", instance=machine.instance) from error
        raise


def delete_file(fleet: Fleet, attempt: Attempt, path: str) -> None:
    """Delete one file of a datastore; one that is not there stays away."""
    site = fleet.places.site()

    def start(session: Session) -> Any:
        where = session.bound(site.datacenter.reference)
        return session.content.fileManager.DeleteDatastoreFile_Task(path, where)

    try:
        tasks.run(fleet.connection, attempt, f"delete {path}", start)
    except OperationError as error:
        if error.detail.get("vsphere_fault") != "FileNotFound":
            raise


def _is_volume(disk: Any, owner: Ownership) -> bool:
    known = {volume.path: volume for volume in owner.volumes}
    return facts.chain_base(disk, known) in known


def _in_use(look: Look, path: str) -> bool:
    descriptor = path.replace("-flat.vmdk", ".vmdk")
    return any(facts.disk_path(disk) == descriptor for disk in facts.disks(look.devices))
