"""attach_volume, detach_volume and extend_volume of the simulated driver."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from federation.contract import requests as r
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    ImageRejected,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    TimedOut,
)
from federation.contract.instances import DiskFacts, PowerState
from federation.contract.results import VolumeDetached
from federation.contract.volumes import NewVolume, StoredVolume
from federation.testing.hypervisor import stored
from federation.testing.hypervisor.pools import find_stored, pool_of, volume_disk
from federation.testing.hypervisor.records import Disk, Machine, disk_facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import Done, require, require_state, step, undoing

_Note = tuple[str, int, Disk]
"""What a detachment that goes on to delete the volume notes: its operation, where the disk stood, the disk."""


def attach_volume(session: Session, request: r.AttachVolume) -> DiskFacts:
    """One call, or two: the volume is made first and bears the operation's id."""
    source = request.volume
    pool = pool_of(session, source.pool)
    with undoing(session, lambda session: _unattach(session, pool, source.volume)):
        machine = require(session)
        there = machine.volume(pool, source.volume)
        if isinstance(source, NewVolume):
            _check_new(session, source, pool)
        elif there is None:
            _check_stored(session, source, pool)
        if there is None:
            require_state(machine, "attach_volume", PowerState.RUNNING, PowerState.STOPPED)
            _check_number(session, machine)
            if isinstance(source, NewVolume):
                _make(session, source, pool)
            _attach(session, request, pool)
        disk = require(session).volume(pool, source.volume)
        if disk is None:
            raise Conflict(f"volume {source.volume} was taken away meanwhile", volume=source.volume)
        return disk_facts(disk)


def detach_volume(session: Session, request: r.DetachVolume) -> VolumeDetached:
    """One call, or two: the volume is deleted once no machine uses it."""
    pool = pool_of(session, request.pool)
    with undoing(session, _reattach):
        machine = require(session)
        disk = machine.volume(pool, request.volume)
        if disk is not None:
            if disk.root:
                message = f"detach_volume: instance {machine.id} boots from volume {disk.volume}"
                raise InvalidState(message, instance=machine.id, volume=disk.volume)
            require_state(machine, "detach_volume", PowerState.RUNNING, PowerState.STOPPED)
            _detach(session, request, machine, disk)
        if request.delete:
            _delete(session, pool, request.volume)
        return VolumeDetached()


def extend_volume(session: Session, request: r.ExtendVolume) -> DiskFacts:
    """One call."""
    pool = pool_of(session, request.pool)
    with undoing(session):
        disk = _attached(require(session), pool, request.volume)
        if request.size_bytes < disk.size_bytes:
            message = f"extend_volume: {request.volume} has {disk.size_bytes} bytes and cannot become smaller"
            raise InvalidRequest(message, field="size_bytes", value=request.size_bytes, there=disk.size_bytes)
        if request.size_bytes > disk.size_bytes:
            require_state(require(session), "extend_volume", PowerState.RUNNING, PowerState.STOPPED)
        step(
            session, "extend_volume", _large(pool, request), target=disk.name, name=disk.name,
            size_bytes=request.size_bytes, more_bytes=request.size_bytes - disk.size_bytes,
            capacity_bytes=session.hypervisor.settings.pool_bytes,
        )  # fmt: skip
        return disk_facts(_attached(require(session), pool, request.volume))


def ask_to_release(session: Session, machine: Machine, kind: str, target: str, timeout: float) -> float:
    """How long a detachment takes; TimedOut when the guest does not let go in time, or never does."""
    takes = session.hypervisor.delay(kind, session.call.operation)
    if not machine.active or (takes <= timeout and not machine.keeps_devices):
        return takes
    session.change("ask_release", target=target)
    session.call.sleep(timeout)
    message = f"{session.name}: the guest of {machine.id} did not let go of {target} within {timeout} s"
    raise TimedOut(message, instance=machine.id, timeout_seconds=timeout)


def _check_new(session: Session, source: NewVolume, pool: str) -> None:
    there = find_stored(session, stored.VOLUME, pool, source.volume)
    if there is not None and there.made_by != session.call.operation:
        raise AlreadyExists(f"volume {source.volume} exists already in pool {pool}", volume=source.volume, pool=pool)


