"""migrate: RelocateVM_Task to another host.  vCenter decides where the machine is; it is on exactly one host at any time."""

from __future__ import annotations

from federation.contract.errors import HypervisorUnreachable, InvalidState, OperationError, OutcomeUnknown
from federation.contract.instances import PowerState
from federation.contract.requests import Migrate, MigrateMode
from federation_vmware import facts
from federation_vmware.attempt import Attempt
from federation_vmware.machine import Fleet, Machine


def migrate(fleet: Fleet, attempt: Attempt, request: Migrate) -> Machine:
    """Move it; one that is there stays.  A move that was under way when its worker died is waited for."""
    machine = fleet.find(request.instance)
    host = fleet.places.host(request.node)
    look = machine.settled(attempt)
    there = facts.object_id(host.reference)
    wanted = PowerState.RUNNING if request.mode is MigrateMode.LIVE else PowerState.STOPPED
    if look.host == there:
        return machine
    if look.power_state is not wanted:
        raise InvalidState(
            f"{request.instance} is {look.power_state}, migrate {request.mode} needs it {wanted}",
            power_state=look.power_state,
            expected=wanted,
        )
    try:
        machine.relocate(
            attempt, host.reference, host.name, seconds=fleet.settings.timeouts.migrate_seconds, percent=(0, 100)
        )
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError:
        if attempt.changes and machine.look().host == there:
            return machine  # it was faster than the cancel, or somebody else moved it there
        raise
    return machine
