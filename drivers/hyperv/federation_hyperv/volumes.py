"""Volumes: disk files in a folder of a host that outlive instances.

1. A volume is named by pool and name; pools are the folders of the settings.  Names that the driver gives are no volumes.
2. attach notes a new volume with its operation on the machine first, then makes it, then connects it.  A repeat finds
   the note; it stays as long as the volume is attached, so that a late repeat answers the same.
3. Who connects first looks second: afterwards every other machine that can reach the file is asked whether it uses it.  Of
   two attaches at the same moment at least one sees the other and yields.
4. A checkpoint of Hyper-V takes every disk along.  A volume that is part of one is no file of its own any more, so volumes
   are neither attached to nor detached from a machine that has snapshots, and a machine with volumes takes none.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    HypervisorRefused,
    ImageRejected,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
)
from federation.contract.instances import DiskFacts, ImageFormat, PowerState
from federation.contract.requests import AttachVolume, DetachVolume, ExtendVolume
from federation.contract.results import VolumeDetached
from federation.contract.volumes import NewVolume, StoredVolume
from federation_hyperv import facts, msvm, names, notes, snapshots
from federation_hyperv.attempt import Attempt
from federation_hyperv.facts import Slot
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import Host
from federation_hyperv.machine import Machine
from federation_hyperv.storage import Store
from federation_hyperv.undoing import undone_on_error

MAX_VOLUMES = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume is: its folder, and its file there."""

    store: Store
    pool: str
    volume: str
    file: str

    @property
    def path(self) -> str:
        """On the host."""
        return self.store.path(self.file)

    @property
    def key(self) -> str:
        """As notes name it."""
        return f"{self.pool}/{self.volume}"


def store(host: Host, pool: str) -> Store:
    """The folder of a pool; InvalidRequest names those that there are."""
    if pool not in host.pools:
        known = ", ".join(repr(name) for name in host.pools)
        raise InvalidRequest(f"pool {pool!r} is not in the settings; pools are: {known}", field="pool")
    return Store(host, host.pools[pool], host.settings.mount if pool == "" else None)


def place_of(host: Host, pool: str, volume: str) -> Place:
    """Where a volume is or will be; InvalidRequest for a pool or name that may not be used."""
    file = names.volume(volume)
    if any(character in volume for character in '\\/:*?"<>|') or volume.strip(". ") != volume or volume == "":
        raise InvalidRequest(f"{volume!r} is no name of a file on Windows", field="volume")
    if names.reserved(file):
        raise InvalidRequest(f"{volume!r} is a name that the driver gives to files of its own", field="volume")
    return Place(store(host, pool), pool, names.volume_name(file) or volume, file)


def attach(fleet: Fleet, attempt: Attempt, request: AttachVolume) -> DiskFacts:
    """Connect a volume."""
    if request.read_only:
        raise NotSupported("Hyper-V attaches no disk for reading only", capability="read_only_volumes")
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    place = place_of(machine.host, request.volume.pool, request.volume.volume)
    new = request.volume if isinstance(request.volume, NewVolume) else None
    if isinstance(request.volume, StoredVolume) and request.volume.format not in {None, ImageFormat.VHDX}:
        raise NotSupported(f"format {request.volume.format} is not supported, only vhdx", capability="volumes")
    slot = _slot_of(machine, place)
    ours = machine.note.made.get(place.key) == attempt.operation
    if slot is not None and new is not None and not ours:
        told = f"{machine.name} has a volume {place.volume!r} that another operation made"
        raise AlreadyExists(told, volume=place.volume)
    if slot is not None and slot.name in machine.note.disks:
        return _facts(machine, place)
    if slot is None:
        _check(machine, place, request.instance, new=new is not None and not ours)
    with undone_on_error(attempt, lambda _: _undo_attach(attempt, machine, place, new=new is not None)):
        if slot is None:
            slot = _plug(attempt, machine, place, new)
        _note_size(attempt, machine, place, slot)
    return _facts(machine, place)


def _plug(attempt: Attempt, machine: Machine, place: Place, new: NewVolume | None) -> Slot:
    if new is not None:
        _make(attempt, machine, place, new)
    _connect(attempt, machine, place)
    check_unused(machine.host, place, machine.instance)
    slot = _slot_of(machine, place)
    if slot is None:
        raise HypervisorRefused(f"{machine.name}: Hyper-V took {place.path} and does not show it")
    return slot


def detach(fleet: Fleet, attempt: Attempt, request: DetachVolume) -> VolumeDetached:
    """Take a volume away, and delete it when asked to."""
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    place = place_of(machine.host, request.pool, request.volume)
    try:
        _detach(attempt, machine, place, delete=request.delete)
    except OperationError as error:
        late = error is attempt.interruption and (attempt.changes > 0 or attempt.recovering)
        if not late or _slot_of(machine, place) is not None:
            raise
        if not request.delete:
            _connect(attempt, machine, place)
            raise
        _detach(attempt, machine, place, delete=True)
    return VolumeDetached()


