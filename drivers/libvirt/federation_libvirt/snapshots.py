"""Snapshots: internal ones, inside the qcow2 disks, taken and brought back by QEMU through libvirt.

1. Internal, because libvirt 9.0 cannot revert to an external one ("revert to external snapshot not supported yet").
2. A snapshot covers every disk that is not read-only, attached volumes too.  So a disk of another format than qcow2 is in
   the way, a volume stays attached as long as a snapshot holds it, and reverting asks for the same volumes.
3. Of a running machine libvirt takes an internal snapshot with memory only.  Without ``memory`` the memory is taken all the
   same, and thrown away on revert.
4. revert lands paused or stopped, then our metadata says ``reverted``, then the guest runs.  Until then the guest has not
   run, so a repeat from the start shows nowhere.  The definition comes back too, and with it flavour and interfaces.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial

from federation.contract.errors import (
    Conflict,
    HypervisorRefused,
    HypervisorUnreachable,
    InsufficientResources,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import PowerState
from federation.contract.requests import CreateSnapshot, DeleteSnapshot, RevertSnapshot
from federation.contract.results import SnapshotDeleted
from federation.contract.snapshots import Snapshot, SnapshotList
from federation_libvirt import connection, device_xml, facts, snapshot_xml
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import Native
from federation_libvirt.domain_xml import parse
from federation_libvirt.facts import Look
from federation_libvirt.faults import code_of
from federation_libvirt.fleet import Fleet
from federation_libvirt.machine import Machine, replaced
from federation_libvirt.snapshot_xml import Kept
from federation_libvirt.undoing import undone_on_error

MAX_SNAPSHOTS = 32
_LOOK_SECONDS = 0.3
_TAKEN_FROM = (PowerState.RUNNING, PowerState.PAUSED, PowerState.STOPPED)


def listed(fleet: Fleet, instance: str) -> SnapshotList:
    """Every snapshot, oldest first."""
    return SnapshotList(snapshots=tuple(kept.shown for kept in every(fleet.see(instance), fleet.cluster)))


def every(machine: Machine, cluster: str) -> list[Kept]:
    """The snapshots of a machine, oldest first, parents before children."""
    texts = machine.ask("list snapshots of", _texts)
    found = [snapshot_xml.kept(parse(text), cluster, current=current) for text, current in texts]
    return sorted(found, key=lambda kept: kept.shown.created_at)


def holding(machine: Machine, path: str) -> list[str]:
    """Ids of the snapshots that hold the content of the file at ``path``."""
    return [kept.shown.id for kept in every(machine, "") if path in map(device_xml.path_of, _writable(kept.domain))]


def create(fleet: Fleet, attempt: Attempt, request: CreateSnapshot) -> Snapshot:
    """Take a snapshot; it bears the operation's id, and a repeat finds it."""
    if request.quiesce:
        raise NotSupported("quiesced snapshots are not supported by this driver", capability="quiesced_snapshots")
    machine = fleet.find(request.instance)
    look = machine.wait_idle(attempt)
    there = _find(machine, fleet.cluster, attempt.operation)
    if there is not None:
        return there.shown
    _check_takeable(machine, look, fleet.cluster)
    wanted = snapshot_xml.render(attempt.operation, fleet.cluster, request.name, memory=request.memory)
    with undone_on_error(attempt, partial(_undo, attempt, machine, fleet.cluster)):
        _act(attempt, machine, "take a snapshot of", lambda d: d.snapshotCreateXML(wanted, 0))
    made = _find(machine, fleet.cluster, attempt.operation)
    if made is None:
        raise Conflict(f"{machine.host.node}: the snapshot of {request.instance} was deleted meanwhile")
    return made.shown


def delete(fleet: Fleet, attempt: Attempt, request: DeleteSnapshot) -> SnapshotDeleted:
    """Delete a snapshot; its children stay."""
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    found = _find(machine, fleet.cluster, request.snapshot)
    if found is not None:
        _check_owned(machine, found)
        _delete(attempt, machine, request.snapshot)
    return SnapshotDeleted()


def revert(fleet: Fleet, attempt: Attempt, request: RevertSnapshot) -> Machine:
    """Bring disks, definition and, if it was kept, memory back.

    A cancel or a deadline that comes after the first change comes too late: what is half reverted is reverted.
    """
    machine = fleet.find(request.instance)
    try:
        _revert(fleet, attempt, machine, request)
    except OperationError as error:
        if error is not attempt.interruption or not (attempt.changes or attempt.recovering):
            raise
        _revert(fleet, attempt, machine, request)
    return machine


def _revert(fleet: Fleet, attempt: Attempt, machine: Machine, request: RevertSnapshot) -> None:
    look = machine.wait_idle(attempt)
    kept = _find(machine, fleet.cluster, request.snapshot)
    if kept is None:
        raise NotFound(f"{request.instance} has no snapshot {request.snapshot}", snapshot=request.snapshot)
    _check_owned(machine, kept)
    if machine.owner().reverted != attempt.operation:
        _check_same_volumes(machine, kept)
        if kept.active and not look.active:
            machine.host.check_free(facts.memory_bytes(kept.domain))
        if look.saved:
            machine.stop(attempt)
        _bring_back(attempt, machine, kept)
    _settle(attempt, machine, kept.shown.power_state)


def forget(attempt: Attempt, machine: Machine, cluster: str) -> None:
    """Delete every snapshot of a stopped machine that goes, when volumes that stay hold parts of them."""
    folders = machine.host.pool_folders()
    for kept in every(machine, cluster):
        if any(facts.volume_of(machine.instance, disk, folders) for disk in _writable(kept.domain)):
            _delete(attempt, machine, kept.shown.id)


