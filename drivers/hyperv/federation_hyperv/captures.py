"""capture_image: a copy of a stopped instance's root disk, as a template or at a URL.

ConvertVirtualHardDisk copies the disk with its parents into one file that bears the instance's id.  A template is that file
under the template's name; a rename makes it appear whole.  For a URL the worker reads the file through the mount.
"""

from __future__ import annotations

from functools import partial

from federation.contract.captures import CapturedImage, CaptureTemplate, CaptureUpload
from federation.contract.errors import AlreadyExists, HypervisorRefused, InvalidState, OperationError
from federation.contract.instances import ImageFormat, PowerState
from federation.contract.requests import CaptureImage
from federation_hyperv import boot_sources, facts, images, names, notes, volumes
from federation_hyperv.attempt import Attempt
from federation_hyperv.fleet import Fleet
from federation_hyperv.machine import Machine
from federation_hyperv.settings import ImageRules
from federation_hyperv.storage import Store
from federation_hyperv.undoing import undone_on_error
from federation_hyperv.uploads import Sent, Upload


def capture(fleet: Fleet, attempt: Attempt, request: CaptureImage) -> CapturedImage:
    """Make the image; raises what the contract declares for capture_image."""
    machine = fleet.find(request.instance)
    target = request.target
    if isinstance(target, CaptureUpload):
        boot_sources.check_format(target.format)
        images.check_allowed(target.url, fleet.settings.uploads)
    state = machine.wait_idle(attempt)
    if state is not PowerState.STOPPED:
        raise InvalidState(f"{machine.name} is {state}, capture_image needs it stopped", power_state=state)
    if isinstance(target, CaptureTemplate):
        return _template(attempt, machine, target)
    return _upload(attempt, machine, target, fleet.settings.uploads)


def _template(attempt: Attempt, machine: Machine, target: CaptureTemplate) -> CapturedImage:
    store = volumes.store(machine.host, target.pool)
    wanted, part = (
        names.template(target.template, attempt.operation),
        names.capturing(machine.instance, attempt.operation),
    )
    if not store.has(wanted):
        taken = names.templates(target.template, store.files())
        if taken:
            raise AlreadyExists(
                f"{machine.host.node} has a template {target.template!r} already", template=target.template
            )
        with undone_on_error(attempt, partial(_drop, attempt, store, part)):
            _copy(attempt, machine, store, part)
            _check_alone(store, target.template)
            if not store.rename(attempt, part, wanted):
                raise AlreadyExists(f"{machine.host.node} has a template {target.template!r} already")
    return CapturedImage(
        format=ImageFormat.VHDX,
        virtual_size_bytes=store.size(store.path(wanted)),
        template=target.template,
        pool=target.pool,
    )


def _check_alone(store: Store, template: str) -> None:
    """Another capture of the name may have come to its end while this one copied."""
    if names.templates(template, store.files()):
        raise AlreadyExists(f"there is a template {template!r} already", template=template)


def _upload(attempt: Attempt, machine: Machine, target: CaptureUpload, rules: ImageRules) -> CapturedImage:
    store, part = machine.store, names.capturing(machine.instance, attempt.operation)
    store.local("")
    upload = Upload(target.url, rules, attempt)
    done = machine.note.captured.split()
    if done[:1] == [attempt.operation]:
        upload.forget()
        return _sent(target, int(done[2]), Sent(int(done[1]), done[3]))
    with undone_on_error(attempt, partial(_undo_upload, attempt, machine, store, part, upload)):
        if attempt.recovering:
            _drop(attempt, store, part)
        _copy(attempt, machine, store, part)
        length = store.local(part).stat().st_size
        sent = upload.send(partial(store.read, part), length)
        virtual = store.size(store.path(part))
        _drop(attempt, store, part)
        marker = f"{attempt.operation} {sent.length} {virtual} {sent.checksum}"
        machine.write_note(attempt, notes.replaced(machine.note, captured=marker))
    upload.forget()
    return _sent(target, virtual, sent)


def _copy(attempt: Attempt, machine: Machine, store: Store, part: str) -> None:
    if attempt.recovering:
        machine.host.wait_idle(attempt, lambda job: names.same(str(job.get("Child") or ""), store.path(part)))
        _drop(attempt, store, part)
    disks = facts.disks(machine.devices(), machine.host.pools, machine.note)
    if not disks:
        raise HypervisorRefused(f"{machine.name} has no disk")
    store.copy(attempt, disks[0].source, part)


def _sent(target: CaptureUpload, virtual: int, sent: Sent) -> CapturedImage:
    return CapturedImage(
        format=ImageFormat.VHDX, virtual_size_bytes=virtual, url=target.url, checksum=sent.checksum,
        size_bytes=sent.length,
    )  # fmt: skip


def _drop(attempt: Attempt, store: Store, part: str, _cause: OperationError | None = None) -> None:
    if store.has(part):
        store.delete(attempt, part)


def _undo_upload(
    attempt: Attempt, machine: Machine, store: Store, part: str, upload: Upload, _cause: OperationError
) -> None:
    upload.undo()
    _drop(attempt, store, part)
    if machine.note.captured.startswith(attempt.operation):
        machine.write_note(attempt, notes.replaced(machine.note, captured=""))
