"""Snapshots: Hyper-V's standard checkpoints, each with our note that says which operation made it.

1. create notes the operation's id and the checkpoints that are there on the machine first, then takes one: the new one was
   made by this operation.  It gets the note and its name, then the machine's note is cleared.
2. revert turns the machine off first, notes the operation's id, applies the checkpoint, notes it again before it starts
   what holds memory, and last that it has reverted.  A machine that is off or saved under the first note may be reverted
   again, because nothing has run since; one that runs has been reverted.
3. A checkpoint without memory is taken of a stopped machine only: Hyper-V's standard checkpoint of a running one always
   holds its memory.  Production checkpoints without memory need an agent in the guest, whose absence Hyper-V replaces
   silently by a standard one.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from federation.contract.errors import (
    HypervisorRefused,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
)
from federation.contract.instances import PowerState
from federation.contract.requests import CreateSnapshot, DeleteSnapshot, RevertSnapshot
from federation.contract.results import SnapshotDeleted
from federation.contract.snapshots import Snapshot, SnapshotList
from federation_hyperv import facts, msvm, names, notes
from federation_hyperv.attempt import Attempt
from federation_hyperv.cim import Instance
from federation_hyperv.facts import Properties
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import SNAPSHOTS, Host
from federation_hyperv.machine import Machine, modify_settings
from federation_hyperv.notes import Note
from federation_hyperv.undoing import undone_on_error

MAX_SNAPSHOTS = 50
"""Hyper-V's own limit."""
_FULL = 2
"""SnapshotType of Msvm_VirtualSystemSnapshotService.CreateSnapshot."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as Hyper-V has it."""

    settings: Properties

    @property
    def identity(self) -> str:
        """Its InstanceID."""
        return str(self.settings["InstanceID"])

    @property
    def note(self) -> Note | None:
        """Our note on it."""
        return notes.read(self.settings.get("Notes"))

    @property
    def snapshot(self) -> str:
        """The snapshot's id: the operation that made it, for foreign ones Hyper-V's own."""
        note = self.note
        if note is not None and self.owned:
            return note.snapshot
        own = msvm.machine_of(self.identity)
        return names.guid(own) or own.lower()

    @property
    def owned(self) -> bool:
        """Whether create_snapshot made it."""
        return self.note is not None and self.note.snapshot != ""

    @property
    def created(self) -> dt.datetime:
        """By the host's clock."""
        value = self.settings.get("CreationTime")
        return value if isinstance(value, dt.datetime) else dt.datetime.fromtimestamp(0, dt.UTC)


def of_machine(host: Host, guid: str) -> list[Checkpoint]:
    """The checkpoints of one machine, oldest first."""
    of_it = f"VirtualSystemIdentifier = '{guid}' AND VirtualSystemType = '{msvm.SNAPSHOT}'"
    found = host.select("Msvm_VirtualSystemSettingData", of_it)
    return sorted((Checkpoint(one.properties) for one in found), key=lambda one: (one.created, one.identity))


def listed(fleet: Fleet, instance: str) -> SnapshotList:
    """All snapshots of one instance."""
    machine = fleet.see(instance)
    found = of_machine(machine.host, machine.guid)
    current = _current(machine) if found else ""
    return SnapshotList(snapshots=tuple(_snapshot(one, found, current) for one in found))


def create(fleet: Fleet, attempt: Attempt, request: CreateSnapshot) -> Snapshot:
    """Take a snapshot."""
    machine = fleet.find(request.instance)
    if request.quiesce:
        raise NotSupported("this driver does not freeze the guest's file systems", capability="quiesced_snapshots")
    machine.wait_idle(attempt)
    found = _made_by(machine, attempt.operation)
    if found is None:
        _check(machine, request)
    with undone_on_error(attempt, lambda _: _undo_create(attempt, machine)):
        if found is None:
            _take(attempt, machine, request)
            found = _made_by(machine, attempt.operation)
        if found is None:
            raise HypervisorRefused(f"{machine.name}: Hyper-V took a checkpoint and does not show it")
        _label(attempt, machine, found, request)
        _clear(attempt, machine)
    return _told(machine, attempt.operation)


