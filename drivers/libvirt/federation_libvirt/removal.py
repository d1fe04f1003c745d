"""destroy, and the removal of everything that bears an instance's id."""

from __future__ import annotations

from federation.contract.errors import NotFound, OperationError
from federation_libvirt import names, snapshots
from federation_libvirt.attempt import Attempt
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host
from federation_libvirt.machine import Machine


def destroy(fleet: Fleet, attempt: Attempt, instance: str) -> None:
    """Stop and remove an instance with its disks and logs; one that is not there is cleaned up after and succeeds.

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
    machine = fleet.find_any(instance)
    if machine is None:
        for host in fleet.hosts.values():
            remove_files(attempt, host, instance, console=True)
        return
    fleet.check_owned(machine)
    owner = machine.owner()
    if owner.leaving or owner.arrived:
        _remove_elsewhere(fleet, attempt, machine)
    try:
        remove(attempt, machine)
    except NotFound:
        # An earlier attempt's last call has come through after we had looked.
        remove_files(attempt, machine.host, instance, console=True)


def _remove_elsewhere(fleet: Fleet, attempt: Attempt, machine: Machine) -> None:
    """A migration was never finished: remove what it put on other nodes, while the definition here still says so."""
    for host in fleet.hosts.values():
        if host is machine.host:
            continue
        other = Machine(host, machine.instance)
        if other.exists():
            fleet.check_owned(other)
            remove(attempt, other)
        else:
            remove_files(attempt, host, machine.instance, console=True)


def remove(attempt: Attempt, machine: Machine) -> None:
    """Stop a domain and remove it with everything that bears its id.  NotFound when it vanishes meanwhile."""
    if machine.look().active:
        attempt.progress(None, "stopping")
        machine.stop(attempt)
    snapshots.forget(attempt, machine, cluster="")
    attempt.progress(None, "removing disks")
    remove_files(attempt, machine.host, machine.instance, console=True)
    machine.undefine(attempt)


def remove_files(attempt: Attempt, host: Host, instance: str, *, console: bool) -> None:
    """Delete the instance's volumes, what it began to fetch and did not finish, and its console logs when asked to."""
    present = host.disks.volumes()
    own = [name for name in present if names.belongs_to(instance, name)]
    for name in sorted(own + names.unfinished_fetches(instance, present)):
        # A copy that an earlier attempt began goes on in libvirt until it is complete.
        host.disks.delete(attempt, name, host.settings.timeouts.copy_seconds)
    if console:
        remove_logs(attempt, host, instance)


def remove_logs(attempt: Attempt, host: Host, instance: str) -> None:
    """Delete the instance's console logs."""
    if names.console_log(instance) in host.console.volumes():
        # virtlogd has made further files beside the log when it grew; libvirt does not know of them yet.
        host.console.rescan(attempt)
    for name in sorted(host.console.volumes(), reverse=True):
        # The first file last: as long as it is there, a repeat looks for the others.
        if names.belongs_to(instance, name):
            host.console.delete(attempt, name)
