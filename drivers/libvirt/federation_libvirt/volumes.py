"""Volumes: files in a storage pool that outlive instances.

1. A volume is named by pool and name; pools are those of the settings.  Names that the driver gives are not volumes.
2. attach writes the disk into the definition first, with the operation's id as alias (``device_xml``), then makes a new
   volume, then plugs it into the running guest.  A repeat finds the alias.
3. Who writes first looks second: after the definition says so, every other machine of the host is asked whether it uses
   the file.  Of two attaches at the same moment at least one sees the other and yields.
4. detach unplugs first, then deletes the file if asked to, and takes the disk out of the definition last.
5. The format is what the request says (qcow2 if nothing), never what the file looks like.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import partial

from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    HypervisorRefused,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
)
from federation.contract.instances import DiskFacts, ImageFormat
from federation.contract.requests import AttachVolume, DetachVolume, ExtendVolume
from federation.contract.results import VolumeDetached
from federation.contract.volumes import NewVolume
from federation_libvirt import connection, device_xml, devices, facts, image_format, names, snapshots
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import Native
from federation_libvirt.device_xml import Disk
from federation_libvirt.domain_xml import parse
from federation_libvirt.facts import VolumeFacts
from federation_libvirt.faults import code_of
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host
from federation_libvirt.machine import Machine
from federation_libvirt.storage import FILE_POOLS, Pool
from federation_libvirt.undoing import undone_on_error

MAX_VOLUMES = 12
"""Of the ports to spare (``domain_xml.SPARE_PORTS``) the others are for interfaces."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume is: its pool and its path on the node."""

    pool: Pool
    volume: str
    path: str


@dataclass(slots=True)
class _Sight:
    """A volume in the definition of a machine and in the running domain, where it is there."""

    machine: Machine
    definition: ET.Element
    running: ET.Element | None
    place: Place

    @property
    def defined(self) -> ET.Element | None:
        return device_xml.disk_at(self.definition, self.place.path)

    @property
    def plugged(self) -> ET.Element | None:
        return device_xml.disk_at(self.running, self.place.path)


def place_of(host: Host, pool_name: str, volume: str) -> Place:
    """Where the volume is or will be.

    Raises InvalidRequest for a pool or name that may not be used, NotFound when the node does not have the pool,
    NotSupported when its volumes are no files.
    """
    if names.reserved(volume):
        raise InvalidRequest(f"volume name {volume!r} is reserved for the driver's own files", field="volume")
    pool = file_pool(host, pool_name)
    return Place(pool, volume, f"{pool.folder()}/{volume}")


def file_pool(host: Host, pool_name: str) -> Pool:
    """The pool, there and started and with files as volumes; raises as ``place_of`` does."""
    pool = host.pool(pool_name)
    kind = pool.kind()
    if kind is None:
        raise NotFound(f"{host.node} has no storage pool {pool.name}, or it is not started", pool=pool.name)
    if kind not in FILE_POOLS:
        raise NotSupported(
            f"{host.node}: storage pool {pool.name} is of type {kind}; supported: dir, fs, netfs", pool=pool.name
        )
    return pool


def format_asked(asked: ImageFormat | None) -> ImageFormat:
    """The format that a request says, qcow2 when it says none; NotSupported for one that QEMU should not write to."""
    chosen = asked or ImageFormat.QCOW2
    if chosen not in image_format.SUPPORTED:
        supported = ", ".join(sorted(image_format.SUPPORTED))
        raise NotSupported(f"volume format {chosen} is not supported; supported: {supported}")
    return chosen


def check_there(attempt: Attempt, host: Host, place: Place) -> None:
    """Raise NotFound unless the volume exists; libvirt looks again first, since others put files into pools too."""
    if place.pool.capacity(place.volume) is None:
        place.pool.rescan(attempt)
    if place.pool.capacity(place.volume) is None:
        raise NotFound(f"{host.node}: storage pool {place.pool.name} has no volume {place.volume}", volume=place.volume)


def check_unused(host: Host, place: Place, instance: str) -> None:
    """Raise Conflict, naming the other machine, when any other machine of the host uses the volume."""
    user = host.link.read(f"look who uses {place.volume}", lambda c: _user(c, place.path, instance))
    if user is not None:
        raise Conflict(f"{host.node}: volume {place.volume} is used by machine {user}", volume=place.volume, user=user)


def attach(fleet: Fleet, attempt: Attempt, request: AttachVolume) -> DiskFacts:
    """Connect a volume, made if it is a new one."""
    machine = fleet.find(request.instance)
    source = request.volume
    kind = ImageFormat.QCOW2 if isinstance(source, NewVolume) else format_asked(source.format)
    look = machine.wait_idle(attempt)
    devices.check_changeable(machine, look, "attach_volume")
    sight = _see(machine, place_of(machine.host, source.pool, source.volume))
    known = sight.defined if sight.defined is not None else sight.plugged
    if known is not None and not device_xml.added_by(sight.defined, attempt.operation):
        if isinstance(source, NewVolume):
            raise _taken(sight)
        _check_mode(sight, known, kind, read_only=request.read_only)
    _Attaching(attempt, sight, request, kind).run()
    return _shown(_see(machine, sight.place))