def revert(fleet: Fleet, attempt: Attempt, request: RevertSnapshot) -> Machine:
    """Bring the instance back; stopped where the snapshot holds no memory.

    An interruption behind the first change comes too late: what was thrown away cannot be brought back.
    """
    machine = fleet.find(request.instance)
    for last in (False, True):
        try:
            _revert(attempt, machine, request.snapshot)
        except OperationError as error:
            late = error is attempt.interruption and (attempt.changes > 0 or attempt.recovering)
            if last or not late:
                raise
        else:
            break
    return machine


def _revert(attempt: Attempt, machine: Machine, snapshot: str) -> None:
    state = machine.wait_idle(attempt)
    note = machine.note
    if note.reverted == attempt.operation:
        return
    target = _of_id(machine, snapshot)
    if target is None or target.note is None:
        raise NotFound(f"{machine.name} has no snapshot {snapshot}", snapshot=snapshot)
    if not target.owned:
        raise InvalidState(f"{machine.name}: snapshot {snapshot} is foreign; it is left alone")
    began = note.reverting == attempt.operation
    if not (began and machine.active):
        if state is not PowerState.STOPPED:
            machine.stop(attempt)
            machine.look()
        machine.write_note(attempt, notes.replaced(machine.note, reverting=attempt.operation))
        _apply(attempt, machine, target)
        if target.note.memory:
            machine.write_note(attempt, notes.replaced(machine.note, reverting=attempt.operation))
            machine.start(attempt)
            machine.look()
    finished = notes.replaced(
        machine.note, reverting="", reverted=attempt.operation, snapshot="", memory=False, known=()
    )
    machine.write_note(attempt, finished)


def delete(fleet: Fleet, attempt: Attempt, request: DeleteSnapshot) -> SnapshotDeleted:
    """Remove a snapshot; Hyper-V merges what it held into its neighbours."""
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    target = _of_id(machine, request.snapshot)
    if target is not None:
        if not target.owned:
            raise InvalidState(f"{machine.name}: snapshot {request.snapshot} is foreign; it is left alone")
        try:
            _destroy(attempt, machine, target)
        except OperationError as error:
            if error is not attempt.interruption or _of_id(machine, request.snapshot) is not None:
                raise
    return SnapshotDeleted()


def remove_all(attempt: Attempt, machine: Machine) -> None:
    """Remove every checkpoint of a machine that is being destroyed."""
    for checkpoint in of_machine(machine.host, machine.guid):
        _destroy(attempt, machine, checkpoint)


def _destroy(attempt: Attempt, machine: Machine, checkpoint: Checkpoint) -> None:
    host = machine.host
    host.run(
        attempt, f"delete a snapshot of {machine.instance}", host.service(SNAPSHOTS), "DestroySnapshot",
        {"AffectedSnapshot": msvm.setting(checkpoint.identity)}, seconds=host.timeouts.copy_seconds, stage="merging",
    )  # fmt: skip
    # Hyper-V merges afterwards, in a job of its own.
    host.wait_machine(attempt, machine.guid, host.timeouts.copy_seconds)


def _check(machine: Machine, request: CreateSnapshot) -> None:
    state = machine.power_state
    if request.memory and state not in {PowerState.RUNNING, PowerState.PAUSED}:
        raise InvalidState(
            f"{machine.name} is {state}; there is no memory to keep", power_state=state, expected="running"
        )
    if not request.memory and state is not PowerState.STOPPED:
        raise InvalidState(
            f"{machine.name} is {state}; Hyper-V keeps the disks of a stopped machine only, or ask for its memory too",
            power_state=state,
            expected=PowerState.STOPPED,
        )
    disks = facts.disks(machine.devices(), machine.host.pools, machine.note)
    volumes = [disk.volume for disk in disks if disk.volume is not None]
    if volumes:
        raise InvalidState(
            f"{machine.name} has volumes ({', '.join(volumes)}); a checkpoint would take them along: detach them first"
        )
    if len(of_machine(machine.host, machine.guid)) >= MAX_SNAPSHOTS:
        raise InvalidState(f"{machine.name} has {MAX_SNAPSHOTS} snapshots, which is all that Hyper-V keeps")