def extend(fleet: Fleet, attempt: Attempt, request: ExtendVolume) -> DiskFacts:
    """Make an attached volume larger; one that cannot be interrupted any more goes on to its end."""
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    place = place_of(machine.host, request.pool, request.volume)
    slot = _slot_of(machine, place)
    if slot is None:
        raise NotFound(f"{machine.name} has no volume {place.volume!r} attached", volume=place.volume)
    size = place.store.size(place.path)
    if request.size_bytes < size:
        told = f"volume {place.volume!r} has {size} bytes and cannot get smaller"
        raise InvalidRequest(told, field="size_bytes", found=size)
    if request.size_bytes > size:
        if not slot.name.startswith("scsi") and machine.power_state is not PowerState.STOPPED:
            raise InvalidState(f"{machine.name} is {machine.power_state}; a disk on IDE is extended when it is stopped")
        place.store.grow(attempt, place.path, request.size_bytes)
    try:
        _note_size(attempt, machine, place, slot)
    except OperationError as error:
        if error is not attempt.interruption:
            raise
        _note_size(attempt, machine, place, slot)
    return _facts(machine, place)


def check_unused(host: Host, place: Place, instance: str) -> None:
    """Conflict when another machine of the host uses the file."""
    others = holders_of(host, place.path) - {parts.guid for parts in host.find(instance)}
    if others:
        holder = min(others)
        raise Conflict(f"{host.node}: volume {place.volume!r} is used by machine {holder}", volume=place.volume)


def holders_of(host: Host, path: str) -> set[str]:
    """The machines (Hyper-V's ids of them, or of their checkpoints) that have this file in a drive."""
    holders = set()
    for one in host.select("Msvm_StorageAllocationSettingData"):
        files = [str(file) for file in one["HostResource"] or ()]
        if any(names.same(file, path) for file in files):
            holders.add(msvm.machine_of(str(one["InstanceID"])))
    return holders


def _slot_of(machine: Machine, place: Place) -> Slot | None:
    machine.read()
    for slot in facts.slots(machine.parts):
        if slot.file and names.same(slot.file, place.path):
            return slot
    return None


def _facts(machine: Machine, place: Place) -> DiskFacts:
    slot = _slot_of(machine, place)
    if slot is None:
        raise HypervisorRefused(f"{machine.name} has lost volume {place.volume!r} at this moment", volume=place.volume)
    return facts.disk(slot, machine.host.pools, machine.note)


def _check(machine: Machine, place: Place, instance: str, *, new: bool) -> None:
    if machine.power_state not in {PowerState.RUNNING, PowerState.STOPPED}:
        raise InvalidState(f"{machine.name} is {machine.power_state}; volumes are attached when it runs or is stopped")
    if snapshots.of_machine(machine.host, machine.guid):
        raise InvalidState(f"{machine.name} has snapshots; delete them before you attach a volume")
    attached = [
        disk for disk in facts.disks(machine.parts, machine.host.pools, machine.note) if disk.volume is not None
    ]
    if len(attached) >= MAX_VOLUMES:
        raise InvalidRequest(f"{machine.name} has {len(attached)} volumes, at most {MAX_VOLUMES} are allowed")
    there = place.store.has(place.file)
    if new and there:
        raise AlreadyExists(f"{machine.host.node} has a volume {place.volume!r} already", volume=place.volume)
    if not new and not there and place.key not in machine.note.made:
        raise NotFound(
            f"{machine.host.node} has no volume {place.volume!r} in {place.store.folder}", volume=place.volume
        )
    check_unused(machine.host, place, instance)


def _make(attempt: Attempt, machine: Machine, place: Place, new: NewVolume) -> None:
    total, _ = place.store.space()
    if total is not None and new.size_bytes > total:
        raise InsufficientResources(f"{place.store.folder} has {total} bytes in all, {new.size_bytes} were asked for")
    note = machine.note
    if note.made.get(place.key) != attempt.operation:
        machine.write_note(attempt, notes.replaced(note, made={**note.made, place.key: attempt.operation}))
    if attempt.recovering:
        machine.host.wait_idle(attempt, lambda job: names.same(str(job.get("Child") or ""), place.path))
    if not place.store.has(place.file):
        place.store.make(attempt, f"make volume {place.volume}", msvm.blank_disk(place.path, new.size_bytes))


