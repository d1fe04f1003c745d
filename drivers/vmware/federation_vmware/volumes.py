"""Volumes: VMDK files of a folder of their own on each datastore, which outlive the machines that use them.

What a machine uses is written in its note in the same reconfiguration that attaches or detaches it, so the two never
differ.  A new volume is made by attaching it: vSphere makes the file and the device in one task, and refuses when the file
is there already.
"""

from __future__ import annotations

from typing import Any

from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    ImageUnavailable,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
)
from federation.contract.instances import BootVolume, DiskFacts, ImageFormat
from federation.contract.requests import AttachVolume, DetachVolume, ExtendVolume
from federation.contract.results import VolumeDetached
from federation.contract.volumes import NewVolume, StoredVolume
from federation_vmware import datastore_files, facts, hardware, names, tasks
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet, Machine, replaced
from federation_vmware.ownership import Volume

MAX_VOLUMES = 8


def attach(fleet: Fleet, attempt: Attempt, request: AttachVolume) -> DiskFacts:
    """Connect a volume, and make it when it is to be new."""
    if request.read_only:
        raise NotSupported("vSphere attaches no disk for reading only", capability="read_only_volumes")
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    owner = machine.owner(look)
    wanted = _named(fleet, request.volume.volume, request.volume.pool, look, attempt.operation)
    attached = _device(look, wanted.path)
    known = next((one for one in owner.volumes if one.path == wanted.path), None)
    if attached is not None and known is not None:
        if isinstance(request.volume, NewVolume) and known.operation != attempt.operation:
            raise AlreadyExists(f"volume {wanted.name} is there already", volume=wanted.name)
        return _shown(machine, wanted.path)
    if len(owner.volumes) >= MAX_VOLUMES:
        raise InvalidRequest(f"{request.instance} has {MAX_VOLUMES} volumes, the most there may be", limit=MAX_VOLUMES)
    change = _addition(fleet, attempt, look, request.volume, wanted)
    machine.reconfigure(
        attempt,
        look,
        f"attach volume {wanted.name} to",
        owner=replaced(owner, volumes=(*owner.volumes, wanted)),
        devices=[change],
    )
    return _shown(machine, wanted.path)


def detach(fleet: Fleet, attempt: Attempt, request: DetachVolume) -> VolumeDetached:
    """Take a volume away; one that is not connected stays so, and goes when it is to be deleted."""
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    owner = machine.owner(look)
    wanted = _named(fleet, request.volume, request.pool, look)
    device = _device(look, wanted.path)
    if device is not None and any(one.path == wanted.path for one in owner.volumes):
        _check_no_snapshot(machine)
        kept = tuple(one for one in owner.volumes if one.path != wanted.path)
        change = hardware.removed(device, destroy=request.delete)
        what = f"detach volume {wanted.name} from"
        machine.reconfigure(attempt, look, what, owner=replaced(owner, volumes=kept), devices=[change])
    elif request.delete and datastore_files.exists(fleet, wanted.path):
        _check_free(fleet, wanted, request.instance)
        _delete(fleet, attempt, wanted.path)
    return VolumeDetached()


def extend(fleet: Fleet, attempt: Attempt, request: ExtendVolume) -> DiskFacts:
    """Make an attached volume larger."""
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    wanted = _named(fleet, request.volume, request.pool, look)
    device = _device(look, wanted.path)
    if device is None or all(one.path != wanted.path for one in machine.owner(look).volumes):
        raise NotFound(f"volume {request.volume} is not attached to {request.instance}", volume=request.volume)
    size = facts.disk_bytes(device) or 0
    if request.size_bytes < size:
        raise InvalidRequest(
            f"volume {request.volume} has {size} bytes, the request says {request.size_bytes}", field="size_bytes"
        )
    if request.size_bytes > size:
        _check_no_snapshot(machine)
        change = hardware.resized_disk(device, request.size_bytes)
        machine.reconfigure(attempt, look, f"extend volume {request.volume} of", devices=[change])
    return _shown(machine, wanted.path)


def free_volume(fleet: Fleet, boot: BootVolume, instance: str) -> Volume:
    """The volume that a new machine starts from; raises as attach does."""
    _check_format(boot.format)
    wanted = _named(fleet, boot.volume, boot.pool, None)
    _check_free(fleet, wanted, instance)
    if not datastore_files.exists(fleet, wanted.path):
        raise ImageUnavailable(f"volume {boot.volume} is not there ({wanted.path})", volume=boot.volume)
    return wanted