def _bring_back(attempt: Attempt, machine: Machine, kept: Kept) -> None:
    before = machine.look()
    flags = connection.REVERT_FORCE | (connection.REVERT_PAUSED if kept.active else 0)
    name = kept.shown.id
    try:
        _act(attempt, machine, "revert", lambda d: d.revertToSnapshot(d.snapshotLookupByName(name), flags))
    except (HypervisorRefused, InvalidState, Conflict, InsufficientResources) as error:
        if machine.look() == before:
            raise
        raise OutcomeUnknown(f"{error.message}; {machine.instance} is half reverted", cause=error.code) from error


def _settle(attempt: Attempt, machine: Machine, target: PowerState) -> None:
    """From reverted to the snapshot's power state."""
    try:
        look = machine.wait_idle(attempt)
        if target is PowerState.STOPPED and look.active:
            machine.stop(attempt)
        owner = machine.owner()
        if owner.reverted != attempt.operation:
            machine.write_owner(attempt, replaced(owner, reverted=attempt.operation), live=machine.look().active)
        if target is PowerState.RUNNING and machine.look().power_state is PowerState.PAUSED:
            machine.unpause(attempt)
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError as error:
        if error is attempt.interruption:
            raise
        raise OutcomeUnknown(
            f"{machine.host.node}: {machine.instance} is reverted and does not become {target}: {error.message}"
        ) from error


def _undo(attempt: Attempt, machine: Machine, cluster: str, _cause: OperationError) -> None:
    """Delete what an interrupted creation has made all the same: QEMU does not give a snapshot up."""
    machine.wait_idle(attempt)
    if _find(machine, cluster, attempt.operation) is not None:
        _delete(attempt, machine, attempt.operation)


def _delete(attempt: Attempt, machine: Machine, name: str) -> None:
    try:
        _act(attempt, machine, "delete a snapshot of", lambda d: d.snapshotLookupByName(name).delete(0))
    except HypervisorRefused as error:
        if code_of(error) != "VIR_ERR_NO_DOMAIN_SNAPSHOT":
            raise


def _act(attempt: Attempt, machine: Machine, verb: str, act: Callable[[Native], object]) -> None:
    """Change it by a call that may move the guest's whole memory."""
    machine.host.link.change(
        attempt,
        f"{verb} {machine.instance}",
        lambda c: act(c.lookupByUUIDString(machine.instance)),
        seconds=machine.host.settings.timeouts.save_seconds,
    )


def _find(machine: Machine, cluster: str, identity: str) -> Kept | None:
    return next((kept for kept in every(machine, cluster) if kept.shown.id == identity), None)


def _check_takeable(machine: Machine, look: Look, cluster: str) -> None:
    if look.power_state not in _TAKEN_FROM:
        wanted = ", ".join(_TAKEN_FROM)
        raise InvalidState(
            f"{machine.instance} is {look.power_state}, create_snapshot needs it one of: {wanted}",
            power_state=look.power_state,
            expected=wanted,
        )
    disks = _writable(machine.current())
    if not disks:
        raise InvalidState(f"{machine.instance} has no disk that could hold a snapshot", instance=machine.instance)
    for disk in disks:
        kind = device_xml.format_of(disk)
        if kind != "qcow2":
            name = device_xml.path_of(disk).rpartition("/")[2] or device_xml.target_of(disk)
            raise InvalidState(
                f"disk {name} of {machine.instance} has format {kind}; only qcow2 can hold a snapshot, detach it first",
                disk=name,
            )
    count = len(every(machine, cluster))
    if count >= MAX_SNAPSHOTS:
        raise InsufficientResources(
            f"{machine.instance} has {count} snapshots, at most {MAX_SNAPSHOTS} are kept", limit=MAX_SNAPSHOTS
        )


def _check_owned(machine: Machine, kept: Kept) -> None:
    if not kept.shown.owned:
        raise InvalidState(
            f"snapshot {kept.shown.id} of {machine.instance} is foreign; it is left alone", snapshot=kept.shown.id
        )


def _check_same_volumes(machine: Machine, kept: Kept) -> None:
    then, now = (_volumes(machine, domain) for domain in (kept.domain, machine.definition()))
    if then != now:
        changes = [f"attach {name}" for name in sorted(then - now)] + [f"detach {name}" for name in sorted(now - then)]
        raise InvalidState(
            f"snapshot {kept.shown.id} was taken with other volumes; to revert, first: {', '.join(changes)}",
            snapshot=kept.shown.id,
        )


def _volumes(machine: Machine, domain: ET.Element) -> set[str]:
    folders = machine.host.pool_folders()
    found = (facts.volume_of(machine.instance, disk, folders) for disk in domain.iterfind("devices/disk"))
    return {f"{volume.pool}/{volume.name}" for volume in found if volume is not None}


def _writable(domain: ET.Element) -> list[ET.Element]:
    disks = domain.iterfind("devices/disk")
    return [d for d in disks if d.get("device", "disk") == "disk" and d.find("readonly") is None]


def _texts(domain: Native) -> list[tuple[str, bool]]:
    found = []
    for snapshot in domain.listAllSnapshots(connection.SNAPSHOTS_TOPOLOGICAL):
        text = connection.unless_gone(snapshot.getXMLDesc)
        if text is not None:
            found.append((str(text), snapshot.isCurrent() == 1))
    return found