class _Attaching:
    """One attach: what is missing is done, in order, and taken back on an error."""

    def __init__(self, attempt: Attempt, sight: _Sight, request: AttachVolume, kind: ImageFormat) -> None:
        self.attempt = attempt
        self.sight = sight
        self.request = request
        self.kind = kind
        self.host = sight.machine.host
        self.size = request.volume.size_bytes if isinstance(request.volume, NewVolume) else None
        self.began = device_xml.added_by(sight.defined, attempt.operation)
        """Whether an earlier run of this operation wrote the definition: what is there now, it may have made."""
        self.made = False

    def run(self) -> None:
        """Do it."""
        sight, live = self.sight, self.sight.running is not None
        if sight.defined is not None and not self.began and (sight.plugged is not None or not live):
            return
        if sight.defined is None:
            self._check()
        with undone_on_error(self.attempt, self._undo):
            if sight.defined is None:
                self._define()
            check_unused(self.host, sight.place, sight.machine.instance)
            self._make()
            if live and sight.plugged is None:
                devices.add(self.attempt, sight.machine, self._device(sight.defined), live=True)

    def _check(self) -> None:
        sight, place = self.sight, self.sight.place
        if self.size is None:
            check_there(self.attempt, self.host, place)
            check_unused(self.host, place, sight.machine.instance)
        else:
            place.pool.rescan(self.attempt)
            if place.pool.capacity(place.volume) is not None:
                raise _taken(sight)
            check_size(self.host, place.pool, self.size)
        connected = [d for d in sight.definition.iterfind("devices/disk") if _is_volume(sight.machine, d)]
        if len(connected) >= MAX_VOLUMES:
            raise InsufficientResources(
                f"{sight.machine.instance} has {len(connected)} volumes, at most {MAX_VOLUMES} can be attached",
                limit=MAX_VOLUMES,
            )

    def _define(self) -> None:
        devices.add(self.attempt, self.sight.machine, self._device(None), live=False)
        self.sight.definition = self.sight.machine.definition()

    def _make(self) -> None:
        place = self.sight.place
        if self.size is None:
            return
        found = place.pool.capacity(place.volume)
        if self.began and found == self.size:
            self.made = True
        elif found is not None:
            raise _taken(self.sight)
        else:
            self._make_blank(place, self.size)

    def _make_blank(self, place: Place, size: int) -> None:
        self.attempt.progress(None, "making the volume")
        try:
            place.pool.make_disk(self.attempt, place.volume, size)
        except HypervisorRefused as error:
            if code_of(error) == "VIR_ERR_STORAGE_VOL_EXIST":
                raise _taken(self.sight) from error
            raise
        self.made = True

    def _device(self, like: ET.Element | None) -> ET.Element:
        """The disk; at the same device as in the definition where that has it already."""
        sight = self.sight
        running = () if sight.running is None else (sight.running,)
        target = device_xml.free_target(sight.definition, *running)
        for known in (like, sight.plugged):
            if known is not None:
                target = device_xml.target_of(known)
        disk = Disk(
            path=sight.place.path,
            format=self.kind,
            serial=device_xml.volume_serial(sight.place.volume),
            read_only=self.request.read_only,
        )
        return device_xml.disk(disk, target, self.attempt.operation)

    def _undo(self, _cause: OperationError) -> None:
        place, machine = self.sight.place, self.sight.machine
        if self.made:
            place.pool.delete(self.attempt, place.volume)
        defined = device_xml.disk_at(machine.definition(), place.path)
        if device_xml.added_by(defined, self.attempt.operation) and defined is not None:
            devices.remove(self.attempt, machine, defined, live=False)


def detach(fleet: Fleet, attempt: Attempt, request: DetachVolume) -> VolumeDetached:
    """Take a volume away, and delete it when asked to.

    A cancel that comes after the guest has let go comes too late: the rest is done.
    """
    machine = fleet.find(request.instance)
    look = machine.wait_idle(attempt)
    devices.check_changeable(machine, look, "detach_volume")
    place = place_of(machine.host, request.pool, request.volume)
    sight = _see(machine, place)
    if sight.defined is None and sight.plugged is None:
        return VolumeDetached()
    if sight.defined is not None and device_xml.boots_from(sight.definition, sight.defined):
        raise InvalidState(f"{request.instance} boots from volume {request.volume}", volume=request.volume)
    holders = snapshots.holding(machine, place.path)
    if holders:
        raise InvalidState(
            f"snapshots of {request.instance} hold volume {request.volume}, delete them first: {', '.join(holders)}",
            volume=request.volume,
        )
    try:
        _detach(attempt, sight, request)
    except OperationError as error:
        late = error is attempt.interruption and (attempt.changes or attempt.recovering)
        if not late or _see(machine, place).plugged is not None:
            raise
        _detach(attempt, _see(machine, place), request)
    return VolumeDetached()