def size_of(fleet: Fleet, volume: Volume) -> int | None:
    """Its size by its own descriptor, None when that does not say."""
    return datastore_files.virtual_bytes(fleet, volume.path)


def _named(fleet: Fleet, volume: str, pool: str, look: Look | None, operation: str = "") -> Volume:
    if pool or fleet.settings.datastore:
        datastore = fleet.places.datastore(pool).name
    else:
        datastore = _whereabouts(fleet, volume, look)
    path = names.volume_path(datastore, fleet.settings.volume_folder, volume)
    return Volume(name=volume, pool=pool, path=path, operation=operation)


def _whereabouts(fleet: Fleet, volume: str, look: Look | None) -> str:
    """The datastore of a volume whose pool is not named, where the settings name several datastores.

    Where the machine has it, where its file is, else where the machine is: free space says nothing, it is another at the next
    attempt.  InvalidRequest when several datastores have a volume of that name.
    """
    known = [place.name for place in fleet.places.datastores()]
    paths = {names.volume_path(name, fleet.settings.volume_folder, volume): name for name in known}
    owner = None if look is None else look.owner(fleet.cluster)
    for one in owner.volumes if owner is not None else ():
        if one.path in paths:
            return paths[one.path]
    found = sorted(name for path, name in paths.items() if datastore_files.exists(fleet, path))
    if len(found) > 1:
        raise InvalidRequest(f"volume {volume} is on {' and '.join(found)}; name its pool", field="pool", value=volume)
    if found:
        return found[0]
    home = "" if look is None else look.datastore
    return home if home in known else known[0]


def _addition(fleet: Fleet, attempt: Attempt, look: Look, source: NewVolume | StoredVolume, wanted: Volume) -> Any:
    key, free = hardware.disk_place(look.devices, new_controller=False)
    place = (key, free[0])
    if isinstance(source, NewVolume):
        if datastore_files.exists(fleet, wanted.path):
            raise AlreadyExists(f"volume {wanted.name} is there already ({wanted.path})", volume=wanted.name)
        datastore_files.make_folder(fleet, attempt, wanted.path)
        return hardware.new_disk(-1, place, source.size_bytes, wanted.path)
    _check_format(source.format)
    _check_free(fleet, wanted, look.id)
    if not datastore_files.exists(fleet, wanted.path):
        raise ImageUnavailable(f"volume {wanted.name} is not there ({wanted.path})", volume=wanted.name)
    return hardware.existing_disk(-1, place, size_of(fleet, wanted) or 0, wanted.path)


def _check_format(given: ImageFormat | None) -> None:
    if given not in {None, ImageFormat.VMDK}:
        raise NotSupported(f"format {given} is not supported, vSphere's own is vmdk", field="format")


def _check_free(fleet: Fleet, wanted: Volume, instance: str) -> None:
    for look in fleet.inventory().values():
        if look.id != instance and wanted.path in look.disk_files:
            raise Conflict(f"volume {wanted.name} is in use by {look.id} ({look.name})", volume=wanted.name)


def _check_no_snapshot(machine: Machine) -> None:
    """VSphere changes no disk that a snapshot holds."""
    found = machine.snapshots()
    if found is not None and found.rootSnapshotList:
        raise InvalidState(f"{machine.instance} has snapshots that hold the volume; delete them first")


def _delete(fleet: Fleet, attempt: Attempt, path: str) -> None:
    where = fleet.places.site().datacenter.reference

    def start(session: Session) -> Any:
        return session.content.virtualDiskManager.DeleteVirtualDisk_Task(path, session.bound(where))

    try:
        tasks.run(fleet.connection, attempt, f"delete {path}", start)
    except OperationError as error:
        if error.detail.get("vsphere_fault") != "FileNotFound":
            raise


def _device(look: Look, path: str) -> Any:
    known = {path: None}
    return next((one for one in facts.disks(look.devices) if facts.chain_base(one, known) == path), None)


def _shown(machine: Machine, path: str) -> DiskFacts:
    look = machine.look()
    device = _device(look, path)
    if device is None:
        raise Conflict(f"the volume {path} was taken from {machine.instance} meanwhile", path=path)
    volumes = {one.path: one for one in machine.owner(look).volumes}
    return facts.disk(look, device, volumes)