def _connect(attempt: Attempt, machine: Machine, place: Place) -> None:
    """Put a drive with the file into the first free slot; a drive that an earlier attempt left empty is used."""
    parts = machine.read()
    controller = next((one for one in facts.controllers(parts) if one.name == "scsi0"), None)
    if controller is None:
        if machine.power_state is not PowerState.STOPPED:
            raise InvalidState(f"{machine.name} has no SCSI controller; one is added when it is stopped")
        machine.add(attempt, "a SCSI controller", [msvm.scsi_controller()])
        parts = machine.read()
        controller = next(one for one in facts.controllers(parts) if one.name == "scsi0")
    empty = [
        slot for slot in facts.slots(parts) if slot.controller == controller.identity and not slot.dvd and not slot.file
    ]
    if not empty:
        number = next(iter(facts.free_slots(parts, controller, msvm.SCSI_SLOTS)), None)
        if number is None:
            raise HypervisorRefused(f"{machine.name} has no free slot on its SCSI controller")
        path = msvm.setting_path("Msvm_ResourceAllocationSettingData", controller.identity)
        machine.add(attempt, "a drive", [msvm.drive(path, number)])
        empty = [
            slot
            for slot in facts.slots(machine.read())
            if slot.controller == controller.identity and not slot.dvd and not slot.file
        ]
    drive = msvm.setting_path("Msvm_ResourceAllocationSettingData", empty[0].drive)
    try:
        machine.add(attempt, f"volume {place.volume}", [msvm.medium(drive, place.path)])
    except HypervisorRefused as error:
        raise ImageRejected(f"{machine.name}: {place.path} is no disk that Hyper-V takes: {error.message}") from error
    machine.look()


def _detach(attempt: Attempt, machine: Machine, place: Place, *, delete: bool) -> None:
    slot = _slot_of(machine, place)
    if slot is not None:
        if machine.power_state not in {PowerState.RUNNING, PowerState.STOPPED}:
            raise InvalidState(
                f"{machine.name} is {machine.power_state}; volumes are detached when it runs or is stopped"
            )
        if snapshots.of_machine(machine.host, machine.guid):
            raise InvalidState(f"{machine.name} has snapshots; delete them before you detach a volume")
        _disconnect(attempt, machine, slot)
    else:
        check_unused(machine.host, place, machine.instance)
    _drop_empty_drives(attempt, machine)
    if delete and place.store.has(place.file):
        if not delete_allowed(machine.host, place):
            raise Conflict(f"volume {place.volume!r} is used by another instance", volume=place.volume)
        place.store.delete(attempt, place.file)
    _forget(attempt, machine, place, slot)


def delete_allowed(host: Host, place: Place) -> bool:
    """Whether nobody has the file in a drive."""
    return not holders_of(host, place.path)


def _disconnect(attempt: Attempt, machine: Machine, slot: Slot) -> None:
    medium = msvm.setting(slot.medium, "Msvm_StorageAllocationSettingData")
    drive = msvm.setting(slot.drive, "Msvm_ResourceAllocationSettingData")
    machine.remove(attempt, "a disk", [medium, drive])
    machine.read()


def _drop_empty_drives(attempt: Attempt, machine: Machine) -> None:
    """Remove drives of the SCSI controller that an interrupted attach or detach left without a disk."""
    for slot in facts.slots(machine.devices()):
        if slot.name.startswith("scsi") and not slot.dvd and not slot.file:
            machine.remove(attempt, "a drive", [msvm.setting(slot.drive, "Msvm_ResourceAllocationSettingData")])
    machine.look()


def _note_size(attempt: Attempt, machine: Machine, place: Place, slot: Slot) -> None:
    note = machine.note
    size = place.store.size(place.path)
    if note.disks.get(slot.name) != size:
        machine.write_note(attempt, notes.replaced(note, disks={**note.disks, slot.name: size}))


def _forget(attempt: Attempt, machine: Machine, place: Place, slot: Slot | None) -> None:
    note = machine.note
    machine.devices()
    present = {one.name for one in facts.slots(machine.parts) if one.file}
    disks = {name: size for name, size in note.disks.items() if name in present}
    made = {key: operation for key, operation in note.made.items() if key != place.key}
    if slot is not None or made != note.made or disks != note.disks:
        machine.write_note(attempt, notes.replaced(note, made=made, disks=disks))


def _undo_attach(attempt: Attempt, machine: Machine, place: Place, *, new: bool) -> None:
    slot = _slot_of(machine, place)
    made = machine.note.made.get(place.key) == attempt.operation
    if slot is not None:
        _disconnect(attempt, machine, slot)
    _drop_empty_drives(attempt, machine)
    if new and made and place.store.has(place.file) and delete_allowed(machine.host, place):
        place.store.delete(attempt, place.file)
    _forget(attempt, machine, place, slot)