def _detach(attempt: Attempt, sight: _Sight, request: DetachVolume) -> None:
    machine, place = sight.machine, sight.place
    if request.delete:
        check_unused(machine.host, place, machine.instance)
    if sight.plugged is not None:
        devices.unplug(attempt, machine, partial(device_xml.disk_at, path=place.path), request.timeout_seconds)
    if request.delete:
        attempt.progress(None, "deleting the volume")
        place.pool.delete(attempt, place.volume)
    if sight.defined is not None:
        devices.remove(attempt, machine, sight.defined, live=False)


def extend(fleet: Fleet, attempt: Attempt, request: ExtendVolume) -> DiskFacts:
    """Make an attached volume larger: through QEMU when it runs, through the storage pool when it does not."""
    machine = fleet.find(request.instance)
    look = machine.wait_idle(attempt)
    devices.check_changeable(machine, look, "extend_volume")
    sight = _see(machine, place_of(machine.host, request.pool, request.volume))
    disk = sight.plugged if sight.running is not None else sight.defined
    if disk is None:
        raise NotFound(f"volume {request.volume} is not attached to {request.instance}", volume=request.volume)
    target = device_xml.target_of(disk)
    size = machine.volume_size(target)
    if size is not None and size > request.size_bytes:
        raise InvalidRequest(
            f"volume {request.volume} has {size} bytes, the request says {request.size_bytes}; it can only grow",
            field="size_bytes",
            found=size,
        )
    if size != request.size_bytes:
        check_size(machine.host, sight.place.pool, request.size_bytes)
        if disk.find("readonly") is not None:
            raise InvalidState(f"volume {request.volume} is attached read-only", volume=request.volume)
        _grow(attempt, sight, target, request.size_bytes)
    return _shown(sight)


def _grow(attempt: Attempt, sight: _Sight, target: str, size: int) -> None:
    if sight.running is not None:
        sight.machine.act(
            attempt, f"resize {target} of", lambda d: d.blockResize(target, size, connection.RESIZE_BYTES)
        )
        return
    check_there(attempt, sight.machine.host, sight.place)
    sight.place.pool.resize(attempt, sight.place.volume, size)


def check_size(host: Host, pool: Pool, size: int) -> None:
    """Raise InsufficientResources when a disk is larger than its pool; disks are thin, so sums may exceed it."""
    capacity, _ = pool.space()
    if capacity and size > capacity:
        raise InsufficientResources(
            f"{host.node}: a disk of {size} bytes was asked for, storage pool {pool.name} has {capacity}",
            asked=size,
            capacity=capacity,
        )


def _see(machine: Machine, place: Place) -> _Sight:
    running = machine.current() if machine.look().active else None
    return _Sight(machine, machine.definition(), running, place)


def _shown(sight: _Sight) -> DiskFacts:
    disk = sight.defined if sight.defined is not None else sight.plugged
    if disk is None:
        raise Conflict(
            f"{sight.machine.host.node}: volume {sight.place.volume} was taken from {sight.machine.instance} meanwhile"
        )
    target = device_xml.target_of(disk)
    size = sight.machine.volume_size(target)
    return facts.disk_facts(target, VolumeFacts(pool=sight.place.pool.name, name=sight.place.volume, size_bytes=size))


def _check_mode(sight: _Sight, known: ET.Element, kind: ImageFormat, *, read_only: bool) -> None:
    found = (device_xml.format_of(known), known.find("readonly") is not None)
    if found != (kind, read_only):
        raise InvalidState(
            f"volume {sight.place.volume} is attached already, with format {found[0]} and read_only {found[1]}",
            volume=sight.place.volume,
        )


def _taken(sight: _Sight) -> AlreadyExists:
    return AlreadyExists(
        f"{sight.machine.host.node}: storage pool {sight.place.pool.name} has a volume {sight.place.volume} already",
        volume=sight.place.volume,
    )


def _is_volume(machine: Machine, disk: ET.Element) -> bool:
    return facts.volume_of(machine.instance, disk, machine.host.pool_folders()) is not None


def _user(native: Native, path: str, instance: str) -> str | None:
    for domain in native.listAllDomains():
        if domain.UUIDString() != instance and _uses(domain, path):
            return str(domain.name())
    return None


def _uses(domain: Native, path: str) -> bool:
    for flags in (0, connection.XML_INACTIVE):
        text = connection.unless_gone(partial(domain.XMLDesc, flags))
        disks = [] if text is None else parse(text).iterfind("devices/disk")
        if any(path in device_xml.paths_below(disk) for disk in disks):
            return True
    return False
