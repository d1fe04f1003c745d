"""migrate: Hyper-V moves a machine, running or stopped, to another host in one job of the source's.

1. Where both hosts' folder is the same share or cluster volume, only the machine moves; else its disks move with it, into
   the other host's folder.  A differencing root disk needs its parent there: the worker copies it first, through both
   mounts, under a temporary name.
2. A machine becomes real on the destination when it is handed over; before, it is a planned one, which is not looked at.
   So the machine is where it is found, and a repeat looks there first.
3. A job of an earlier attempt is waited for on the source.  A host that is lost in the middle is waited for as after every
   change; the outcome is unknown when it does not come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from federation.contract.errors import (
    AlreadyExists,
    BackendUnavailable,
    HypervisorUnreachable,
    InsufficientResources,
    InvalidState,
    OperationError,
)
from federation.contract.instances import PowerState
from federation.contract.requests import Migrate, MigrateMode
from federation_hyperv import facts, maintenance, msvm, names, snapshots
from federation_hyperv.attempt import Attempt
from federation_hyperv.cim import Instance
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import MIGRATIONS, Host, quoted
from federation_hyperv.inventory import capacity
from federation_hyperv.machine import Machine, store_of
from federation_hyperv.storage import Store
from federation_hyperv.undoing import undone_on_error

MACHINE_ONLY, MACHINE_AND_DISKS = 32768, 32771
"""MigrationType of Msvm_VirtualSystemMigrationSettingData."""
_TCP = 5


@dataclass(frozen=True, slots=True)
class _Move:
    machine: Machine
    source: Host
    target: Host
    setup: str
    """The cloud-init medium, where there is one that has to be copied."""
    shared: bool


def migrate(fleet: Fleet, attempt: Attempt, request: Migrate) -> Machine:
    """Move it; on an error it is where it was."""
    target = fleet.host(request.node)
    machine = fleet.find(request.instance)
    if machine.host is not target:
        machine.host.wait_machine(attempt, machine.guid)
        machine = fleet.find(request.instance)
    if machine.host is not target:
        _move(fleet, attempt, request, machine, target)
    arrived = fleet.on(target, request.instance)
    if arrived is None:
        raise HypervisorUnreachable(f"{request.instance} was moved to {target.node}, which does not show it yet")
    fleet.remember(arrived)
    _tidy(fleet, attempt, arrived)
    return arrived


def _move(fleet: Fleet, attempt: Attempt, request: Migrate, machine: Machine, target: Host) -> None:
    state = machine.wait_idle(attempt)
    wanted = PowerState.RUNNING if request.mode is MigrateMode.LIVE else PowerState.STOPPED
    if state is not wanted:
        told = f"{machine.name} is {state}, {request.mode} migration needs it {wanted}"
        raise InvalidState(told, power_state=state, expected=wanted)
    move = _check(fleet, machine, target)
    with undone_on_error(attempt, partial(_undo, fleet, attempt, move)):
        if move.setup:
            _copy_setup(attempt, move)
        if not move.shared:
            _bring_parents(attempt, move)
        _hand_over(attempt, move)


def _check(fleet: Fleet, machine: Machine, target: Host) -> _Move:
    maintenance.check_off(fleet, target)
    for other in target.heads(f"ElementName = '{quoted(str(machine.parts.settings.get('ElementName') or ''))}'"):
        if other.guid != machine.guid:
            raise AlreadyExists(f"{target.node} has a machine of that name already", node=target.node)
    parts = machine.devices()
    _, memory = facts.size(parts)
    if memory is not None and memory > capacity(target).memory_bytes:
        raise InsufficientResources(f"{target.node} has less memory than {machine.instance} needs", node=target.node)
    shared = is_shared(machine.host, target)
    if not shared:
        volumes = [disk.volume for disk in facts.disks(parts, machine.host.pools, machine.note) if disk.volume]
        if volumes:
            raise InvalidState(
                f"{machine.name} has volumes ({', '.join(volumes)}) in a folder that {target.node} does not share"
            )
        if snapshots.of_machine(machine.host, machine.guid):
            raise InvalidState(f"{machine.name} has snapshots; without shared storage they cannot move")
    setup = names.guest_setup(machine.instance)
    has_setup = any(names.split(slot.file)[1] == setup for slot in facts.slots(parts))
    return _Move(machine, machine.host, target, setup if has_setup and not shared else "", shared)


def is_shared(source: Host, target: Host) -> bool:
    """Whether both hosts see the same folder: the same path on a share or a cluster volume."""
    first, second = source.settings.folder, target.settings.folder
    common = first.startswith("\\\\") or first.lower().startswith("c:\\clusterstorage\\")
    return common and names.same(first, second)


def _hand_over(attempt: Attempt, move: _Move) -> None:
    machine, source, target = move.machine, move.source, move.target
    settings = {"MigrationType": MACHINE_ONLY if move.shared else MACHINE_AND_DISKS, "TransportType": _TCP}
    parameters = {
        "ComputerSystem": msvm.machine(machine.guid),
        "DestinationHost": target.settings.migration_address or target.settings.address,
        "MigrationSettingData": Instance("Msvm_VirtualSystemMigrationSettingData", settings),
    }
    if not move.shared:
        folder = target.settings.folder
        parameters["NewSystemSettingData"] = Instance(
            "Msvm_VirtualSystemSettingData",
            {
                "InstanceID": str(machine.parts.settings["InstanceID"]),
                "ConfigurationDataRoot": folder,
                "SnapshotDataRoot": folder,
                "SwapFileDataRoot": folder,
            },
        )
        parameters["NewResourceSettingData"] = _moved_disks(machine, store_of(target))
    source.run(
        attempt, f"migrate {machine.instance} to {target.node}", source.service(MIGRATIONS), "MigrateVirtualSystemToHost",
        parameters, seconds=source.timeouts.migrate_seconds, stage="migrating",
    )  # fmt: skip


def _moved_disks(machine: Machine, target: Store) -> list[Instance]:
    """The disks and media with the paths that they get."""
    found = []
    for one in machine.devices().storage:
        files = [str(file) for file in one.get("HostResource") or ()]
        moved = [target.path(names.split(file)[1]) for file in files]
        settings = {**one, "HostResource": moved}
        found.append(Instance("Msvm_StorageAllocationSettingData", settings))
    return found


def _copy_setup(attempt: Attempt, move: _Move) -> None:
    source, target = store_of(move.source), store_of(move.target)
    content = b"".join(source.read(move.setup))
    target.put(attempt, move.setup, content)


def _bring_parents(attempt: Attempt, move: _Move) -> None:
    """Copy what differencing disks continue, where the destination does not have it."""
    source, target = store_of(move.source), store_of(move.target)
    present = {name.casefold() for name in target.files()}
    for slot in facts.slots(move.machine.devices()):
        if slot.dvd or not slot.file:
            continue
        parent = source.parent(slot.file)
        if not parent:
            continue
        folder, name = names.split(parent)
        if not names.same(folder, source.folder):
            raise BackendUnavailable(f"{parent} is not in {source.folder}; {move.target.node} cannot be given it")
        if name.casefold() not in present:
            part = names.fetching(move.machine.instance, attempt.operation, attempt.number)
            target.fetch(attempt, part, source.read(name), lambda _: attempt.progress(None, "copying the image"))
            target.adopt_fetched(part, name)


def _undo(fleet: Fleet, attempt: Attempt, move: _Move, _cause: OperationError) -> None:
    """Remove the copied medium, unless the machine has arrived after all."""
    if fleet.on(move.target, move.machine.instance) is not None:
        return
    _remove_leftovers(attempt, move.target, move.machine.instance)


def _tidy(fleet: Fleet, attempt: Attempt, machine: Machine) -> None:
    """Remove what still bears the id on the hosts that it has left; an interruption comes too late."""
    for last in (False, True):
        try:
            for host in fleet.hosts.values():
                if host is not machine.host and not is_shared(host, machine.host):
                    _remove_leftovers(attempt, host, machine.instance)
        except OperationError as error:
            if error is not attempt.interruption or last:
                raise
        else:
            return


def _remove_leftovers(attempt: Attempt, host: Host, instance: str) -> None:
    store = store_of(host)
    for name in sorted(store.files()):
        if names.belongs_to(instance, name):
            store.delete(attempt, name)