def _take(attempt: Attempt, machine: Machine, request: CreateSnapshot) -> None:
    host = machine.host
    known = tuple(one.identity for one in of_machine(host, machine.guid))
    marked = notes.replaced(machine.note, snapshot=attempt.operation, memory=request.memory, known=known)
    machine.write_note(attempt, marked)
    host.run(
        attempt, f"snapshot {machine.instance}", host.service(SNAPSHOTS), "CreateSnapshot",
        {
            "AffectedSystem": msvm.machine(machine.guid),
            "SnapshotSettings": Instance("Msvm_VirtualSystemSnapshotSettingData"),
            "SnapshotType": _FULL,
        },
        seconds=host.timeouts.save_seconds, stage="taking the snapshot",
    )  # fmt: skip


def _label(attempt: Attempt, machine: Machine, checkpoint: Checkpoint, request: CreateSnapshot) -> None:
    """Give the checkpoint its name and our note, in one call."""
    marked = notes.replaced(machine.note, snapshot=attempt.operation, memory=request.memory, known=())
    if checkpoint.note == marked and checkpoint.settings.get("ElementName") == request.name:
        return
    text = notes.write(checkpoint.settings.get("Notes"), marked)
    modify_settings(
        machine.host, attempt, checkpoint.identity, {"ElementName": request.name, "Notes": [text]}, "name the snapshot"
    )


def _clear(attempt: Attempt, machine: Machine) -> None:
    machine.look()
    machine.write_note(attempt, notes.replaced(machine.note, snapshot="", memory=False, known=()))


def _apply(attempt: Attempt, machine: Machine, target: Checkpoint) -> None:
    host = machine.host
    host.run(
        attempt, f"revert {machine.instance}", host.service(SNAPSHOTS), "ApplySnapshot",
        {"Snapshot": msvm.setting(target.identity)}, seconds=host.timeouts.save_seconds, stage="reverting",
    )  # fmt: skip
    machine.wait_idle(attempt)


def _undo_create(attempt: Attempt, machine: Machine) -> None:
    found = _made_by(machine, attempt.operation)
    if found is not None:
        _destroy(attempt, machine, found)
    machine.look()
    if machine.note.snapshot == attempt.operation:
        _clear(attempt, machine)


def _made_by(machine: Machine, operation: str) -> Checkpoint | None:
    """The checkpoint that this operation made: by its note, or because it was not there before and nobody has noted it."""
    machine.look()
    note, found = machine.note, of_machine(machine.host, machine.guid)
    for one in found:
        if one.note is not None and one.note.snapshot == operation:
            return one
    if note.snapshot != operation:
        return None
    new = [one for one in found if one.identity not in note.known and not one.owned]
    return new[0] if new else None


def _of_id(machine: Machine, snapshot: str) -> Checkpoint | None:
    for one in of_machine(machine.host, machine.guid):
        if one.snapshot == snapshot:
            return one
    return None


def _told(machine: Machine, snapshot: str) -> Snapshot:
    machine.look()
    found = of_machine(machine.host, machine.guid)
    for one in found:
        if one.snapshot == snapshot:
            return _snapshot(one, found, _current(machine))
    raise NotFound(f"{machine.name}: snapshot {snapshot} has gone at this moment", snapshot=snapshot)


def _snapshot(one: Checkpoint, every: list[Checkpoint], current: str) -> Snapshot:
    by_identity = {other.identity: other.snapshot for other in every}
    memory = one.note.memory if one.note is not None and one.owned else False
    return Snapshot(
        id=one.snapshot,
        name=str(one.settings.get("ElementName") or ""),
        created_at=one.created,
        power_state=PowerState.RUNNING if memory else PowerState.STOPPED,
        parent=by_identity.get(_parent(one.settings)),
        current=current == one.identity,
        owned=one.owned,
    )


def _current(machine: Machine) -> str:
    """InstanceID of the checkpoint that the machine continues; empty for none."""
    found = machine.host.associated(msvm.machine(machine.guid), "Msvm_MostCurrentSnapshotInBranch")
    return str(found[0]["InstanceID"]) if found else ""


def _parent(settings: Properties) -> str:
    """InstanceID of the checkpoint that settings continue; empty for none."""
    return msvm.instance_id(str(settings.get("Parent") or ""))
