"""Templates: found by name or path, checked, and made of an instance's root disk by capture_image.

A captured template is made in three steps, each found again by its operation's id: a clone with our note, a snapshot of
it (what linked clones hang on), and the mark that makes it a template.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pyVmomi import vim

from federation.contract.captures import CapturedImage, CaptureTemplate
from federation.contract.errors import (
    AlreadyExists,
    ImageRejected,
    ImageUnavailable,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import BootTemplate, PowerState
from federation.contract.requests import CaptureImage
from federation_vmware import facts, hardware, ownership, tasks
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session, gone
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet, Machine, option_values
from federation_vmware.ownership import TemplateNote
from federation_vmware.undoing import undone_on_error

BASE = "federation-base"
"""Name of the snapshot of a template on which linked clones hang."""


def find(fleet: Fleet, name: str) -> Look:
    """The template of that name; ImageUnavailable when there is none, or more than one."""
    named = [look for look in fleet.inventory().values() if look.name == name.rpartition("/")[2]]
    found = [look for look in map(partial(_now, fleet), named) if look.template]
    if len(found) != 1:
        several = f"{len(found)} templates are named {name!r}" if found else f"template {name!r} is not there"
        raise ImageUnavailable(several, template=name)
    return found[0]


def check(template: Look, boot: BootTemplate) -> None:
    """ImageRejected when the request asks for a smaller disk than the template's, or for none that can be shared."""
    root = hardware.root_disk(template.devices)
    size = facts.disk_bytes(root) if root is not None else None
    if boot.size_bytes is None:
        return
    if boot.linked and boot.size_bytes != size:
        raise NotSupported("a linked clone has its template's size; leave size_bytes out", field="size_bytes")
    if size is not None and boot.size_bytes < size:
        raise ImageRejected(
            f"template {template.name} has a disk of {size} bytes, the request says {boot.size_bytes}",
            field="size_bytes",
            found=size,
            expected=boot.size_bytes,
        )


def snapshot(fleet: Fleet, template: Look) -> Any:
    """The snapshot on which a linked clone hangs; ImageUnavailable when the template has none."""
    info = Machine(fleet.connection, fleet.cluster, template.id, template.reference).snapshots()
    if info is None or info.currentSnapshot is None:
        raise ImageUnavailable(
            f"template {template.name} has no snapshot, which a linked clone needs", template=template.name
        )
    return info.currentSnapshot


def capture(fleet: Fleet, attempt: Attempt, request: CaptureImage) -> CapturedImage:
    """Make a template of the root disk of a stopped instance."""
    if not isinstance(request.target, CaptureTemplate):
        raise NotSupported("capture_upload is not supported by this driver", capability="capture_upload")
    machine = fleet.find(request.instance)
    name = request.target.template
    with undone_on_error(attempt, lambda _cause: _undo(fleet, attempt, name)):
        look = machine.settled(attempt)
        if attempt.recovering:
            tasks.settle_creations(fleet.connection, attempt)
        if _made(fleet, attempt, name) is None:
            _check_source(request.instance, look)
        made = _complete(fleet, attempt, machine, look, request.target)
    size = facts.disk_bytes(hardware.root_disk(made.devices)) or facts.disk_bytes(hardware.root_disk(look.devices)) or 0
    return CapturedImage(format="vmdk", virtual_size_bytes=size, template=name, pool=request.target.pool)


def _check_source(instance: str, look: Look) -> None:
    """InvalidState unless it is stopped and has a disk."""
    if look.power_state is not PowerState.STOPPED:
        raise InvalidState(
            f"{instance} is {look.power_state}, capture_image needs it {PowerState.STOPPED}",
            power_state=look.power_state,
            expected=PowerState.STOPPED,
        )
    if hardware.root_disk(look.devices) is None:
        raise InvalidState(f"{instance} has no disk", expected="a root disk")


def _complete(fleet: Fleet, attempt: Attempt, machine: Machine, look: Look, target: CaptureTemplate) -> Look:
    made = _made(fleet, attempt, target.template)
    if made is None:
        _clone(fleet, attempt, machine, look, target)
        made = _must(fleet, attempt, target.template)
    if made.template:
        return made
    copy = Machine(fleet.connection, fleet.cluster, made.id, made.reference)
    if copy.snapshots() is None:
        copy.run(
            attempt,
            "keep the base of",
            lambda one: one.CreateSnapshot_Task(BASE, attempt.operation, False, False),  # noqa: FBT003 - vSphere's
        )
    attempt.progress(95, "marking as a template")
    attempt.guard()
    try:
        fleet.connection.change("mark as a template", lambda s: s.bound(made.reference).MarkAsTemplate())
    except OperationError:
        if not _template_now(fleet, made):
            raise
    return made


def _clone(fleet: Fleet, attempt: Attempt, machine: Machine, look: Look, target: CaptureTemplate) -> None:
    """The instance's root disk and hardware under another name, with our note of a template instead of an instance's."""
    folder = fleet.places.folder(fleet.settings.template_folder)
    datastore, pool = fleet.places.datastore(target.pool), fleet.places.resource_pool()
    note = TemplateNote(cluster=fleet.cluster, operation=attempt.operation, name=target.template)
    notes = ownership.cleared(look.notes, ownership.template_options(note))
    others = [hardware.removed(disk) for disk in facts.disks(look.devices)[1:]]
    config = vim.vm.ConfigSpec(extraConfig=option_values(notes), deviceChange=others)

    def start(session: Session) -> Any:
        location = vim.vm.RelocateSpec(datastore=session.bound(datastore.reference), pool=session.bound(pool))
        spec = vim.vm.CloneSpec(location=location, template=False, powerOn=False, config=config)
        return session.bound(machine.reference).CloneVM_Task(session.bound(folder), target.template, spec)

    tasks.run(fleet.connection, attempt, f"capture {machine.instance}", start, percent=(0, 90))


def _made(fleet: Fleet, attempt: Attempt, name: str) -> Look | None:
    """What this operation has made of the template; AlreadyExists when another one bears the name."""
    for look in fleet.inventory().values():
        note = ownership.read_template(look.notes)
        if note is not None and note.operation == attempt.operation and note.cluster == fleet.cluster:
            return _now(fleet, look)
        if look.name == name:
            raise AlreadyExists(f"a template or machine named {name!r} is there already", template=name)
    return None


def _now(fleet: Fleet, look: Look) -> Look:
    """Not every server tells its watchers that a machine was marked as a template."""
    return Machine(fleet.connection, fleet.cluster, look.id, look.reference).look()


def _must(fleet: Fleet, attempt: Attempt, name: str) -> Look:
    made = _made(fleet, attempt, name)
    if made is None:
        raise OutcomeUnknown(f"vCenter has cloned {name} and does not show it", template=name)
    return made


def _template_now(fleet: Fleet, made: Look) -> bool:
    found = fleet.connection.properties("look at a template", vim.VirtualMachine, [made.reference], ["config.template"])
    return bool(found[0][1].get("config.template", False))


def _undo(fleet: Fleet, attempt: Attempt, name: str) -> None:
    try:
        made = _made(fleet, attempt, name)
    except AlreadyExists:
        return  # another one's: nothing of that name is ours
    if made is None:
        return
    copy = Machine(fleet.connection, fleet.cluster, made.id, made.reference)
    try:
        copy.run(attempt, "remove the copy", lambda one: one.Destroy_Task())
    except OperationError as error:
        if not (gone(error) or isinstance(error, NotFound)):
            raise