def _check_stored(session: Session, source: StoredVolume, pool: str) -> None:
    there = find_stored(session, stored.VOLUME, pool, source.volume)
    if there is None:
        raise NotFound(f"volume {source.volume} is not in pool {pool}", volume=source.volume, pool=pool)
    if there.used_by is not None:
        message = f"volume {source.volume} is used by machine {there.used_by}"
        raise Conflict(message, volume=source.volume, used_by=there.used_by)
    expected = str(session.hypervisor.settings.format_of(source.format))
    if there.format != expected:
        message = f"attach_volume: {source.volume} is {there.format}, the request says {expected}"
        raise ImageRejected(message, field="volume.format", value=expected, there=there.format)


def _check_number(session: Session, machine: Machine) -> None:
    limit = session.hypervisor.settings.limits.max_volumes
    number = sum(disk.kept for disk in machine.disks)
    if limit is not None and number >= limit:
        message = f"attach_volume: instance {machine.id} has {number} volumes, this driver takes at most {limit}"
        raise InsufficientResources(message, wanted=number + 1, limit=limit)


def _make(session: Session, source: NewVolume, pool: str) -> None:
    settings, operation = session.hypervisor.settings, session.call.operation
    made = stored.Stored(
        kind=stored.VOLUME, pool=pool, name=source.volume, size_bytes=source.size_bytes,
        format=str(settings.format_of(None)), made_by=operation,
    )  # fmt: skip

    def done(_machine: Machine | None) -> bool:
        there = find_stored(session, stored.VOLUME, pool, source.volume)
        return there is not None and there.made_by == operation

    step(
        session, "make_volume", done, target=source.volume,
        stored=msgspec.to_builtins(made), capacity_bytes=settings.pool_bytes,
    )  # fmt: skip


def _attach(session: Session, request: r.AttachVolume, pool: str) -> None:
    there = find_stored(session, stored.VOLUME, pool, request.volume.volume)
    if there is None:
        name = request.volume.volume
        raise Conflict(f"volume {name} was taken out of pool {pool} meanwhile", volume=name, pool=pool)
    disk = volume_disk(session, there, read_only=request.read_only)
    done = _connected(pool, there.name)
    step(session, "attach_volume", done, target=disk.name, disk=msgspec.to_builtins(disk))


def _detach(session: Session, request: r.DetachVolume, machine: Machine, disk: Disk) -> None:
    takes = ask_to_release(session, machine, "detach_volume", disk.name, request.timeout_seconds)
    note = ""
    if request.delete:
        note = msgspec.json.encode((session.call.operation, machine.disks.index(disk), disk)).decode()
    done = _gone(disk.pool or "", disk.volume or "")
    step(session, "detach_volume", done, target=disk.name, seconds=takes, name=disk.name, note=note)


def _delete(session: Session, pool: str, name: str) -> None:
    there = find_stored(session, stored.VOLUME, pool, name)
    if there is None:
        return
    if there.used_by is not None:
        raise Conflict(f"volume {name} is used by machine {there.used_by}", volume=name, used_by=there.used_by)

    def done(_machine: Machine | None) -> bool:
        return find_stored(session, stored.VOLUME, pool, name) is None

    step(session, "delete_volume", done, target=name, pool=pool, name=name)


def _unattach(session: Session, pool: str, name: str) -> None:
    machine = session.read()
    disk = machine and machine.volume(pool, name)
    if disk and disk.made_by == session.call.operation:
        session.change("detach_volume", target=disk.name, name=disk.name, note="")
    there = find_stored(session, stored.VOLUME, pool, name)
    if there is not None and there.made_by == session.call.operation:
        session.change("delete_volume", target=name, pool=pool, name=name)


def _reattach(session: Session) -> None:
    machine = session.read()
    note = machine and machine.notes.get("detach")
    if not note:
        return
    operation, index, disk = msgspec.json.decode(note, type=_Note)
    if operation == session.call.operation:
        session.change("reattach_volume", target=disk.name, disk=msgspec.to_builtins(disk), index=index)


def _attached(machine: Machine, pool: str, name: str) -> Disk:
    disk = machine.volume(pool, name)
    if disk is None:
        message = f"volume {name} of pool {pool} is not attached to instance {machine.id}"
        raise NotFound(message, volume=name, pool=pool, instance=machine.id)
    return disk


def _connected(pool: str, name: str) -> Done:
    return lambda machine: machine is not None and machine.volume(pool, name) is not None


def _gone(pool: str, name: str) -> Done:
    return lambda machine: machine is None or machine.volume(pool, name) is None


def _large(pool: str, request: r.ExtendVolume) -> Callable[[Machine | None], bool]:
    def large(machine: Machine | None) -> bool:
        disk = machine and machine.volume(pool, request.volume)
        return bool(disk) and disk.size_bytes >= request.size_bytes  # type: ignore[union-attr]

    return large
