"""destroy, and the removal of everything that bears an instance's id."""

from __future__ import annotations

from federation.contract.errors import NotFound, OperationError
from federation.contract.instances import PowerState
from federation_hyperv import msvm, names, snapshots
from federation_hyperv.attempt import Attempt
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import VSMS, Host
from federation_hyperv.machine import Machine, store_of


def destroy(fleet: Fleet, attempt: Attempt, instance: str) -> None:
    """Stop and remove an instance with its disks; one that is not there is cleaned up after and succeeds.

    The definition goes last: as long as anything is left, it is the note of it.  A cancel or a deadline that comes after
    the first change comes too late: what is half removed is removed.
    """
    try:
        _destroy(fleet, attempt, instance)
    except OperationError as error:
        if error is not attempt.interruption or not (attempt.changes or attempt.recovering):
            raise
        _destroy(fleet, attempt, instance)


def _destroy(fleet: Fleet, attempt: Attempt, instance: str) -> None:
    try:
        machine = fleet.find(instance)
        machine.wait_idle(attempt)
        remove(attempt, machine)
    except NotFound:
        # Nowhere, or an earlier attempt's last call has come through after we had looked.
        for host in fleet.hosts.values():
            remove_files(attempt, host, instance)


def remove(attempt: Attempt, machine: Machine) -> None:
    """Stop a machine and remove it with everything that bears its id.  NotFound when it vanishes meanwhile."""
    host = machine.host
    if machine.look() is not PowerState.STOPPED:
        attempt.progress(None, "stopping")
        machine.stop(attempt)
    snapshots.remove_all(attempt, machine)
    attempt.progress(None, "removing disks")
    remove_files(attempt, host, machine.instance)
    host.run(
        attempt, f"remove {machine.instance}", host.service(VSMS), "DestroySystem",
        {"AffectedSystem": msvm.machine(machine.guid)},
    )  # fmt: skip


def remove_files(attempt: Attempt, host: Host, instance: str) -> None:
    """Delete the files that bear the instance's id, those that it began to fetch or to capture among them."""
    store = store_of(host)
    if attempt.recovering:
        host.wait_idle(attempt, lambda job: names.belongs_to(instance, names.split(str(job.get("Child") or ""))[1]))
    for name in sorted(store.files()):
        if names.belongs_to(instance, name):
            store.delete(attempt, name)
